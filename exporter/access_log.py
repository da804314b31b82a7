"""An access line becomes a glance (for every line: what counting needs) or a record (for failures: all it tells).

A stage's log format is whatever its owner wrote; give it as it is, name one of AWS's samples, or let `auto` see to it
line by line. Parsing is total: any text gives an answer or an `Unreadable` with its reason, never an exception. It
keeps nothing of a line but the names of its keys.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import NamedTuple, Protocol

from exporter.access_format import FORMAT_MISMATCH, AccessFormatError, Piece, TextFormat, Variable, pieces_of
from exporter.access_json import JsonLines, json_format
from exporter.access_values import Columns, Repeating, Scalar, glance_from, record_from, text_of
from exporter.access_variables import GLANCE_VARIABLES, variables_of
from exporter.model import AccessGlance, AccessRecord, LogEvent, Unreadable

__all__ = ["AccessFormatError", "AccessParser", "access_parser"]

EMPTY = Unreadable(reason="empty")
"""Nothing but white space."""
_FORMATS_KEPT = 256


class Looks(NamedTuple):
    """What some lines show when looked at."""

    columns: Columns
    """Of those that could be read, in their order."""
    unreadable: dict[int, Unreadable]
    """The others, by their place."""


class AccessParser(Protocol):
    """Reads the access lines of one log group. Not to be shared between threads that read at the same time."""

    def look_at(self, events: list[LogEvent], known: Mapping[Repeating, object]) -> Looks:
        """The values of `GLANCE_VARIABLES`, as logged: the cheapest reading, for every line.

        `known`: what stands for values that repeat.
        """
        ...

    def glance(self, message: str) -> AccessGlance | Unreadable:
        """What counting needs of a line: what `look` found, made clean."""
        ...

    def parse(self, event: LogEvent, glance: AccessGlance | None = None) -> AccessRecord | Unreadable:
        """All that a line tells; for failures. `glance`: what `glance` or `look_at` found, where it is known."""
        ...


# ------------------------------------------------------------------------------------------------------- AWS's samples

_ACCESS = "$context.identity.sourceIp $context.identity.caller $context.identity.user [$context.requestTime]"
_HTTP_ACCESS = "$context.identity.sourceIp - - [$context.requestTime]"
_REST_REQUEST = '"$context.httpMethod $context.resourcePath $context.protocol" $context.status $context.responseLength'
_HTTP_REQUEST = '"$context.httpMethod $context.routeKey $context.protocol" $context.status $context.responseLength'
_REST_COLUMNS = (
    "$context.identity.sourceIp,$context.identity.caller,$context.identity.user,$context.requestTime,"
    "$context.httpMethod,$context.resourcePath,$context.protocol,$context.status,$context.responseLength"
)
_HTTP_COLUMNS = (
    "$context.identity.sourceIp,$context.requestTime,$context.httpMethod,$context.routeKey,$context.protocol,"
    "$context.status,$context.responseLength"
)
_XML_OPEN = '<request id="$context.requestId">'
_XML_EXTENDED = " <extendedRequestId>$context.extendedRequestId</extendedRequestId>"
_XML_REST = (
    " <ip>$context.identity.sourceIp</ip> <caller>$context.identity.caller</caller>"
    " <user>$context.identity.user</user> <requestTime>$context.requestTime</requestTime>"
    " <httpMethod>$context.httpMethod</httpMethod> <resourcePath>$context.resourcePath</resourcePath>"
    " <status>$context.status</status> <protocol>$context.protocol</protocol>"
    " <responseLength>$context.responseLength</responseLength> </request>"
)

CLF = tuple(
    ids.replace("…", f"{access}{gap}{request}")
    for access, request in ((_ACCESS, _REST_REQUEST), (_ACCESS, _HTTP_REQUEST), (_HTTP_ACCESS, _HTTP_REQUEST))
    # The console's sample of today has no space between `]` and `"`; that of 2023 and most stages have one.
    for gap in (" ", "")
    for ids in (
        "… $context.requestId $context.extendedRequestId",
        "… $context.requestId",
        "$context.extendedRequestId … $context.requestId",
    )
)
"""AWS's sample in Common Log Format, for REST and HTTP APIs, of all ages."""

