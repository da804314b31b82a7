"""The nouns: what flows from a log group to a count and a span.

Everybody may import this file; it imports nothing of ours, does nothing, and knows no clock, no network and no
configuration. Times are integers of milliseconds since the Unix epoch in UTC (`_at_ms`) or lengths (`_ms`).
What is made once a log line or once a failure is a `msgspec.Struct` (fast to make, decoded straight from the wire); the
rest are frozen dataclasses. Absent values are None, never `-`, never an empty string.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, NamedTuple

import msgspec

UNKNOWN = "unknown"
"""The label value of what no log line tells: a caller must not be able to invent label values."""

OVERFLOW = "__other__"
"""The label value of the one series that takes what a metric's cap keeps out."""


GATEWAY_ERRORS = (
    "Execution failed ",
    "Lambda Customer Function Error:",
    "Lambda execution failed ",
    "Lambda invocation failed ",
    "The Lambda function returned the following error:",
)
"""How the gateway begins an `integration.error` that tells of a failure, whatever status the caller got."""

# ---------------------------------------------------------------------------------------------------- where lines live


class LogGroup(NamedTuple):
    """A CloudWatch log group: the owner of a watermark, of tallies and of tombstones."""

    account: str
    """Whose it is: the account's 12 digits where the configuration tells them, else its name there (`default` for the
    credential chain's own). So it stays the same group when it is read through another account."""
    region: str
    name: str
    """Its name in that account, never an ARN."""


