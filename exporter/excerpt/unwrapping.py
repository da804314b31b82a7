"""Log text as people have it, taken out of what it came in: one `LogEvent` for each line that API Gateway wrote.

People paste from consoles, terminals, spreadsheets, issue trackers and the JSON of every AWS tool, and mix them. This
file knows those wrappings (documents, table rows, quoting, timestamps, stream names) and which lines continue the one
above. What a line means it asks of the two parsers; which lines belong together it leaves to others.
"""

import csv
import html
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from exporter.access_log import AccessParser
from exporter.execution_log import parse, split
from exporter.model import AccessGlance, LogEvent, Step

_UUID = r"[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}"
_ID = rf"(?:{_UUID}|[A-Za-z0-9_+/-]{{14,15}}=|UUID_REPLACED_INVALID_REQUEST_ID|test-invoke-request|test-request)"
# Timestamps, group and stream names and quoting may stand before an id; nothing that dumps a map or a call does.
_ID_WITHIN = re.compile(rf"[^\n(){{}}=<]{{0,240}}?(\({_ID}\)(?:\s.*|$))", re.DOTALL)
_TIME = (
    r"(?:\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?\s?(?:Z|UTC|[+-]\d\d:?\d\d)?"
    r"|[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]?\d \d\d:\d\d:\d\d [A-Z]{2,5} \d{4}"
    r"|\d{13}|\d\d:\d\d:\d\d(?:\.\d{1,9})?)"
)
_END = r"(?:\s*[|:,;-]\s+|\s*[|,]\s?|\s+|$)"
_TIME_FIRST = re.compile(rf"[\[(]?({_TIME})[\])]?{_END}")
_PLACE_FIRST = re.compile(rf"(?:\[[0-9a-f]{{4,40}}\]|[0-9a-f]{{32}}|(?:/|API-Gateway-Execution-Logs)\S{{1,512}}){_END}")
_QUOTING_FIRST = re.compile(r"(?:>\s?|[-*•]\s+|`{1,2}(?!`))+")
_CSV_HEADER = re.compile(r'"?@?(?:timestamp|message|log|logStream|logStreamName|ptr|ingestionTime)"?(?:,"?@?\w+"?)+')
_CSV_ROW = re.compile(r'"?\d{13}"?,|"?\d{4}-\d\d-\d\d[T ][\d:.Z+]{5,24}"?,"')
_TABLE_RULE = re.compile(r"[|:\s-]+")
_SCRIPT_FIELD = re.compile(
    r"""["']?@?(message|timestamp|id|eventId|ingestionTime|logStreamName)["']?\s*[:=]\s*(?:(["'`])(.*)\2|(\d{10,60}))\s*,?"""
)
_FENCE = re.compile(r"(?:```+|~~~+)\s*\w*")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_ELISION = re.compile(r",\s{0,8}(?:…|\.\.\.)(?=\s{0,8}[}\]])")
"""What people leave in the place of the fields that they do not show."""
_LONG_ENOUGH = 32_768
"""Characters after which a line that goes on and on tells nothing more."""
_BRACKETS = frozenset("{}[](),; ")
_ENVELOPE = frozenset({"timestamp", "message", "id", "eventid", "ingestiontime", "log", "ptr"}) | frozenset(
    {"loggroup", "loggroupname", "logstream", "logstreamname"}
)
_DUMPS = frozenset(
    {
        Step.REQUEST_DETAIL,
        Step.AUTHORIZER_RESULT,
        Step.INTEGRATION_REQUEST,
        Step.INTEGRATION_RESPONSE,
        Step.RESPONSE_DETAIL,
    }
)
"""Steps whose text others than the gateway may have written, and broken into lines."""
_MANY_LINES = ("Lambda execution failed ", "Request body does not match ")
"""Reasons that quote such a text."""

_JSON = json.JSONDecoder(strict=False)  # messages of the gateway's were broken over lines when they were copied


