"""API Gateway's management APIs and CloudWatch Logs' describing calls, behind real boto3 clients, without a network.

Requests are taken where botocore would send them and answered in AWS's wire format, in pages as small as wished, with
refusals by operation and by API.
"""

import io
import json
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
from botocore.awsrequest import AWSResponse
from botocore.loaders import create_loader
from botocore.session import Session as BotocoreSession

ACCOUNT_ID = "123456789012"
_MODELS = create_loader()
"""Shared: reading a service's model is what makes the first client slow."""


def group_arn(name: str, region: str = "eu-west-1", account_id: str = ACCOUNT_ID) -> str:
    return f"arn:aws:logs:{region}:{account_id}:log-group:{name}"


@dataclass
class FakeApi:
    id: str
    name: str
    type: str = "REST"
    tags: dict[str, str] = field(default_factory=dict)
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By name, in the wire format of its type."""
    timeouts_ms: list[int] = field(default_factory=lambda: [29_000])


class FakeAccount:
    """One account and region."""

    def __init__(self) -> None:
        self.apis: dict[str, FakeApi] = {}
        self.groups: dict[str, dict[str, Any]] = {}
        self.linked: dict[str, dict[str, dict[str, Any]]] = {}
        """The log groups of the accounts that are linked to this one (a monitoring account then), by account id."""
        self.delivery_sources: list[dict[str, Any]] = []
        self.deliveries: list[dict[str, Any]] = []
        self.delivery_destinations: list[dict[str, Any]] = []
        self.page_size = 500
        self.refusals: dict[str | tuple[str, str], tuple[int, str]] = {}
        """HTTP status and code by operation, or by operation and API id."""
        self.calls: Counter[str] = Counter()
        self._lock = threading.Lock()

    # ---------------------------------------------------------------------------------------------------------- world

    def rest(
        self,
        name: str,
        stage: str = "prod",
        *,
        api_id: str | None = None,
        access: str | None = None,
        form: str = "$context.requestId $context.status",
        level: str | None = "INFO",
        trace: bool = False,
        tags: dict[str, str] | None = None,
        stage_tags: dict[str, str] | None = None,
        timeouts_ms: list[int] | None = None,
        deployment: str = "d1",
    ) -> FakeApi:
        """A REST stage; the group of its access lines and its execution group are made with it."""
        api = self._api(name, "REST", api_id, tags, timeouts_ms)
        settings: dict[str, Any] = {"stageName": stage, "deploymentId": deployment, "tags": stage_tags or {}}
        if access is not None:
            settings["accessLogSettings"] = {"destinationArn": self._access_arn(access), "format": form}
        if level is not None:
            settings["methodSettings"] = {"*/*": {"loggingLevel": level, "dataTraceEnabled": trace}}
            if level != "OFF":
                self.group(f"API-Gateway-Execution-Logs_{api.id}/{stage}")
        api.stages[stage] = settings
        return api

    def http(
        self,
        name: str,
        stage: str = "$default",
        *,
        kind: str = "HTTP",
        api_id: str | None = None,
        access: str | None = None,
        form: str = '{"requestId":"$context.requestId","status":"$context.status"}',
        level: str | None = None,
        tags: dict[str, str] | None = None,
        timeouts_ms: list[int] | None = None,
    ) -> FakeApi:
        """An HTTP or WebSocket stage; no execution group is made."""
        api = self._api(name, kind, api_id, tags, timeouts_ms)
        settings: dict[str, Any] = {"stageName": stage, "deploymentId": "d1", "defaultRouteSettings": {}}
        if access is not None:
            settings["accessLogSettings"] = {"destinationArn": self._access_arn(access), "format": form}
        if level is not None:
            settings["defaultRouteSettings"] = {"loggingLevel": level, "dataTraceEnabled": False}
        api.stages[stage] = settings
        return api

    def group(self, name: str, *, stored_bytes: int = 0, created_at_ms: int = 0, retention_days: int = 0) -> None:
        self.groups[name] = _group(name, ACCOUNT_ID, stored_bytes, created_at_ms, retention_days)

    def linked_group(self, account_id: str, name: str, *, stored_bytes: int = 0, created_at_ms: int = 0) -> None:
        """A log group of a linked account; the account is linked with it."""
        facts = _group(name, account_id, stored_bytes, created_at_ms, 0)
        self.linked.setdefault(account_id, {})[name] = facts

    def deliver(
        self, api: FakeApi, stage: str, target: str, kind: str = "CWL", log_type: str = "EXECUTION_LOGS"
    ) -> None:
        """Deliver a stage's execution lines to `target` (an ARN)."""
        number = len(self.deliveries)
        source, destination = (
            f"source-{api.id}-{stage}",
            f"arn:aws:logs:eu-west-1:{ACCOUNT_ID}:delivery-destination:{number}",
        )
        arn = f"arn:aws:apigateway:eu-west-1:{ACCOUNT_ID}:/restapis/{api.id}/stages/{stage}"
        if source not in [known["name"] for known in self.delivery_sources]:
            self.delivery_sources.append(
                {"name": source, "resourceArns": [arn], "service": "apigateway", "logType": log_type}
            )
        self.delivery_destinations.append(
            {"arn": destination, "deliveryDestinationType": kind}
            | {"deliveryDestinationConfiguration": {"destinationResourceArn": target}}
        )
        self.deliveries.append(
            {"id": str(number), "deliverySourceName": source}
            | {"deliveryDestinationArn": destination, "deliveryDestinationType": kind}
        )

    def _api(self, name: str, kind: str, api_id: str | None, tags: Any, timeouts_ms: Any) -> FakeApi:
        api_id = api_id or f"{len(self.apis):010}"
        api = self.apis.setdefault(api_id, FakeApi(api_id, name, kind))
        api.tags = tags or api.tags
        api.timeouts_ms = timeouts_ms or api.timeouts_ms
        return api

    def _access_arn(self, access: str) -> str:
        if access.startswith("arn:"):
            return access
        self.groups.setdefault(access, {})
        self.group(access)
        return group_arn(access)

    # ---------------------------------------------------------------------------------------------------------- calls

    def session(self) -> boto3.Session:
        """A session whose clients ask this account."""
        core = BotocoreSession()
        core.register_component("data_loader", _MODELS)
        session = boto3.Session("AKIDFAKE", "fake", region_name="eu-west-1", botocore_session=core)
        session.events.register("before-send", self._send)
        return session

    def _send(self, request: Any, **_: object) -> AWSResponse:
        target = request.headers.get("X-Amz-Target", b"")
        if target:
            operation = (target.decode() if isinstance(target, bytes) else target).rpartition(".")[2]
            asked = json.loads(request.body)
            status, body, code = self._answer(operation, "", lambda: self._logs(operation, asked))
            if code:
                body = {"__type": code, "message": ""}
        else:
            url = urlsplit(request.url)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            operation, api_id = _rest_operation(unquote(url.path))
            status, body, code = self._answer(operation, api_id, lambda: self._gateway(operation, api_id, query))
        headers = {"x-amzn-ErrorType": code} if code else {}
        return AWSResponse(request.url, status, headers, _Raw(json.dumps(body).encode()))

    def _answer(self, operation: str, api_id: str, answer: Any) -> tuple[int, dict[str, Any], str]:
        with self._lock:
            self.calls[operation] += 1
            refusal = self.refusals.get((operation, api_id)) or self.refusals.get(operation)
            if refusal is not None:
                return refusal[0], {"message": ""}, refusal[1]
            if api_id and api_id not in self.apis:
                return 404, {"message": "Invalid API identifier specified"}, "NotFoundException"
            try:
                return 200, answer(), ""
            except _Refused as refused:
                return 400, {"message": ""}, str(refused)

    def _gateway(self, operation: str, api_id: str, query: dict[str, str]) -> dict[str, Any]:
        rest = operation in {"GetRestApis", "GetResources"}
        match operation:
            case "GetRestApis":
                items = [_rest_api(api) for api in self.apis.values() if api.type == "REST"]
            case "GetApis":
                items = [_http_api(api) for api in self.apis.values() if api.type != "REST"]
            case "GetStages":
                return {"item": list(self.apis[api_id].stages.values())}
            case "GetApiStages":
                items = list(self.apis[api_id].stages.values())
            case "GetIntegrations":
                items = [{"timeoutInMillis": timeout} for timeout in self.apis[api_id].timeouts_ms]
            case "GetResources":
                items = [_resource(number, ms) for number, ms in enumerate(self.apis[api_id].timeouts_ms)]
                if query.get("embed") != "methods":
                    items = [item | {"resourceMethods": {"GET": {}}} for item in items]
            case _:
                raise AssertionError(operation)
        page, token = self._page(items, query.get("position" if rest else "nextToken"))
        return {"item": page, "position": token} if rest else {"items": page, "nextToken": token}

    def _logs(self, operation: str, asked: dict[str, Any]) -> dict[str, Any]:
        match operation:
            case "DescribeLogGroups":
                prefix = asked.get("logGroupNamePrefix", "")
                known = [item for groups in self._groups_seen(asked) for item in groups.items()]
                items = [facts for name, facts in sorted(known, key=lambda item: item[0]) if name.startswith(prefix)]
                key = "logGroups"
            case "DescribeDeliverySources":
                items, key = self.delivery_sources, "deliverySources"
            case "DescribeDeliveries":
                items, key = self.deliveries, "deliveries"
            case "DescribeDeliveryDestinations":
                items, key = self.delivery_destinations, "deliveryDestinations"
            case _:
                raise AssertionError(operation)
        page, token = self._page(items, asked.get("nextToken"), most=asked["limit"])
        return {key: page} | ({"nextToken": token} if token else {})

    def _groups_seen(self, asked: dict[str, Any]) -> list[dict[str, dict[str, Any]]]:
        """Those of the account itself unless linked accounts are asked for; without their ids: of all accounts."""
        ids = asked.get("accountIdentifiers")
        if not asked.get("includeLinkedAccounts"):
            if ids:
                raise _Refused("InvalidParameterException")
            return [self.groups]
        if not ids:
            return [self.groups, *self.linked.values()]
        if len(ids) > 20 or any(account != ACCOUNT_ID and account not in self.linked for account in ids):
            raise _Refused("InvalidParameterException")
        return [self.groups if account == ACCOUNT_ID else self.linked[account] for account in ids]

    def _page(self, items: list[Any], token: str | None, most: int = 500) -> tuple[list[Any], str | None]:
        start, size = int(token or 0), min(self.page_size, most)
        return items[start : start + size], str(start + size) if start + size < len(items) else None


