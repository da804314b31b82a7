"""A failed request as a trace: a SERVER span of the API, its phases as children, its execution lines as events.

Everything follows from the failure alone: ids are taken from what the lines say or hashed from it, times are the lines'
own, so that a failure told twice is the same spans. The SDK is not used, because its limits drop silently and its ids
are random; its wire format is. Which facts stand on a span, and which never do, is said in `conventions.py`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import msgspec
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber
from opentelemetry.proto.trace.v1.trace_pb2 import Span, SpanFlags, Status
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import HTTP_RESPONSE_STATUS_CODE

from exporter.conventions import Route, cut, phase_attributes, request_attributes, route_attributes, route_of, span_name
from exporter.model import ExecutionStep, Failure, Step
from exporter.protobuf import fixed32, fixed64, integer, opening, sized
from exporter.span_batch import FailureSpans, Origin, Value, any_value, attributes, utf8
from exporter.trace_context import Placement, SpanIds, TraceContext, caller_context, hashed_id, place
from exporter.waterfall import Bar, Phase, Waterfall, waterfall

_INTEGRATION = Phase.INTEGRATION
_NOT_ERRORS = frozenset({"client", "auth", "throttle", "waf"})
"""Categories in which the caller is refused: what is answered, if no line says, is a 4xx."""
_WAITING = frozenset({"integration", "backend"})
"""Categories in which the integration was at work when the request failed."""
_PHASE_OF_CATEGORY = {
    "authorizer": Phase.AUTHORIZER,
    "backend": Phase.INTEGRATION,
    "configuration": Phase.INTEGRATION,
    "integration": Phase.INTEGRATION,
    "waf": Phase.WAF,
}
_PHASE_OF_CAUSE = {
    "authorizer_denied": Phase.AUTHORIZER,
    "expired_token": Phase.AUTHENTICATE,
    "invalid_signature": Phase.AUTHENTICATE,
    "mapping_template": None,
    "output_mapping": None,
    "policy_denied": Phase.AUTHORIZE,
    "unauthorized": Phase.AUTHORIZER,
    "waf_failure": Phase.WAF,
}
"""Causes that their category does not place: a mapping fails before or after the integration, which is innocent."""
_RANK = {Step.REASON: 0, Step.GATEWAY_RESPONSE: 1, Step.COMPLETED: 1, Step.API_KEY: 1, Step.REQUEST_DETAIL: 3}
"""Which lines to keep when there are too many: lowest first; what is not named is between detail and outcome."""
_LATEST_MS = (2**64 - 1) // 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class SpanOptions:
    """What the configuration's `traces` section says of how a failure becomes spans."""

    join: Literal["trace", "link"] = "trace"
    """`trace`: into the caller's trace where the logs name one; `link`: always a trace of its own, with a link."""
    events: Literal["span", "logs"] = "span"
    """Execution lines as events on the root span, or as log records of the same trace and span."""
    max_events: int = 64
    """Execution lines told of a request; those with a reason are kept beyond it."""
    allowed_fields: frozenset[str] = frozenset()
    """Access variables to show although they tell of persons (`identity.sourceIp`), by `$context` name."""
    link_template: str | None = None
    """The address of a trace in Grafana or Jaeger, with `{trace_id}` and perhaps `{span_id}` in it."""
    resource: tuple[tuple[str, str], ...] = ()
    """Attributes added to every resource (`OTEL_RESOURCE_ATTRIBUTES`); what is known of the API wins over them."""
    version: str = ""
    """Of this program: the version of the instrumentation scope."""


# ------------------------------------------------------------------------------------------------------------- identity


def span_ids(failure: Failure, options: SpanOptions, *, reused_id: bool = False, crowded: bool = False) -> SpanIds:
    """Tell the ids of a failure's root span, for exemplars and links, without making the span."""
    timeline = failure.timeline
    return place(timeline, options.join, caller_context(timeline), reused_id=reused_id, crowded=crowded).ids


def trace_url(ids: SpanIds, options: SpanOptions) -> str | None:
    """Fill the link template: where people find this trace."""
    if options.link_template is None:
        return None
    return options.link_template.replace("{trace_id}", ids.trace_id).replace("{span_id}", ids.span_id)


