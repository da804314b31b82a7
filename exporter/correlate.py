"""Lines in, whole request timelines out: the join of access and execution logs.

Execution lines of a request that ended well are looked at, never parsed, and dropped at their terminal line. What is
kept is what failed: access lines with a failing status or a gateway response, execution lines that a success does not
print, and every line that shares an id with one of those. A watch's correlator belongs to one thread at a time; it
holds memory only, so that a crash loses nothing that a restart would not read again. It does no I/O and knows no clock.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from exporter import execution_log
from exporter.envelope import unwrapped
from exporter.identity import Identity
from exporter.inflight import InFlight, count_end
from exporter.loops import Ended
from exporter.model import AccessGlance, LogEvent, LogGroup
from exporter.open_requests import OpenRequest, OpenRequests
from exporter.segments import TRAILERS, ExecutionLine, extended_id_of, segments_of
from exporter.settle import Horizon, Judged, Settled, SettleReason, is_failed, settle_reason
from exporter.tombstones import Tombstones, joinable_ids
from exporter.units import AccessLine, Unit
from exporter.verdicts import Classify, Describe, Verdicts
from exporter.windows import MINUTE_MS

_NO_LINKS = 100
"""So many failures in a row without the line that names their extended id: it is not logged (level ERROR)."""


class Correlator:
    """The open requests of one watch."""

    def __init__(
        self,
        *,
        tombstones: Mapping[LogGroup, Tombstones],
        has_access: bool,
        describe: Describe,
        classify: Classify,
        max_request_ms: int,
        max_open: int = 50_000,
        by_id: bool = False,
    ) -> None:
        """`by_id`: execution lines are asked for by the ids of open requests, so that no listing passes over any."""
        self._identity = Identity(tombstones, has_access=has_access, by_access_alone=by_id and has_access)
        self._max_request_ms = max_request_ms
        self._max_open = max_open
        # Where lines are asked for by id, no look passes over any.
        self._open = OpenRequests(notes_news=not by_id)
        self._verdicts = Verdicts(
            self._open, self._identity, describe=describe, classify=classify, max_request_ms=max_request_ms
        )
        self._in_flight = InFlight(max_request_ms=max_request_ms)
        self._absorbed: dict[str, AccessLine] = {}
        self._unproven: dict[str, int] = {}
        """Ids of failures settled without an execution line, with the time of their last line."""
        self._late_evidence = 0
        self._known_batches: set[tuple[str, int]] = set()
        """Request ids and times of delivery of settled failures whose lines were read again."""
        self._unlinked = 0
        """So many failures in a row came without the line that names the extended id."""

    @property
    def open_ids(self) -> Mapping[str, object]:
        """Every id that an open request has; a view that stays current."""
        return self._open.by_id

    @property
    def knows_access_ids(self) -> bool:
        """Whether an access line has told which ids access lines carry."""
        return self._identity.knows_access_ids

    # ------------------------------------------------------------------------------------------------------- intake

    def take_access(self, group: LogGroup, event: LogEvent, glance: AccessGlance) -> None:
        """Look at an access line. It is kept if it failed, or if it shares an id with what is open."""
        self._identity.learn(glance)
        ids = joinable_ids(glance)
        joins = not self._open.by_id.keys().isdisjoint(ids)
        if not (joins or is_failed(glance)):
            return
        used = self._identity.used(ids)
        if event.event_id in self._absorbed or self._identity.is_event_settled(event.event_id, used):
            return
        line = AccessLine(group, event, glance)
        if not joins and self._identity.absorbs(used, event.at_ms):
            self._absorbed[event.event_id] = line
            return
        request = self._request(ids or [event.event_id])
        if not (joins or used) and len(request.ids) == len(ids):  # lines that were in flight told no other id
            request.unused_in = self._identity.edition
        request.add_access(line)

    def take_executions(self, group: LogGroup, events: list[LogEvent], ended: Ended | None = None) -> list[LogEvent]:
        """Look at execution lines, in order of time. Returns those that carry no request id and join nothing.

        Every terminal line is counted in `ended`.
        """
        unusual = self._in_flight.unusual(group, unwrapped(events), self._open.by_id, ended)
        return [event for event in unusual if not self._take_unusual(group, event, ended)]

    def take_asked(self, group: LogGroup, events: Iterable[LogEvent]) -> None:
        """Take execution lines that were asked for by id: those of open requests; others only quote an id."""
        for event in events:
            line = ExecutionLine.of(group, event)
            if line.request_id is None:
                continue
            ids = [one for one in (line.request_id, extended_id_of(line.text)) if one is not None]
            if any(one in self._open.by_id for one in ids):
                self._add(self._request(ids), line)

    def _take_unusual(self, group: LogGroup, event: LogEvent, ended: Ended | None) -> bool:
        """Look at a line that is the first of its request, of an open one, or not routine. False: it has no id."""
        request_id, text = execution_log.split(event.message)
        if request_id is None:
            return False
        status = execution_log.completed_status(text)
        if status is not None:
            count_end(ended, event, status)
        request = self._open.by_id.get(request_id)
        if request is not None:
            line = ExecutionLine(group, event.event_id, event.at_ms, event.ingested_at_ms, request_id, text)
            self._add(request, line)
            return True
        if text.startswith(TRAILERS) and not self._in_flight.has(group, request_id):
            return True  # of a request that ended well and was dropped
        self._in_flight.add(group, request_id, event)
        if status is not None and status < 400:
            self._in_flight.end(group, request_id, event)
        elif status is not None or not execution_log.is_routine(text):
            lines = self._in_flight.pop(group, request_id)
            self._suspect(request_id, [ExecutionLine.of(group, one) for one in lines])
        return True

    def _suspect(self, request_id: str, lines: Sequence[ExecutionLine]) -> None:
        told = [extended_id_of(line.text) for line in lines]
        ids = {request_id, *(found for found in told if found is not None)}
        # Only where a request of that id was settled before, it matters now which lines are of which request.
        is_used = any(self._identity.is_used(text) for text in ids)
        fresh: list[Sequence[ExecutionLine]] = []
        for segment in segments_of(lines, self._max_request_ms) if is_used else [lines]:
            found = told if segment is lines else [extended_id_of(line.text) for line in segment]
            extended = next(filter(None, found), None)
            self._unlinked = 0 if extended is not None else self._unlinked + 1
            if not (is_used and self._identity.knows(request_id, extended)):
                fresh.append(segment)
                continue
            self._note_evidence(request_id, segment)
            batch = (request_id, segment[0].ingested_at_ms)
            if extended is None:
                if batch not in self._known_batches and self._identity.is_linked(request_id):
                    fresh.append(segment)  # a new one's, if the line that names its extended id is yet to come
                continue
            self._known_batches.add(batch)
            if not self._identity.is_used(request_id):
                # Its access line told the extended id only; a restart may begin behind the line that tells both.
                self._identity.link(segment[-1], request_id, extended)
        if fresh:
            # With the lines of those that are settled: what follows of them joins their beginning, no other one.
            request = self._request([request_id, *(ids - {request_id})])
            # All ids that these lines tell are its own by now.
            request.add(lines)
            if not is_used and request.ids == ids:
                request.unused_in = self._identity.edition

    def _add(self, request: OpenRequest, line: ExecutionLine) -> None:
        if line.event_id in request.execution:
            return
        request.add([line])
        extended = extended_id_of(line.text)
        if extended is not None and extended not in request.ids:
            self._request([next(iter(request.ids)), extended])

    def _request(self, ids: Sequence[str]) -> OpenRequest:
        """The open request of all these ids, with their lines that were in flight."""
        request = self._open.joined(ids)
        for text in ids:
            for group, event in self._in_flight.pop_everywhere(text):
                self._add(request, ExecutionLine.of(group, event))
        return request

    def _note_evidence(self, request_id: str, segment: Sequence[ExecutionLine]) -> None:
        if request_id in self._unproven and any(not execution_log.is_routine(line.text) for line in segment):
            del self._unproven[request_id]
            self._late_evidence += 1

    # ----------------------------------------------------------------------------------------------------- judgement

    def failing(self) -> list[Unit]:
        """The open requests that failed and would be counted, by the lines that are here."""
        units = (unit for request in self._open for unit in self._verdicts.units(request))
        return [unit for unit in units if unit.failure is not None and self._verdicts.is_countable(unit)]

    def judge(self, horizon: Horizon) -> Judged:
        """Decide which open requests are final. Changes nothing that a second call would not decide again."""
        waiting: list[Unit] = []
        settled: list[Settled] = []
        units = [unit for request in self._open for unit in self._verdicts.units(request)]
        units = self._verdicts.claimed(units, horizon)
        # What the last look has opened, no other has looked at: lines of it may have become visible behind that look.
        unseen = {
            unit.key for request in self._open.news for unit in self._verdicts.units(request) if self._may_be_torn(unit)
        }
        for unit in units:
            if unit.failure is None or not self._verdicts.is_countable(unit):
                continue
            # Under an id that others used, lines may be theirs, until all have been read: those without an extended id,
            # and those that came apart from the line that names it.
            shares = self._verdicts.shares_id(unit)
            own = not shares or (unit.linked and unit.came_at_once) or self._unlinked >= _NO_LINKS
            reason = settle_reason(unit, horizon, own=own)
            if reason is None or (unseen and reason is SettleReason.COVERED and unit.key in unseen):
                waiting.append(unit)
            else:
                settled.append(Settled(unit=unit, failure=unit.failure, reason=reason, reused_id=shares))
        # Lines without an extended id may be of a request that is counted by its access line in this very round: from
        # the next one on it is known.
        counted = {text for item in settled if item.unit.access is not None for text in item.unit.ids}
        early = [item.unit for item in settled if self._may_be_of(item.unit, counted)]
        if early:
            settled = [item for item in settled if not self._may_be_of(item.unit, counted)]
            waiting += early
        surplus = len(waiting) - self._max_open
        if surplus > 0:
            waiting.sort(key=lambda unit: unit.first_ms)
            settled += [
                Settled(
                    unit=unit,
                    failure=unit.failure,
                    reason=SettleReason.OVERFLOW,
                    reused_id=self._verdicts.shares_id(unit),
                )
                for unit in waiting[:surplus]
                if unit.failure is not None
            ]
            del waiting[:surplus]
        return Judged(
            settled=settled,
            absorbed=tuple(self._absorbed.values()),
            stones=self._identity.filed([item.unit for item in settled], self._absorbed.values()),
            first_open_ms=min((unit.first_ms for unit in waiting), default=None),
            late_evidence=self._late_evidence,
        )

    def overlooked(self, horizon: Horizon) -> bool:
        """Whether the listing that opened a request may have passed over lines of it that no later one will bring.

        A request that seemed to end well is dropped, its access line too, until a line tells that it failed; what was
        listed before that line is only taken by the next listing. No later one: it is about to be settled, or its
        stretch has been read for good. Asked once a slice, before `judge`.
        """
        return any(
            unit.access is None
            and (horizon.has_access or not unit.terminal or self._may_be_torn(unit))
            and (unit.last_ms < horizon.state.frontier_ms or settle_reason(unit, horizon) is not None)
            and (self._verdicts.is_countable(unit) or self._may_yet_join(unit))
            for request in self._open.take_news()
            for unit in self._verdicts.units(request)
        )

    def _may_be_torn(self, unit: Unit) -> bool:
        """Whether its first lines may have become visible behind the place that the listing had come to."""
        return not unit.linked and self._unlinked < _NO_LINKS

    def _may_yet_join(self, unit: Unit) -> bool:
        """Whether the line that names the extended id, which alone joins it to its access line, was passed over."""
        return not unit.extended_ids and self._unlinked < _NO_LINKS and not self._verdicts.knows(unit)

    def settle(self, judged: Judged, horizon: Horizon) -> None:
        """Make `judged` final, after it was committed: settled lines go, their marks stay."""
        self._identity.file(judged.stones)
        for line in judged.absorbed:
            self._absorbed.pop(line.event.event_id, None)
        old_ms = horizon.state.reached_ms - horizon.timing.max_request_ms
        self._forget_others({id(item.unit) for item in judged.settled}, old_ms)
        for item in judged.settled:
            self._open.remove(item.unit)
            if item.unit.access is not None and not item.unit.execution:
                self._unproven.update(dict.fromkeys(item.unit.ids, item.unit.last_ms))
        self._late_evidence = 0
        self._known_batches.clear()
        self._in_flight.forget_before(old_ms)
        done_ms = horizon.state.frontier_ms - horizon.timing.max_request_ms - MINUTE_MS
        self._unproven = {text: last_ms for text, last_ms in self._unproven.items() if last_ms >= done_ms}

    def _forget_others(self, settled: Collection[int], old_ms: int) -> None:
        """Let go of what did not fail: its lines are complete, or so old that the rest is read again with it.

        `settled`: the units that go in any case, by identity. Before they do, nothing needs to be split anew.
        """
        for request in self._open:
            waits = False
            for unit in self._verdicts.units(request):
                if id(unit) in settled:
                    continue
                if self._verdicts.knows(unit):  # its tombstone must not go before its lines do
                    self._open.remove(unit)
                elif (unit.failure is not None and self._verdicts.is_countable(unit)) or (
                    not unit.terminal and unit.last_ms >= old_ms
                ):
                    waits = True
            if not waits:
                self._open.forget(request)

    @property
    def open_requests(self) -> int:
        """How many requests wait."""
        return sum(1 for _ in self._open)

    @staticmethod
    def _may_be_of(unit: Unit, ids: set[str]) -> bool:
        return unit.access is None and not unit.linked and not ids.isdisjoint(unit.ids)
