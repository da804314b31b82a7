"""A found request as people and programs see it: everything that is known of it, in the order in which it is asked.

The object for programs is `classify`'s verdict with more in it: what reads the one reads the other. Nothing is shown
without redaction: execution lines were cut when they were read, access variables are cut here.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from exporter.excerpt.verdict import Verdict, verdict
from exporter.find.searching import Found
from exporter.model import UNKNOWN, Cause
from exporter.record import route_of
from exporter.redaction import redact, strip_url
from exporter.spans import SpanOptions, phases, span_ids, trace_url
from exporter.waterfall import Waterfall, waterfall


class PictureApi(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The stage that the request went to; what is not known is left out."""

    id: str | None = None
    name: str | None = None
    stage: str | None = None
    type: str | None = None
    region: str | None = None
    account_id: str | None = None


class PicturePhase(msgspec.Struct, frozen=True, kw_only=True):
    """A phase that the logs time."""

    name: str
    """`waf`, `authenticate`, `authorizer`, `authorize`, `integration`."""
    offset_ms: int
    """Since the request's arrival."""
    duration_ms: int
    source: str
    """What the times rest on (docs/traces.md)."""
    status: int | None
    error: str | None
    """Redacted."""


class Picture(Verdict, frozen=True, kw_only=True):
    """One request and all that is known of it."""

    at: str
    """Its arrival: ISO 8601 in UTC with milliseconds."""
    extended_request_id: str | None
    api: PictureApi
    method: str | None
    resource: str | None
    """The template, never a raw path."""
    duration_ms: int | None
    meaning: str | None
    """What the cause means."""
    advice: str | None
    """What to do about it."""
    phases: tuple[PicturePhase, ...]
    offsets_ms: tuple[int, ...]
    """When each line of `timeline` was written, since the request's arrival."""
    trace_id: str | None
    """Of the trace that the exporter makes of this failure."""
    trace_url: str | None
    log_groups: tuple[str, ...]


_SHOWN_FIELDS = """
    apiId stage deploymentId domainName httpMethod path resourceId resourcePath routeKey protocol requestId
    extendedRequestId requestTime requestTimeEpoch isCanaryRequest awsEndpointRequestId xrayTraceId eventType
    status responseLatency responseLength responseOverride.status error.message error.messageString error.responseType
    waf.error waf.latency waf.status wafResponseCode
    authenticate.error authenticate.latency authenticate.status authorize.error authorize.latency authorize.status
    authorizer.error authorizer.latency authorizer.status authorizer.requestId authorizer.integrationLatency
    authorizer.integrationStatus
    integration.error integration.integrationStatus integration.latency integration.requestId integration.status
    integrationErrorMessage integrationLatency integrationStatus
"""
SHOWN_FIELDS = frozenset(_SHOWN_FIELDS.split())
"""Access variables that are shown, by `$context` name: those that stand on spans, and times, sizes and ids."""


def picture_of(found: Found, *, causes: "Iterable[Cause]", options: SpanOptions) -> Picture:
    """All that is known of a request. `causes`: those that its cause may be of."""
    timeline, failure = found.timeline, found.failure
    cause = next((cause for cause in causes if failure is not None and cause.name == failure.cause), None)
    fall = waterfall(timeline, None, integration_ran=False) if failure is None else phases(failure)
    ids = None if failure is None else span_ids(failure, options, reused_id=found.reused_id)
    route = route_of(timeline)
    start_ms = timeline.first_at_ms if timeline.access is None else timeline.access.at_ms
    api = timeline.api
    judged = verdict(timeline, failure)
    return Picture(
        **{name: getattr(judged, name) for name in Verdict.__struct_fields__ if name != "fields"},
        fields=_shown_fields(judged.fields, options),
        at=_iso(start_ms),
        extended_request_id=timeline.extended_request_id,
        api=PictureApi(
            id=_known(api.id),
            name=_known(api.name),
            stage=_known(api.stage),
            type=_known(api.type),
            region=_known(api.region),
            account_id=_known(api.account_id),
        ),
        method=_known(route.method),
        resource=_known(route.resource),
        duration_ms=fall.end_ms - fall.start_ms or None,
        meaning=None if cause is None else cause.help,
        advice=None if cause is None else cause.advice or None,
        phases=_phases(fall),
        offsets_ms=tuple(step.at_ms - start_ms for step in timeline.steps),
        trace_id=None if ids is None else ids.trace_id,
        trace_url=None if ids is None else trace_url(ids, options),
        log_groups=tuple(group.name for group in timeline.groups),
    )


