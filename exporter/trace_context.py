"""Which trace a failed request belongs to: the caller's, where the logs name one that may be joined, else its own.

Reads W3C `traceparent` and X-Ray `X-Amzn-Trace-Id` values, both spellings of the X-Ray root, fields in any order. Every
id given out is valid: lower-case hexadecimal of the right length, never all zeros. Nothing here raises on any text, and
nothing is random or remembered: the same lines give the same ids, however many polls it took to see them.
"""

import hashlib
import re
from typing import Literal, NamedTuple

from exporter.model import RequestTimeline, Step

_TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII | re.DOTALL
)
_XRAY_ROOT = re.compile(r"1-([0-9a-f]{8})-([0-9a-f]{24})", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_SPAN_ID = re.compile(r"[0-9a-f]{16}", re.ASCII)


_REQUEST_DETAIL, _INTEGRATION_REQUEST, _TRAILER = Step.REQUEST_DETAIL, Step.INTEGRATION_REQUEST, Step.TRAILER


class TraceContext(NamedTuple):
    """The trace a request was part of before it reached the gateway."""

    trace_id: str
    """32 hexadecimal digits."""
    parent_id: str | None = None
    """16 hexadecimal digits: the caller's span."""
    sampled: bool = False
    """Whether the caller said that this trace is recorded. Without that word its parent span may not exist anywhere."""


class SpanIds(NamedTuple):
    """Where to find a failure: as hexadecimal text, 32 and 16 digits."""

    trace_id: str
    span_id: str


class Placement(NamedTuple):
    """The place of a failure's root span among traces."""

    ids: SpanIds
    parent_id: str | None
    """The caller's span, in the same trace."""
    link: TraceContext | None
    """The caller's trace, when this span is not in it."""
    caller: TraceContext | None
    """What the logs say of the caller's trace, joined or not."""


def place(
    timeline: RequestTimeline,
    join: Literal["trace", "link"],
    caller: TraceContext | None,
    *,
    reused_id: bool = False,
    crowded: bool = False,
) -> Placement:
    """Decide which trace a failure goes into and by which ids.

    `caller`: what `caller_context` finds in the timeline.
    `reused_id`: other requests carried this request id too (callers may choose it), so that it names no trace.
    `crowded`: the caller's trace has had its share of failures; this one gets a trace of its own and a link.
    """
    access = timeline.access
    key: tuple[str, ...]
    if access is not None:
        # An access event is one request for sure; its ids tell log sources apart that number their events from 0.
        key = (access.event_id, access.glance.request_id or "", access.glance.extended_request_id or "")
    else:
        key = (timeline.request_id or "", timeline.extended_request_id or "")
    span_id = hashed_id(16, "span", *key)
    if caller is not None and join == "trace" and not crowded:
        parent_id = caller.parent_id if caller.sampled else None
        return Placement(SpanIds(caller.trace_id, span_id), parent_id, None, caller)
    own = None if reused_id or timeline.request_id is None else uuid_as_trace_id(timeline.request_id)
    return Placement(SpanIds(own or hashed_id(32, "trace", *key), span_id), None, caller, caller)


def caller_context(timeline: RequestTimeline) -> TraceContext | None:
    """Find the trace the caller was in: `traceparent` before X-Ray, what reached the gateway before what it sent on."""
    if not timeline.steps:
        root = timeline.access.xray_trace_id if timeline.access is not None else None
        found = read_xray(root) if root is not None else None
        return None if found is None else TraceContext(found.trace_id)
    named = [(step.step, step.trace_context) for step in timeline.steps if step.trace_context is not None]
    received = [text for step, text in named if step is _REQUEST_DETAIL]
    sent = [text for step, text in named if step is _INTEGRATION_REQUEST]
    for said in (*received, *sent):
        if (context := read_traceparent(said)) is not None:
            return context
    # Only what the gateway received names the caller's span; elsewhere `Parent` is the gateway's or the backend's own.
    xray = [context for text in received if (context := read_xray(text)) is not None]
    roots = [] if timeline.access is None else [timeline.access.xray_trace_id]
    roots += [step.name for step in timeline.steps if step.step is _TRAILER]
    roots += sent
    for text in roots:
        if text is not None and (context := read_xray(text)) is not None:
            return next((told for told in xray if told.trace_id == context.trace_id), TraceContext(context.trace_id))
    return xray[0] if xray else None


def read_traceparent(text: str) -> TraceContext | None:
    """Read a W3C `traceparent`: lower case only; version 00 has four fields, later versions may have more."""
    found = _TRACEPARENT.fullmatch(text.strip())
    if found is None:
        return None
    version, trace_id, parent_id, flags, more = found.groups()
    if (version == "00" and more) or _non_zero(trace_id) is None or _non_zero(parent_id) is None:
        return None
    return TraceContext(trace_id, parent_id, sampled=bool(int(flags, 16) & 1))


def read_xray(text: str) -> TraceContext | None:
    """Read an `X-Amzn-Trace-Id` (`Root=1-…;Parent=…;Sampled=1`, in any order) or a bare X-Ray root `1-…`.

    `Self` and `Lineage` may stand anywhere and say nothing of the caller.
    """
    text = text.lower()
    if "1-" not in text:
        return None
    if (root := _XRAY_ROOT.fullmatch(text)) is not None:  # nearly always: access lines and trailers tell it alone
        alone = _non_zero(root[1] + root[2])
        return None if alone is None else TraceContext(alone)
    said: dict[str, str] = {}
    for part in text.split(";"):
        key, is_pair, value = part.partition("=")
        said.setdefault(key.strip() if is_pair else "root", (value if is_pair else part).strip())
    root = _XRAY_ROOT.fullmatch(said.get("root", ""))
    if root is None or _non_zero(trace_id := root[1] + root[2]) is None:
        return None
    parent = said.get("parent", "")
    parent_id = _non_zero(parent) if _SPAN_ID.fullmatch(parent) else None
    return TraceContext(trace_id, parent_id, sampled=said.get("sampled") == "1")


def uuid_as_trace_id(text: str) -> str | None:
    """The 128 bits of a UUID of any version as a trace id; None for other text and for the nil UUID."""
    lowered = text.lower()
    if _UUID.fullmatch(lowered) is None:
        return None
    return _non_zero(lowered.replace("-", ""))


def hashed_id(digits: int, *parts: str) -> str:
    """Make an id of `digits` hexadecimal digits (16: a span, 32: a trace) out of `parts`; equal parts, equal id."""
    text = "\x1f".join(parts).encode("utf-8", "replace")
    made = hashlib.blake2b(text, digest_size=digits // 2).hexdigest()
    return _non_zero(made) or "1".rjust(digits, "0")


def _non_zero(digits: str) -> str | None:
    return digits if digits.strip("0") else None
