"""One account and region, looked at again and again: what it holds now, with nothing lost to a call that failed.

`survey` asks for everything once and gives all that is known. What a call did not bring stays as it was known before;
what a call says is gone, is gone. Used by one thread at a time.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from exporter.arns import account_of_arn
from exporter.config.sections import Account, Discover
from exporter.discovery.calls import Caller, CallFailed
from exporter.discovery.gateways import FoundApi, Gateway, HttpGateway, RestGateway
from exporter.discovery.log_groups import LogGroups
from exporter.discovery.selection import may_take, takes, wants_type
from exporter.discovery.stages import (
    ApiId,
    Delivery,
    GroupFacts,
    Problem,
    Stage,
    StageKey,
    Survey,
    execution_group_names,
)
from exporter.model import UNKNOWN

if TYPE_CHECKING:
    from mypy_boto3_apigateway import APIGatewayClient
    from mypy_boto3_apigatewayv2 import ApiGatewayV2Client
    from mypy_boto3_logs import CloudWatchLogsClient

_Found = TypeVar("_Found")


class Clients(Protocol):
    """The clients of one account and region, each made when first asked for."""

    def rest(self) -> "APIGatewayClient":
        """API Gateway's client for REST APIs."""
        ...

    def http(self) -> "ApiGatewayV2Client":
        """API Gateway's client for HTTP and WebSocket APIs."""
        ...

    def logs(self) -> "CloudWatchLogsClient":
        """CloudWatch Logs' client."""
        ...

    def forget(self) -> None:
        """Make them anew: their credentials failed, and files may have changed."""
        ...


class Place:
    """An account and region, and what was found there."""

    def __init__(
        self,
        account: Account,
        region: str,
        *,
        discover: Discover,
        clients: Clients,
        management: Caller,
        logs: Caller,
    ) -> None:
        """`management` asks API Gateway, `logs` CloudWatch Logs, each within its own budget."""
        self._account = account
        self._region = region
        self._discover = discover
        self._clients = clients
        self._shelves: list[_Shelf] = []
        if discover.rest:
            self._shelves.append(_Shelf(RestGateway(clients.rest, management)))
        if discover.http or discover.websocket:
            self._shelves.append(_Shelf(HttpGateway(clients.http, management)))
        self._log_groups = LogGroups(clients.logs, logs)
        self._groups: dict[str, GroupFacts | None] = {}
        self._deliveries: dict[StageKey, Delivery] = {}
        self._account_id = account.known_id or UNKNOWN
        self._problems: list[Problem] = []

    def survey(self) -> Survey:
        """Look at everything once. Never raises for a call that failed: that is a `Problem` of the survey."""
        self._problems = []
        try:
            for shelf in self._shelves:
                self._read_apis(shelf)
            self._read_deliveries()
            self._read_groups()
        except CallFailed as failed:
            self._problems.append(Problem(failed.refusal))
            if failed.refusal.reason == "credentials":
                self._clients.forget()
        return Survey(
            account=self._account.name,
            owner=self._account.owner,
            account_id=self._account_id,
            region=self._region,
            stages=self._stages(),
            groups=dict(self._groups),
            deliveries=dict(self._deliveries),
            problems=tuple(self._problems),
        )

    def _read_apis(self, shelf: "_Shelf") -> None:
        listed = self._try(shelf.gateway.apis)
        if listed is None:
            return
        apis = {
            api.id: api
            for api in listed
            if wants_type(self._discover, api.type) and may_take(self._discover, api.name, api.tags)
        }
        for gone in shelf.stages.keys() - apis.keys():
            del shelf.stages[gone]
            shelf.timeouts.pop(gone, None)
        for api in apis.values():
            self._read_stages(shelf, api)

    def _read_stages(self, shelf: "_Shelf", api: FoundApi) -> None:
        try:
            found = shelf.gateway.stages(api)
        except CallFailed as failed:
            if failed.refusal.reason == "missing":
                # Deleted since it was listed.
                shelf.stages.pop(api.id, None)
            else:
                self._note(failed, api.name)
            return
        stages = [stage for stage in found if takes(self._discover, stage)]
        timeout_ms = None
        if any(stage.access_group or stage.logs_execution for stage in stages):
            timeout_ms = self._timeout_ms(shelf, api, stages)
        shelf.stages[api.id] = tuple(replace(stage, largest_timeout_ms=timeout_ms) for stage in stages)

    def _timeout_ms(self, shelf: "_Shelf", api: FoundApi, stages: list[Stage]) -> int | None:
        """Ask for the timeouts of an API again only when something else was deployed to it: half of all calls."""
        deployed = frozenset(deployment for stage in stages for deployment in stage.deployment_ids)
        known = shelf.timeouts.get(api.id)
        if known is not None and deployed and known[0] == deployed:
            return known[1]
        try:
            timeout_ms = shelf.gateway.largest_timeout_ms(api)
        except CallFailed as failed:
            self._note(failed, api.name)
            return None if known is None else known[1]
        shelf.timeouts[api.id] = (deployed, timeout_ms)
        return timeout_ms

    def _read_deliveries(self) -> None:
        if not any(stage.logs_execution for stage in self._stages()):
            return
        deliveries = self._try(self._log_groups.deliveries)
        if deliveries is not None:
            self._deliveries = dict(deliveries)

    def _read_groups(self) -> None:
        stages = self._stages()
        arn = next((stage.access_arn for stage in stages if stage.access_arn is not None), None)
        names = {stage.access_group for stage in stages if stage.access_group is not None}
        for stage in stages:
            if stage.logs_execution:
                delivery = self._deliveries.get(stage.key, Delivery())
                names |= {*execution_group_names(stage), *delivery.groups}
        for name in self._groups.keys() - names:
            del self._groups[name]
        found = self._try(lambda: self._log_groups.look_up(names)) if names else None
        if found is not None:
            self._groups = dict(found[0])
            arn = found[1] or arn
        if self._account_id == UNKNOWN and arn is not None:
            self._account_id = account_of_arn(arn) or UNKNOWN

    def _stages(self) -> tuple[Stage, ...]:
        return tuple(stage for shelf in self._shelves for stages in shelf.stages.values() for stage in stages)

    def _try(self, ask: Callable[[], _Found]) -> _Found | None:
        try:
            return ask()
        except CallFailed as failed:
            self._note(failed, None)
            return None

    def _note(self, failed: CallFailed, api: str | None) -> None:
        """Remember what failed and go on; unless nothing else would fare better."""
        if failed.hopeless:
            raise failed
        self._problems.append(Problem(failed.refusal, api))


class _Shelf:
    """What one of the two management APIs has told."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.stages: dict[ApiId, tuple[Stage, ...]] = {}
        self.timeouts: dict[ApiId, tuple[frozenset[str], int | None]] = {}
