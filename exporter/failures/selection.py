"""What a visitor of `/failures` asks for, read from the address: total on any text, every mistake in words.

An unknown filter is a mistake, not nothing: a list that silently ignores a misspelled filter tells lies.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from exporter.config import parse_duration
from exporter.config.scalars import parse_statuses
from exporter.failures.entry import Entry, Kind
from exporter.failures.recent import order_of

FILTERS = ("api", "stage", "cause", "category", "status", "since", "until")
_OTHERS = ("before", "format")
_ALWAYS = 2**62


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Filters as they were written, what they mean, and where in the list the page begins."""

    written: Mapping[str, str]
    """By the names of FILTERS; what is not asked for is left out."""
    statuses: frozenset[int] = frozenset()
    since_ms: int = 0
    until_ms: int = _ALWAYS
    before: tuple[int, str] | None = None
    as_json: bool = False
    mistakes: Mapping[str, str] = field(default_factory=dict)
    """What is wrong, by parameter."""

    def takes(self, kind: Kind) -> bool:
        """Whether failures of this kind are asked for, at whatever time."""
        written = self.written
        return (
            written.get("api", kind.api_id) in (kind.api_id, kind.api_name)
            and written.get("stage", kind.stage) == kind.stage
            and written.get("cause", kind.cause) == kind.cause
            and written.get("category", kind.category) == kind.category
            and (not self.statuses or kind.status in self.statuses)
        )

    def chosen(self, entries: Iterable[Entry]) -> list[Entry]:
        """Those that are asked for, in their order, wherever the page begins."""
        return [entry for entry in entries if self.since_ms <= entry.at_ms < self.until_ms and self.takes(entry.kind)]

    def query(self, changes: Mapping[str, str | None]) -> dict[str, str]:
        """The parameters of a page with the same filters but for `changes` (None: without it), from its beginning."""
        return {name: value for name, value in {**self.written, **changes}.items() if value is not None}


def read_selection(parameters: Iterable[tuple[str, str]], now_ms: int) -> Selection:
    """Read the parameters of an address. What cannot be read is named among the mistakes, and filters nothing."""
    given: dict[str, str] = {}
    mistakes: dict[str, str] = {}
    for name, value in parameters:
        if name not in (*FILTERS, *_OTHERS):
            mistakes[name] = f"there is no filter of this name; the filters are {', '.join(FILTERS)}"
        elif value.strip():
            given[name] = value.strip()
    read = _Reader(given, mistakes, now_ms)
    selection = Selection(
        written={name: given[name] for name in FILTERS if name in given},
        statuses=read.statuses(),
        since_ms=read.instant("since", 0),
        until_ms=read.instant("until", _ALWAYS),
        before=read.before(),
        as_json=given.get("format") == "json",
        mistakes=mistakes,
    )
    if given.get("format", "html") not in {"html", "json"}:
        mistakes["format"] = "write `json` or `html`"
    return selection


class _Reader:
    def __init__(self, given: Mapping[str, str], mistakes: dict[str, str], now_ms: int) -> None:
        self._given = given
        self._mistakes = mistakes
        self._now_ms = now_ms

    def statuses(self) -> frozenset[int]:
        written = self._given.get("status")
        if written is None:
            return frozenset()
        try:
            return frozenset[int]().union(*(parse_statuses(part.strip()) for part in written.split(",")))
        except ValueError:
            self._mistakes["status"] = "write `5xx`, `504`, a range like `500-504`, or several of them with commas"
            return frozenset()

    def instant(self, name: str, otherwise_ms: int) -> int:
        """So long ago, or an ISO time, in UTC where it does not say."""
        written = self._given.get(name)
        if written is None:
            return otherwise_ms
        try:
            return self._now_ms - parse_duration(written)
        except ValueError:
            pass
        try:
            # A `+` in an address is a blank.
            moment = datetime.fromisoformat(written.replace(" ", "+") if "T" in written else written)
            return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
        except (ValueError, OverflowError):
            self._mistakes[name] = "write a length of time like `15m`, or a time like `2026-01-31T12:00:00Z`"
            return otherwise_ms

    def before(self) -> tuple[int, str] | None:
        written = self._given.get("before")
        if written is None:
            return None
        digits, _, identity = written.partition("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 15):
            self._mistakes["before"] = "this is no place in the list; take the links beneath it"
            return None
        return int(digits), identity


def place_of(entry: Entry) -> str:
    """The `before` of a page that begins behind `entry`."""
    at_ms, identity = order_of(entry)
    return f"{at_ms}-{identity}"
