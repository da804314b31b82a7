"""What the configuration file may say: every key with its kind, its default and its meaning, once.

The texts beneath the keys are the documentation: the JSON schema and `docs/configuration.md` are made from them.
Nothing here looks beyond its own section; what sections mean together is judged in `resolving.py`.
"""

import base64
import re
from functools import cached_property
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from exporter.config.scalars import (
    AccessFormat,
    AccountId,
    Address,
    AsList,
    AsMapping,
    CauseName,
    ContextField,
    Duration,
    Endpoint,
    Flag,
    GroupName,
    GroupTemplate,
    HeaderName,
    HeaderValue,
    Limit,
    LinkTemplate,
    Rate,
    Region,
    RoleArn,
    Secret,
    Size,
    Status,
    StatusKey,
    Text,
    Whole,
    account_id_of,
    at_least,
    parse_statuses,
)


class Section(BaseModel):
    """A mapping of the file: unknown keys are refused, values are never guessed, nothing changes after loading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, hide_input_in_errors=True, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, value: object) -> object:
        # A section whose keys are all commented out has no value.
        return {} if value is None else value


class State(Section):
    """Where the exporter remembers."""

    path: Text = "/var/lib/apigateway-exporter/state.db"
    """The SQLite file that holds progress, counts and unsent spans; it needs a disk that survives a restart. A
    relative path starts at the configuration file's directory."""
    max_outbox_bytes: Annotated[Size, Field(alias="max_outbox")] = Field(default="512MiB", validate_default=True)
    """The most disk that spans which could not be sent yet may take; beyond it the oldest are dropped and counted."""


class Web(Section):
    """Where Prometheus scrapes."""

    listen_address: Address = Field(default="0.0.0.0:10610", validate_default=True)
    """`host:port`; `:port` is every IPv4 address, `[::]:port` every IPv6 address (on Linux IPv4 too)."""
    config_file: Text | None = None
    """A web configuration file as Prometheus knows it: TLS, client certificates, users. A relative path starts at the
    configuration file's directory."""
    failures_page: Flag = False
    """Whether `/failures` shows the last failures and what was logged of them, redacted, to whoever may scrape."""


class Account(Section):
    """An AWS account, and the right to read its logs."""

    name: Text
    """What watches call it; also the `account` of log messages."""
    regions: Annotated[tuple[Region, ...], AsList] = ()
    """The regions to read. Default: those that its watches name."""
    account_id: AccountId | None = None
    """Its 12 digits, in quotes. Default: those of `role_arn`. Worth saying where the account is also read through
    another one, so that a log group is known to be the same."""
    profile: Text | None = None
    """A named profile of the shared AWS configuration. Default: the default credential chain."""
    role_arn: RoleArn | None = None
    """A role to assume, with the profile's or the credential chain's own rights."""
    external_id: Secret | None = None
    """The external id that the role's trust policy asks for."""
    calls_per_second: Rate = 2.0
    """The most calls per second to CloudWatch Logs, for each region of the account. AWS allows FilterLogEvents 25 in
    us-east-1, 5 in ap-northeast-3, ap-southeast-3, ca-west-1, eu-central-1 and il-central-1, else 10, shared by
    everything that reads logs there."""

    @property
    def owner(self) -> str:
        """Whose its log groups are: its 12 digits where they are known, else its name."""
        return self.known_id or self.name

    @property
    def known_id(self) -> str | None:
        """Its 12 digits, where the configuration tells them."""
        return self.account_id or (self.role_arn and account_id_of(self.role_arn)) or None


class ApiKeys(Section):
    """Which API and stage the log groups belong to."""

    id: Text | None = None
    """The API's id. Default: taken from the execution log group's name, else from the access lines."""
    name: Text | None = None
    """The API's name, the `api_name` of the metrics. Default: its id."""
    stage: Text | None = None
    """The stage. Default: taken from the execution log group's name, else from the access lines."""
    type: Literal["REST", "HTTP", "WEBSOCKET"] = "REST"
    """REST, HTTP or WEBSOCKET."""


