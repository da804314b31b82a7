"""API Gateway's two management APIs as lists of APIs, stages and timeouts: `apigateway` (REST) and `apigatewayv2`.

Each call becomes facts here, and nowhere else is an answer of theirs looked into. Nothing is kept, nothing is judged.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from exporter.discovery.calls import Caller
from exporter.discovery.stages import Level, Stage

if TYPE_CHECKING:
    from mypy_boto3_apigateway import APIGatewayClient
    from mypy_boto3_apigateway.type_defs import (
        GetResourcesRequestTypeDef,
        GetRestApisRequestTypeDef,
        ResourceTypeDef,
        RestApiTypeDef,
    )
    from mypy_boto3_apigateway.type_defs import StageTypeDef as RestStageTypeDef
    from mypy_boto3_apigatewayv2 import ApiGatewayV2Client
    from mypy_boto3_apigatewayv2.type_defs import (
        ApiTypeDef,
        GetApisRequestTypeDef,
        GetIntegrationsRequestTypeDef,
        GetStagesRequestTypeDef,
        IntegrationTypeDef,
    )
    from mypy_boto3_apigatewayv2.type_defs import StageTypeDef as HttpStageTypeDef

_REST_PAGE = 500
_HTTP_PAGE = "100"
_WHOLE_STAGE = "*/*"


class FoundApi(NamedTuple):
    """An API in the list of its account and region."""

    id: str
    name: str
    type: str
    """REST, HTTP or WEBSOCKET."""
    tags: Mapping[str, str]


class Gateway(Protocol):
    """One of the two management APIs. Every method raises `CallFailed`."""

    def apis(self) -> list[FoundApi]:
        """Every API there is."""
        ...

    def stages(self, api: FoundApi) -> list[Stage]:
        """The stages of an API, without their timeouts."""
        ...

    def largest_timeout_ms(self, api: FoundApi) -> int | None:
        """The largest timeout of an API's integrations; None if it has none.

        It is that of the API as it is edited now: what a deployment froze cannot be asked for.
        """
        ...


class RestGateway:
    """REST APIs."""

    def __init__(self, client: "Callable[[], APIGatewayClient]", caller: Caller) -> None:
        self._client = client
        self._caller = caller

    def apis(self) -> list[FoundApi]:
        """See `Gateway.apis`."""

        def page(token: str | None) -> "tuple[list[RestApiTypeDef], str | None]":
            request: GetRestApisRequestTypeDef = {"limit": _REST_PAGE}
            if token is not None:
                request["position"] = token
            answer = self._client().get_rest_apis(**request)
            return answer.get("items", []), answer.get("position")

        return [
            FoundApi(id=api["id"], name=api.get("name", api["id"]), type="REST", tags=api.get("tags", {}))
            for api in self._caller.list_all("GetRestApis", page)
        ]

    def stages(self, api: FoundApi) -> list[Stage]:
        """See `Gateway.stages`. This one is not paged."""
        answer = self._caller.ask("GetStages", lambda: self._client().get_stages(restApiId=api.id))
        return [_rest_stage(api, stage) for stage in answer.get("item", [])]

    def largest_timeout_ms(self, api: FoundApi) -> int | None:
        """See `Gateway.largest_timeout_ms`."""

        def page(token: str | None) -> "tuple[list[ResourceTypeDef], str | None]":
            request: GetResourcesRequestTypeDef = {"restApiId": api.id, "limit": _REST_PAGE, "embed": ["methods"]}
            if token is not None:
                request["position"] = token
            answer = self._client().get_resources(**request)
            return answer.get("items", []), answer.get("position")

        resources = self._caller.list_all("GetResources", page)
        return _largest(
            method.get("methodIntegration", {}).get("timeoutInMillis")
            for resource in resources
            for method in resource.get("resourceMethods", {}).values()
        )


class HttpGateway:
    """HTTP and WebSocket APIs."""

    def __init__(self, client: "Callable[[], ApiGatewayV2Client]", caller: Caller) -> None:
        self._client = client
        self._caller = caller

    def apis(self) -> list[FoundApi]:
        """See `Gateway.apis`."""

        def page(token: str | None) -> "tuple[list[ApiTypeDef], str | None]":
            request: GetApisRequestTypeDef = {"MaxResults": _HTTP_PAGE}
            if token is not None:
                request["NextToken"] = token
            answer = self._client().get_apis(**request)
            return answer.get("Items", []), answer.get("NextToken")

        return [
            FoundApi(id=api["ApiId"], name=api.get("Name", ""), type=api["ProtocolType"], tags=api.get("Tags", {}))
            for api in self._caller.list_all("GetApis", page)
            if "ApiId" in api
        ]

    def stages(self, api: FoundApi) -> list[Stage]:
        """See `Gateway.stages`."""

        def page(token: str | None) -> "tuple[list[HttpStageTypeDef], str | None]":
            request: GetStagesRequestTypeDef = {"ApiId": api.id, "MaxResults": _HTTP_PAGE}
            if token is not None:
                request["NextToken"] = token
            answer = self._client().get_stages(**request)
            return answer.get("Items", []), answer.get("NextToken")

        return [_http_stage(api, stage) for stage in self._caller.list_all("GetApiStages", page)]

    def largest_timeout_ms(self, api: FoundApi) -> int | None:
        """See `Gateway.largest_timeout_ms`."""

        def page(token: str | None) -> "tuple[list[IntegrationTypeDef], str | None]":
            request: GetIntegrationsRequestTypeDef = {"ApiId": api.id, "MaxResults": _HTTP_PAGE}
            if token is not None:
                request["NextToken"] = token
            answer = self._client().get_integrations(**request)
            return answer.get("Items", []), answer.get("NextToken")

        integrations = self._caller.list_all("GetIntegrations", page)
        return _largest(integration.get("TimeoutInMillis") for integration in integrations)


def _rest_stage(api: FoundApi, stage: "RestStageTypeDef") -> Stage:
    access = stage.get("accessLogSettings") or {}
    settings = stage.get("methodSettings") or {}
    levels = {method: _level(setting.get("loggingLevel")) for method, setting in settings.items()}
    deployments = (stage.get("deploymentId"), (stage.get("canarySettings") or {}).get("deploymentId"))
    whole = levels.pop(_WHOLE_STAGE, Level.OFF)
    return Stage(
        api_id=api.id,
        api_name=api.name,
        api_type=api.type,
        name=stage.get("stageName", ""),
        api_tags=api.tags,
        tags=stage.get("tags") or {},
        deployment_ids=tuple(deployment for deployment in deployments if deployment),
        access_arn=access.get("destinationArn") or None,
        access_format=access.get("format") or "",
        level=whole,
        own_levels={_method(method): level for method, level in levels.items() if level is not whole},
        traced=_traced({method: bool(setting.get("dataTraceEnabled")) for method, setting in settings.items()}, levels | {_WHOLE_STAGE: whole}),
    )


def _http_stage(api: FoundApi, stage: "HttpStageTypeDef") -> Stage:
    access = stage.get("AccessLogSettings") or {}
    # HTTP APIs show these settings too, but have no execution log that they could set.
    whole = (stage.get("DefaultRouteSettings") or {}) if api.type == "WEBSOCKET" else {}
    routes = (stage.get("RouteSettings") or {}) if api.type == "WEBSOCKET" else {}
    settings = {**routes, _WHOLE_STAGE: whole}
    levels = {route: _level(setting.get("LoggingLevel")) for route, setting in settings.items()}
    deployment = stage.get("DeploymentId")
    return Stage(
        api_id=api.id,
        api_name=api.name or api.id,
        api_type=api.type,
        name=stage.get("StageName", ""),
        api_tags=api.tags,
        tags=stage.get("Tags") or {},
        deployment_ids=(deployment,) if deployment else (),
        access_arn=access.get("DestinationArn") or None,
        access_format=access.get("Format") or "",
        level=levels[_WHOLE_STAGE],
        own_levels={
            route: level
            for route, level in levels.items()
            if route != _WHOLE_STAGE and level is not levels[_WHOLE_STAGE]
        },
        traced=_traced({route: bool(setting.get("DataTraceEnabled")) for route, setting in settings.items()}, levels),
    )


def _level(text: str | None) -> Level:
    # A method without a level of its own in a setting that is about something else (throttling) logs nothing.
    return Level(text) if text in Level.__members__ else Level.OFF


def _traced(tracing: Mapping[str, bool], levels: Mapping[str, Level]) -> tuple[str, ...]:
    """Data tracing needs a level to trace at: without one nothing is logged."""
    return tuple(
        "*" if method == _WHOLE_STAGE else _method(method)
        for method, traced in sorted(tracing.items())
        if traced and levels[method] is not Level.OFF
    )


def _method(key: str) -> str:
    """`~1orders~1{id}/GET` as people write it: `/orders/{id}/GET`."""
    return key.replace("~1", "/").replace("~0", "~")


def _largest(timeouts_ms: Iterable[int | None]) -> int | None:
    return max((timeout_ms for timeout_ms in timeouts_ms if timeout_ms is not None), default=None)
