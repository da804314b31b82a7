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
_LEVELS = frozenset({"OFF", "ERROR", "INFO"})


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
            FoundApi(
                id=api["ApiId"], name=api.get("Name", api["ApiId"]), type=api["ProtocolType"], tags=api.get("Tags", {})
            )
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


class _Logging(NamedTuple):
    """What a stage's settings say of its execution log."""

    level: Level
    own_levels: Mapping[str, Level]
    traced: tuple[str, ...]


def _logging(settings: Mapping[str, tuple[str | None, bool]]) -> _Logging:
    """Read the level and data tracing of each method or route; `*/*` is the stage's own."""
    whole = _level(settings.get(_WHOLE_STAGE, (None, False))[0], Level.OFF)
    levels = {method: _level(text, whole) for method, (text, _) in settings.items()}
    return _Logging(
        level=whole,
        own_levels={_method(method): level for method, level in levels.items() if level is not whole},
        # Tracing needs a level to trace at: without one nothing is logged.
        traced=tuple(
            _method(method)
            for method, (_, traced) in sorted(settings.items())
            if traced and levels[method] is not Level.OFF
        ),
    )


def _rest_stage(api: FoundApi, stage: "RestStageTypeDef") -> Stage:
    access = stage.get("accessLogSettings") or {}
    deployments = (stage.get("deploymentId"), (stage.get("canarySettings") or {}).get("deploymentId"))
    logging = _logging(
        {
            method: (setting.get("loggingLevel"), setting.get("dataTraceEnabled", False))
            for method, setting in (stage.get("methodSettings") or {}).items()
        }
    )
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
        level=logging.level,
        own_levels=logging.own_levels,
        traced=logging.traced,
    )


def _http_stage(api: FoundApi, stage: "HttpStageTypeDef") -> Stage:
    access = stage.get("AccessLogSettings") or {}
    settings = {**(stage.get("RouteSettings") or {}), _WHOLE_STAGE: stage.get("DefaultRouteSettings") or {}}
    # HTTP APIs show these settings too, but have no execution log that they could set.
    logging = _logging(
        {
            route: (setting.get("LoggingLevel"), setting.get("DataTraceEnabled", False))
            for route, setting in settings.items()
            if api.type == "WEBSOCKET"
        }
    )
    deployment = stage.get("DeploymentId")
    return Stage(
        api_id=api.id,
        api_name=api.name,
        api_type=api.type,
        name=stage.get("StageName", ""),
        api_tags=api.tags,
        tags=stage.get("Tags") or {},
        deployment_ids=(deployment,) if deployment else (),
        access_arn=access.get("DestinationArn") or None,
        access_format=access.get("Format") or "",
        level=logging.level,
        own_levels=logging.own_levels,
        traced=logging.traced,
    )


def _level(text: str | None, otherwise: Level) -> Level:
    return Level(text) if text in _LEVELS else otherwise


def _method(key: str) -> str:
    """`~1orders~1{id}/GET` as people write it: `/orders/{id}/GET`; `*` for the whole stage."""
    return "*" if key == _WHOLE_STAGE else key.replace("~1", "/").replace("~0", "~")


def _largest(timeouts_ms: Iterable[int | None]) -> int | None:
    return max((timeout_ms for timeout_ms in timeouts_ms if timeout_ms is not None), default=None)