CSV = tuple(
    ids.replace("…", columns)
    for columns in (_REST_COLUMNS, _HTTP_COLUMNS)
    for ids in (
        "…,$context.requestId,$context.extendedRequestId",
        "…,$context.requestId",
        "$context.extendedRequestId,…,$context.requestId",
    )
)
"""AWS's sample in CSV, likewise."""

XML = (_XML_OPEN + _XML_EXTENDED + _XML_REST, _XML_OPEN + _XML_REST)
"""AWS's sample in XML, likewise; other elements in any order are read by their names."""


# --------------------------------------------------------------------------------------------------------- the readers


class _Reader(Protocol):
    """Reads lines without white space around them, or many as they are."""

    def read(self, events: list[LogEvent], start: int, columns: Columns, known: Mapping[Repeating, object]) -> int:
        """Add the values of the lines from place `start` on that are like the last one; returns how many were read."""
        ...

    def look(self, line: str) -> Sequence[Scalar] | Unreadable: ...

    def values(self, line: str) -> dict[str, str] | Unreadable: ...


class _TextLines:
    """Reads lines of several formats: the one that fitted last is tried first."""

    def __init__(self, formats: Sequence[TextFormat]) -> None:
        self._formats = tuple(formats)

    def read(self, events: list[LogEvent], start: int, columns: Columns, known: Mapping[Repeating, object]) -> int:
        return self._formats[0].many.read(events, start, columns, known)

    def look(self, line: str) -> Sequence[Scalar] | Unreadable:
        for form in self._formats:
            found = form.glance_values(line)
            if found is not None:
                if form is not self._formats[0]:
                    self._formats = (form, *(other for other in self._formats if other is not form))
                return found
        return FORMAT_MISMATCH

    def values(self, line: str) -> dict[str, str] | Unreadable:
        for form in self._formats:
            values = form.values(line)
            if values is not None:
                return values
        return FORMAT_MISMATCH


_XML_CLOSE = re.compile(r"</([A-Za-z][\w.:-]{0,127})\s*>", re.ASCII)
_XML_ROOT = re.compile(r"<[\w.:-]{1,128}", re.ASCII)
_XML_ATTRIBUTE = re.compile(r"""\s{1,8}([\w.:-]{1,128})\s?=\s?(?:"([^"<>]{0,2048})"|'([^'<>]{0,2048})')""", re.ASCII)


def _xml_values(line: str) -> dict[str, str] | Unreadable:
    """Elements that hold text alone, and the first tag's attributes, by their names; markup inside is left as it is."""
    found: dict[str, str] = {}
    root = _XML_ROOT.match(line)
    attribute = _XML_ATTRIBUTE.match(line, root.end()) if root is not None else None
    while attribute is not None:
        found.setdefault(attribute[1], attribute[2] or attribute[3] or "")
        attribute = _XML_ATTRIBUTE.match(line, attribute.end())
    start = 0
    for close in _XML_CLOSE.finditer(line):
        tag = f"<{close[1]}>"
        opened = line.find(tag, start, close.start())
        if opened >= 0:
            found.setdefault(close[1], line[opened + len(tag) : close.start()])
        start = close.end()
    names = variables_of(found)
    values = {names[key]: text for key, value in found.items() if (text := text_of(value.strip())) is not None}
    return values or FORMAT_MISMATCH


class _XmlLines:
    def __init__(self) -> None:
        self._samples = _TextLines(_compiled(XML))
        self.read = self._samples.read

    def look(self, line: str) -> Sequence[Scalar] | Unreadable:
        found = self._samples.look(line)
        if not isinstance(found, Unreadable):
            return found
        values = _xml_values(line)
        return values if isinstance(values, Unreadable) else tuple(values.get(name) for name in GLANCE_VARIABLES)

    def values(self, line: str) -> dict[str, str] | Unreadable:
        values = self._samples.values(line)
        return _xml_values(line) if isinstance(values, Unreadable) else values


class _Auto:
    """Tells each line's format by its first character."""

    def __init__(self) -> None:
        self._json = JsonLines()
        self._xml = _XmlLines()
        self._text = _TextLines(_compiled(CLF + CSV))

    def _reader_of(self, line: str) -> _Reader:
        if line[:1] == "{":
            return self._json
        return self._xml if line[:1] == "<" else self._text

    def read(self, events: list[LogEvent], start: int, columns: Columns, known: Mapping[Repeating, object]) -> int:
        return self._reader_of(events[start].message).read(events, start, columns, known)

    def look(self, line: str) -> Sequence[Scalar] | Unreadable:
        return self._reader_of(line).look(line)

    def values(self, line: str) -> dict[str, str] | Unreadable:
        return self._reader_of(line).values(line)


