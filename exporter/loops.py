"""The loops that run once for every line of a request that ended well: all else here is paid for by failures.

This file is what they mean. `loops.pyx` is the same, compiled: where a wheel or an installation with a C compiler
has built it, Python imports that one instead of this (`COMPILED`), and nothing else differs. `tests/test_loops.py`
holds the two against each other. They know neither what a line means nor whose it is: they are told which heads and
which forms are routine, and stop at whatever is not.
"""

from collections import Counter
from collections.abc import Callable, Container, Hashable, Mapping, Sequence
from contextlib import suppress
from itertools import compress, islice
from operator import lt
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from exporter.model import LogEvent

COMPILED: Final = False
"""Whether this is the compiled module."""

# ------------------------------------------------------------------------------------------------- JSON access lines


Form = tuple[Sequence[str], Sequence[bool], Sequence[int]]
"""What lines of a JSON log format have in common. The text around their values: before the first, between each two and
behind the last, quotation marks with it. For each value whether it stands in quotation marks, else it is a number; and
its place in a row, -1 where nobody wants it."""
Row = Sequence[Any]
"""The values that are wanted of a line."""


class Columns(Protocol):
    """The values of many lines: a sequence of lists.

    Each of the first few places of a row has a list. The last list has, for each line, what is known of all its other
    values together, or these themselves as a tuple.
    """

    def add(self, rows: Sequence[Row], known: Mapping[tuple[Any, ...], object]) -> None:
        """Append the values of some lines."""
        ...


class JsonColumns:
    """Makes columns of JSON lines with the keys of one that is known."""

    def __init__(
        self,
        decode: Callable[[str], object],
        row_of: Callable[[object], Row],
        refused: tuple[type[Exception], ...],
        form: Form | None,
        width: int,
    ) -> None:
        """`row_of(decode(line))` is a line's row; `decode` raises one of `refused` for a line with other keys.

        `form`: how the line looked that is known, None where that cannot be told; `width`: how many values a row has.
        They make a compiled loop quicker, and change nothing.
        """
        del form, width
        self.misfits = 0
        """So many lines had the keys, but not the form. (Without a compiler none is looked for.)"""
        self._decode = decode
        self._row_of = row_of
        self._refused = refused

    def read(
        self, events: list[LogEvent], start: int, columns: Columns, known: Mapping[tuple[Any, ...], object]
    ) -> int:
        """Add the values of the lines from place `start` up to one with other keys; returns how many were read."""
        rows: list[Row] = []
        lines = [event.message for event in islice(events, start, None)]
        with suppress(*self._refused):  # what was read before it stays in the list
            rows.extend(map(self._row_of, map(self._decode, lines)))
        columns.add(rows, known)
        return len(rows)


# ------------------------------------------------------------------------------------------------- other access lines

ANYHOW, AT_SLASH, AT_VERB = range(3)
"""How a value begins: in any way, with a slash, with capitals and a space before a slash where there are such."""


class Run(NamedTuple):
    """How far a value reaches: as far as such ASCII characters follow each other, one at least; or it is a dash."""

    allowed: str | None
    """None: it reaches up to the text behind it, whatever it is made of."""
    longest: int = 0
    begins: int = ANYHOW


TextForm = tuple[Sequence[str], Sequence[Run], Sequence[int]]
"""What lines of a log format have in common: the text around their values, as in a `Form`; how far each value reaches;
its place in a row, -1 where nobody wants it. What a value may be made of does not begin the text behind it."""


class TextColumns:
    """Makes columns of lines in one format of text."""

    def __init__(self, row_of: Callable[[str], Row | None], form: TextForm | None, width: int) -> None:
        """`row_of(line)` is a line's row, of texts; None for a line in another format.

        `form`: where lines that fit it have their values, for `row_of` too; None where that is not as simple. `width`:
        how many values a row has. They make a compiled loop quicker, and change nothing.
        """
        del form, width
        self._row_of = row_of

    def read(
        self, events: list[LogEvent], start: int, columns: Columns, known: Mapping[tuple[Any, ...], object]
    ) -> int:
        """Add the values of the lines from place `start` up to one in another format; returns how many were read."""
        rows: list[Row] = []
        for event in islice(events, start, None):
            row = self._row_of(event.message)
            if row is None:
                break
            rows.append(row)
        columns.add(rows, known)
        return len(rows)