# ---------------------------------------------------------------------------------------------------------------- spans


def phases(failure: Failure) -> Waterfall:
    """Lay out a failed request: when each phase that the logs time began and ended."""
    return waterfall(failure.timeline, _failed_phase(failure), integration_ran=failure.category in _WAITING)


def failure_spans(
    failure: Failure,
    options: SpanOptions,
    *,
    reused_id: bool = False,
    is_crowded: Callable[[str], bool] = lambda _trace_id: False,
    sampled_from: int = 1,
) -> FailureSpans:
    """Tell a failure as spans: a root and a child for each phase that the logs time.

    `reused_id` as for `place`; `is_crowded` is asked of the trace that a caller chose for the request, if one did;
    `sampled_from`: how many failures of its cause this one stands for.
    """
    timeline = failure.timeline
    caller = caller_context(timeline)
    crowded = caller is not None and is_crowded(caller.trace_id)
    told = _Told(
        failure=failure,
        placement=place(timeline, options.join, caller, reused_id=reused_id, crowded=crowded),
        lines=kept_lines(timeline.steps, options.max_events),
        failed=_failed_phase(failure),
        is_error=_is_error(failure),
        error=_error(failure),
        sampled_from=sampled_from,
    )
    fall = waterfall(timeline, told.failed, integration_ran=failure.category in _WAITING)
    root = _root(told, fall, options)
    children = (_child(told, bar) for bar in fall.bars)
    log_records = (_log_record(told, step) for step in told.lines) if options.events == "logs" else ()
    origin = Origin(timeline.api, timeline.groups, options.resource, options.version)
    return FailureSpans(origin, told.placement.ids, (root, *children), tuple(log_records))


