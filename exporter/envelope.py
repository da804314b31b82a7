"""The envelope of an execution line: whose it is, and where its text begins.

Text lines carry `(request id) ` in front, vended logs (deliveries to a log group of the user's own) wrap that line into
JSON or put plain fields before it. Nothing here knows what a line means, nor whether its id is honest: callers may
choose request ids.
"""

import re
from functools import lru_cache

import msgspec

from exporter.model import LogEvent

UUID = r"[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}"
"""A UUID of any version, as a pattern."""

REQUEST_ID = rf"{UUID}|[A-Za-z0-9_+/-]{{14,15}}="
"""A request id as API Gateway makes them, as a pattern: a UUID, or `PDS1PEC4oAMFpyA=` (extended, HTTP, WebSocket)."""

PLACEHOLDER_IDS = frozenset({"-", "UUID_REPLACED_INVALID_REQUEST_ID", "test-invoke-request", "test-request"})
"""What stands in the place of a request id when there is none: many requests share it, so it joins nothing."""


def split(message: str) -> tuple[str | None, str]:
    """Return the request id and the text of a line, or None and the text where it names no id.

    Read are `(id) text` with a UUID of any version or an id such as `PDS1PEC4oAMFpyA=`, and both forms of vended logs:
    JSON with that line as its `payload` (or a bare text, with the id in `request_id` or `requestId`), and plain fields
    in front of it. A placeholder in the place of an id is taken off; anything else in parentheses belongs to the text.
    """
    request_id = _leading_uuid(message[:39])
    if request_id is not None:
        return request_id, message[39:]
    if message[:1] == "{":
        return _split_vended_json(message)
    found = _PREFIX.match(message) or _VENDED_PLAIN.match(message, 0, 2_048)
    return _split_at(found, message) if found else (None, message)


def unwrapped(events: list[LogEvent]) -> list[LogEvent]:
    """Events of vended logs with `(id) text` for a message: what `split` finds in them is the same, and found at once.

    Whether a page is of vended logs is told by its first line. Lines without a request id stay as they are.
    """
    if not events or events[0].message[:1] == "(":
        return events
    return [event if event.message[:1] == "(" else _unwrapped(event) for event in events]


def _unwrapped(event: LogEvent) -> LogEvent:
    message = event.message
    line = _payload_of(message) if message[:1] == "{" else None
    if line is None or line[:1] != "(" or _leading_uuid(line[:39]) is None:
        request_id, text = split(message)
        if request_id is None:
            return event
        line = f"({request_id}) {text}"
    return LogEvent(event_id=event.event_id, at_ms=event.at_ms, message=line, ingested_at_ms=event.ingested_at_ms)


# Lines of a request follow each other: remembering ids is faster than proving each one again.
@lru_cache(maxsize=1_024)
def _leading_uuid(prefix: str) -> str | None:
    return prefix[1:37] if _UUID_PREFIX.fullmatch(prefix) else None


_UUID_PREFIX = re.compile(rf"\({UUID}\) ")
_PREFIX = re.compile(rf"\s{{0,8}}+\(({REQUEST_ID}|{'|'.join(sorted(PLACEHOLDER_IDS))})\)(?:\s|$)")
# No field ends in a colon, and no line names what a caller wrote without one before it.
_VENDED_PLAIN = re.compile(rf"(?:[^\s(]*[^\s(:] ){{1,12}}\(({REQUEST_ID})\) ")


def _split_at(prefix: re.Match[str], line: str) -> tuple[str | None, str]:
    return (None if prefix[1] in PLACEHOLDER_IDS else prefix[1]), line[prefix.end() :]


class _Vended(msgspec.Struct, gc=False):
    """A vended line.

    Its `resource_path` and `http_method` are left alone: what they hold was not seen, and a caller's path must not pass
    for a template.
    """

    payload: object = None
    request_id: object = None
    request_id_in_camel_case: object = msgspec.field(name="requestId", default=None)


_VENDED = msgspec.json.Decoder(_Vended)
_IS_ID = re.compile(REQUEST_ID)


def _decoded(message: str) -> _Vended | None:
    try:
        return _VENDED.decode(message)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _payload_of(message: str) -> str | None:
    line = _decoded(message)
    return line.payload if line is not None and isinstance(line.payload, str) else None


def _split_vended_json(message: str) -> tuple[str | None, str]:
    line = _decoded(message)
    if line is None or not isinstance(line.payload, str):
        return None, message
    if (found := _PREFIX.match(line.payload)) is not None:
        return _split_at(found, line.payload)
    for value in (line.request_id, line.request_id_in_camel_case):
        if isinstance(value, str) and _IS_ID.fullmatch(value):
            return value, line.payload
    return None, line.payload
