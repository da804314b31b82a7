"""Which lines belong to failures that are settled: tombstones, and what they mean for a line that comes again.

Callers may set the request id, so ids are neither unique nor honest (DESIGN 3.4). The access event is the unit; a
settled failure is known by its access event id and by every id that it had. This file decides what a known id is
worth; it joins no lines and keeps nothing but marks.
"""

from collections.abc import Iterable, Mapping, Sequence

from exporter.envelope import PLACEHOLDER_IDS
from exporter.model import AccessGlance, LogGroup
from exporter.settle import Unit
from exporter.tombstones import Mark, Tombstones, mark
from exporter.windows import MINUTE_MS


class Identity:
    """The settled failures of one watch."""

    def __init__(
        self, tombstones: Mapping[LogGroup, Tombstones], *, has_access: bool, by_access_alone: bool = False
    ) -> None:
        """`by_access_alone`: what has no failing access line is not counted, because most access lines are not read."""
        self._tombstones = tombstones
        self._has_access = has_access
        self._by_access_alone = by_access_alone
        self._joins_by_request_id: bool | None = None
        """Whether access lines carry real request ids (None: no access line was seen yet). Where they do not,
        execution lines cannot be told from those of counted requests, and are never counted on their own."""
        self._access_logs_extended_ids = False

    @property
    def knows_access_ids(self) -> bool:
        """Whether an access line has told which ids access lines carry."""
        return self._joins_by_request_id is not None

    def learn(self, glance: AccessGlance) -> None:
        """Note which ids access lines carry."""
        if not self._joins_by_request_id and glance.request_id not in PLACEHOLDER_IDS:
            self._joins_by_request_id = glance.request_id is not None
        if glance.extended_request_id is not None:
            self._access_logs_extended_ids = True

    def add(self, group: LogGroup, minute: int, marks: Iterable[int]) -> None:
        """File marks of failures that are settled now."""
        self._tombstones[group].add(minute, marks)

    def is_settled(self, kind: Mark, text: str) -> bool:
        """Whether there is such a mark."""
        wanted = mark(kind, text)
        for stones in self._tombstones.values():  # noqa: SIM110 asked so often that it shows
            if wanted in stones:
                return True
        return False

    def knows(self, request_id: str, extended: str | None) -> bool:
        """Whether execution lines with these ids belong to a failure that is settled."""
        if extended is not None and self.is_settled(Mark.ID, extended):
            return True
        if not self.is_settled(Mark.ID, request_id):
            return False
        if extended is None or not self.is_settled(Mark.LINKED, request_id):
            return True
        # The extended id is another one, so it is another request. Only where access lines say theirs, can we be sure
        # that it was not counted; elsewhere a new request under a used id has an access line of its own to open it.
        by_access = self._has_access and not self.is_settled(Mark.UNCLAIMED, request_id)
        return by_access and not self._access_logs_extended_ids

    def knows_unit(self, unit: Unit) -> bool:
        """Whether execution lines without an access line belong to a failure that is settled."""
        if unit.access is not None:
            return False
        extended = next(iter(unit.extended_ids), None)
        return any(self.knows(text, extended) for text in unit.ids - unit.extended_ids)

    def is_countable(self, unit: Unit) -> bool:
        """Whether a failure may be counted: by its access line, else only where that can count nothing twice."""
        if unit.access is not None:
            return True
        if self._by_access_alone:
            return False
        if self._has_access and not unit.extended_ids and self._are_nameless():
            return False
        return not self.knows_unit(unit)

    def _are_nameless(self) -> bool:
        """Whether access lines tell no request id; before one was seen: whether those of settled failures told none."""
        if self._joins_by_request_id is None:
            return self.is_settled(Mark.NAMELESS, "")
        return not self._joins_by_request_id

    def absorbs(self, ids: Sequence[str], at_ms: int) -> bool:
        """Whether a failure was counted without its access line, and a line with these ids and this time is it."""
        minute = at_ms // MINUTE_MS
        return any(
            self.is_settled(Mark.UNCLAIMED, f"{text} {near}") and not self.is_settled(Mark.CLAIMED, text)
            for text in ids
            if self.is_settled(Mark.UNCLAIMED, text)
            for near in (minute - 1, minute, minute + 1)
        )


def marks_of(unit: Unit) -> set[int]:
    """The marks that a settled failure leaves: its access event, and every id that it had."""
    marks = {mark(Mark.ID, text) for text in unit.ids}
    if unit.extended_ids:
        marks |= {mark(Mark.LINKED, text) for text in unit.ids - unit.extended_ids}
    if unit.access is not None:
        marks.add(mark(Mark.ACCESS, unit.access.event.event_id))
        if unit.access.glance.request_id is None and unit.ids == unit.extended_ids:
            marks.add(mark(Mark.NAMELESS, ""))
    else:
        minute = unit.first_ms // MINUTE_MS
        marks |= {mark(Mark.UNCLAIMED, text) for text in unit.ids}
        marks |= {mark(Mark.UNCLAIMED, f"{text} {minute}") for text in unit.ids}
    return marks