def _phases(fall: Waterfall) -> tuple[PicturePhase, ...]:
    return tuple(
        PicturePhase(
            name=bar.phase.value,
            offset_ms=bar.start_ms - fall.start_ms,
            duration_ms=bar.end_ms - bar.start_ms,
            source=bar.source.value,
            status=None if bar.outcome is None else bar.outcome.status,
            error=None if bar.outcome is None or bar.outcome.error is None else redact(bar.outcome.error),
        )
        for bar in fall.bars
    )


# --------------------------------------------------------------------------------------------------------- for people

_LABEL = 13


def _shown_fields(fields: Mapping[str, str], options: SpanOptions) -> dict[str, str]:
    """The access variables that tell of no person, and those that the configuration opens (`traces.fields`)."""
    return {
        name: strip_url(value) if name == "path" else value
        for name, value in fields.items()
        if name in SHOWN_FIELDS or name in options.allowed_fields
    }


def render_picture(picture: Picture) -> str:
    """The picture for people; no line break at its end."""
    route = " ".join(text for text in (picture.method, picture.resource) if text)
    lines = [f"{picture.at}  {_status(picture.status)}  {route}".rstrip()]
    lines += _labelled("api", _api(picture.api))
    lines += _labelled("request id", picture.request_id)
    lines += _labelled("extended id", picture.extended_request_id)
    lines += _labelled("took", None if picture.duration_ms is None else f"{picture.duration_ms:,} ms")
    if picture.failure:
        meaning = f": {picture.meaning}" if picture.meaning else ""
        lines += _labelled("cause", f"{picture.cause} ({picture.category}){meaning}")
        lines += _labelled("evidence", _one_line(picture.evidence or "") or None)
        lines += _labelled("proven by", f"rule {picture.rule}")
        lines += _labelled("what to do", picture.advice)
        lines += _labelled("trace", picture.trace_id)
        lines += _labelled("", picture.trace_url)
    else:
        lines.append("  it did not fail")
    if picture.phases:
        lines += ["", "  phases"]
        lines += [_phase(phase) for phase in picture.phases]
    if picture.fields:
        lines += ["", "  access record"]
        width = max(map(len, picture.fields))
        lines += [f"    {name:<{width}}  {_one_line(value)}" for name, value in picture.fields.items()]
    if picture.timeline:
        lines += ["", "  execution log"]
        offsets = [f"{offset:+,} ms" for offset in picture.offsets_ms]
        width = max(map(len, offsets))
        lines += [
            f"    {offset:>{width}}  {_one_line(text)}" for offset, text in zip(offsets, picture.timeline, strict=True)
        ]
    return "\n".join(lines)


def render_list(pictures: Sequence[Picture]) -> str:
    """One line a request, the columns aligned; no line break at its end."""
    rows = [("time", "status", "method", "resource", "cause", "api", "request id")]
    rows += [
        (
            picture.at,
            _status(picture.status),
            picture.method or "-",
            picture.resource or "-",
            picture.cause or "-",
            "/".join(text for text in (picture.api.name, picture.api.stage) if text) or "-",
            picture.request_id or "-",
        )
        for picture in pictures
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _phase(phase: PicturePhase) -> str:
    outcome = [f"status {phase.status}"] if phase.status is not None else []
    outcome += [_one_line(phase.error)] if phase.error else []
    return f"    {phase.name:<12}  {phase.offset_ms:+,} ms  {phase.duration_ms:,} ms  {', '.join(outcome)}".rstrip()


def _labelled(label: str, value: str | None) -> list[str]:
    return [] if value is None else [f"  {label:<{_LABEL}}{value}"]


def _api(api: PictureApi) -> str | None:
    name = "/".join(text for text in (api.name, api.stage) if text)
    details = [text for text in (api.id if api.id != api.name else None, api.type, api.region) if text]
    return f"{name} ({', '.join(details)})" if name else None


def _status(status: int | None) -> str:
    return "---" if status is None else str(status)


def _known(text: str) -> str | None:
    return None if text == UNKNOWN else text


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _iso(at_ms: int) -> str:
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"