class AccessLog(Section):
    """The stage's access log."""

    group: GroupName
    """The log group's name; its ARN where `account` is a monitoring account that reads it."""
    format: AccessFormat = "auto"
    """`auto`, `clf`, `json`, `csv`, `xml`, or the stage's own `$context…` format string."""


Fetch = Literal["all", "failures", "auto"]


class ExecutionLog(Section):
    """The stage's execution log."""

    group: GroupName
    """The log group's name or ARN: for a REST API `API-Gateway-Execution-Logs_<api id>/<stage>`."""


class WatchKeys(Section):
    """One stage to watch: its log groups, whose lines are joined by request."""

    name: Text
    """Its name in metrics, logs and messages; unique."""
    account: Text | None = None
    """The account's name. Default: the only account, or `default` where none is configured."""
    region: Region | None = None
    """The region. Default: that of an ARN, else the account's only region; where the account names none, `AWS_REGION`
    or `AWS_DEFAULT_REGION`."""
    api: ApiKeys = Field(default={}, validate_default=True)
    access_log: AccessLog | None = None
    execution_log: ExecutionLog | None = None
    max_request_ms: Annotated[Duration, at_least("1s")] = Field(
        default="30s", validate_default=True, alias="max_request"
    )
    """The longest that a request of this stage can take: its largest integration timeout."""
    fetch: Fetch = "all"
    """`all` reads every line. `failures` only those of failed requests, found by filter patterns: no totals, no
    latencies, no masked errors. `auto` does that while the call budget is not enough for all."""


class Selection(Section):
    """Which stages discovery takes or leaves."""

    names: Annotated[tuple[Text, ...], AsList] = ()
    """Patterns of API names (`orders-*`)."""
    tags: Annotated[dict[Text, Text], AsMapping] = {}
    """Tags that the stage or its API has."""
    stages: Annotated[tuple[Text, ...], AsList] = ()
    """Patterns of stage names."""


class LinkedAccessLog(Section):
    """How access log groups of linked accounts are called, and what their lines look like."""

    group: GroupTemplate
    """A name with `{api_id}`, perhaps `{stage}` and `{api_name}`, and `*` for anything: `access/{api_id}/{stage}`. Of
    several that fit a group the first counts."""
    account_id: AccountId | None = None
    """Only in this account. Default: in every linked one."""
    format: AccessFormat = "auto"
    """As for a watch: API Gateway cannot be asked for it there."""
    type: Literal["REST", "HTTP", "WEBSOCKET"] = "HTTP"
    """What the API is if it has no execution log group; if it has one, that tells."""

    @property
    def prefix(self) -> str:
        """What every name begins with."""
        return re.split(r"[{*]", self.group, maxsplit=1)[0]

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What tells `api_id`, and perhaps `stage` and `api_name`, out of a name."""
        kinds = {"{api_id}": "(?P<api_id>[a-z0-9]{10})", "{stage}": r"(?P<stage>[A-Za-z0-9_-]+?)"}
        kinds |= {"{api_name}": r"(?P<api_name>[^/]+?)", "*": ".*?"}
        parts = re.split(r"(\{\w+\}|\*)", self.group)
        return re.compile("".join(kinds.get(part) or re.escape(part) for part in parts))


class LinkedAccounts(Section):
    """Stages of accounts that are linked to a monitoring account (CloudWatch cross-account observability).

    They are found by the names of their log groups, because API Gateway cannot be asked there.
    """

    through: Text | None = None
    """The monitoring account's name under `accounts`. Default: every account is asked what is linked to it."""
    ids: Annotated[tuple[AccountId, ...], AsList] = ()
    """The linked accounts to read. Default: all."""
    access_logs: Annotated[tuple[LinkedAccessLog, ...], AsList] = ()
    """How their access log groups are called; without it only execution log groups are found."""
    max_request_ms: Annotated[Duration, at_least("1s")] = Field(
        default="30s", validate_default=True, alias="max_request"
    )
    """The longest that a request to any of them can take; at least 30 seconds count."""


