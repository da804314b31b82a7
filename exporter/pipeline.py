"""The spine: pages in, one commit out.

`Watch.poll()` reads the slices that are due, joins and judges what they bring, and commits each slice in one
transaction before anything of it may be seen. Whatever goes wrong in between leaves the last commit as the truth:
memory is only advanced after it. What cannot be read stays unread until it can. This file names no concrete source or
ledger, starts no threads and never sleeps.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from exporter import metrics
from exporter.audit import Audit
from exporter.correlate import Correlator
from exporter.describing import Describer
from exporter.fetching import Timelines, failure_readers, full_readers
from exporter.filtering import Filters
from exporter.ledger import Ledger, LedgerError
from exporter.memory import Memory, Outcome, remember
from exporter.metrics.self_metrics import SelfMetrics
from exporter.metrics.totals import Totals
from exporter.model import Api, Commit, CounterKey, LogGroup, Window
from exporter.pacing import Pace
from exporter.reading import GroupReader
from exporter.record import Recorder
from exporter.rules import RuleSet
from exporter.settle import Horizon
from exporter.sources import GroupUnreadable, PatternRefused, Source, SourceError
from exporter.taking import Directory, Uncounted
from exporter.tally import Seen
from exporter.telling import Teller
from exporter.tombstones import Tombstones
from exporter.watch_spec import WatchSpec
from exporter.windows import (
    MINUTE_MS,
    Pass,
    Slice,
    Timing,
    advance,
    next_sweep,
    pages_a_poll,
    read_windows,
)

_CLOCK_TOLERANCE_MS = 2_000
_MORE_LOOKS = 2
"""How often a slice may be listed again: for the line that names a request's extended id, and for its access line."""


class PollOutcome(NamedTuple):
    """How a poll ended."""

    outcome: str
    """`ok`, `left_out` (an execution group cannot be read), or why it did not reach its end: a `SourceError`'s reason,
    `ledger`, `stopped`."""
    pages: int
    """How many pages the new lines cost; what a backlog takes comes on top and yields to them."""
    message: str = ""
    """For people: which group, and why."""
    pages_in_full: float = 0.0
    """How many pages all lines would have cost, where only those of failed requests were read; infinite while nobody
    knows."""


class _Crowded(Exception):
    """A slice of a backlog opens more requests than memory should hold."""


class _WrongClock(Exception):
    """Our clock is not the service's: what was planned by it must not move the watermark."""


