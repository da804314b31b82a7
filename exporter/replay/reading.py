"""Exported logs become events: of the JSON of the AWS command line, of S3 exports, of subscriptions, of anything else.

Event ids and group names are kept where an export has them, so that exports may overlap. A line without a time gets
that of its own request if it is an access line that logs it, else that of the line before it; a file that begins with
lines that nothing dates is refused: when things happened is what joining goes by, and cannot be made up.
"""

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from exporter.access_log import AccessParser
from exporter.envelope import split
from exporter.excerpt.unwrapping import is_execution, unwrap
from exporter.model import AccessRecord, LogEvent

_S3_LINE = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) ", re.MULTILINE | re.ASCII)
_GZIP = b"\x1f\x8b"
_EPOCH = re.compile(r"\d{13}", re.ASCII)


class ReplayError(ValueError):
    """What was given cannot be replayed. The message names the file, and says what to do; it shows no line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedLine:
    """One event of an export."""

    event: LogEvent
    """`event_id` is empty where the export has none."""
    group: str | None
    """The log group's name, where the export tells it."""
    is_execution: bool


class _Event(msgspec.Struct, rename="camel", kw_only=True):
    message: str
    timestamp: int
    event_id: str = ""
    id: str = ""
    ingestion_time: int = 0
    log_stream_name: str = ""


class _OneEvent(_Event, forbid_unknown_fields=True, kw_only=True):
    """One event a line. With any other key it is an access line that has a `message` and a `timestamp` of its own."""

    log_group: str | None = None
    log_group_name: str | None = None
    log_stream: str = ""


class _ManyEvents(msgspec.Struct, rename="camel", kw_only=True):
    """An answer of `filter-log-events` or `get-log-events`, or a subscription's record."""

    events: list[_Event] | None = None
    log_events: list[_Event] | None = None
    log_group: str | None = None
    message_type: str | None = None


_ONE = msgspec.json.Decoder(_OneEvent)
_MANY = msgspec.json.Decoder(_ManyEvents)
_JSON = json.JSONDecoder()


def files_of(paths: Sequence[Path]) -> list[Path]:
    """All files of `paths`, those in directories in order of their names. Raises `ReplayError` if there is none."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            # CloudWatch writes this beside an export, to see whether it may.
            inside = (inner for inner in path.rglob("*") if inner.is_file() and inner.name != "aws-logs-write-test")
            found += sorted(inside)
        elif path.is_file():
            found.append(path)
        else:
            raise ReplayError(f"{path}: there is no such file")
    return found


def read_lines(path: Path, access: AccessParser) -> list[RecordedLine]:
    """All lines of a file, gzipped or not, in its order. Raises `ReplayError`."""
    try:
        data = path.read_bytes()
        if data.startswith(_GZIP):
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ReplayError(f"{path}: {getattr(error, 'strerror', None) or 'not a whole gzip file'}") from error
    text = data.decode("utf-8", errors="replace").lstrip("\ufeff")
    lines = _of_documents(text)
    if lines is None:
        lines = [_line(event, None) for event in _of_export(text) or unwrap(text, access).events]
    return _dated(lines, path, access)


def _of_documents(text: str) -> list[RecordedLine] | None:
    """The events of JSON documents, whole or one a line; None if the text is none of these."""
    if text.lstrip()[:1] != "{":
        return None
    lines: list[RecordedLine] = []
    for document in _documents(text):
        match document:
            case None:
                return None
            case _OneEvent():
                lines.append(_line(_event(document), document.log_group or document.log_group_name))
            case _ManyEvents(message_type=None | "DATA_MESSAGE"):  # others only say that a subscription is alive
                events = document.events if document.events is not None else document.log_events
                lines += (_line(_event(event), document.log_group) for event in events or ())
    return lines


def _documents(text: str) -> Iterator[_OneEvent | _ManyEvents | None]:
    rows = [row for row in text.split("\n") if row.strip()]
    whole = _decoded(text)
    if whole is not None:
        yield whole
        return
    if _decoded(rows[0]) is not None:
        yield from (_decoded(row) for row in rows)
        return
    at = 0  # records that follow each other without a line end, or printed over several lines
    while at < len(text):
        try:
            _, end = _JSON.raw_decode(text, at)
        except (ValueError, RecursionError):
            yield None
            return
        yield _decoded(text[at:end])
        at = end + len(text[end:]) - len(text[end:].lstrip())


def _decoded(text: str) -> _OneEvent | _ManyEvents | None:
    try:
        many = _MANY.decode(text)
        return _ONE.decode(text) if many.events is None and many.log_events is None else many
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _event(event: _Event) -> LogEvent:
    return LogEvent(
        event_id=event.event_id or event.id,
        at_ms=event.timestamp,
        message=event.message,
        ingested_at_ms=event.ingestion_time,
    )


def _of_export(text: str) -> list[LogEvent]:
    """The events of an export to S3: a time, a blank, the message, which may have lines of its own."""
    if _S3_LINE.match(text.lstrip()) is None:
        return []
    _, *parts = _S3_LINE.split(text)
    return [
        LogEvent(event_id="", at_ms=_milliseconds(datetime.fromisoformat(at)), message=message.removesuffix("\n"))
        for at, message in zip(parts[::2], parts[1::2], strict=True)
    ]


def _line(event: LogEvent, group: str | None) -> RecordedLine:
    execution = split(event.message)[0] is not None or is_execution(event.message)
    return RecordedLine(event=event, group=group, is_execution=execution)


def _dated(lines: list[RecordedLine], path: Path, access: AccessParser) -> list[RecordedLine]:
    """Give every line a time."""
    dated: list[RecordedLine] = []
    undated = 0
    at_ms = 0
    for line in lines:
        event = line.event
        own_ms = event.at_ms or (0 if line.is_execution else _request_time_ms(event, access))
        at_ms = own_ms or at_ms
        undated += at_ms == 0
        known_id = event.event_id if len(event.event_id) > _LONGEST_NUMBERING else ""
        dated.append(
            RecordedLine(
                event=msgspec.structs.replace(event, at_ms=at_ms, event_id=known_id),
                group=line.group,
                is_execution=line.is_execution,
            )
        )
    if undated:
        raise ReplayError(
            f"{path}: {undated} lines carry no time, and none before them does; export them with their timestamps, for "
            "example by `aws logs filter-log-events`, or write the time in front of each: `2026-01-31T12:00:00.000Z …`"
        )
    return dated


_LONGEST_NUMBERING = 20
"""`unwrap` numbers lines; ids that a service gave are longer."""


def _request_time_ms(event: LogEvent, access: AccessParser) -> int:
    """When the request of an access line arrived, as the line itself says; 0 if it does not."""
    record = access.parse(event)
    if not isinstance(record, AccessRecord):
        return 0
    epoch = record.fields.get("requestTimeEpoch", "")
    if _EPOCH.fullmatch(epoch):
        return int(epoch)
    try:
        return _milliseconds(datetime.strptime(record.fields.get("requestTime", ""), "%d/%b/%Y:%H:%M:%S %z"))
    except ValueError:
        return 0


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
