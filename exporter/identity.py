"""Which lines belong to failures that are settled: tombstones, and what they mean for a line that comes again.

Callers may set the request id, so ids are neither unique nor honest (DESIGN 3.4). The access event is the unit; a
settled failure is known by its access event id and by every id that it had. This file decides what a known id is
worth; it joins no lines and keeps nothing but marks.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from exporter import tombstones as stone
from exporter.envelope import PLACEHOLDER_IDS
from exporter.model import AccessGlance, LogGroup
from exporter.segments import ExecutionLine
from exporter.tombstones import Mark, Tombstones, filed_under, inscription, joinable_ids, mark
from exporter.units import AccessLine, Unit
from exporter.windows import MINUTE_MS

Stones = Mapping[tuple[LogGroup, int], Mapping[int, int]]
"""Marks with what they say (`tombstones`), by group and the minute of their file."""

_ACCESS, _ID, _LINKED, _NAMELESS, _UNCLAIMED, _CLAIMED, _ENDED = Mark


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
        self._learnt: dict[tuple[LogGroup, int], dict[int, int]] = {}
        """Links to be filed."""
        self.edition = 0
        """Changes whenever marks are added: as long as it does not, no id becomes a used one."""

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

    def link(self, line: ExecutionLine, request_id: str, extended: str) -> None:
        """Note the request id of a failure that was settled under its extended id alone; `line`: its last one."""
        learnt = self._learnt.setdefault((line.group, filed_under(line.at_ms)), {})
        learnt[mark(_ID, request_id)] = inscription(extended=mark(_ID, extended))

    def filed(self, settled: Iterable[Unit], absorbed: Iterable[AccessLine]) -> Stones:
        """What is to be filed of failures that are to be settled, of lines that are theirs, and of links noted."""
        filed = {key: dict(stones) for key, stones in self._learnt.items()}
        taken = {one for stones in filed.values() for one in stones}
        for unit in settled:
            group = unit.access.group if unit.access is not None else unit.execution[0].group
            stones = self.stones_of(unit, taken)
            taken.update(stones)
            file = filed.setdefault((group, filed_under(unit.last_ms)), {})
            file.update((one, said) for one, said in stones.items() if said or one not in file)
        for line in absorbed:
            file = filed.setdefault((line.group, filed_under(line.at_ms)), {})
            file[mark(_ACCESS, line.event_id)] = 0
            file.update((mark(_CLAIMED, text), 0) for text in joinable_ids(line.glance))
        return filed

    def file(self, stones: Stones) -> None:
        """File what was committed: it holds from now on."""
        for (group, minute), filed in stones.items():
            self._tombstones[group].add(minute, filed.items())
        self._learnt.clear()
        self.edition += bool(stones)

    def is_used(self, text: str) -> bool:
        """Whether a settled failure had this id; an extended id counts that came without a request id."""
        return self._has(mark(_ID, text))

    def used(self, ids: Sequence[str]) -> dict[str, Sequence[int]]:
        """Those of `ids` that settled failures had, and what stands on their marks."""
        return {text: said for text in ids if (said := self._said_of(text))}

    def is_event_settled(self, event_id: str, used: Mapping[str, Sequence[int]]) -> bool:
        """Whether this access event was counted or absorbed; `used`: of the ids that its line tells."""
        event = mark(_ACCESS, event_id)
        return self._has(event) or any(stone.is_of_event(said, event) for of_id in used.values() for said in of_id)

    def is_linked(self, request_id: str) -> bool:
        """Whether the extended ids that went with this request id are known: another one is another request."""
        return self._is_linked(request_id, self._said_of(request_id))

    def knows(self, request_id: str, extended: str | None) -> bool:
        """Whether execution lines with these ids belong to a failure that is settled."""
        of_id = self._said_of(request_id)
        if extended is not None:
            wanted = mark(_ID, extended)
            if self._has(wanted) or any(stone.is_linked_to(said, wanted) for said in of_id):
                return True
        if not of_id:
            return False
        if extended is None or not self._is_linked(request_id, of_id):
            return True
        # The extended id is another one, so it is another request. Only where access lines say theirs, can we be sure
        # that it was not counted; elsewhere a new request under a used id has an access line of its own to open it.
        by_access = self._has_access and not self._is_unclaimed(request_id, of_id)
        return by_access and not self._access_logs_extended_ids

    def knows_unit(self, unit: Unit) -> bool:
        """Whether execution lines without an access line belong to a failure that is settled."""
        # Lines that are read again without their beginning may have been put to another's: their end tells.
        if unit.end_id is not None and self._has(mark(_ENDED, unit.end_id)):
            return True
        extended = next(iter(unit.extended_ids), None)
        return any(self.knows(text, extended) for text in unit.request_ids)

    def counts_executions(self, unit: Unit) -> bool:
        """Whether a failure without an access line may be counted, unless it is known: not what could be twice."""
        return not self._by_access_alone and not (self._has_access and not unit.extended_ids and self._are_nameless())

    def _are_nameless(self) -> bool:
        """Whether access lines tell no request id; before one was seen: whether those of settled failures told none."""
        if self._joins_by_request_id is None:
            return self._has(mark(_NAMELESS, ""))
        return not self._joins_by_request_id

    def absorbs(self, used: Mapping[str, Sequence[int]], at_ms: int) -> bool:
        """Whether a failure was counted without its access line, and one of this time is it; `used`: of its ids."""
        minute = at_ms // MINUTE_MS
        for text, of_id in used.items():
            if not self._is_unclaimed(text, of_id) or self._has(mark(_CLAIMED, text)):
                continue
            for near in (minute - 1, minute, minute + 1):
                at = self._unclaimed_at(text, near)
                if self._has(at) or any(stone.is_unclaimed_at(said, at) for said in of_id):
                    return True
        return False

    def stones_of(self, unit: Unit, taken: Collection[int]) -> dict[int, int]:
        """The marks that a settled failure leaves, for its access event and every id that it had, with what they say.

        What belongs to an id is inscribed on its mark. Where one was used before, or its mark is among `taken`, it
        has been inscribed: then each mark stands for itself.
        """
        access = unit.access
        told = [] if access is None else joinable_ids(access.glance)[:1]
        event = None if access is None else mark(_ACCESS, access.event.event_id)
        requests = unit.request_ids
        extended = sorted(unit.extended_ids, key=lambda text: (text in told, text))
        # Where execution lines told which request id an extended id goes with, none asks for it by itself. Elsewhere
        # they may tell another request id than the access line: a caller may have chosen that one.
        alone = extended[1:] if access is not None and unit.linked else extended
        ids = {text: mark(_ID, text) for text in {*requests, *alone, *told}}
        linked = (ids.get(extended[0]) or mark(_ID, extended[0])) if extended else None
        ats = {} if access is not None else {text: self._unclaimed_at(text, unit.first_ms // MINUTE_MS) for text in ids}
        stones = {} if event is None or told else {event: 0}
        if access is not None and access.glance.request_id is None and not requests:
            stones[mark(_NAMELESS, "")] = 0
        if not any(one in taken or self._has(one) for one in ids.values()):
            for text, one in ids.items():
                stones[one] = inscription(
                    event=event if text in told else None,
                    unclaimed_at=ats.get(text),
                    extended=linked if text in requests else None,
                    is_extended=text not in requests,
                )
            return stones
        found = {event, linked, *ids.values(), *ats.values(), *(mark(_UNCLAIMED, text) for text in ats)}
        if linked is not None:
            found.update(mark(_LINKED, text) for text in requests)
        if access is None and unit.end_id is not None:
            found.add(mark(_ENDED, unit.end_id))
        return stones | {one: 0 for one in found if one is not None}

    @staticmethod
    def _unclaimed_at(text: str, minute: int) -> int:
        return mark(_UNCLAIMED, f"{text} {minute}")

    def _has(self, wanted: int) -> bool:
        for stones in self._tombstones.values():  # noqa: SIM110 asked so often that it shows
            if wanted in stones:
                return True
        return False

    def _said_of(self, text: str) -> list[int]:
        wanted = mark(_ID, text)
        return [said for stones in self._tombstones.values() for said in stones.said_of(wanted)]

    def _is_linked(self, request_id: str, of_id: Sequence[int]) -> bool:
        return any(map(stone.is_linked, of_id)) or (bool(of_id) and self._has(mark(_LINKED, request_id)))

    def _is_unclaimed(self, text: str, of_id: Sequence[int]) -> bool:
        return any(map(stone.is_unclaimed, of_id)) or self._has(mark(_UNCLAIMED, text))