class _OwnFormat:
    """Reads a stage's own format; lines from before it was changed are read as `auto` would."""

    def __init__(self, own: _Reader) -> None:
        self._own = own
        self._auto = _Auto()
        self.read = own.read

    def look(self, line: str) -> Sequence[Scalar] | Unreadable:
        found = self._own.look(line)
        if isinstance(found, Unreadable):
            other = self._auto.look(line)
            return found if isinstance(other, Unreadable) else other
        return found

    def values(self, line: str) -> dict[str, str] | Unreadable:
        values = self._own.values(line)
        if isinstance(values, Unreadable):
            other = self._auto.values(line)
            return values if isinstance(other, Unreadable) else other
        return values


class _Parser:
    def __init__(self, reader: _Reader) -> None:
        self._read = reader.read
        self._values = reader.values
        self._look = reader.look

    def look_at(self, events: list[LogEvent], known: Mapping[Repeating, object]) -> Looks:
        columns, unreadable = Columns([], [], [], [], [], []), dict[int, Unreadable]()
        at = 0
        while at < len(events):
            at += self._read(events, at, columns, known)  # nearly all lines are like the one before
            if at == len(events):
                break
            found = self._look_at_one(events[at].message)
            if isinstance(found, Unreadable):
                unreadable[at] = found
            else:
                columns.add([found], known)
            at += 1
        return Looks(columns, unreadable)

    def _look_at_one(self, message: str) -> Sequence[Scalar] | Unreadable:
        line = message.strip()
        return self._look(line) if line else EMPTY

    def glance(self, message: str) -> AccessGlance | Unreadable:
        found = self._look_at_one(message)
        return found if isinstance(found, Unreadable) else glance_from(found)

    def parse(self, event: LogEvent, glance: AccessGlance | None = None) -> AccessRecord | Unreadable:
        line = event.message.strip()
        if not line:
            return EMPTY
        values = self._values(line)
        return values if isinstance(values, Unreadable) else record_from(event, values, glance)


# -------------------------------------------------------------------------------------------------------------- choice


@cache
def _compiled(formats: tuple[str, ...]) -> tuple[TextFormat, ...]:
    """Readers of the shipped formats: they keep nothing of what they read, so that all groups share them."""
    return tuple(TextFormat(pieces_of(form)) for form in formats)


_NAMED: dict[str, Callable[[], _Reader]] = {
    "auto": _Auto,
    "clf": lambda: _TextLines(_compiled(CLF)),
    "csv": lambda: _TextLines(_compiled(CSV)),
    "json": JsonLines,
    "xml": _XmlLines,
}


@lru_cache(maxsize=_FORMATS_KEPT)
def _text_format(pieces: tuple[Piece, ...]) -> TextFormat:
    """The reader of a stage's own format, shared by all stages that log alike."""
    return TextFormat(pieces)


def _own_format(spec: str) -> _Reader:
    pieces = pieces_of(spec)
    names = {piece.name for piece in pieces if isinstance(piece, Variable)}
    if not names & {"requestId", "extendedRequestId", "status"}:
        raise AccessFormatError(
            "the format logs none of $context.requestId, $context.extendedRequestId and $context.status: "
            "its lines can be neither joined nor counted; add them to the stage's access log format"
        )
    form = json_format(pieces) if spec.startswith("{") else None
    return JsonLines(form) if form is not None else _TextLines([_text_format(tuple(pieces))])


def access_parser(spec: str) -> AccessParser:
    """A parser for `auto`, `clf`, `csv`, `json`, `xml`, or a stage's own format string (`$context.requestId …`).

    Raises `AccessFormatError` for any other word, and for a format that cannot be read unambiguously.
    """
    spec = spec.strip()
    if spec in _NAMED:
        return _Parser(_NAMED[spec]())
    if "$context" not in spec and "${context" not in spec:
        raise AccessFormatError(
            f"unknown access log format: write one of {', '.join(_NAMED)}, or the stage's own format string with its "
            "$context variables"
        )
    return _Parser(_OwnFormat(_own_format(spec)))