class _Told(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What is decided of a failure before its spans are made."""

    failure: Failure
    placement: Placement
    lines: Sequence[ExecutionStep]
    """The execution lines to tell of."""
    failed: Phase | None
    """The phase to blame."""
    is_error: bool
    """Whether the server failed, not the caller."""
    error: bytes
    """The status of a span that failed."""
    sampled_from: int


def _root(told: _Told, fall: Waterfall, options: SpanOptions) -> bytes:
    failure, placement = told.failure, told.placement
    caller = placement.caller
    left_out = len(failure.timeline.steps) - len(told.lines)
    name, of_route = _of_route(route_of(failure.timeline))
    of_outcome: dict[str, Value] = {
        "apigateway.evidence": cut(failure.evidence),
        "apigateway.failed_phase": told.failed,
        "apigateway.caller_trace_id": None if caller is None else caller.trace_id,
        "apigateway.time_source": fall.source,
        "apigateway.lines_left_out": left_out or None,
        "apigateway.sampled_from": told.sampled_from if told.sampled_from > 1 else None,
    }
    more = []
    if options.events == "span":
        more += [sized(_EVENTS, _event(step)) for step in told.lines]
        if left_out:
            more.append(integer(Span.DROPPED_EVENTS_COUNT_FIELD_NUMBER, left_out))
    if placement.link is not None:
        more.append(sized(Span.LINKS_FIELD_NUMBER, _link(placement.link)))
    return _span(
        placement.ids,
        parent_id=placement.parent_id,
        is_remote=placement.parent_id is not None,
        name=name,
        kind=_SERVER,
        start_ms=fall.start_ms,
        end_ms=fall.end_ms,
        said=[
            of_route,
            attributes(_ATTRIBUTES, request_attributes(failure.timeline, options.allowed_fields)),
            _of_cause(failure.cause, failure.category, failure.rule, is_error=told.is_error),
            attributes(_ATTRIBUTES, of_outcome),
        ],
        more=more,
        status=told.error if told.is_error else None,
    )


@lru_cache(maxsize=1024)
def _of_route(route: Route) -> tuple[bytes, bytes]:
    """Write the name of a root span, and what all failures of its route say alike."""
    return sized(_NAME, utf8(span_name(route))), attributes(_ATTRIBUTES, route_attributes(route))


@lru_cache(maxsize=1024)
def _of_cause(cause: str, category: str, rule: str, *, is_error: bool) -> bytes:
    said: dict[str, Value] = {
        ERROR_TYPE: cause if is_error else None,
        "apigateway.cause": cause,
        "apigateway.category": category,
        "apigateway.rule": rule,
    }
    return attributes(_ATTRIBUTES, said)


def _child(told: _Told, bar: Bar) -> bytes:
    said = phase_attributes(told.failure.timeline, bar)
    status = None
    if bar.phase is told.failed:
        status = told.error
        said[ERROR_TYPE] = told.failure.cause
    elif isinstance(answered := said.get(HTTP_RESPONSE_STATUS_CODE), int) and answered >= 400:
        # The failure is not its fault, but by the conventions a client's call that got this answer failed.
        status = _STATUS_ERROR
        said[ERROR_TYPE] = str(answered)
    trace_id, root_id = told.placement.ids
    return _span(
        SpanIds(trace_id, hashed_id(16, "phase", root_id, bar.phase)),
        parent_id=root_id,
        is_remote=False,
        name=_PHASE_NAMES[bar.phase],
        kind=_CLIENT if bar.phase is _INTEGRATION else _INTERNAL,
        start_ms=bar.start_ms,
        end_ms=bar.end_ms,
        said=[attributes(_ATTRIBUTES, said)],
        status=status,
    )


def _span(
    ids: SpanIds,
    *,
    parent_id: str | None,
    is_remote: bool,
    name: bytes,
    kind: bytes,
    start_ms: int,
    end_ms: int,
    said: Iterable[bytes],
    status: bytes | None,
    more: Iterable[bytes] = (),
) -> bytes:
    """Write a `Span`. `is_remote`: its parent is somebody else's span.

    Fields: `name`, `kind`, `said` (attributes) and `more` (events and links).
    """
    parts = [
        _TRACE_ID,
        bytes.fromhex(ids.trace_id),
        _SPAN_ID,
        bytes.fromhex(ids.span_id),
        *((_PARENT_ID, bytes.fromhex(parent_id)) if parent_id is not None else ()),
        name,
        kind,
        fixed64(_START, _ns(start_ms)),
        fixed64(_END, _ns(end_ms)),
        *said,
        *more,
        sized(_STATUS, status) if status is not None else b"",
        _REMOTE if is_remote else _LOCAL,
    ]
    return b"".join(parts)


# What every span has is looked up and written once.
_NAME, _STATUS, _EVENTS = Span.NAME_FIELD_NUMBER, Span.STATUS_FIELD_NUMBER, Span.EVENTS_FIELD_NUMBER
_START, _END = Span.START_TIME_UNIX_NANO_FIELD_NUMBER, Span.END_TIME_UNIX_NANO_FIELD_NUMBER
_ATTRIBUTES = Span.ATTRIBUTES_FIELD_NUMBER
_PHASE_NAMES = {phase: sized(_NAME, utf8(phase)) for phase in Phase}
_TRACE_ID = opening(Span.TRACE_ID_FIELD_NUMBER, 16)
_SPAN_ID = opening(Span.SPAN_ID_FIELD_NUMBER, 8)
_PARENT_ID = opening(Span.PARENT_SPAN_ID_FIELD_NUMBER, 8)
_SERVER = integer(Span.KIND_FIELD_NUMBER, Span.SPAN_KIND_SERVER)
_CLIENT = integer(Span.KIND_FIELD_NUMBER, Span.SPAN_KIND_CLIENT)
_INTERNAL = integer(Span.KIND_FIELD_NUMBER, Span.SPAN_KIND_INTERNAL)
_OURS = 1 | SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_LOCAL = fixed32(Span.FLAGS_FIELD_NUMBER, _OURS)
"""Sampled, and its parent is a span of ours."""
_REMOTE = fixed32(Span.FLAGS_FIELD_NUMBER, _OURS | SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK)


def _link(context: TraceContext) -> bytes:
    return b"".join(
        (
            sized(Span.Link.TRACE_ID_FIELD_NUMBER, bytes.fromhex(context.trace_id)),
            sized(Span.Link.SPAN_ID_FIELD_NUMBER, bytes.fromhex(context.parent_id or "")),
            attributes(Span.Link.ATTRIBUTES_FIELD_NUMBER, {"apigateway.link": "caller"}),
        )
    )


def _event(step: ExecutionStep) -> bytes:
    said = attributes(_EVENT_ATTRIBUTES, {"apigateway.text": cut(step.text)})
    return fixed64(_EVENT_TIME, _ns(step.at_ms)) + _NAMED_EVENTS[step.step] + said


_EVENT_NAMES = {step: f"apigateway.{step}".encode() for step in Step}
_NAMED_EVENTS = {step: sized(Span.Event.NAME_FIELD_NUMBER, name) for step, name in _EVENT_NAMES.items()}
_EVENT_TIME, _EVENT_ATTRIBUTES = Span.Event.TIME_UNIX_NANO_FIELD_NUMBER, Span.Event.ATTRIBUTES_FIELD_NUMBER


def _log_record(told: _Told, step: ExecutionStep) -> bytes:
    """The same line as a record of its own: in a log store it is found by cause and request id, too."""
    severity, name = SeverityNumber.SEVERITY_NUMBER_INFO, "INFO"
    if step.step is Step.REASON:
        severity, name = SeverityNumber.SEVERITY_NUMBER_WARN, "WARN"
        if told.is_error:
            severity, name = SeverityNumber.SEVERITY_NUMBER_ERROR, "ERROR"
    said = {"apigateway.cause": told.failure.cause, "apigateway.request_id": told.failure.timeline.request_id}
    return b"".join(
        (
            fixed64(LogRecord.TIME_UNIX_NANO_FIELD_NUMBER, _ns(step.at_ms)),
            integer(LogRecord.SEVERITY_NUMBER_FIELD_NUMBER, severity),
            sized(LogRecord.SEVERITY_TEXT_FIELD_NUMBER, utf8(name)),
            sized(LogRecord.BODY_FIELD_NUMBER, any_value(cut(step.text))),
            attributes(LogRecord.ATTRIBUTES_FIELD_NUMBER, said),
            fixed32(LogRecord.FLAGS_FIELD_NUMBER, 1),
            sized(LogRecord.TRACE_ID_FIELD_NUMBER, bytes.fromhex(told.placement.ids.trace_id)),
            sized(LogRecord.SPAN_ID_FIELD_NUMBER, bytes.fromhex(told.placement.ids.span_id)),
            sized(LogRecord.EVENT_NAME_FIELD_NUMBER, _EVENT_NAMES[step.step]),
        )
    )


def kept_lines(steps: Sequence[ExecutionStep], most: int) -> Sequence[ExecutionStep]:
    """Choose which lines to show: every reason, then outcomes, then the rest, the earliest first; in their order."""
    if len(steps) <= most:
        return steps
    ranks = [_RANK.get(step.step, 2) for step in steps]
    chosen = sorted(range(len(steps)), key=lambda index: (ranks[index], index))
    return [steps[index] for index in sorted(chosen[: max(most, ranks.count(0))])]


def _failed_phase(failure: Failure) -> Phase | None:
    """Name the phase to blame, where the cause places it."""
    if failure.cause in _PHASE_OF_CAUSE:
        return _PHASE_OF_CAUSE[failure.cause]
    return _PHASE_OF_CATEGORY.get(failure.category)


def _is_error(failure: Failure) -> bool:
    status = failure.timeline.status
    return failure.category not in _NOT_ERRORS if status is None else status >= 500


def _error(failure: Failure) -> bytes:
    return sized(Status.MESSAGE_FIELD_NUMBER, utf8(cut(failure.evidence))) + _STATUS_ERROR


_STATUS_ERROR = integer(Status.CODE_FIELD_NUMBER, Status.STATUS_CODE_ERROR)


def _ns(at_ms: int) -> int:
    if 0 <= at_ms <= _LATEST_MS:  # `min` and `max` take longer
        return at_ms * 1_000_000
    return 0 if at_ms < 0 else _LATEST_MS * 1_000_000
