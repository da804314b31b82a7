"""A failed request as a trace: a SERVER span of the API, its phases as children, its execution lines as events.

Everything follows from the failure alone: ids are taken from what the lines say or hashed from it, times are the lines'
own, so that a failure told twice is the same spans. The SDK is not used, because its limits drop silently and its ids
are random; its wire format is. Which facts stand on a span, and which never do, is said in `conventions.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber
from opentelemetry.proto.trace.v1.trace_pb2 import Span, SpanFlags, Status
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import HTTP_RESPONSE_STATUS_CODE

from exporter.conventions import cut, phase_attributes, request_attributes, span_name
from exporter.model import ExecutionStep, Failure, Step
from exporter.span_batch import FailureSpans, Origin, Value, encodable, span_attributes
from exporter.trace_context import Placement, SpanIds, caller_context, hashed_id, place
from exporter.waterfall import Bar, Phase, Waterfall, waterfall

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
    return place(failure.timeline, options.join, reused_id=reused_id, crowded=crowded).ids


def caller_trace_id(failure: Failure) -> str | None:
    """Name the trace that a caller chose for this request: the key by which to find out that it is `crowded`."""
    context = caller_context(failure.timeline)
    return None if context is None else context.trace_id


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
    crowded: bool = False,
    sampled_from: int = 1,
) -> FailureSpans:
    """Tell a failure as spans: a root and a child for each phase that the logs time.

    `reused_id` and `crowded` as for `place`; `sampled_from`: how many failures of its cause this one stands for.
    """
    timeline = failure.timeline
    told = _Told(
        failure=failure,
        placement=place(timeline, options.join, reused_id=reused_id, crowded=crowded),
        lines=kept_lines(timeline.steps, options.max_events),
        failed=_failed_phase(failure),
        is_error=_is_error(failure),
        sampled_from=sampled_from,
    )
    fall = phases(failure)
    root = _root(told, fall, options)
    children = (_child(told, bar) for bar in fall.bars)
    log_records = (_log_record(told, step) for step in told.lines) if options.events == "logs" else ()
    origin = Origin(timeline.api, timeline.groups, options.resource, options.version)
    return FailureSpans(origin, (root, *children), tuple(log_records))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Told:
    """What is decided of a failure before its spans are made."""

    failure: Failure
    placement: Placement
    lines: Sequence[ExecutionStep]
    """The execution lines to tell of."""
    failed: Phase | None
    """The phase to blame."""
    is_error: bool
    """Whether the server failed, not the caller."""
    sampled_from: int


def _root(told: _Told, fall: Waterfall, options: SpanOptions) -> Span:
    failure, placement = told.failure, told.placement
    caller = placement.caller
    left_out = len(failure.timeline.steps) - len(told.lines)
    attributes: dict[str, Value] = {
        **request_attributes(failure.timeline, options.allowed_fields),
        ERROR_TYPE: failure.cause if told.is_error else None,
        "apigateway.cause": failure.cause,
        "apigateway.category": failure.category,
        "apigateway.rule": failure.rule,
        "apigateway.evidence": cut(failure.evidence),
        "apigateway.failed_phase": told.failed,
        "apigateway.caller_trace_id": None if caller is None else caller.trace_id,
        "apigateway.time_source": fall.source,
        "apigateway.lines_left_out": left_out or None,
        "apigateway.sampled_from": told.sampled_from if told.sampled_from > 1 else None,
    }
    links = []
    if placement.link is not None:
        links.append(
            Span.Link(
                trace_id=bytes.fromhex(placement.link.trace_id),
                span_id=bytes.fromhex(placement.link.parent_id or ""),
                attributes=span_attributes({"apigateway.link": "caller"}),
            )
        )
    are_events = options.events == "span"
    return Span(
        trace_id=bytes.fromhex(placement.ids.trace_id),
        span_id=bytes.fromhex(placement.ids.span_id),
        parent_span_id=bytes.fromhex(placement.parent_id or ""),
        flags=_flags(remote_parent=placement.parent_id is not None),
        name=encodable(span_name(failure.timeline)),
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=_ns(fall.start_ms),
        end_time_unix_nano=_ns(fall.end_ms),
        attributes=span_attributes(attributes),
        events=[_event(step) for step in told.lines] if are_events else [],
        dropped_events_count=left_out if are_events else 0,
        links=links,
        status=_error(failure) if told.is_error else None,
    )


def _child(told: _Told, bar: Bar) -> Span:
    attributes = phase_attributes(told.failure.timeline, bar)
    status = None
    if bar.phase is told.failed:
        status = _error(told.failure)
        attributes[ERROR_TYPE] = told.failure.cause
    elif isinstance(answered := attributes.get(HTTP_RESPONSE_STATUS_CODE), int) and answered >= 400:
        # The failure is not its fault, but by the conventions a client's call that got this answer failed.
        status = Status(code=Status.STATUS_CODE_ERROR)
        attributes[ERROR_TYPE] = str(answered)
    ids = told.placement.ids
    return Span(
        trace_id=bytes.fromhex(ids.trace_id),
        span_id=bytes.fromhex(hashed_id(16, "phase", ids.span_id, bar.phase)),
        parent_span_id=bytes.fromhex(ids.span_id),
        flags=_flags(remote_parent=False),
        name=bar.phase,
        kind=Span.SPAN_KIND_CLIENT if bar.phase is Phase.INTEGRATION else Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=_ns(bar.start_ms),
        end_time_unix_nano=_ns(bar.end_ms),
        attributes=span_attributes(attributes),
        status=status,
    )


def _event(step: ExecutionStep) -> Span.Event:
    return Span.Event(
        time_unix_nano=_ns(step.at_ms),
        name=f"apigateway.{step.step}",
        attributes=span_attributes({"apigateway.text": cut(step.text)}),
    )


def _log_record(told: _Told, step: ExecutionStep) -> LogRecord:
    """The same line as a record of its own: in a log store it is found by cause and request id, too."""
    severity, name = SeverityNumber.SEVERITY_NUMBER_INFO, "INFO"
    if step.step is Step.REASON:
        severity, name = SeverityNumber.SEVERITY_NUMBER_WARN, "WARN"
        if told.is_error:
            severity, name = SeverityNumber.SEVERITY_NUMBER_ERROR, "ERROR"
    return LogRecord(
        time_unix_nano=_ns(step.at_ms),
        severity_number=severity,
        severity_text=name,
        event_name=f"apigateway.{step.step}",
        body=AnyValue(string_value=encodable(cut(step.text))),
        attributes=span_attributes(
            {"apigateway.cause": told.failure.cause, "apigateway.request_id": told.failure.timeline.request_id}
        ),
        flags=1,
        trace_id=bytes.fromhex(told.placement.ids.trace_id),
        span_id=bytes.fromhex(told.placement.ids.span_id),
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


def _error(failure: Failure) -> Status:
    return Status(code=Status.STATUS_CODE_ERROR, message=encodable(cut(failure.evidence)))


def _flags(*, remote_parent: bool) -> int:
    """Sampled, and whether the parent is somebody else's span."""
    flags = 1 | SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
    return flags | SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK if remote_parent else flags


def _ns(at_ms: int) -> int:
    return min(max(at_ms, 0), _LATEST_MS) * 1_000_000
