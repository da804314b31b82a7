"""The wiring: what a running exporter is made of, from its configuration to its orderly stop.

It alone names concrete sources, ledgers, the scheduler and boto3 sessions. One APScheduler job a watch ticks its poll;
a watch that breaks is begun anew from its last commit and delays no other. Nothing here reads a log line.
"""

import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler

from exporter.access_log import access_parser
from exporter.config import Account, Config, masked_yaml
from exporter.config import Watch as WatchConfig
from exporter.delivery import Delivery, span_options
from exporter.ledger.sqlite import SqliteLedger
from exporter.metrics import StageInfo
from exporter.metrics.self_metrics import SelfMetrics
from exporter.metrics.totals import Totals
from exporter.model import UNKNOWN, Api, LogGroup
from exporter.pipeline import PollOutcome, Watch, WatchGroup, WatchSpec
from exporter.reading import Labelling
from exporter.record import Recorder
from exporter.rules import RuleSet, load_rules, shipped_rules
from exporter.sources.budget import CallBudget
from exporter.sources.cloudwatch import CloudWatchSource
from exporter.sources.sessions import AccountAccess, logs_client, open_session
from exporter.version import VERSION
from exporter.web import NotReady, WatchStatus, WebServer, build_app

_log = structlog.get_logger(__name__)

STOP_GRACE_SECONDS = 10.0
"""How long a stop waits for polls to end and spans to leave; what is not done by then is done after the next start."""

_SAME_SIGNAL_SECONDS = 1.0
"""A signal to a process group arrives more than once where a parent (make, a shell) passes it on."""
_MOST_THREADS = 32
_HOUSEKEEPING_SECONDS = 5
_INTERVAL_STEP = 1.1
"""Polls are rescheduled only when their interval has to change by more than this factor."""
_BUDGET_SHARE = 0.9
"""How much of a call budget regular polls may plan with; the rest is for retries and backlogs."""


