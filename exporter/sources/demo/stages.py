"""What the demo's cloud holds: the stages of a small shop, how each logs, and the ways in which its requests end.

Nouns and their data only. The four stages differ in what they log, because that decides how a cause can be proven:
everything (`orders`), execution lines without access fields (`payments`), access fields with a few execution lines
(`catalog`), access lines alone (`notifications`).
"""

from collections.abc import Mapping
from enum import StrEnum
from importlib.resources import files
from typing import NamedTuple

import msgspec

ACCOUNT_ID = "123456789012"
REGION = "eu-west-1"

COMPLETED = "Method completed with status: <status>"


class Reach(StrEnum):
    """How far a request came before its fate was decided."""

    DOOR = "door"
    """Turned away before any phase that the execution log tells of."""
    AUTHORIZER = "authorizer"
    USAGE_PLAN = "usage_plan"
    METHOD = "method"
    """Accepted and validated, or not; nothing was sent to a backend."""
    INTEGRATION = "integration"


class Outcome(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way in which a request ends; the fields are explained at the head of `outcomes.yaml`."""

    cause: str | None
    status: int
    stages: tuple[str, ...]
    methods: tuple[str, ...] = ()
    reach: Reach = Reach.INTEGRATION
    reasons: tuple[str, ...] = ()
    ending: str = COMPLETED
    access: Mapping[str, str] = {}
    answered: int | None = None
    body: str | None = None
    passed_on: bool = False
    took_ms: tuple[int, int] = (4, 30)
    weight: int = 1


def outcomes() -> tuple[Outcome, ...]:
    """The catalogue: successes first, then every cause in the order of the closed set."""
    text = files(__package__).joinpath("outcomes.yaml").read_bytes()
    return msgspec.yaml.decode(text, type=tuple[Outcome, ...])


class Route(NamedTuple):
    """A method of a resource."""

    method: str
    resource: str
    """The template; `{id}` is filled in per request."""
    needs_key: bool = False


class Level(StrEnum):
    """A stage's `loggingLevel`; a stage without execution logs (an HTTP API) is `OFF`."""

    OFF = "OFF"
    ERROR = "ERROR"
    INFO = "INFO"


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One stage: what it serves, and what it writes where."""

    api_id: str
    api_name: str
    name: str
    type: str = "REST"
    routes: tuple[Route, ...]
    backend: str
    """The integration's URI, as in `Sending request to …`."""
    has_authorizer: bool = False
    access_format: str
    """The `$context` format string that API Gateway fills in."""
    watch_format: str
    """What the demo's configuration calls it: `auto`, `clf`, or the format string itself."""
    level: Level = Level.OFF
    data_trace: bool = False

    @property
    def access_group(self) -> str:
        """The log group of the access log: the user's choice."""
        return f"/aws/apigateway/{self.api_name}-access"

    @property
    def execution_group(self) -> str | None:
        """The log group of the execution log: API Gateway's own naming. None where there is none."""
        return None if self.level is Level.OFF else f"API-Gateway-Execution-Logs_{self.api_id}/{self.name}"


def _function(name: str) -> str:
    """A Lambda integration's URI."""
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT_ID}:function:{name}"
    return f"https://lambda.{REGION}.amazonaws.com/2015-03-31/functions/{arn}/invocations"


def _json_format(**variables: str) -> str:
    """A JSON access format with every value quoted, as the AWS samples have it."""
    return "{" + ",".join(f'"{key}":"$context.{name}"' for key, name in variables.items()) + "}"


