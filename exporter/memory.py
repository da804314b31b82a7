"""What a watch knows between polls, and the commit that changes it.

Memory is made from the ledger (`remember`) and follows it: `draft` works out what a slice would change, without
changing anything; only after that was committed does `keep` take it over. So memory never runs ahead of what is
durable, and can be dropped and made again at any time. It does no I/O and knows no clock.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from exporter import tally, tombstones
from exporter.correlate import Correlator
from exporter.ledger import GroupState
from exporter.model import Commit, CounterKey, GroupProgress, LogGroup
from exporter.record import Recorded
from exporter.settle import Horizon, Judged
from exporter.taking import UNREADABLE
from exporter.tally import Cells, Seen, Tally
from exporter.tombstones import Tombstones
from exporter.windows import MINUTE_MS, OVERLAP_MS, ReadState


class Outcome(NamedTuple):
    """What one slice came to, before it is committed."""

    state: ReadState
    horizon: Horizon
    judged: Judged
    recorded: Recorded
    listings: Mapping[LogGroup, Sequence[Seen]]
    now_ms: int


@dataclass(kw_only=True, slots=True)
class Draft:
    """What an outcome changes: the commit, and what memory takes over once it is durable."""

    commit: Commit
    changed: Mapping[LogGroup, Mapping[int, Cells]]
    """New tallies by group and minute."""
    closed: Mapping[LogGroup, Sequence[int]]
    """Minutes whose tallies can never count again."""
    expired: Mapping[LogGroup, Sequence[int]]
    """Minutes whose tombstones no line can meet any more."""
    unreadable: Mapping[CounterKey, int]
    """Lines that could not be read, each told of once."""


@dataclass(kw_only=True, slots=True)
class Memory:
    """See the module."""

    state: ReadState
    progress: dict[LogGroup, GroupProgress]
    unborn: set[LogGroup]
    """Groups whose progress was never committed."""
    tallies: dict[LogGroup, Tally]
    stones: dict[LogGroup, Tombstones]
    correlator: Correlator
    polled_at_ms: int

    def draft(self, outcome: Outcome, *, born: frozenset[CounterKey], max_request_ms: int) -> Draft:
        """What `outcome` would change. `born`: series to be shown at 0 from now on."""
        progress = self._progress(outcome)
        increments = dict(outcome.recorded.increments)
        draft = _Parts()
        for group, known in self.tallies.items():
            raised = known.raised_by(outcome.listings.get(group, ()), self.progress[group].watermark_ms)
            for key, amount in raised.increments.items():
                counted = draft.unreadable if key.metric == UNREADABLE else increments
                counted[key] = counted.get(key, 0) + amount
            draft.changed[group] = raised.changed
            draft.closed[group] = known.closed(progress[group].watermark_ms) if group in progress else []
        if progress:
            # A re-read begins `max_request` before `resume`; what ended before that is met no more.
            resume_ms = next(iter(progress.values())).resume_ms
            last = (resume_ms - max_request_ms - OVERLAP_MS) // MINUTE_MS - 1
            draft.expired = {group: stones.expired(last) for group, stones in self.stones.items()}
        commit = Commit(
            progress=progress,
            tallies={
                **{
                    (g, minute): tally.pack(cells)
                    for g, found in draft.changed.items()
                    for minute, cells in found.items()
                },
                **{(g, minute): None for g, minutes in draft.closed.items() for minute in minutes},
            },
            tombstones={
                **{key: tombstones.pack(found) for key, found in outcome.judged.stones.items()},
                **{(g, minute): None for g, minutes in draft.expired.items() for minute in minutes},
            },
            increments=increments,
            exemplars=outcome.recorded.exemplars,
            born=born,
            spans=outcome.recorded.spans,
            at_ms=outcome.now_ms,
        )
        return Draft(
            commit=commit,
            changed=draft.changed,
            closed=draft.closed,
            expired=draft.expired,
            unreadable=draft.unreadable,
        )

    def keep(self, outcome: Outcome, draft: Draft) -> None:
        """Take over what was committed."""
        self.state = outcome.state
        self.polled_at_ms = outcome.now_ms
        self.progress |= draft.commit.progress
        self.unborn.clear()
        for group, minutes in draft.changed.items():
            self.tallies[group].keep(minutes)
            self.tallies[group].drop(draft.closed[group])
        self.correlator.settle(outcome.judged, outcome.horizon)
        for group, gone in draft.expired.items():
            self.stones[group].drop(gone)

    def _progress(self, outcome: Outcome) -> dict[LogGroup, GroupProgress]:
        frontier_ms = outcome.state.frontier_ms
        resume_ms = _minute(min(frontier_ms, outcome.judged.first_open_ms or frontier_ms))
        progress = {}
        for group, known in self.progress.items():
            new = GroupProgress(max(known.watermark_ms, frontier_ms), resume_ms)
            if new != known or group in self.unborn:
                progress[group] = new
        return progress


@dataclass(kw_only=True, slots=True)
class _Parts:
    changed: dict[LogGroup, dict[int, Cells]] = field(default_factory=dict)
    closed: dict[LogGroup, list[int]] = field(default_factory=dict)
    expired: dict[LogGroup, list[int]] = field(default_factory=dict)
    unreadable: dict[CounterKey, int] = field(default_factory=dict)


def remember(
    states: Mapping[LogGroup, GroupState],
    *,
    begin_ms: int,
    max_request_ms: int,
    now_ms: int,
    has_access: bool,
    has_execution: bool,
    make_correlator: Callable[[Mapping[LogGroup, Tombstones]], Correlator],
) -> Memory:
    """Memory as the last commit left it. `begin_ms`: from when to read what was never read."""
    known = [state.progress for state in states.values() if state.progress is not None]
    begin_ms = _minute(begin_ms)
    resume_ms = min((progress.resume_ms for progress in known), default=begin_ms)
    # The first window begins before `begin`, as every window does; what it brings counts in the totals, too.
    watermark_ms = min((progress.watermark_ms for progress in known), default=begin_ms - max_request_ms)
    stones = {
        group: Tombstones(state.tombstones, has_access=has_access, has_execution=has_execution)
        for group, state in states.items()
    }
    return Memory(
        state=ReadState.starting_at(resume_ms),
        # A group that joins is not counted behind what the others have been read to.
        progress={group: state.progress or GroupProgress(watermark_ms, resume_ms) for group, state in states.items()},
        unborn={group for group, state in states.items() if state.progress is None},
        tallies={group: Tally(state.tallies) for group, state in states.items()},
        stones=stones,
        correlator=make_correlator(stones),
        polled_at_ms=now_ms,
    )


def _minute(at_ms: int) -> int:
    return at_ms - at_ms % MINUTE_MS