class Daemon:
    """A running exporter. `start`, then `wait`, then `stop`."""

    def __init__(
        self,
        config: Config,
        *,
        environ: Mapping[str, str],
        listen_address: str | None = None,
        telemetry_path: str = "/metrics",
    ) -> None:
        """Open the state and make everything ready; nothing is read yet.

        Raises `LedgerError`, `OtlpError`, `RulesError` or OSError with what is wrong and what to do.
        """
        self._config = config
        self._stop = threading.Event()
        self._rules = _load_rules(config)
        options = span_options(config, environ)
        self._ledger = SqliteLedger(Path(config.state.path))
        self._totals = Totals(
            zero_hold_ms=config.labels.zero_hold_ms, max_series=config.labels.max_series, now_ms=_monotonic_ms
        )
        self._totals.load(self._ledger.series())
        self._metrics = SelfMetrics(version=VERSION, now_ms=lambda: int(time.time() * 1000))
        self._metrics.show_outbox(self._ledger.outbox_stats)
        self._metrics.show_series(self._totals)
        self._metrics.config_last_reload_successful.set(1)
        self._metrics.config_last_reload_success_timestamp.set_to_current_time()
        self._delivery = Delivery(config, environ, self._ledger, self._metrics)
        self._sources = _Sources(config.accounts, self._metrics, self._stop)
        self._recorder = Recorder(
            wants=config.failures.wants,
            admit=self._totals.admit,
            labelling=_labelling(config),
            span_options=options,
            budget=config.traces.budget.of,
        )
        self._watches = [self._make_watch(spec) for spec in watch_specs(config)]
        self._outcomes: dict[str, PollOutcome] = {}
        self._intervals: dict[str, float] = {}
        self._totals.set_stages(_stage_infos(config))
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(min(_MOST_THREADS, len(self._watches) + 2))},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone=UTC,
        )
        self._web = WebServer(
            build_app(
                product=self._totals,
                own=self._metrics,
                alive=lambda: self._scheduler.running and self._web.is_alive,
                not_ready=self._not_ready,
                watches=self._statuses,
                config=lambda: masked_yaml(self._config),
                reload=None,
                version=VERSION,
                telemetry_path=telemetry_path,
            ),
            listen_address or str(config.web.listen_address),
        )

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens, once started."""
        return self._web.address

    def start(self) -> None:
        """Serve, poll and send. Raises OSError when the address cannot be had."""
        self._web.start()
        self._delivery.start(self._stop)
        interval = self._config.poll_interval_ms / 1000
        for number, watch in enumerate(self._watches):
            # The first polls are spread over one interval (and no more than the budget allows anyway), so that a
            # thousand watches do not start as one herd.
            first = datetime.now(UTC) + timedelta(seconds=number * min(0.2, interval / len(self._watches)))
            self._intervals[watch.spec.name] = interval
            self._metrics.effective_poll_interval.labels(watch.spec.name).set(interval)
            self._scheduler.add_job(
                self._tick, "interval", seconds=interval, next_run_time=first, id=watch.spec.name, args=[watch]
            )
        self._scheduler.add_job(self._keep_house, "interval", seconds=_HOUSEKEEPING_SECONDS)
        self._scheduler.start()
        host, port = self.address
        _log.info("started", version=VERSION, watches=len(self._watches), address=f"{host}:{port}")

    def wait(self) -> None:
        """Return when a stop is asked for."""
        self._stop.wait()

    def ask_to_stop(self) -> None:
        """Make `wait` return and polls end after their current page. Safe to call from a signal handler's thread."""
        self._stop.set()

    def stop(self) -> None:
        """End polls, give waiting spans a last chance, and close the state, within a grace period."""
        deadline = time.monotonic() + STOP_GRACE_SECONDS
        self._stop.set()
        ended = threading.Thread(target=self._scheduler.shutdown, name="shutdown", daemon=True)
        ended.start()
        ended.join(timeout=STOP_GRACE_SECONDS / 2)
        self._delivery.stop(deadline - 2)
        self._web.stop()
        self._sources.close()
        if not ended.is_alive():
            self._ledger.close()
        _log.info("stopped", spans_waiting=self._ledger.outbox_stats().spans)

    # ---------------------------------------------------------------------------------------------------------- ticks

    def _tick(self, watch: Watch) -> None:
        name = watch.spec.name
        before = self._outcomes.get(name)
        try:
            outcome = watch.poll()
        except Exception as error:  # noqa: BLE001 an unforeseen mistake is a small crash of one watch (DESIGN 3.6), never of all
            _log.exception("poll failed unexpectedly; the watch begins anew from its last commit", watch=name)
            watch.restart(type(error).__name__)
            self._metrics.watch_up.labels(name).set(0)
            self._metrics.polls.labels(name, "unexpected").inc()
            outcome = PollOutcome("unexpected", 0, type(error).__name__)
        self._outcomes[name] = outcome
        if before is None or before.outcome != outcome.outcome:
            if outcome.outcome == "ok":
                _log.info("watch is up", watch=name)
            elif outcome.outcome != "stopped":
                _log.warning("watch not read in full", watch=name, outcome=outcome.outcome, why=outcome.message)

    def _keep_house(self) -> None:
        due = self._totals.due_for_release()
        if due:
            self._ledger.release(due)
            self._totals.release(due)
        watched = {api for watch in self._watches for api in watch.stages}
        stages = {(api.id, api.stage) for api in watched}
        old = self._totals.idle_since(int(time.time() * 1000) - self._config.labels.forget_after_ms)
        gone = [key for key in old if (key.labels[0], key.labels[2]) not in stages]
        if gone:
            self._ledger.forget(gone)
            self._totals.forget(gone)
        self._stretch_intervals()

    def _stretch_intervals(self) -> None:
        """Poll less often, evenly, where the polls of an account and region need more calls than their budget."""
        by_place: defaultdict[tuple[str, str], list[Watch]] = defaultdict(list)
        for watch in self._watches:
            group = watch.spec.groups[0].group
            by_place[group.account, group.region].append(watch)
        for place, watches in by_place.items():
            polls = [self._outcomes[watch.spec.name] for watch in watches if watch.spec.name in self._outcomes]
            if len(polls) < len(watches):
                continue
            pages = sum(max(outcome.pages, 1) for outcome in polls)
            needed = pages / (self._sources.rate(place) * _BUDGET_SHARE)
            interval = max(self._config.poll_interval_ms / 1000, needed)
            for watch in watches:
                name = watch.spec.name
                known = self._intervals[name]
                if known / _INTERVAL_STEP <= interval <= known * _INTERVAL_STEP:
                    continue
                try:
                    self._scheduler.reschedule_job(name, trigger="interval", seconds=interval)
                except JobLookupError:
                    continue
                self._intervals[name] = interval
                self._metrics.effective_poll_interval.labels(name).set(interval)

    # --------------------------------------------------------------------------------------------------------- status

    def _not_ready(self) -> Sequence[NotReady]:
        waiting = [w.spec.name for w in self._watches if w.spec.name not in self._outcomes]
        if waiting:
            return [NotReady(name, "not polled yet") for name in waiting]
        down = [
            NotReady(name, outcome.message or outcome.outcome)
            for name, outcome in self._outcomes.items()
            if outcome.outcome not in {"ok", "left_out", "stopped"}
        ]
        # One broken watch must not take the others' metrics off a Service: all of them must be down.
        return down if len(down) == len(self._watches) else []

    def _statuses(self) -> Sequence[WatchStatus]:
        statuses = []
        for watch in self._watches:
            name = watch.spec.name
            outcome = self._outcomes.get(name)
            if outcome is None:
                statuses.append(WatchStatus(name, "waiting", "not polled yet"))
            elif outcome.outcome == "ok":
                statuses.append(WatchStatus(name, "up", ", ".join(item.group.name for item in watch.spec.groups)))
            else:
                state = "up" if outcome.outcome == "left_out" else "down"
                statuses.append(WatchStatus(name, state, outcome.message or outcome.outcome))
        return statuses

    def _make_watch(self, spec: WatchSpec) -> Watch:
        group = spec.groups[0].group
        return Watch(
            spec,
            source=self._sources.source(group.account, group.region),
            ledger=self._ledger,
            totals=self._totals,
            self_metrics=self._metrics,
            rules=self._rules,
            recorder=self._recorder,
            ticks=time.monotonic,
            stopping=self._stop.is_set,
        )