_PHASES_FORMAT = _json_format(
    requestId="requestId",
    extendedRequestId="extendedRequestId",
    requestTimeEpoch="requestTimeEpoch",
    apiId="apiId",
    stage="stage",
    httpMethod="httpMethod",
    resourcePath="resourcePath",
    status="status",
    responseType="error.responseType",
    errorMessage="error.message",
    validationError="error.validationErrorString",
    responseLatency="responseLatency",
    wafStatus="waf.status",
    wafLatency="waf.latency",
    wafError="waf.error",
    wafResponseCode="wafResponseCode",
    authenticateStatus="authenticate.status",
    authenticateError="authenticate.error",
    authorizerStatus="authorizer.status",
    authorizerLatency="authorizer.latency",
    authorizerError="authorizer.error",
    authorizeStatus="authorize.status",
    authorizeError="authorize.error",
    integrationStatus="integration.status",
    integrationServiceStatus="integration.integrationStatus",
    integrationLatency="integration.latency",
    integrationError="integration.error",
    xrayTraceId="xrayTraceId",
    ip="identity.sourceIp",
    userAgent="identity.userAgent",
)

# The AWS sample, to the letter (no space after the bracket).
_CLF_FORMAT = (
    "$context.identity.sourceIp $context.identity.caller $context.identity.user "
    '[$context.requestTime]"$context.httpMethod $context.resourcePath $context.protocol" '
    "$context.status $context.responseLength $context.requestId $context.extendedRequestId"
)

_ERRORS_FORMAT = _json_format(
    requestId="requestId",
    extendedRequestId="extendedRequestId",
    ip="identity.sourceIp",
    caller="identity.caller",
    user="identity.user",
    requestTime="requestTime",
    httpMethod="httpMethod",
    resourcePath="resourcePath",
    status="status",
    protocol="protocol",
    responseLength="responseLength",
    responseLatency="responseLatency",
    error_message="error.message",
    error_responseType="error.responseType",
    integration_error="integration.error",
    integration_status="integration.status",
    integration_latency="integrationLatency",
)

_HTTP_API_FORMAT = _json_format(
    requestId="requestId",
    ip="identity.sourceIp",
    requestTime="requestTime",
    httpMethod="httpMethod",
    routeKey="routeKey",
    status="status",
    protocol="protocol",
    responseLength="responseLength",
    responseLatency="responseLatency",
    errorMessage="error.message",
    errorResponseType="error.responseType",
    authorizerError="authorizer.error",
    integrationErrorMessage="integrationErrorMessage",
    integrationStatus="integration.status",
    integrationLatency="integrationLatency",
)

STAGES = (
    Stage(
        api_id="a7fj2k9x3d",
        api_name="orders",
        name="prod",
        routes=(
            Route("GET", "/orders"),
            Route("POST", "/orders"),
            Route("GET", "/orders/{id}"),
            Route("DELETE", "/orders/{id}"),
        ),
        backend=_function("orders-prod"),
        has_authorizer=True,
        access_format=_PHASES_FORMAT,
        watch_format=_PHASES_FORMAT,
        level=Level.INFO,
        data_trace=True,
    ),
    Stage(
        api_id="p4m8q1z6wt",
        api_name="payments",
        name="prod",
        routes=(
            Route("POST", "/payments", needs_key=True),
            Route("GET", "/payments/{id}"),
            Route("POST", "/payments/{id}/refund", needs_key=True),
        ),
        backend="https://ledger.payments.example.com/v1/entries",
        access_format=_CLF_FORMAT,
        watch_format="clf",
        level=Level.INFO,
    ),
    Stage(
        api_id="c2v5b8n1sy",
        api_name="catalog",
        name="v1",
        routes=(Route("GET", "/products"), Route("GET", "/products/{id}"), Route("PUT", "/products/{id}")),
        backend=_function("catalog-v1"),
        access_format=_ERRORS_FORMAT,
        watch_format=_ERRORS_FORMAT,
        level=Level.ERROR,
    ),
    Stage(
        api_id="n9t3r6e0hq",
        api_name="notifications",
        name="$default",
        type="HTTP",
        routes=(Route("POST", "/notifications"), Route("GET", "/notifications/{id}")),
        backend=_function("notifications"),
        access_format=_HTTP_API_FORMAT,
        watch_format="auto",
    ),
)