class Found(NamedTuple):
    """What an excerpt holds."""

    events: list[LogEvent]
    """In the order of time where times are given. A line without a time has that of the line before it, or 0."""
    breaks: frozenset[int]
    """Indexes of events before which something stood that is no log line: prose between two excerpts."""
    unreadable: int
    """Lines that are none of API Gateway's."""


def unwrap(text: str, access: AccessParser) -> Found:
    """All events of `text`. Total: any text gives an answer."""
    walk = _Walk(access)
    walk.read(text)
    return walk.found()


def is_execution(message: str) -> bool:
    """Whether a line is one of an execution log: it names a request, or its head is known."""
    read = parse(LogEvent(event_id="", at_ms=0, message=message))
    return isinstance(read, tuple) and (read[0] is not None or read[1].step is not Step.OTHER)


class _Line(NamedTuple):
    message: str
    at_ms: int | None
    after_prose: bool


class _Walk:
    """Reads an excerpt from its first line to its last."""

    def __init__(self, access: AccessParser) -> None:
        self._access = access
        self._lines: list[_Line] = []
        self._unreadable = 0
        self._at_ms: int | None = None  # from a line of its own, for the line below
        self._open = False  # what follows may continue the last line
        self._wrapped = False  # the last line came with an id or a time
        self._after_prose = False

    def found(self) -> Found:
        """What was read, the oldest first."""
        lines = self._lines
        times = [line.at_ms for line in lines if line.at_ms is not None]
        if times != sorted(times):
            if times == sorted(times, reverse=True):
                lines = lines[::-1]
            elif len(times) == len(lines):
                lines = sorted(lines, key=lambda line: line.at_ms or 0)
        events, at_ms = [], 0
        for index, line in enumerate(lines):
            at_ms = at_ms if line.at_ms is None else line.at_ms
            events.append(LogEvent(event_id=f"line-{index:08d}", at_ms=at_ms, message=line.message))
        breaks = frozenset(index for index, line in enumerate(lines) if line.after_prose)
        return Found(events, breaks, self._unreadable)

    def read(self, text: str) -> None:
        """Take in a text of several lines."""
        text = _ELISION.sub("", text.lstrip("\ufeff").replace("\r\n", "\n"))
        at = 0
        while at < len(text):
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
            raw = text[at:end]
            line = raw.strip()
            if not line or _FENCE.fullmatch(line):
                at = end + 1
            elif line[0] in '{["' and (after := self._read_json(text, at + len(raw) - len(raw.lstrip()))):
                at = after
            elif _CSV_HEADER.fullmatch(line):
                at = self._read_csv(text, end + 1, [name.strip('"@ ').lower() for name in line.split(",")])
            elif _CSV_ROW.match(line):
                at = self._read_csv(text, at, ["timestamp", "message"])
            else:
                self._read_line(raw)
                at = end + 1

    # ---- documents

    def _read_json(self, text: str, at: int) -> int:
        """Take in the JSON that begins there; returns where it ends, 0 if it is no log."""
        if self._open and self._is_unfinished():
            return 0
        try:
            value, end = _JSON.raw_decode(text, at)
        except (ValueError, RecursionError):
            return self._read_broken_json(text, at)
        if not self._read_document(value):
            return 0
        while end < len(text) and text[end] in ",;] \t}":  # between and after the documents of a list
            end += 1
        return end

    def _read_broken_json(self, text: str, at: int) -> int:
        """An object printed over lines that is no JSON: `messageString` brings its own quotes."""
        end = text.find("\n}", at, at + 20_000)
        if text[at : at + 2] != "{\n" or end < 0:
            return 0
        return end + 2 if self._add_if_line(" ".join(text[at : end + 2].split("\n"))) else 0

    def _read_document(self, value: object) -> bool:
        """Take in a decoded document, at whatever depth its events lie; False if it is no log."""
        if isinstance(value, str):
            return self._read_inner(value)
        if isinstance(value, list):
            row = _insights_row(value)
            if row is not None:
                return self._read_event(row)
            found = [self._read_document(item) for item in value]
            return any(found)
        if not isinstance(value, dict):
            return False
        for name in ("events", "logEvents", "results"):
            if isinstance(value.get(name), list):
                self._read_document(value[name])
                return True
        log = value.get("log")
        if isinstance(log, str) and "Execution log for request" in log:
            return self._read_inner(log)
        names = {name.lower().lstrip("@"): held for name, held in value.items()}
        if "message" in names and len(names) > 1 and names.keys() <= _ENVELOPE:
            return self._read_event(names)
        return self._add_if_line(json.dumps(value, ensure_ascii=False))

    def _read_event(self, event: Mapping[str, object]) -> bool:
        """An event of any tool: `timestamp` and `message`."""
        message = event.get("message")
        if isinstance(message, dict):
            message = json.dumps(message, ensure_ascii=False)
        if not isinstance(message, str):
            return False
        if message.startswith("Execution log for request"):
            return self._read_inner(message)
        if not self._add_if_line(message.strip(), _epoch_ms(event.get("timestamp"))):
            self._unreadable += 1
        self._open = False  # an event is whole
        return True

    def _read_inner(self, text: str) -> bool:
        """A text within a document: the test page's log, lines copied with their quotes."""
        before = len(self._lines)
        self._open = False
        self.read(text)
        self._open = False
        return len(self._lines) > before

    # ---- tables

    def _read_csv(self, text: str, at: int, names: list[str]) -> int:
        """Take in the rows from there on, whose quoted cells may hold line breaks; returns where they end."""
        lines = text[at:].splitlines(keepends=True)
        rows = csv.reader(lines)
        taken = 0
        try:
            for row in rows:
                if len(row) < len(names) or "message" not in names:
                    break
                cells: dict[str, object] = dict(zip(names, row, strict=False))
                if names[-1] == "message":  # commas in a message that is not quoted
                    cells["message"] = ",".join(row[len(names) - 1 :])
                self._read_event(cells)
                taken = rows.line_num
        except csv.Error:
            self._unreadable += 1
        taken = taken or 1
        return at + sum(map(len, lines[:taken])) if lines else len(text)

    def _read_table_row(self, line: str) -> None:
        """A row of a Markdown table, which is how Insights copies its results."""
        cells = [html.unescape(cell.strip()) for cell in line.strip("| ").split(" | ")]
        if _TABLE_RULE.fullmatch(line) or "@message" in cells:
            return
        timed = _TIME_FIRST.fullmatch(cells[0])
        if not any(self._add_if_line(cell, _epoch_ms(timed[1]) if timed else None) for cell in cells):
            self._unreadable += 1

    # ---- lines

    def _read_line(self, raw: str) -> None:
        line = raw.strip()
        bare, at_ms = _without_prefix(line)
        if self._open and self._continues(line, bare, at_ms):
            self._continue(raw)
        elif self._add_if_line(line) or (bare != line and self._add_if_line(bare, at_ms)):
            return
        elif not bare and at_ms is not None:
            self._at_ms = at_ms
            self._open = False
        elif line.startswith("|") and line.endswith("|"):
            self._read_table_row(line)
        elif (field := _SCRIPT_FIELD.fullmatch(line)) is not None:
            self._read_script_field(field)
        elif not _BRACKETS.issuperset(line):
            self._unreadable += 1
            self._after_prose = True

    def _continues(self, line: str, bare: str, at_ms: int | None) -> bool:
        """Whether a line belongs to the body or error above: nobody but the gateway's log writes ids and times."""
        if _ID_WITHIN.match(line) is not None:
            return False
        if at_ms is not None:
            return bool(bare) and not is_execution(bare) and not self._is_access(bare)
        if self._is_unfinished():
            return self._wrapped or not is_execution(line)
        return not self._is_access(line) and (self._wrapped or not is_execution(line))

    def _is_unfinished(self) -> bool:
        """Whether the last line announces a body and shows none, or opens more braces than it closes."""
        message = self._lines[-1].message.rstrip()
        return message.endswith(":") or message.count("{") > message.count("}")

    def _read_script_field(self, field: re.Match[str]) -> None:
        """`message: '…'` and `timestamp: …` of an object in a program's source."""
        if field[1] == "timestamp":
            self._at_ms = _epoch_ms(field[3] or field[4])
        elif field[1] == "message" and not self._add_if_line(
            (field[3] or "").replace('\\"', '"').replace("\\'", "'").replace("\\n", "\n")
        ):
            self._unreadable += 1

    def _continue(self, raw: str) -> None:
        last = self._lines[-1]
        if len(last.message) > _LONG_ENOUGH:
            return
        self._lines[-1] = last._replace(message=f"{last.message}\n{raw.rstrip()}")

    def _add_if_line(self, text: str, at_ms: int | None = None) -> bool:
        """Take in a text if it is a line of API Gateway's."""
        found = _ID_WITHIN.match(text)
        if found is not None:
            before = text[: found.start(1)]
            timed = _without_prefix(before)[1]
            message = found[1].rstrip("\"'`,") if before[-1:] in ('"', "'", "`") else found[1]
            self._add(message, at_ms if at_ms is not None else timed)
        elif is_execution(text) or self._is_access(text):
            self._add(text, at_ms)
        else:
            return False
        return True

    def _is_access(self, text: str) -> bool:
        glance = self._access.glance(text)
        if not isinstance(glance, AccessGlance):
            return False
        named = glance.request_id is not None or glance.extended_request_id is not None
        tells = glance.status is not None or glance.response_type is not None
        return (named and tells) if self._open else (named or tells)

    def _add(self, message: str, at_ms: int | None) -> None:
        message = message.encode("utf-8", "replace").decode()  # JSON may hold half a character
        self._lines.append(_Line(message, at_ms if at_ms is not None else self._at_ms, self._after_prose))
        self._wrapped = self._lines[-1].at_ms is not None or message.startswith("(")
        self._at_ms = None
        self._after_prose = False
        read = parse(LogEvent(event_id="", at_ms=0, message=message))
        self._open = isinstance(read, tuple) and (
            read[1].step in _DUMPS or split(message)[1].lstrip().startswith(_MANY_LINES)
        )