class _Sources:
    """One source and one call budget for each account and region, shared by all that reads there."""

    def __init__(self, accounts: Sequence[Account], self_metrics: SelfMetrics, stop: threading.Event) -> None:
        self._accounts = {account.name: account for account in accounts}
        self._metrics = self_metrics
        self._stop = stop
        self._sources: dict[tuple[str, str], CloudWatchSource] = {}

    def source(self, account: str, region: str) -> CloudWatchSource:
        """The source of a place, made when first asked for; it connects when first used."""
        place = (account, region)
        if place not in self._sources:
            known = self._accounts[account]
            access = AccountAccess(
                profile=known.profile,
                role_arn=known.role_arn,
                external_id=None if known.external_id is None else known.external_id.get_secret_value(),
            )
            budget = CallBudget(known.calls_per_second, clock=time.monotonic, wait=self._stop.wait)
            self._sources[place] = CloudWatchSource(
                lambda: logs_client(open_session(access, region), max_connections=_MOST_THREADS),
                budget=budget,
                on_call=partial(self._count, account, region),
                wait=self._stop.wait,
            )
        return self._sources[place]

    def rate(self, place: tuple[str, str]) -> float:
        """The calls a second that are allowed in a place."""
        return self._accounts[place[0]].calls_per_second

    def close(self) -> None:
        """Close all connections."""
        for source in self._sources.values():
            source.close()

    def _count(self, account: str, region: str, operation: str, code: str, response_bytes: int) -> None:
        self._metrics.aws_requests.labels(account, region, operation, code).inc()
        self._metrics.aws_response_bytes.labels(account, region).inc(response_bytes)
        if "hrottl" in code or code in {"LimitExceededException", "TooManyRequestsException"}:
            self._metrics.aws_throttles.labels(account, region, operation).inc()