class Watch:
    """One watch: its memory between polls, and the poll itself. Used by one thread at a time."""

    def __init__(
        self,
        spec: WatchSpec,
        *,
        source: Source,
        ledger: Ledger,
        totals: Totals,
        self_metrics: SelfMetrics,
        rules: RuleSet,
        recorder: Recorder,
        ticks: Callable[[], float],
        stopping: Callable[[], bool],
    ) -> None:
        """`ticks`: a monotonic clock in seconds, for how long a poll takes. `stopping`: whether to stop early."""
        self.spec = spec
        self._source = source
        self._ledger = ledger
        self._totals = totals
        self._teller = Teller(self_metrics, spec.name, [item.group for item in spec.groups])
        self._rules = rules
        self._recorder = recorder
        self._ticks = ticks
        self._stopping = stopping
        self._access = [item for item in spec.groups if item.kind == "access"]
        self._execution = [item for item in spec.groups if item.kind == "execution"]
        self._timing = Timing(
            max_request_ms=spec.max_request_ms,
            allowed_lateness_ms=spec.allowed_lateness_ms,
            reach_lead_ms=0 if self._access else spec.max_request_ms,
        )
        self._directory = Directory(list(dict.fromkeys(api for item in spec.groups for api in item.apis)))
        self._parsers = {item.group: item.parser for item in self._access if item.parser is not None}
        self._describer = Describer(
            parsers=self._parsers,
            directory=self._directory,
            execution_apis={item.group: item.apis for item in self._execution},
        )
        self._memory: Memory | None = None
        self._readers: Sequence[GroupReader] = ()
        self.fetches_failures = spec.fetch == "failures"
        """Whether to fetch failing lines only, where that can be relied on; taken up by the next poll."""
        self._filters = Filters(spec)
        self._failures_only = False
        self._timelines: Timelines | None = None
        self._pace = Pace(self._timing, groups=len(spec.groups), poll_interval_ms=spec.poll_interval_ms)
        self._planned = 0.0
        """When the poll asked what time it is, in ticks."""
        self._pages = 0
        self._seeded: set[Api] = set()
        self._audit = Audit()
        self.left_out: Mapping[LogGroup, str] = {}
        """Execution groups that cannot be read at the moment, with the reason."""

    def poll(self) -> PollOutcome:
        """Read, judge and commit what is due. Returns how it ended; raises only what nobody foresaw."""
        began = self._ticks()
        self._pages = 0
        message = ""
        unreadable: dict[str, str] = {}
        try:
            outcome = self._poll_slices(began)
        except SourceError as error:
            outcome, message = ("stopped" if self._stopping() else error.reason), str(error)
            unreadable[error.group.name] = error.reason
        except LedgerError as error:
            # What was judged may or may not be durable: memory is made again from what is.
            outcome, message = "ledger", str(error)
            self.restart("ledger")
        if outcome == "ok" and self.left_out:
            outcome = "left_out"
            message = "; ".join(f"{group.name}: {reason}" for group, reason in self.left_out.items())
        unreadable |= {group.name: reason for group, reason in self.left_out.items()}
        self._teller.polled(outcome, self._ticks() - began, unreadable, self._source.now_ms())
        return PollOutcome(outcome, self._pages, message, self._pages_in_full())

    def _pages_in_full(self) -> float:
        if not self._failures_only:
            return self._pages
        found = 0.0
        for item in self.spec.groups:
            density = self._filters.pages_per_ms(item.group)
            if density is None:
                return float("inf")  # not known yet: no reason to try
            found += min(pages_a_poll(density, self._timing, self.spec.poll_interval_ms))
        return found

    @property
    def stages(self) -> Sequence[Api]:
        """The stages that are known so far."""
        return self._directory.stages

    def restart(self, reason: str) -> None:
        """Forget everything that is not committed, as a crash would."""
        self._memory = None
        self._teller.restarted(reason)

    # ----------------------------------------------------------------------------------------------------- the slices

    def _poll_slices(self, began: float) -> str:
        for _ in range(2):
            try:
                return self._read_plan(began)
            except _WrongClock:
                # The answer has corrected the source's clock: plan anew by it.
                continue
        return "clock"

    def _check_clock(self, memory: Memory, ahead_ms: int) -> None:
        waited_ms = (self._ticks() - self._planned) * 1000
        if ahead_ms > _CLOCK_TOLERANCE_MS or (memory.unborn and -ahead_ms > MINUTE_MS + waited_ms):
            if memory.unborn:
                self._memory = None  # where to begin was reckoned by the wrong clock, too
            raise _WrongClock

    def _choose_lines(self, now_ms: int) -> None:
        """Fetch all lines, or failing ones: a change begins anew from the last commit, as a crash would."""
        if self.spec.fetch == "all":
            return
        changed = self.fetches_failures and self._filters.check(self._source, now_ms)
        wanted = self.fetches_failures and self._filters.usable
        changed = changed or wanted != self._failures_only
        if changed:
            self._failures_only = wanted
            self._memory = None
            self._audit = Audit()  # its counts are of other lines
        self._teller.fetches(failures_only=wanted, changed=changed)

    def _read_plan(self, began: float) -> str:
        now_ms = self._source.now_ms()
        self._planned = self._ticks()
        self._choose_lines(now_ms)
        memory = self._memory
        restarted = memory is None
        if memory is None:
            memory = self._memory = self._remember(now_ms)
            correlator = memory.correlator
            self._timelines = Timelines(self.spec, correlator, self._filters) if self._failures_only else None
            self._readers = self._make_readers(correlator)
            self._seed(now_ms)
        plan = self._plan(memory, now_ms, restarted=restarted)
        while plan:
            if self._stopping():
                return "stopped"
            if self._read_slice(memory, plan[0], now_ms):
                del plan[0]
            else:  # what follows was planned as if this had been read
                plan = self._plan(memory, now_ms, restarted=restarted)
        # What is left of a backlog waits for the next tick, so that new lines never wait for it.
        while self._ticks() - began < self.spec.poll_interval_ms / 1000:
            sweep = next_sweep(memory.state, now_ms=now_ms, timing=self._timing, slice_ms=self._pace.slice_ms)
            if sweep is None:
                break
            if self._stopping():
                return "stopped"
            self._read_slice(memory, sweep, now_ms)
        self._audit_late_lines(now_ms)
        return "ok"

    def _plan(self, memory: Memory, now_ms: int, *, restarted: bool) -> list[Slice]:
        return read_windows(
            memory.state,
            now_ms=now_ms,
            timing=self._timing,
            wide=self._pace.wide,
            slice_ms=self._pace.slice_ms,
            restarted=restarted,
        )

    def _audit_late_lines(self, now_ms: int) -> None:
        readable = [item.group for item in self.spec.groups if item.group not in self.left_out]
        for group, window, noted in self._audit.due(now_ms, readable):
            try:
                reader = GroupReader(group, Uncounted(), self._pattern_of(group))
                listed = reader.read(self._source, window, new_since_ms=now_ms, audited=window)
            except SourceError:
                continue  # a sample less; what was read stays read
            self._teller.audited(group, max(0, listed.audited - noted))

    def _read_slice(self, memory: Memory, part: Slice, now_ms: int) -> bool:
        """Read, judge and commit a slice. False: it would take too much memory; a shorter one is to be read instead."""
        began, known = self._ticks(), len(memory.correlator.open_ids)
        try:
            listed = self._list_windows(memory, part, now_ms, known=known)
        except _Crowded:
            self._pace.shorten()
            return False
        took_ms, opened = (self._ticks() - began) * 1000, len(memory.correlator.open_ids) - known
        self._pace.learn(part, pages=listed.pages, took_ms=took_ms, opened=opened)
        server_ms = listed.server_ms
        listed_at_ms = now_ms if server_ms is None else min(now_ms, server_ms + 1_000)
        state = advance(memory.state, part, now_ms=listed_at_ms, timing=self._timing)
        horizon = Horizon(
            state=state,
            timing=self._timing,
            listed=[window for _, window in part],
            has_access=bool(self._access),
            has_execution=bool(self._execution),
            execution_left_out=bool(listed.left_out),
        )
        if self._timelines is not None:
            horizon = self._ask(self._timelines, horizon, now_ms)
        else:
            self._note_left_out(listed.left_out)
            for _ in range(_MORE_LOOKS):
                if not memory.correlator.overlooked(horizon):
                    break
                for group, seen in self._list_windows(memory, part, now_ms).seen.items():
                    listed.seen.setdefault(group, []).extend(seen)
        judged = memory.correlator.judge(horizon)
        recorded = self._recorder.record(judged.settled)
        self._commit(memory, Outcome(state, horizon, judged, recorded, listed.seen, now_ms))
        for (group, minute), lines in listed.noted.items():
            self._audit.note(group, minute, lines)
        return True

    def _ask(self, timelines: Timelines, horizon: Horizon, now_ms: int) -> Horizon:
        """Fetch the execution lines of open requests by id. Returns the horizon with what that has brought."""
        asked = timelines.ask(self._source, replace(horizon, asked={}, execution_left_out=bool(self.left_out)), now_ms)
        self._pages += asked.pages
        for group, events in asked.events.items():
            self._teller.listed(group, events)
        if asked.windows:
            self._note_left_out(asked.left_out)
        return replace(horizon, asked=asked.windows, execution_left_out=bool(self.left_out))

    def _list_windows(self, memory: Memory, part: Slice, now_ms: int, known: int | None = None) -> "_Listings":
        """List every group in every window of a slice, each to its end.

        `known`: how many ids were open before. Raises `_Crowded` when too many more are; None: never.
        """

        def look_around() -> None:
            if memory.unborn:
                self._check_clock(memory, now_ms - self._source.now_ms())
                self._commit_beginning(memory, now_ms)
            if known is not None and self._pace.is_crowded(part, len(memory.correlator.open_ids) - known):
                raise _Crowded

        result = _Listings(seen={}, left_out={}, noted={})
        frontier_ms = memory.state.frontier_ms
        new_frontier_ms = advance(memory.state, part, now_ms=now_ms, timing=self._timing).frontier_ms
        for why, window in part:
            for reader in self._readers:
                audited = None
                if why in {Pass.SWEEP, Pass.WIDE}:
                    audited = self._audit.minute(reader.group, frontier_ms, new_frontier_ms)
                try:
                    listed = reader.read(
                        self._source,
                        window,
                        new_since_ms=memory.polled_at_ms,
                        audited=audited,
                        parts=self._pace.parts(window),
                        after_page=look_around,
                    )
                except PatternRefused:
                    self._filters.refused(reader.group)
                    raise
                except GroupUnreadable as error:
                    if not self._access or reader.group in self._parsers:
                        raise
                    result.left_out[reader.group] = error.reason
                    continue
                result.pages += listed.cost_pages
                if why is not Pass.SWEEP:
                    self._pages += listed.pages
                result.seen.setdefault(reader.group, []).append(listed.seen)
                if audited is not None:
                    result.noted[reader.group, audited] = listed.audited
                self._teller.listed(reader.group, listed.events, listed.delay_ms)
                if result.server_ms is None and listed.server_at_ms is not None:
                    result.server_ms = listed.server_at_ms
                    self._check_clock(memory, now_ms - result.server_ms)
        return result

    def _commit(self, memory: Memory, outcome: Outcome) -> None:
        draft = memory.draft(outcome, born=self._new_stages(), max_request_ms=self.spec.max_request_ms)
        if not draft.commit.is_empty:
            self._ledger.commit(draft.commit)
            self._totals.apply(draft.commit)
        # From here on nothing may fail: memory follows what is durable.
        self._recorder.keep(outcome.recorded)
        memory.keep(outcome, draft)
        self._seeded.update(self._directory.stages)
        self._teller.committed(outcome, draft, memory)

    def _commit_beginning(self, memory: Memory, now_ms: int) -> None:
        """Make durable where the first look back begins, so that polls that fail and crashes do not move it."""
        progress = {group: memory.progress[group] for group in memory.unborn}
        self._ledger.commit(Commit(progress=progress, tallies={}, tombstones={}, increments={}, at_ms=now_ms))
        memory.unborn.clear()

    # ------------------------------------------------------------------------------------------------------- the rest

    def _remember(self, now_ms: int) -> Memory:
        """Memory as the last commit left it."""
        return remember(
            {item.group: self._ledger.group_state(item.group) for item in self.spec.groups},
            begin_ms=now_ms - self.spec.initial_lookback_ms,
            max_request_ms=self.spec.max_request_ms,
            now_ms=now_ms,
            has_access=bool(self._access),
            has_execution=bool(self._execution),
            make_correlator=self._make_correlator,
        )

    def _make_correlator(self, stones: Mapping[LogGroup, Tombstones]) -> Correlator:
        return Correlator(
            tombstones=stones,
            has_access=bool(self._access),
            has_execution=bool(self._execution),
            describe=self._describer.describe,
            classify=self._rules.classify,
            max_request_ms=self.spec.max_request_ms,
            by_id=self._failures_only,
        )

    def _make_readers(self, correlator: Correlator) -> Sequence[GroupReader]:
        if self._timelines is None:
            return full_readers(self.spec, directory=self._directory, correlator=correlator, admit=self._totals.admit)
        return failure_readers(
            self.spec,
            directory=self._directory,
            correlator=correlator,
            admit=self._totals.admit,
            filters=self._filters,
        )

    def _pattern_of(self, group: LogGroup) -> str | None:
        return self._filters.pattern_of(group) if self._failures_only else None

    def _seed(self, now_ms: int) -> None:
        """Show every cause of every configured stage at 0 before anything is read."""
        born = self._new_stages()
        if born:
            commit = Commit(progress={}, tallies={}, tombstones={}, increments={}, born=born, at_ms=now_ms)
            self._ledger.commit(commit)
            self._totals.apply(commit)
            self._seeded.update(self._directory.stages)

    def _new_stages(self) -> frozenset[CounterKey]:
        return frozenset(
            self._totals.admit(metrics.stage_failures(api, cause.name, cause.category))
            for api in self._directory.stages
            if api not in self._seeded
            for cause in self._rules.causes.values()
        )

    def _note_left_out(self, left_out: Mapping[LogGroup, str]) -> None:
        self._teller.left_out(self.left_out, left_out)
        self.left_out = left_out


@dataclass(kw_only=True, slots=True)
class _Listings:
    """What listing the windows of a slice came to."""

    seen: dict[LogGroup, list[Seen]]
    left_out: dict[LogGroup, str]
    noted: dict[tuple[LogGroup, Window], int]
    """How many lines the minutes to be audited have."""
    server_ms: int | None = None
    """The service's clock when the first of them began."""
    pages: float = 0.0