class Discover(Section):
    """Finding the stages to watch: REST, HTTP and WebSocket APIs of each account and region."""

    rest: Flag = True
    """Whether to look for REST APIs."""
    http: Flag = True
    """Whether to look for HTTP APIs."""
    websocket: Flag = True
    """Whether to look for WebSocket APIs."""
    fetch: Fetch = "all"
    """`fetch` of the watches that discovery makes; a stage whose access lines have no status is read in full."""
    include: Selection = Field(default={}, validate_default=True)
    exclude: Selection = Field(default={}, validate_default=True)
    linked_accounts: LinkedAccounts | None = None
    refresh_ms: Annotated[Duration, at_least("1m")] = Field(default="10m", validate_default=True, alias="refresh")
    """How often to look again; at most `initial_lookback`."""


class Failures(Section):
    """Which requests are failures."""

    statuses: Annotated[tuple[Status, ...], AsList, Field(min_length=1, json_schema_extra={"minItems": 1})] = (
        "4xx",
        "5xx",
    )
    """Which statuses of 400 and more are failures: classes (`4xx`), statuses (`404`) and ranges (`500-504`). A request
    that failed behind a lower status (`masked_lambda_error`) always is one."""
    ignore_causes: Annotated[tuple[CauseName, ...], AsList] = ()
    """Causes that are no failures to you; their requests still count in the totals."""

    @cached_property
    def _wanted(self) -> frozenset[int]:
        return frozenset[int]().union(*(parse_statuses(status) for status in self.statuses))

    def wants(self, status: int | None, cause: str | None = None) -> bool:
        """Whether a request that failed with this status and cause counts; what is not known excludes nothing."""
        return (status is None or status < 400 or status in self._wanted) and cause not in self.ignore_causes


class Labels(Section):
    """How many series the metrics may have, and for how long."""

    resource: Flag = True
    """Whether the detail has the resource template as a label; else it is `unknown`."""
    method: Flag = True
    """Whether the detail has the method as a label; else it is `unknown`."""
    max_series: Annotated[Whole, Field(ge=1)] = 20_000
    """The most series of one metric; what goes beyond is counted under `__other__`."""
    zero_hold_ms: Duration = Field(default="2m", validate_default=True, alias="zero_hold")
    """How long a new series is shown as 0 before its value, so that `increase()` sees the first failure: at least two
    scrape intervals."""
    forget_after_ms: Annotated[Duration, at_least("1h")] = Field(
        default="30d", validate_default=True, alias="forget_after"
    )
    """How long a series outlives its last change once its stage is gone."""


class Budget(Section):
    """How many failures of one stage and cause make traces a minute; those beyond it are sampled, all are counted."""

    per_minute: Annotated[Limit, Field(ge=0)] = 600
    """The budget of what is not listed below. 0 makes no traces."""
    causes: Annotated[dict[CauseName, Annotated[Limit, Field(ge=0)]], AsMapping] = {}
    """Budgets by cause."""
    statuses: Annotated[dict[StatusKey, Annotated[Limit, Field(ge=0)]], AsMapping] = {}
    """Budgets by status (`4xx`, `404`, `500-504`), for causes not listed; the first that fits."""

    @cached_property
    def _by_status(self) -> tuple[tuple[frozenset[int], int], ...]:
        return tuple((parse_statuses(status), limit) for status, limit in self.statuses.items())

    def of(self, status: int | None, cause: str) -> int:
        """The budget of a failure."""
        if cause in self.causes:
            return self.causes[cause]
        return next((limit for statuses, limit in self._by_status if status in statuses), self.per_minute)