def run_until_signalled(daemon: Daemon) -> None:
    """Run a started daemon until SIGTERM or SIGINT, then stop it in order; a second signal ends the process at once."""
    asked_at: list[float] = []

    def on_signal(number: int, _: object) -> None:
        now = time.monotonic()
        if not asked_at:
            _log.info("stopping", signal=signal.Signals(number).name)
            asked_at.append(now)
            daemon.ask_to_stop()
        elif now - asked_at[0] > _SAME_SIGNAL_SECONDS:
            os._exit(128 + number)  # nothing is lost: what is not committed is read again

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    daemon.wait()
    daemon.stop()


def watch_specs(config: Config) -> list[WatchSpec]:
    """What to read: configured watches, those that share a log group merged into one."""
    parts: list[list[WatchConfig]] = []
    for watch in config.watches:
        groups = set(watch.groups)
        same = [part for part in parts if any(groups & set(other.groups) for other in part)]
        parts = [part for part in parts if part not in same]
        parts.append([*(other for part in same for other in part), watch])
    return [_merged(part, config) for part in parts]


def _merged(watches: Sequence[WatchConfig], config: Config) -> WatchSpec:
    apis: defaultdict[LogGroup, list[Api]] = defaultdict(list)
    formats: dict[LogGroup, str] = {}
    executions: dict[LogGroup, None] = {}
    for watch in watches:
        api = _named(watch)
        if watch.access_log is not None:
            group = LogGroup(watch.account, watch.region, watch.access_log.group)
            formats.setdefault(group, watch.access_log.format)
            apis[group].append(api)
        if watch.execution_log is not None:
            group = LogGroup(watch.account, watch.region, watch.execution_log.group)
            executions[group] = None
            apis[group].append(api)
    access = [
        WatchGroup(group=group, kind="access", apis=tuple(apis[group]), parser=access_parser(text))
        for group, text in formats.items()
    ]
    execution = [WatchGroup(group=group, kind="execution", apis=tuple(apis[group])) for group in executions]
    return WatchSpec(
        name="+".join(watch.name for watch in watches),
        groups=(*access, *execution),
        max_request_ms=max(watch.max_request_ms for watch in watches),
        allowed_lateness_ms=max(watch.allowed_lateness_ms for watch in watches),
        poll_interval_ms=config.poll_interval_ms,
        initial_lookback_ms=config.initial_lookback_ms,
        labelling=_labelling(config),
    )


def _named(watch: WatchConfig) -> Api:
    """The watch's API; one that nothing names is called as the watch is, so that its series can be told apart."""
    api = watch.api
    if api.name != UNKNOWN:
        return api
    return Api(id=api.id, name=watch.name, stage=api.stage, type=api.type, region=api.region, account_id=api.account_id)


def _stage_infos(config: Config) -> list[StageInfo]:
    return [
        StageInfo(
            api=_named(watch),
            access_log_group=UNKNOWN if watch.access_log is None else watch.access_log.group,
            execution_log_group=UNKNOWN if watch.execution_log is None else watch.execution_log.group,
        )
        for watch in config.watches
    ]


def _labelling(config: Config) -> Labelling:
    return Labelling(by_method=config.labels.method, by_resource=config.labels.resource)


def _load_rules(config: Config) -> RuleSet:
    rules = shipped_rules()
    for path in config.rules:
        rules = load_rules(Path(path).read_text(encoding="utf-8"), source=str(path), extends=rules)
    return rules


def _monotonic_ms() -> int:
    return int(time.monotonic() * 1000)
