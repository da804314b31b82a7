"""The facts of a request: what a rule can ask about.

A fact has a name, a kind and a reader. It reads only what API Gateway itself composed: its reason lines, its status
lines, its `$context` variables. No fact shows a header or a body that the gateway merely dumped, because a caller
writes those. What follows from a fact is not decided here.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter

from exporter.model import UNKNOWN, AccessRecord, PhaseOutcome, RequestTimeline, Step
from exporter.redaction import redact

Value = str | int

_COMPLETED, _GATEWAY_RESPONSE = Step.COMPLETED, Step.GATEWAY_RESPONSE
_EXECUTION_COMPLETED, _INTEGRATION_RESPONSE = Step.EXECUTION_COMPLETED, Step.INTEGRATION_RESPONSE

REASON_STEPS = frozenset({Step.REASON, Step.API_KEY})
"""The steps whose text is the gateway's own account of why it refused or failed."""

_LAMBDA_PROXY_5XX = frozenset({502, 504})
"""Statuses that the gateway makes of a bad or missing answer, also when the Lambda service itself answered 200."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Fact:
    """Something that can be known of a request."""

    name: str
    help: str
    numeric: bool
    read: Callable[[RequestTimeline], tuple[Value, ...]]
    """All its values: none when no line tells, several when several lines do."""
    cite: Callable[[RequestTimeline, Value], str]
    """How a value is shown as evidence: redacted, the line itself or `variable=value`."""


class Facts(dict[Fact, tuple[Value, ...]]):
    """The facts of one request, each read when it is first asked for: `facts[fact]` are its values."""

    __slots__ = ("timeline",)

    def __init__(self, timeline: RequestTimeline) -> None:
        super().__init__()
        self.timeline = timeline

    def __missing__(self, fact: Fact) -> tuple[Value, ...]:
        values = self[fact] = fact.read(self.timeline)
        return values


def folded(text: str) -> str:
    """Runs of white space become one space: the gateway breaks some of its messages over lines."""
    return " ".join(text.split())


def _text_of(found: str | None) -> tuple[Value, ...]:
    return () if found is None else (folded(found),)


def _texts(found: Iterable[str | None]) -> tuple[Value, ...]:
    return tuple([folded(text) for text in found if text is not None])


def _number_of(found: int | None) -> tuple[Value, ...]:
    return () if found is None else (found,)


def _reason_lines(timeline: RequestTimeline) -> tuple[Value, ...]:
    return tuple([folded(line.text) for line in timeline.steps if line.step in REASON_STEPS])


def _reasons(timeline: RequestTimeline) -> tuple[Value, ...]:
    lines = _reason_lines(timeline)
    access = timeline.access
    if lines or access is None or access.integration is None:
        return lines
    return _text_of(access.integration.error)


def _cite_reason(timeline: RequestTimeline, value: Value) -> str:
    if any(line.step in REASON_STEPS for line in timeline.steps):
        return str(value)
    return f"integration.error={redact(str(value))}"


def _response_types(timeline: RequestTimeline) -> tuple[Value, ...]:
    access = timeline.access
    logged = _text_of(access.glance.response_type) if access is not None else ()
    return logged + _texts([line.name for line in timeline.steps if line.step is _GATEWAY_RESPONSE])


def _cite_response_type(timeline: RequestTimeline, value: Value) -> str:
    if timeline.access is not None and timeline.access.glance.response_type == value:
        return f"error.responseType={value}"
    return f"Gateway response type: {value}"


def _error_messages(timeline: RequestTimeline) -> tuple[Value, ...]:
    logged = _text_of(timeline.access.error_message) if timeline.access is not None else ()
    return logged + _reason_lines(timeline)


def _cite_error_message(timeline: RequestTimeline, value: Value) -> str:
    if value in _reason_lines(timeline):
        return str(value)
    return f"error.message={redact(str(value))}"


def _made_by(timeline: RequestTimeline) -> tuple[Value, ...]:
    """Who made the status. `backend` and `gateway` are proven, otherwise there is no value."""
    access = timeline.access
    if _reasons(timeline) or _response_types(timeline) or (access is not None and access.error_message is not None):
        return ("gateway",)
    if _backend_proof(timeline) is not None:
        return ("backend",)
    if access is not None and _access_integration_ran(timeline):
        return ("gateway",)
    if any(line.step is not _COMPLETED for line in timeline.steps):
        return ("gateway",)
    return ()


def _access_integration_ran(timeline: RequestTimeline) -> bool:
    access = timeline.access
    return access is not None and (
        access.integration_service_status is not None
        or access.glance.integration_latency_ms is not None
        or (access.integration is not None and access.integration.status is not None)
    )


def _backend_proof(timeline: RequestTimeline) -> str | None:
    """What shows that the integration answered and the gateway passed on what it said, else None."""
    for step in (_EXECUTION_COMPLETED, _INTEGRATION_RESPONSE):
        for line in timeline.steps:
            if line.step is step:
                return line.text
    access, status = timeline.access, timeline.status
    if access is None or status is None:
        return None
    answered = access.integration.status if access.integration is not None else None
    service = access.integration_service_status
    # Once an integration has run the gateway makes no 4xx of its own: what is not equal was mapped.
    if answered is not None and (answered == status or status < 500):
        return f"integration.status={answered}"
    if answered is None and service is not None:
        passed_on = service == status or status < 500 or (service < 300 and status not in _LAMBDA_PROXY_5XX)
        return f"integration.integrationStatus={service}" if passed_on else None
    if answered is None and access.glance.integration_latency_ms is not None and status < 500:
        return f"integration.latency={access.glance.integration_latency_ms}"
    return None


def _cite_made_by(timeline: RequestTimeline, value: Value) -> str:
    return (_backend_proof(timeline) if value == "backend" else None) or f"made_by={value}"


def _known(label: str) -> tuple[Value, ...]:
    return () if label == UNKNOWN else (label,)


def _method(timeline: RequestTimeline) -> tuple[Value, ...]:
    if timeline.access is not None and timeline.access.glance.method != UNKNOWN:
        return (timeline.access.glance.method,)
    return ()


def _resource(timeline: RequestTimeline) -> tuple[Value, ...]:
    if timeline.access is not None and timeline.access.glance.resource != UNKNOWN:
        return (timeline.access.glance.resource,)
    return tuple(line.resource for line in timeline.steps if line.resource is not None)[:1]


def _shown_as(variable: str) -> Callable[[RequestTimeline, Value], str]:
    return lambda _, value: f"{variable}={value if isinstance(value, int) else redact(value)}"


def _text(
    name: str, help_: str, read: Callable[[RequestTimeline], tuple[Value, ...]], shown: str | None = None
) -> Fact:
    return Fact(name=name, help=help_, numeric=False, read=read, cite=_shown_as(shown or name))


def _number(
    name: str, help_: str, read: Callable[[RequestTimeline], tuple[Value, ...]], shown: str | None = None
) -> Fact:
    return Fact(name=name, help=help_, numeric=True, read=read, cite=_shown_as(shown or name))


def _phase_facts(phase: str, help_: str) -> Iterator[Fact]:
    outcome_of: Callable[[AccessRecord], PhaseOutcome | None] = attrgetter(phase)

    def status(timeline: RequestTimeline) -> tuple[Value, ...]:
        outcome = outcome_of(timeline.access) if timeline.access is not None else None
        return () if outcome is None or outcome.status is None else (outcome.status,)

    def error(timeline: RequestTimeline) -> tuple[Value, ...]:
        outcome = outcome_of(timeline.access) if timeline.access is not None else None
        return () if outcome is None or outcome.error is None else (folded(outcome.error),)

    yield _number(f"{phase}_status", f"{help_}: its status", status, f"{phase}.status")
    yield _text(f"{phase}_error", f"{help_}: its error", error, f"{phase}.error")


_ALL: tuple[Fact, ...] = (
    Fact(
        name="reason",
        help="the gateway's own words on why: the execution log's reason lines or, without any, the access log's "
        "`integration.error` (`integrationErrorMessage`)",
        numeric=False,
        read=_reasons,
        cite=_cite_reason,
    ),
    Fact(
        name="response_type",
        help="`error.responseType` and the types of `Gateway response type:` lines",
        numeric=False,
        read=_response_types,
        cite=_cite_response_type,
    ),
    Fact(
        name="made_by",
        help="who made the status, where the lines tell: `backend` or `gateway`",
        numeric=False,
        read=_made_by,
        cite=_cite_made_by,
    ),
    _number("status", "what the caller got", lambda t: _number_of(t.status)),
    Fact(
        name="error_message",
        help="`error.message`, and the reason lines, which now and then say the same",
        numeric=False,
        read=_error_messages,
        cite=_cite_error_message,
    ),
    _text(
        "validation_error",
        "`error.validationErrorString`",
        lambda t: _text_of(t.access.validation_error if t.access else None),
        "error.validationErrorString",
    ),
    *_phase_facts("waf", "AWS WAF"),
    *_phase_facts("authenticate", "the check of credentials"),
    *_phase_facts("authorizer", "the Lambda, JWT or Cognito authorizer"),
    *_phase_facts("authorize", "the decision of the policies"),
    *_phase_facts("integration", "the backend (behind a Lambda proxy the function and its `statusCode`)"),
    _number(
        "integration_service_status",
        "`integration.integrationStatus`: the Lambda *service*'s status, 200 even when the function threw",
        lambda t: _number_of(t.access.integration_service_status if t.access else None),
        "integration.integrationStatus",
    ),
    _text(
        "waf_response_code",
        "`wafResponseCode`",
        lambda t: _text_of(t.access.waf_response_code if t.access else None),
        "wafResponseCode",
    ),
    _number(
        "integration_response_status",
        "the status of `Received response. Status: …` lines",
        lambda t: tuple(
            [line.status for line in t.steps if line.step is _INTEGRATION_RESPONSE and line.status is not None]
        ),
    ),
    _text(
        "integration_exception",
        "the Lambda throttle that an answer of the integration names: `TooManyRequestsException` or "
        "`ReservedFunctionConcurrentInvocationLimitExceeded`",
        lambda t: _texts([line.name for line in t.steps if line.step is _INTEGRATION_RESPONSE]),
    ),
    _text("step", "the kinds of the execution lines", lambda t: tuple(line.step.value for line in t.steps)),
    _text("execution_text", "the text of every execution line, redacted", lambda t: _texts(s.text for s in t.steps)),
    _number(
        "latency_ms",
        "`responseLatency`",
        lambda t: _number_of(t.access.glance.latency_ms if t.access else None),
        "responseLatency",
    ),
    _number(
        "integration_latency_ms",
        "`integration.latency`",
        lambda t: _number_of(t.access.glance.integration_latency_ms if t.access else None),
        "integration.latency",
    ),
    _text("method", "the HTTP method in capitals", _method),
    _text("resource", "the resource template or route (`/orders/{id}`)", _resource),
    _text("api_id", "the API's id", lambda t: _known(t.api.id)),
    _text("api_name", "the API's name", lambda t: _known(t.api.name)),
    _text("api_type", "REST, HTTP or WEBSOCKET", lambda t: (t.api.type,)),
    _text("stage", "the stage", lambda t: _known(t.api.stage)),
)
FACTS: Mapping[str, Fact] = {fact.name: fact for fact in _ALL}
"""Every fact by name. Beside these, `context.<variable>` asks any `$context` variable of the access line."""


def context_variable(variable: str) -> Fact:
    """The fact that is a `$context` variable of the access line, as logged."""

    def read(timeline: RequestTimeline) -> tuple[Value, ...]:
        return _text_of(timeline.access.fields.get(variable) if timeline.access is not None else None)

    return _text(f"context.{variable}", f"`$context.{variable}`", read, variable)
