"""The watches that run: each polled on its own, any of them changed, added or taken away while the others go on.

A watch that is not wanted any more ends after the slice it is reading; one that takes over its log groups begins only
then, from what the ledger holds, so that no line is counted twice and none is left out. A watch that breaks is begun
anew from its last commit and delays no other.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog
from apscheduler.job import Job
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.base import BaseScheduler

from exporter.ledger import Ledger, LedgerError
from exporter.metrics.self_metrics import SelfMetrics
from exporter.metrics.totals import Totals
from exporter.model import Api
from exporter.pipeline import PollOutcome, Watch
from exporter.places import Places
from exporter.record import Recorder
from exporter.rules import RuleSet
from exporter.sources import Source
from exporter.watch_spec import WatchSpec
from exporter.web import NotReady, WatchStatus

_log = structlog.get_logger(__name__)

_SPREAD_SECONDS = 0.2
_INTERVAL_STEP = 1.1
"""Polls are rescheduled only when their interval has to change by more than this factor."""
_BUDGET_SHARE = 0.9
"""How much of a call budget regular polls may plan with; the rest is for retries and backlogs."""
_TOO_MUCH, _ENOUGH = 1.5, 0.7
"""How much of that polls at their configured interval may take before `auto` watches fetch less, and at most after one
of them fetches everything again."""


@dataclass(eq=False, kw_only=True, slots=True)
class _Runner:
    """A watch for as long as it is wanted as it is."""

    spec: WatchSpec
    source: Source
    rules: RuleSet
    recorder: Recorder
    interval_s: float
    after: Sequence["_Runner"]
    """Those whose log groups or name it takes over: they end before it begins."""
    watch: Watch | None = None
    job: Job | None = None
    outcome: PollOutcome | None = None
    changes_lines: bool = False
    """It was told to fetch other lines, and has not been polled since."""
    is_polling: bool = False
    has_ended: bool = False
    retired: threading.Event = field(default_factory=threading.Event)

    def takes_over(self, other: "_Runner") -> bool:
        """Whether this one cannot run while `other` does."""
        # Whose a group is may be told otherwise by now: what is called alike may be the same.
        groups = {(item.group.region, item.group.name) for item in other.spec.groups}
        mine = {(item.group.region, item.group.name) for item in self.spec.groups}
        return self.spec.name == other.spec.name or not mine.isdisjoint(groups)


class Fleet:
    """Watches on one ledger. `apply` says which, at any time and from any thread."""

    def __init__(
        self,
        *,
        places: Places,
        ledger: Ledger,
        totals: Totals,
        self_metrics: SelfMetrics,
        scheduler: BaseScheduler,
        stop: threading.Event,
    ) -> None:
        """`scheduler` runs a job at most once at a time; `stop` makes polls end after the slice they are reading."""
        self._places = places
        self._ledger = ledger
        self._totals = totals
        self._metrics = self_metrics
        self._stop = stop
        self._lock = threading.Lock()
        self._runners: list[_Runner] = []
        self._leaving: list[_Runner] = []
        """Not wanted any more, but still polling."""
        self._scheduler = scheduler
        self._was_ready = False

    def apply(self, specs: Sequence[WatchSpec], *, rules: RuleSet, recorder: Recorder) -> None:
        """Run `specs` and no others from now on; what has not changed goes on with its memory."""
        with self._lock:
            going_on = {}
            for runner in self._runners:
                for number, spec in enumerate(specs):
                    if number not in going_on and self._is_same(runner, spec, rules, recorder):
                        going_on[number] = runner
                        break
            for runner in self._runners:
                if runner not in going_on.values():
                    self._retire(runner)
            self._runners = [
                going_on.get(number) or self._add(spec, rules, recorder) for number, spec in enumerate(specs)
            ]
            new = [runner for runner in self._runners if runner.job is None]
            # First polls are spread over an interval (and no more than the budget allows anyway), so that a thousand
            # watches do not start as one herd.
            for number, runner in enumerate(new):
                delay = number * min(_SPREAD_SECONDS, runner.interval_s / len(new))
                runner.job = self._scheduler.add_job(
                    self._tick,
                    "interval",
                    seconds=runner.interval_s,
                    next_run_time=datetime.now(UTC) + timedelta(seconds=delay),
                    args=[runner],
                )
        _log.info("watches", running=len(self._runners), new=len(new), ended_or_ending=len(self._leaving))

    def stages(self) -> frozenset[Api]:
        """Every stage that is watched, as far as known."""
        return frozenset(self._stages())

    def stretch_intervals(self) -> None:
        """Poll less often, evenly, where the polls of an account and region need more calls than their budget."""
        by_place: defaultdict[tuple[str, str], list[_Runner]] = defaultdict(list)
        for runner in self._runners:
            by_place[runner.spec.place].append(runner)
        for (account, _), runners in by_place.items():
            polls = [runner.outcome for runner in runners if runner.outcome is not None]
            if len(polls) < len(runners):
                continue
            pages_per_s = self._places.rate(account) * _BUDGET_SHARE
            self._choose_lines(runners, pages_per_s)
            needed_s = sum(max(outcome.pages, 1) for outcome in polls) / pages_per_s
            for runner in runners:
                interval_s = max(runner.spec.poll_interval_ms / 1000, needed_s)
                if runner.interval_s / _INTERVAL_STEP <= interval_s <= runner.interval_s * _INTERVAL_STEP:
                    continue
                with self._lock:
                    self._reschedule(runner, interval_s)

    def _choose_lines(self, runners: Sequence[_Runner], pages_per_s: float) -> None:
        """Of the watches whose `fetch` is `auto`, let those fetch failing lines only without whom the budget suffices.

        One at a time: its next poll shows what that has saved.
        """
        free = [runner for runner in runners if runner.spec.fetch == "auto" and runner.watch is not None]
        if any(runner.changes_lines for runner in free):
            return
        pages = {id(runner): max(runner.outcome.pages, 1) for runner in runners if runner.outcome is not None}
        allowed = pages_per_s * min(runner.spec.poll_interval_ms for runner in runners) / 1000
        needed = sum(pages.values())
        full = [runner for runner in free if runner.watch is not None and not runner.watch.fetches_failures]
        filtered = [runner for runner in free if runner not in full]
        if needed > _TOO_MUCH * allowed and full:
            self._fetch(max(full, key=lambda runner: pages[id(runner)]), failures=True)
        elif filtered:
            least = min(filtered, key=_pages_in_full)
            if needed - pages[id(least)] + _pages_in_full(least) <= _ENOUGH * allowed:
                self._fetch(least, failures=False)

    @staticmethod
    def _fetch(runner: _Runner, *, failures: bool) -> None:
        if runner.watch is not None:
            runner.changes_lines = True
            runner.watch.fetches_failures = failures

    def not_ready(self) -> Sequence[NotReady]:
        """What keeps the exporter from being ready: at first every watch has to be polled, later one must work."""
        runners = self._runners
        waiting = [runner.spec.name for runner in runners if runner.outcome is None]
        if waiting and not self._was_ready:
            return [NotReady(name, "not polled yet") for name in waiting]
        self._was_ready = True
        polled = [(runner.spec.name, runner.outcome) for runner in runners if runner.outcome is not None]
        down = [
            NotReady(name, outcome.message or outcome.outcome)
            for name, outcome in polled
            if outcome.outcome not in {"ok", "left_out", "stopped"}
        ]
        # One broken watch must not take the others' metrics off a Service: all of them must be down.
        return down if down and len(down) == len(runners) else []

    def troubles(self) -> Sequence[NotReady]:
        """Every watch that is not read in full, by name and reason: the exporter is ready all the same."""
        return [
            NotReady(runner.spec.name, runner.outcome.message or runner.outcome.outcome)
            for runner in self._runners
            if runner.outcome is not None and runner.outcome.outcome not in {"ok", "stopped"}
        ]

    def statuses(self) -> Sequence[WatchStatus]:
        """Every watch as the landing page shows it."""
        return [_status(runner) for runner in self._runners]

    # ---------------------------------------------------------------------------------------------------------- ticks

    def _tick(self, runner: _Runner) -> None:
        if not self._begin(runner):
            return
        try:
            watch = runner.watch
            if watch is None:
                watch = runner.watch = self._make(runner)
            self._poll(runner, watch)
        except LedgerError as error:
            runner.outcome = PollOutcome("ledger", 0, str(error))
            _log.warning("watch not begun", watch=runner.spec.name, outcome="ledger", why=str(error))
        finally:
            self._end(runner)

    def _begin(self, runner: _Runner) -> bool:
        with self._lock:
            if runner.retired.is_set() or not all(before.has_ended for before in runner.after):
                return False
            runner.is_polling = True
            return True

    def _end(self, runner: _Runner) -> None:
        with self._lock:
            runner.is_polling = False
            if runner.retired.is_set():
                self._leave(runner)

    def _poll(self, runner: _Runner, watch: Watch) -> None:
        name, before, chosen = runner.spec.name, runner.outcome, runner.changes_lines
        try:
            outcome = watch.poll()
        except Exception as error:  # noqa: BLE001 an unforeseen mistake is a small crash of one watch (DESIGN 3.6), never of all
            _log.exception("poll failed unexpectedly; the watch begins anew from its last commit", watch=name)
            watch.restart(type(error).__name__)
            self._metrics.watch_up.labels(name).set(0)
            self._metrics.polls.labels(name, "unexpected").inc()
            outcome = PollOutcome("unexpected", 0, type(error).__name__)
        runner.outcome = outcome
        runner.changes_lines = runner.changes_lines and not chosen
        if before is None or before.outcome != outcome.outcome:
            if outcome.outcome == "ok":
                _log.info("watch is up", watch=name)
            elif outcome.outcome != "stopped":
                _log.warning("watch not read in full", watch=name, outcome=outcome.outcome, why=outcome.message)

    def _make(self, runner: _Runner) -> Watch:
        self._metrics.effective_poll_interval.labels(runner.spec.name).set(runner.interval_s)
        self._keep_known(runner.spec)
        return Watch(
            runner.spec,
            source=runner.source,
            ledger=self._ledger,
            totals=self._totals,
            self_metrics=self._metrics,
            rules=runner.rules,
            recorder=runner.recorder,
            ticks=time.monotonic,
            stopping=lambda: self._stop.is_set() or runner.retired.is_set(),
        )

    def _keep_known(self, spec: WatchSpec) -> None:
        """What was kept under the account's name is kept under its id, once the configuration tells that."""
        name, _ = spec.place
        owner = self._places.owner(name)
        for item in spec.groups:
            if owner != name and item.group.account == owner:
                self._ledger.rename(item.group._replace(account=name), item.group)

    # ----------------------------------------------------------------------------- coming and going, under the lock

    def _is_same(self, runner: _Runner, spec: WatchSpec, rules: RuleSet, recorder: Recorder) -> bool:
        made_of = (runner.source, runner.rules, runner.recorder)
        wanted = (self._places.source(*runner.spec.place), rules, recorder) if runner.spec == spec else ()
        return len(wanted) == len(made_of) and all(one is other for one, other in zip(made_of, wanted, strict=True))

    def _add(self, spec: WatchSpec, rules: RuleSet, recorder: Recorder) -> _Runner:
        runner = _Runner(
            spec=spec,
            source=self._places.source(*spec.place),
            rules=rules,
            recorder=recorder,
            interval_s=spec.poll_interval_ms / 1000,
            after=(),
        )
        runner.after = [other for other in self._leaving if runner.takes_over(other)]
        return runner

    def _retire(self, runner: _Runner) -> None:
        runner.retired.set()
        if runner.job is not None:
            with suppress(JobLookupError):  # the scheduler has stopped
                runner.job.remove()
        self._leaving.append(runner)
        if not runner.is_polling:
            self._leave(runner)

    def _leave(self, runner: _Runner) -> None:
        """It polls no more: let those begin who wait for it."""
        runner.has_ended = True
        self._leaving.remove(runner)
        if runner.watch is not None:
            self._metrics.remove_watch(runner.spec.name)
        for heir in self._runners:
            if runner in heir.after and heir.job is not None:
                heir.after = [before for before in heir.after if before is not runner]
                with suppress(JobLookupError):
                    heir.job.modify(next_run_time=datetime.now(UTC))

    def _reschedule(self, runner: _Runner, interval_s: float) -> None:
        if runner.job is None or runner.retired.is_set():
            return
        with suppress(JobLookupError):
            runner.job.reschedule("interval", seconds=interval_s)
        runner.interval_s = interval_s
        self._metrics.effective_poll_interval.labels(runner.spec.name).set(interval_s)

    def _stages(self) -> Iterator[Api]:
        for runner in self._runners:
            if runner.watch is not None:
                yield from runner.watch.stages
            else:
                yield from (api for item in runner.spec.groups for api in item.apis)


def _pages_in_full(runner: _Runner) -> float:
    return 0.0 if runner.outcome is None else runner.outcome.pages_in_full


def _status(runner: _Runner) -> WatchStatus:
    name, outcome = runner.spec.name, runner.outcome
    if outcome is None:
        return WatchStatus(name, "waiting", "not polled yet")
    if outcome.outcome == "ok":
        return WatchStatus(name, "up", ", ".join(item.group.name for item in runner.spec.groups))
    return WatchStatus(name, "up" if outcome.outcome == "left_out" else "down", outcome.message or outcome.outcome)
