"""The spine: pages in, one commit out.

`Watch.poll()` reads the slices that are due, joins and judges what they bring, and commits each slice in one
transaction before anything of it may be seen. Whatever goes wrong in between leaves the last commit as the truth:
memory is only advanced after it. What cannot be read stays unread until it can. This file names no concrete source or
ledger, starts no threads and never sleeps.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from exporter import metrics
from exporter.correlate import Correlator
from exporter.describing import Describer
from exporter.ledger import Ledger, LedgerError
from exporter.listing import Lister, Listings
from exporter.memory import Memory, Outcome, remember
from exporter.metrics.self_metrics import SelfMetrics
from exporter.metrics.totals import Totals
from exporter.model import Api, Commit, CounterKey, LogGroup, Window
from exporter.pacing import Pace
from exporter.record import Recorder
from exporter.rules import RuleSet
from exporter.settle import Horizon
from exporter.sources import Source, SourceError
from exporter.taking import Directory
from exporter.telling import Teller
from exporter.tombstones import Tombstones
from exporter.watch_spec import WatchSpec
from exporter.windows import MINUTE_MS, Slice, Timing, advance, next_sweep, read_windows

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
        self._describer = Describer(
            parsers={item.group: item.parser for item in self._access if item.parser is not None},
            directory=self._directory,
            execution_apis={item.group: item.apis for item in self._execution},
        )
        self._memory: Memory | None = None
        self._pace = Pace(self._timing, groups=len(spec.groups), poll_interval_ms=spec.poll_interval_ms)
        self._lister = Lister(
            spec,
            source=source,
            directory=self._directory,
            admit=totals.admit,
            teller=self._teller,
            pace=self._pace,
        )
        self._planned = 0.0
        """When the poll asked what time it is, in ticks."""
        self._seeded: set[Api] = set()

    def poll(self) -> PollOutcome:
        """Read, judge and commit what is due. Returns how it ended; raises only what nobody foresaw."""
        began, pages_before = self._ticks(), self._lister.pages
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
        pages = self._lister.pages - pages_before
        in_full = self._lister.pages_of_all_lines(self._timing) if self._lister.by_id else pages
        return PollOutcome(outcome, pages, message, in_full)

    @property
    def left_out(self) -> Mapping[LogGroup, str]:
        """Execution groups that cannot be read at the moment, with the reason."""
        return self._lister.left_out

    @property
    def fetches_failures(self) -> bool:
        """Whether to fetch failing lines only, where that can be relied on; taken up by the next poll."""
        return self._lister.fetches_failures

    @fetches_failures.setter
    def fetches_failures(self, wanted: bool) -> None:
        self._lister.fetches_failures = wanted

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

    def _read_plan(self, began: float) -> str:
        now_ms = self._source.now_ms()
        self._planned = self._ticks()
        if self._lister.choose_lines(now_ms):
            self._memory = None  # begin anew from the last commit, as after a crash
        memory = self._memory
        restarted = memory is None
        if memory is None:
            memory = self._memory = self._remember(now_ms)
            self._lister.begin(memory.correlator)
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
        self._lister.audit(now_ms)
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
            execution_left_out=bool(self.left_out),
        )
        horizon = self._lister.ask(horizon, now_ms)
        for _ in range(_MORE_LOOKS):
            if not memory.correlator.overlooked(horizon):
                break
            for group, seen in self._list_windows(memory, part, now_ms).seen.items():
                listed.seen.setdefault(group, []).extend(seen)
        judged = memory.correlator.judge(horizon)
        recorded = self._recorder.record(judged.settled)
        self._commit(memory, Outcome(state, horizon, judged, recorded, listed.seen, now_ms))
        self._lister.committed(listed)
        return True

    def _list_windows(self, memory: Memory, part: Slice, now_ms: int, known: int | None = None) -> Listings:
        """List every group in every window of a slice, each to its end.

        `known`: how many ids were open before. Raises `_Crowded` when too many more are; None: never.
        """

        def look_around() -> None:
            if memory.unborn:
                self._check_clock(memory, now_ms - self._source.now_ms())
                self._commit_beginning(memory, now_ms)
            if known is not None and self._pace.is_crowded(part, len(memory.correlator.open_ids) - known):
                raise _Crowded

        after = advance(memory.state, part, now_ms=now_ms, timing=self._timing)
        return self._lister.list_slice(
            part,
            passed=Window(memory.state.frontier_ms, after.frontier_ms),
            new_since_ms=memory.polled_at_ms,
            after_page=look_around,
            check_clock=lambda server_ms: self._check_clock(memory, now_ms - server_ms),
        )

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
            describe=self._describer.describe,
            classify=self._rules.classify,
            max_request_ms=self.spec.max_request_ms,
            by_id=self._lister.by_id,
        )

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