# ------------------------------------------------------------------------------------------------- execution lines

MIDDLE, TRAILER, LINK, TERMINAL = range(4)
"""Kinds of routine lines: in the midst of a request, behind its end, its first one at INFO, its last one."""

HEAD_SIZE, STATUS_BEHIND = 21, 32
"""Heads begin with the bracket behind the request id, so many characters before a status in a terminal line."""
GOOD_STATUSES: Mapping[str, int] = {str(status): status for status in range(100, 400)}
"""The statuses of requests that ended well."""

Ended = dict[tuple[int, int], int]
"""How many requests ended, by the stretch of time (its number since 1970) and their status."""


def end_of_id(message: str) -> int:
    """Where the request id ends in `(id) text`: one of WebSocket APIs has 15 or 16 characters, else it is a UUID."""
    if message[15:16] == "=" and message[16:17] == ")":
        return 16
    return 17 if message[16:18] == "=)" else 37


class Routine:
    """Files routine execution lines under the id of their request, and drops them when it has ended well."""

    def __init__(self, kinds: Mapping[str, int], stretch_ms: int) -> None:
        """`kinds`: the kind of each head, which is 21 ASCII characters from `end_of_id` on.

        `stretch_ms`: what ended is counted by stretches of so many milliseconds.
        """
        self._kind_of = kinds.get
        self._stretch_ms = stretch_ms

    def take(  # noqa: PLR0917 called once a page, and for every failure: words would cost more than they tell
        self,
        events: list[LogEvent],
        start: int,
        lines_by_id: dict[str, list[LogEvent]],
        open_ids: Container[str],
        shared: set[str],
        ended: Ended | None,
    ) -> int:
        """Take the events from place `start` up to one that is left to the caller; returns its place, or the end.

        A routine line goes into `lines_by_id`, the terminal line of a request that ended well takes its lines out
        again (and is counted in `ended`). Left to the caller are other lines, the first line of an id in
        `open_ids`, a second first line under an id, the end of a request under an id in `shared`, and the end of one
        of which nothing is here.
        """
        lines_of, kind_of, good_status = lines_by_id.get, self._kind_of, GOOD_STATUSES.get
        for place, event in enumerate(islice(events, start, None), start):
            message = event.message
            end = end_of_id(message)
            kind = kind_of(message[end : end + HEAD_SIZE])
            if kind is None:
                return place
            request_id = message[1:end]
            lines = lines_of(request_id)
            if lines is None:
                if kind == TERMINAL or request_id in open_ids:
                    return place
                if kind != TRAILER:  # that is of a request that ended well and was dropped
                    lines_by_id[request_id] = [event]
            elif kind == TERMINAL:
                status = good_status(message[end + STATUS_BEHIND :])
                if status is None or request_id in shared:
                    return place
                if ended is not None:
                    key = event.at_ms // self._stretch_ms, status
                    ended[key] = ended.get(key, 0) + 1
                del lines_by_id[request_id]
            elif kind == LINK:
                return place
            else:
                lines.append(event)
        return len(events)


# ------------------------------------------------------------------------------------------------- both

T = TypeVar("T", bound=Hashable)


def tally(values: list[T], counts: dict[T, int]) -> None:
    """Add to `counts` how often each value is there, in the order in which they come first.

    Values that repeat are best the same objects.
    """
    for value, amount in Counter(values).items():
        counts[value] = counts.get(value, 0) + amount


def places_of(values: list[T], wanted: Container[T]) -> list[int]:
    """The places of the values that are wanted."""
    return list(compress(range(len(values)), map(wanted.__contains__, values)))


def are_in_order(events: list[LogEvent]) -> bool:
    """Whether no event is earlier than the one before it."""
    times = [event.at_ms for event in events]
    return times == sorted(times)


def are_ascending(events: list[LogEvent], after: str) -> bool:
    """Whether the ids of events ascend, the first one behind `after`: no two are the same then."""
    ids = [event.event_id for event in events]
    return not ids or (ids[0] > after and all(map(lt, ids, ids[1:])))


def are_within(events: list[LogEvent], start_ms: int, end_ms: int) -> bool:
    """Whether all events lie between two times, the second one excluded."""
    times = [event.at_ms for event in events]
    return not times or (start_ms <= min(times) and max(times) < end_ms)