class Api(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One stage of one API: whom a failure is counted for. Every field but `type` is a label or a span attribute."""

    id: str = UNKNOWN
    name: str = UNKNOWN
    stage: str = UNKNOWN
    type: str = "REST"
    """REST, HTTP or WEBSOCKET, as API Gateway names its protocol types."""
    region: str = UNKNOWN
    account_id: str = UNKNOWN
    """The 12-digit AWS account id where known."""


class LogEvent(msgspec.Struct, frozen=True, gc=False, rename="camel", kw_only=True):
    """One event of FilterLogEvents, decoded straight from the answer (unlisted wire fields are skipped)."""

    event_id: str
    """Unique. On AWS 56 decimal digits whose order is the listing's order; elsewhere any text."""
    at_ms: int = msgspec.field(name="timestamp")
    """Event time: an access line's is the request's arrival; an execution line's the moment it tells of."""
    message: str
    ingested_at_ms: int = msgspec.field(name="ingestionTime", default=0)


class Window(NamedTuple):
    """A stretch of event time, start included, end excluded."""

    start_ms: int
    end_ms: int


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of a listing. It may be empty while the listing goes on."""

    events: list[LogEvent]
    response_bytes: int
    part: int = 0
    """Which part of the window it is of, where parts are listed side by side: their pages come mixed."""
    server_at_ms: int | None = None
    """The service's own clock (its `Date` header, second precision) when it answered."""

    @property
    def fill(self) -> float:
        """How much of AWS's largest page it is: of 1 MB or 10,000 events."""
        return max(self.response_bytes / 1_000_000, len(self.events) / 10_000)


# ------------------------------------------------------------------------------------------------------ what lines say


class Unreadable(msgspec.Struct, frozen=True, kw_only=True):
    """A line that could not be read, as a value: parsing returns, it never raises."""

    reason: str
    """A short constant (`not_json`, `no_request_id`, …): the label of `unreadable_lines_total`."""


class AccessGlance(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What counting needs of an access line: made for *every* line, so it holds nothing else."""

    request_id: str | None
    extended_request_id: str | None
    status: int | None
    """100 to 599, else None."""
    method: str
    """A registered method in capitals, `_OTHER`, or `unknown`."""
    resource: str
    """The template (`/orders/{id}`), never a raw path; `unknown` where the format does not log one."""
    api_id: str | None
    stage: str | None
    latency_ms: int | None
    integration_latency_ms: int | None
    response_type: str | None
    """`$context.error.responseType`: set when the gateway itself made the response, whatever its status."""
    gateway_error: bool = False
    """`$context.integration.error` begins as `GATEWAY_ERRORS` do: the integration failed, whatever the status."""


class PhaseOutcome(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What one phase of a request (waf, authenticate, authorizer, authorize, integration) came to."""

    status: int | None = None
    latency_ms: int | None = None
    error: str | None = None


class AccessRecord(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An access line read in full: made for failures only."""

    event_id: str
    at_ms: int
    """Arrival: `$context.requestTimeEpoch` where logged, else the line's event time."""
    glance: AccessGlance
    waf: PhaseOutcome | None = None
    authenticate: PhaseOutcome | None = None
    authorizer: PhaseOutcome | None = None
    authorize: PhaseOutcome | None = None
    integration: PhaseOutcome | None = None
    """`status` is what the backend answered (for Lambda proxy: what the function returned)."""
    integration_service_status: int | None = None
    """`$context.integrationStatus`: for Lambda, the Lambda *service's* status (200 even when the function threw)."""
    error_message: str | None = None
    validation_error: str | None = None
    waf_response_code: str | None = None
    xray_trace_id: str | None = None
    fields: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Every variable read, by its `$context` name without the prefix, as logged (not redacted), `-` left out."""


class Step(StrEnum):
    """What an execution line tells of; names span events (`apigateway.<step>`)."""

    REQUEST_START = "request.start"
    """`Extended Request Id`, `Starting execution`, `HTTP Method`, usage-plan checks that passed: how it began."""
    REQUEST_DETAIL = "request.detail"
    """Method request path, query, headers, body."""
    AUTHORIZER_START = "authorizer.start"
    AUTHORIZER_RESULT = "authorizer.result"
    API_KEY = "api_key"
    """A usage-plan or API-key decision that was *not* a pass."""
    INTEGRATION_REQUEST = "integration.request"
    INTEGRATION_RESPONSE = "integration.response"
    RESPONSE_DETAIL = "response.detail"
    """Method response headers and body."""
    REASON = "reason"
    """A line in which API Gateway itself says why the request failed."""
    GATEWAY_RESPONSE = "gateway.response"
    """`Gateway response type: …`."""
    EXECUTION_COMPLETED = "execution.completed"
    """`Successfully completed execution`: the gateway did its part (a backend's 4xx too)."""
    COMPLETED = "completed"
    """`Method completed with status: <n>`: the terminal line."""
    TRAILER = "trailer"
    """`AWS Integration Endpoint RequestId`, `X-ray Tracing ID`: printed after the terminal line."""
    OTHER = "other"


_ENDINGS = (Step.COMPLETED, Step.GATEWAY_RESPONSE)
"""The steps that tell a request's status, the surest first. (Until Python 3.12 each `Step.…` runs a function: what runs
for every line of a failure names such members once, outside.)"""


class ExecutionStep(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An execution line read in full and redacted: made for failures only."""

    event_id: str
    at_ms: int
    step: Step
    text: str
    """Without the request id, secrets cut; bodies and header dumps replaced by a note of their size."""
    status: int | None = None
    """COMPLETED, INTEGRATION_RESPONSE, GATEWAY_RESPONSE: the status the line names."""
    latency_ms: int | None = None
    """INTEGRATION_RESPONSE: `Integration latency: <n> ms`."""
    name: str | None = None
    """The one identifier the line carries: extended request id, gateway response type, integration request id,
    X-Ray root, Lambda request id, the HTTP method, the integration's URL (query cut off) — as `value_of` says."""
    resource: str | None = None
    """The resource template, from the usage-plan line `API Key authorized because method 'GET /orders/{id}' …`."""
    trace_context: str | None = None
    """A `traceparent` or `X-Amzn-Trace-Id` value found in a header dump, else None."""


class RequestTimeline(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """All that is known of one request: at most one access line, and its execution lines in order of time."""

    api: Api
    access: AccessRecord | None
    steps: tuple[ExecutionStep, ...]
    request_id: str | None
    extended_request_id: str | None = None
    groups: tuple[LogGroup, ...] = ()

    @property
    def status(self) -> int | None:
        """What the caller got: the access line's status, else `Method completed`, else the gateway response's."""
        if self.access is not None and self.access.glance.status is not None:
            return self.access.glance.status
        for wanted in _ENDINGS:
            for step in reversed(self.steps):
                if step.step is wanted and step.status is not None:
                    return step.status
        return None

    @property
    def first_at_ms(self) -> int:
        """Event time of the earliest line."""
        times = [step.at_ms for step in self.steps[:1]]
        if self.access is not None:
            times.append(self.access.at_ms)
        return min(times)

    @property
    def last_at_ms(self) -> int:
        """Event time of the latest line."""
        times = [step.at_ms for step in self.steps[-1:]]
        if self.access is not None:
            times.append(self.access.at_ms)
        return max(times)


# ------------------------------------------------------------------------------------------------------ what is decided


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """One member of the closed set."""

    name: str
    category: str
    help: str
    advice: str = ""
    """What to do about it, in a sentence or two; empty where the rules file gives none."""


class Failure(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A request that failed, and why."""

    timeline: RequestTimeline
    cause: str
    category: str
    rule: str
    """The rule that proved the cause, by its name in the rules file."""
    evidence: str
    """What proved it: the redacted line or `field=value`."""
    refinable: bool
    """True when a line still to come could name a better cause: proven by no more than a status or a generic text."""


class CounterKey(NamedTuple):
    """One counter series: a metric name and its label values in the order that metrics.py declares."""

    metric: str
    labels: tuple[str, ...]


class Exemplar(NamedTuple):
    """The newest trace behind a counter, at the request's own time."""

    trace_id: str
    span_id: str
    at_ms: int


Signal = Literal["traces", "logs"]
"""What the outbox holds; each signal of OTLP has an address of its own, and may be refused on its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpanBatch:
    """Spans, or log records on them, ready to be sent: one row of the outbox."""

    body: bytes
    """A gzipped, serialized `ExportTraceServiceRequest` or `ExportLogsServiceRequest`."""
    spans: int
    """How many spans, or log records, it holds."""
    signal: Signal = "traces"


class SeriesState(NamedTuple):
    """A counter series as the ledger keeps it."""

    key: CounterKey
    value: int
    created_at_ms: int
    released: bool
    """Whether its value may be shown: it has been served as 0 long enough, or was seeded at 0 with its stage."""
    touched_at_ms: int
    """When it last changed (its age decides when it is forgotten)."""
    exemplar: Exemplar | None


class OutboxRow(NamedTuple):
    """Spans, or log records, waiting to be sent."""

    id: int
    created_at_ms: int
    spans: int
    body: bytes
    """As in `SpanBatch`."""
    signal: Signal = "traces"


class GroupProgress(NamedTuple):
    """How far one group has been read for good, and from where a restart reads."""

    watermark_ms: int
    resume_ms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Commit:
    """All that one slice of reading changes, made durable in ONE transaction before anything of it is shown."""

    progress: Mapping[LogGroup, GroupProgress]
    tallies: Mapping[tuple[LogGroup, int], bytes | None]
    """Packed tallies by group and minute; None removes a minute that the watermark has passed."""
    tombstones: Mapping[tuple[LogGroup, int], bytes | None]
    """Packed tombstones by group and minute; None removes one that no re-read can meet any more."""
    increments: Mapping[CounterKey, int]
    exemplars: Mapping[CounterKey, Exemplar] = field(default_factory=dict)
    born: frozenset[CounterKey] = frozenset()
    """Series to be created at 0 although nothing is counted yet (every cause of a stage)."""
    spans: tuple[SpanBatch, ...] = ()
    at_ms: int = 0
    """When it was made, by the service's clock."""

    @property
    def is_empty(self) -> bool:
        """Whether committing would change nothing: an idle poll writes nothing."""
        return not (self.progress or self.tallies or self.tombstones or self.increments or self.born or self.spans)
