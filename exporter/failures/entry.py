"""One failure as `/failures` keeps it: a line for the list, and all that is shown of it, redacted and packed.

Nothing else of the request is kept. What is shown is what may stand on its span: execution lines as they were cut when
they were read, and of the access line only variables that tell nothing of the caller's person, unless `traces.fields`
opens them by name. Total: whatever a line holds, it gives an entry of a bounded size.
"""

import shlex
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from exporter.conventions import cut
from exporter.envelope import PLACEHOLDER_IDS
from exporter.find import Found, Picture, picture_of
from exporter.model import UNKNOWN, Cause, RequestTimeline
from exporter.record import Told, route_of
from exporter.span_batch import encodable
from exporter.spans import SpanOptions, kept_lines, span_ids, trace_url
from exporter.trace_context import SpanIds

_MAX_EVIDENCE = 160
"""Characters of evidence in the list."""
_MOST_LINES = 200
"""Execution lines of one failure, reasons included, however many its id has joined."""
_MINUTE_MS = 60_000


class Kind(NamedTuple):
    """What failures are counted and chosen by."""

    api_id: str
    api_name: str
    stage: str
    cause: str
    category: str
    status: int | None


class Entry(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A failure in the list."""

    id: str
    """Its root span's id, 16 hexadecimal digits: the same before and after a restart."""
    at_ms: int
    """Its arrival."""
    kind: Kind
    method: str
    resource: str
    """The template, never a raw path."""
    duration_ms: int | None
    evidence: str
    """The beginning of what proved its cause; redacted, on one line."""
    packed: bytes
    """All of it: a `Shown`, as compressed JSON."""


class Shown(Picture, frozen=True, kw_only=True):
    """All that is shown of one failure: what `find` tells of it, and where to go from here."""

    id: str
    find: str
    """The command that finds it in the logs."""
    lines_left_out: int
    """Execution lines that are not shown, because there are too many."""


def kind_of(told: Told) -> Kind:
    """What a failure is counted by."""
    failure = told.settled.failure
    api = failure.timeline.api
    return Kind(
        encodable(api.id),
        encodable(api.name),
        encodable(api.stage),
        failure.cause,
        failure.category,
        failure.timeline.status,
    )


def arrival_ms(told: Told) -> int:
    """When the request came, as far as the lines tell."""
    timeline = told.settled.failure.timeline
    return timeline.first_at_ms if timeline.access is None else timeline.access.at_ms


def entry_of(told: Told, kind: Kind, options: SpanOptions) -> Entry:
    """Make the entry of a failure; `options`: how its trace is made, which fields are allowed, how many lines."""
    settled = told.settled
    timeline = _presentable(settled.failure.timeline, options)
    failure = replace(settled.failure, timeline=timeline)
    found = Found(unit=settled.unit, timeline=timeline, failure=failure, reused_id=settled.reused_id, complete=True)
    picture = picture_of(found, causes=(), options=options)
    at_ms = arrival_ms(told)
    route = route_of(timeline)
    identity = span_ids(failure, options).span_id
    shown = Shown(
        **{name: getattr(picture, name) for name in Picture.__struct_fields__},
        id=identity,
        find=find_command(timeline, kind, at_ms),
        lines_left_out=len(settled.failure.timeline.steps) - len(timeline.steps),
    )
    shown = replace(
        shown,
        trace_id=told.trace_id,
        trace_url=None if told.trace_id is None else trace_url(SpanIds(told.trace_id, identity), options),
    )
    return Entry(
        id=identity,
        at_ms=at_ms,
        kind=kind,
        method=route.method,
        resource=encodable(route.resource),
        duration_ms=picture.duration_ms,
        evidence=" ".join(encodable(failure.evidence)[:_MAX_EVIDENCE].split()),
        packed=zlib.compress(msgspec.json.encode(_bounded(msgspec.to_builtins(shown))), 1),
    )


def shown_of(entry: Entry, causes: Mapping[str, Cause]) -> Shown:
    """All that is shown of a failure; `causes`: what causes mean, by name."""
    shown = msgspec.json.decode(zlib.decompress(entry.packed), type=Shown)
    cause = causes.get(entry.kind.cause)
    if cause is None:
        return shown
    return replace(shown, meaning=cause.help, advice=cause.advice or None)


def find_command(timeline: RequestTimeline, kind: Kind, at_ms: int) -> str:
    """The command line that finds this request in the logs, safe to paste: ids are the caller's to choose."""
    arguments = []
    if timeline.extended_request_id is not None:
        arguments.append(f"--extended-request-id={timeline.extended_request_id}")
    if timeline.request_id is not None and timeline.request_id not in PLACEHOLDER_IDS:
        arguments.append(f"--request-id={timeline.request_id}")
    if not arguments:
        arguments.append(f"--cause={kind.cause}")
    arguments += [
        f"--{name}={value}" for name, value in (("api", kind.api_id), ("stage", kind.stage)) if value != UNKNOWN
    ]
    begin, end = (_iso(at_ms // _MINUTE_MS * _MINUTE_MS + offset * _MINUTE_MS) for offset in (-1, 2))
    return shlex.join(["apigateway-exporter", "find", *map(encodable, arguments), f"--since={begin}", f"--until={end}"])


def _presentable(timeline: RequestTimeline, options: SpanOptions) -> RequestTimeline:
    """With no more lines than a page can bear."""
    return replace(timeline, steps=tuple(kept_lines(timeline.steps, options.max_events)[:_MOST_LINES]))


def _bounded(value: object) -> object:
    """The same, with no text longer than a span's, and none that UTF-8 cannot carry."""
    if isinstance(value, str):
        return cut(encodable(value))
    if isinstance(value, dict):
        return {key: _bounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_bounded(item) for item in value]
    return value


def _iso(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
