"""A failed request as a trace: a SERVER span of the API, its phases as children, its execution lines as events.

Everything follows from the failure alone: ids are taken from what the lines say or hashed from it, times are the lines'
own, so that a failure told twice is the same spans. The SDK is not used, because its limits drop silently and its ids
are random; its wire format is. Nothing of a caller's person, body, query or headers is put on a span unless its access
variable is opened by name, and no text is put there without redaction.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from opentelemetry.proto.trace.v1.trace_pb2 import Span, SpanFlags, Status
from opentelemetry.semconv.attributes.client_attributes import CLIENT_ADDRESS
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.semconv.attributes.http_attributes import (
    HTTP_REQUEST_METHOD,
    HTTP_RESPONSE_STATUS_CODE,
    HTTP_ROUTE,
)
from opentelemetry.semconv.attributes.server_attributes import SERVER_ADDRESS, SERVER_PORT
from opentelemetry.semconv.attributes.url_attributes import URL_FULL, URL_PATH, URL_SCHEME
from opentelemetry.semconv.attributes.user_agent_attributes import USER_AGENT_ORIGINAL

from exporter.model import UNKNOWN, ExecutionStep, Failure, RequestTimeline, Step
from exporter.redaction import redact, strip_url
from exporter.span_batch import FailureSpans, Origin, Value, span_attributes
from exporter.trace_context import Placement, SpanIds, caller_context, hashed_id, place, read_xray
from exporter.waterfall import Bar, Phase, Waterfall, waterfall

# Conventions that are not stable yet: written out here, checked by a test against the package that defines them.
AWS_REQUEST_ID = "aws.request_id"
FAAS_INVOKED_NAME = "faas.invoked_name"
FAAS_INVOKED_PROVIDER = "faas.invoked_provider"
FAAS_INVOKED_REGION = "faas.invoked_region"

_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE", "_OTHER"}
)
"""What stands for a method where a line's one name may also be an id."""
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
_ATTRIBUTE_OF_FIELD = {"identity.sourceIp": CLIENT_ADDRESS, "identity.userAgent": USER_AGENT_ORIGINAL}
_RANK = {Step.REASON: 0, Step.GATEWAY_RESPONSE: 1, Step.COMPLETED: 1, Step.API_KEY: 1, Step.REQUEST_DETAIL: 3}
"""Which lines to keep when there are too many: lowest first; what is not named is between detail and outcome."""
_MAX_TEXT = 4096
"""Characters of any one text on a span."""
_LATEST_MS = (2**64 - 1) // 1_000_000
_USERINFO = re.compile(r"(?<=://)[^/]*@")
_LAMBDA_URL = re.compile(r"/functions/arn:[\w-]+:lambda:([\w-]+):\d+:function:([\w-]+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class SpanOptions:
    """What the configuration's `traces` section says of how a failure becomes spans."""

    join: Literal["trace", "link"] = "trace"
    """`trace`: into the caller's trace where the logs name one; `link`: always a trace of its own, with a link."""
    max_events: int = 64
    """Events on a span; lines with a reason are kept beyond it."""
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


def failure_spans(
    failure: Failure, options: SpanOptions, *, reused_id: bool = False, crowded: bool = False
) -> FailureSpans:
    """Tell a failure as spans: a root and a child for each phase that the logs time. See `place` for the two facts."""
    timeline = failure.timeline
    placement = place(timeline, options.join, reused_id=reused_id, crowded=crowded)
    failed = _failed_phase(failure)
    fall = waterfall(timeline, failed, integration_ran=failure.category in _WAITING)
    root = _root(failure, placement, fall, failed, options)
    children = (_child(failure, placement, bar, failed) for bar in fall.bars)
    origin = Origin(timeline.api, timeline.groups, options.resource, options.version)
    return FailureSpans(origin, (root, *children))


def _root(failure: Failure, placement: Placement, fall: Waterfall, failed: Phase | None, options: SpanOptions) -> Span:
    timeline = failure.timeline
    status = timeline.status
    kept = _kept_lines(timeline.steps, options.max_events)
    is_error = failure.category not in _NOT_ERRORS if status is None else status >= 500
    caller = placement.caller
    attributes: dict[str, Value] = {
        **_request_attributes(timeline, options),
        HTTP_RESPONSE_STATUS_CODE: status,
        ERROR_TYPE: failure.cause if is_error else None,
        "apigateway.cause": failure.cause,
        "apigateway.category": failure.category,
        "apigateway.rule": failure.rule,
        "apigateway.evidence": _cut(failure.evidence),
        "apigateway.failed_phase": failed,
        "apigateway.integration_request_id": _integration_request_id(timeline),
        "apigateway.caller_trace_id": None if caller is None else caller.trace_id,
        "apigateway.time_source": fall.source,
        "apigateway.lines_left_out": len(timeline.steps) - len(kept) or None,
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
    return Span(
        trace_id=bytes.fromhex(placement.ids.trace_id),
        span_id=bytes.fromhex(placement.ids.span_id),
        parent_span_id=bytes.fromhex(placement.parent_id or ""),
        flags=_flags(remote_parent=placement.parent_id is not None),
        name=_span_name(timeline),
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=_ns(fall.start_ms),
        end_time_unix_nano=_ns(fall.end_ms),
        attributes=span_attributes(attributes),
        events=[_event(step) for step in kept],
        dropped_events_count=len(timeline.steps) - len(kept),
        links=links,
        status=_error(failure) if is_error else None,
    )


def _child(failure: Failure, placement: Placement, bar: Bar, failed: Phase | None) -> Span:
    outcome = bar.outcome
    phase_status = None if outcome is None else outcome.status
    phase_error = None if outcome is None or outcome.error is None else redact(outcome.error)
    is_integration = bar.phase is Phase.INTEGRATION
    attributes: dict[str, Value] = {
        "apigateway.phase": bar.phase,
        "apigateway.time_source": bar.source,
        "apigateway.time_clamped": bar.clamped or None,
        "apigateway.error_message": None if phase_error is None else _cut(phase_error),
        AWS_REQUEST_ID: _called_request_id(failure.timeline, bar.phase),
    }
    if is_integration:
        attributes |= _integration_attributes(failure.timeline, phase_status)
    else:
        attributes["apigateway.phase_status"] = phase_status
    if bar.target is not None:
        attributes |= _target_attributes(bar.target)
    status = None
    if bar.phase is failed:
        status = _error(failure)
        attributes[ERROR_TYPE] = failure.cause
    elif isinstance(answered := attributes.get(HTTP_RESPONSE_STATUS_CODE), int) and answered >= 400:
        # The failure is not its fault, but by the conventions a client's call that got this answer failed.
        status = Status(code=Status.STATUS_CODE_ERROR)
        attributes[ERROR_TYPE] = str(answered)
    root_id = placement.ids.span_id
    return Span(
        trace_id=bytes.fromhex(placement.ids.trace_id),
        span_id=bytes.fromhex(hashed_id(16, "phase", root_id, bar.phase)),
        parent_span_id=bytes.fromhex(root_id),
        flags=_flags(remote_parent=False),
        name=bar.phase,
        kind=Span.SPAN_KIND_CLIENT if is_integration else Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=_ns(bar.start_ms),
        end_time_unix_nano=_ns(bar.end_ms),
        attributes=span_attributes(attributes),
        status=status,
    )


def _event(step: ExecutionStep) -> Span.Event:
    return Span.Event(
        time_unix_nano=_ns(step.at_ms),
        name=f"apigateway.{step.step}",
        attributes=span_attributes({"apigateway.text": _cut(step.text)}),
    )


def _kept_lines(steps: Sequence[ExecutionStep], most: int) -> Sequence[ExecutionStep]:
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


def _error(failure: Failure) -> Status:
    return Status(code=Status.STATUS_CODE_ERROR, message=_cut(failure.evidence))


def _flags(*, remote_parent: bool) -> int:
    """Sampled, and whether the parent is somebody else's span."""
    flags = 1 | SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
    return flags | SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK if remote_parent else flags