class _Refused(Exception):
    """What AWS answers with an error; its code."""


def _group(name: str, account_id: str, stored_bytes: int, created_at_ms: int, retention_days: int) -> dict[str, Any]:
    arn = group_arn(name, account_id=account_id)
    facts: dict[str, Any] = {"logGroupName": name, "arn": f"{arn}:*", "logGroupArn": arn}
    facts |= {"storedBytes": stored_bytes, "creationTime": created_at_ms}
    return facts | ({"retentionInDays": retention_days} if retention_days else {})


class _Raw(io.BytesIO):
    def stream(self, amt: int = 65_536, decode_content: bool = True) -> Any:
        yield self.read()


_PATHS = (
    (re.compile(r"/restapis"), "GetRestApis"),
    (re.compile(r"/restapis/([^/]+)/stages"), "GetStages"),
    (re.compile(r"/restapis/([^/]+)/resources"), "GetResources"),
    (re.compile(r"/v2/apis"), "GetApis"),
    (re.compile(r"/v2/apis/([^/]+)/stages"), "GetApiStages"),
    (re.compile(r"/v2/apis/([^/]+)/integrations"), "GetIntegrations"),
)


def _rest_operation(path: str) -> tuple[str, str]:
    for pattern, operation in _PATHS:
        if match := pattern.fullmatch(path):
            return operation, match[1] if match.groups() else ""
    raise AssertionError(path)


def _rest_api(api: FakeApi) -> dict[str, Any]:
    return {"id": api.id, "name": api.name, "tags": api.tags}


def _http_api(api: FakeApi) -> dict[str, Any]:
    return {"apiId": api.id, "name": api.name, "protocolType": api.type, "tags": api.tags}


def _resource(number: int, timeout_ms: int) -> dict[str, Any]:
    integration = {"type": "AWS_PROXY", "timeoutInMillis": timeout_ms}
    return {"id": str(number), "path": f"/{number}", "resourceMethods": {"GET": {"methodIntegration": integration}}}