class Traces(Section):
    """Where failed requests go as OpenTelemetry spans."""

    endpoint: Endpoint | None = None
    """The OTLP receiver: `http://host:4318` (`/v1/traces` is added to an address without a path), for gRPC
    `http://host:4317`. A user and password in it become an `authorization` header. Default: the standard
    `OTEL_EXPORTER_OTLP_…` variables; without them no spans are made."""
    protocol: Literal["http", "grpc"] | None = None
    """`http` (protobuf) or `grpc` (needs the `grpc` extra). Default: `OTEL_EXPORTER_OTLP_PROTOCOL`, else `http`."""
    headers: Annotated[dict[HeaderName, HeaderValue], AsMapping] = {}
    """Headers to send along, for keys and tenants. Values are never shown."""
    timeout_ms: Annotated[Duration, at_least("100ms")] | None = Field(default=None, alias="timeout")
    """How long one sending may take. Default: `OTEL_EXPORTER_OTLP_TIMEOUT`, else `10s`."""
    join: Literal["trace", "link"] = "trace"
    """`trace` puts the span into the caller's trace where the logs name one; `link` makes a trace of its own that
    links to it."""
    events: Literal["span", "logs"] = "span"
    """Execution lines as `span` events, or as OTLP `logs` of the same trace, sent to `/v1/logs` beside `/v1/traces`."""
    fields: Annotated[tuple[ContextField, ...], AsList] = ()
    """Access variables to show on the span although they may tell of persons: `identity.sourceIp`,
    `authorizer.principalId`. Their values are redacted like any text."""
    budget: Budget = Field(default={}, validate_default=True)
    link_template: LinkTemplate | None = None
    """The address of a trace in your tracing system, with `{trace_id}` in its place, for links to it."""

    @model_validator(mode="before")
    @classmethod
    def _user_becomes_header(cls, value: object) -> object:
        """Take a user and password out of the endpoint, so that it can be shown."""
        if not isinstance(value, dict) or not isinstance(endpoint := value.get("endpoint"), str):
            return value
        headers = value.get("headers") or {}
        if not isinstance(headers, dict) or any(str(name).lower() == "authorization" for name in headers):
            return value
        try:
            parts = urlsplit(endpoint)
        except ValueError:
            return value
        user, at, host = parts.netloc.rpartition("@")
        if not at:
            return value
        user, _, password = user.partition(":")
        credentials = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
        return {
            **value,
            "endpoint": parts._replace(netloc=host).geturl(),
            "headers": {**headers, "authorization": f"Basic {credentials}"},
        }


class File(Section):
    """Configuration of apigateway-exporter."""

    poll_interval_ms: Annotated[Duration, at_least("1s")] = Field(
        default="20s", validate_default=True, alias="poll_interval"
    )
    """How often each watch is read; stretched where the call budget asks for it."""
    allowed_lateness_ms: Duration | None = Field(default=None, alias="allowed_lateness")
    """How late a line may become visible and still be counted; at least `max_request` and a minute. Default: each
    watch's `max_request` and `5m`."""
    initial_lookback_ms: Duration = Field(default="15m", validate_default=True, alias="initial_lookback")
    """How far back a log group is read that was never read before."""
    state: State = Field(default={}, validate_default=True)
    web: Web = Field(default={}, validate_default=True)
    accounts: Annotated[tuple[Account, ...], AsList] = ()
    """The accounts to read. Default: one named `default`, the credential chain's own."""
    watches: Annotated[tuple[WatchKeys, ...], AsList] = ()
    """The stages to watch; at least one."""
    discover: Discover | None = None
    failures: Failures = Field(default={}, validate_default=True)
    labels: Labels = Field(default={}, validate_default=True)
    rules: Annotated[tuple[Text, ...], AsList] = ()
    """Files with rules of your own, tried before the shipped ones. A relative path starts at the configuration file's
    directory."""
    traces: Traces = Field(default={}, validate_default=True)