def _insights_row(value: list[object]) -> dict[str, object] | None:
    """`[{"field": "@timestamp", "value": …}, {"field": "@message", "value": …}]`."""
    row: dict[str, object] = {}
    for cell in value:
        if not isinstance(cell, dict) or not isinstance(cell.get("field"), str):
            return None
        row[cell["field"].lstrip("@")] = cell.get("value")
    return row if "message" in row else None


def _without_prefix(line: str) -> tuple[str, int | None]:
    """A line without quoting, times and places in front of it, and the first time among those."""
    at_ms = None
    for _ in range(8):
        for prefix in (_QUOTING_FIRST, _TIME_FIRST, _PLACE_FIRST):
            found = prefix.match(line)
            if found is not None and found.end():
                if prefix is _TIME_FIRST and at_ms is None:
                    at_ms = _epoch_ms(found[1])
                line = line[found.end() :].lstrip("|:, \t")
                break
        else:
            break
    return line, at_ms


def _epoch_ms(value: object) -> int | None:
    """Milliseconds since the epoch of what tools write for a time; None for a time of day or anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value) if 0 <= value < 10**15 else None
    if not isinstance(value, str):
        return None
    text = value.strip()
    if text.isascii() and text.isdecimal() and len(text) <= 15:
        return int(text)
    try:
        moment = datetime.fromisoformat(_iso(text))
    except ValueError:
        return None
    return (
        None
        if moment.year < 1970
        else int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000)
    )


def _iso(text: str) -> str:
    """The test page's `Fri Feb 18 09:07:20 UTC 2022` as the ISO text that all other tools write."""
    words = text.split()
    if len(words) != 6 or words[1] not in _MONTHS:
        return text.replace(",", ".")
    return f"{words[5]}-{_MONTHS.index(words[1]) + 1:02d}-{words[2]:0>2}T{words[3]}"
