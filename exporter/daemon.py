"""The wiring: what a running exporter is made of, from its configuration over reloads to its orderly stop.

It alone names the concrete ledger and the scheduler. A reload reads everything first and changes nothing if anything
is wrong with it; then watches are exchanged between their polls. Nothing here reads a log line.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from pathlib import Path

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from starlette.routing import Route

from exporter.access_log import AccessFormatError
from exporter.config import Config, ConfigError, Watch, masked_yaml
from exporter.delivery import Delivery, shown_options
from exporter.discovery import Discovered
from exporter.failures import FailurePages, RecentFailures
from exporter.fleet import Fleet
from exporter.ledger.sqlite import SqliteLedger
from exporter.loops import COMPILED
from exporter.metrics.self_metrics import SelfMetrics
from exporter.metrics.totals import Totals
from exporter.otlp_settings import OtlpError
from exporter.places import Places
from exporter.planning import labelling_of, stage_infos
from exporter.record import Recorder
from exporter.reloading import Plan, PlanReader, WebOptions
from exporter.rules import RulesError
from exporter.scouting import Scout
from exporter.version import VERSION
from exporter.web import LiveWebConfig, NotReady, WebServer, build_app

_log = structlog.get_logger(__name__)

STOP_GRACE_SECONDS = 10.0
"""How long a stop waits for polls to end and spans to leave; what is not done by then is done after the next start."""

_HEED_SIGNALS_SECONDS = 1.0
_MOST_THREADS = 32
_HOUSEKEEPING_SECONDS = 5


class Daemon:
    """A running exporter. `start`, then `wait`, then `stop`."""

    def __init__(
        self,
        config: Config,
        *,
        environ: Mapping[str, str],
        web: WebOptions | None = None,
        load: Callable[[], Config] | None = None,
    ) -> None:
        """Open the state and make everything ready; nothing is read yet.

        `load` reads the configuration again (raising ConfigError); without it nothing can be reloaded.
        Raises `ConfigError`, `RulesError`, `AccessFormatError`, `OtlpError`, `LedgerError`, ValueError or OSError with
        what is wrong and what to do.
        """
        web = web or WebOptions()
        self._stop = threading.Event()
        self._reloading = threading.Lock()
        config = web.over(config)
        self._web_config = LiveWebConfig(config.web.config_file)
        self._plans = PlanReader(environ=environ, options=web, load=load, web_config=self._web_config)
        self._plan = self._plans.first(config)
        self._ledger = SqliteLedger(Path(config.state.path))
        self._totals = Totals(
            zero_hold_ms=config.labels.zero_hold_ms, max_series=config.labels.max_series, now_ms=_monotonic_ms
        )
        self._totals.load(self._ledger.series())
        self._metrics = SelfMetrics(version=VERSION, now_ms=_now_ms)
        self._metrics.show_outbox(self._ledger.outbox_stats)
        self._metrics.show_series(self._totals)
        self._delivery = Delivery(config, environ, self._ledger, self._metrics)
        self._recent = RecentFailures(since_ms=_now_ms()) if config.web.failures_page else None
        self._recorder = self._make_recorder(self._plan)
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(_MOST_THREADS)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone=UTC,
        )
        self._places = Places(config.accounts, self._metrics, self._stop)
        self._fleet = Fleet(
            places=self._places,
            ledger=self._ledger,
            totals=self._totals,
            self_metrics=self._metrics,
            scheduler=self._scheduler,
            stop=self._stop,
        )
        self._scout = Scout(self._places, self._stop, self._take_discovered)
        self._web = WebServer(
            build_app(
                product=self._totals,
                own=self._metrics,
                alive=lambda: self._scheduler.running and self._web.is_alive,
                not_ready=self._not_ready,
                troubles=self._fleet.troubles,
                watches=self._fleet.statuses,
                config=lambda: masked_yaml(self._plan.config),
                reload=self.reload if web.enable_lifecycle else None,
                version=VERSION,
                telemetry_path=web.telemetry_path,
                failures=self._failure_routes(),
            ),
            str(config.web.listen_address),
            self._web_config.current,
        )

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens, once started."""
        return self._web.address

    @property
    def serves_tls(self) -> bool:
        """Whether it is to be spoken to over TLS."""
        return self._plan.web.config.tls is not None

    def start(self) -> None:
        """Serve, poll and send. Raises OSError when the address cannot be had."""
        self._web.start()
        self._delivery.start(self._stop)
        with self._reloading:
            self._put_in_force(self._plan)
        self._scheduler.add_job(self._keep_house, "interval", seconds=_HOUSEKEEPING_SECONDS)
        self._scheduler.start()
        host, port = self.address
        _log.info(
            "started", version=VERSION, compiled=COMPILED, watches=len(self._plan.specs), address=f"{host}:{port}"
        )

    def wait(self) -> None:
        """Return when a stop is asked for."""
        # Python handles signals in the main thread, which sleeps on where one comes just before it falls asleep, or in
        # another thread.
        while not self._stop.wait(_HEED_SIGNALS_SECONDS):
            pass

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
        self._scout.close()
        self._delivery.stop(deadline - 2)
        self._web.stop()
        self._places.close()
        if not ended.is_alive():
            self._ledger.close()
        _log.info("stopped", spans_waiting=self._ledger.outbox_stats().spans)

    # --------------------------------------------------------------------------------------------------------- reload

    def reload(self) -> str | None:
        """Load the configuration, its rules and its web configuration anew; returns what is wrong, or None.

        Whatever is wrong, what was in force stays in force. Safe to call from any thread.
        """
        with self._reloading:
            try:
                plan = self._plans.again(self._plan, self._found_watches())
            except (ConfigError, RulesError, AccessFormatError, OtlpError) as error:
                self._metrics.config_last_reload_successful.set(0)
                _log.error("configuration not reloaded; the one in force stays", mistakes=str(error))
                return str(error)
            self._put_in_force(plan)
            _log.info("configuration reloaded", watches=len(plan.specs))
            return None

    def _put_in_force(self, plan: Plan) -> None:
        """Nothing of this can fail."""
        config, old = plan.config, self._plan.config
        if (config.failures, labelling_of(config), config.traces) != (old.failures, labelling_of(old), old.traces):
            self._recorder = self._make_recorder(plan)
        self._plan = plan
        self._web_config.take(plan.web)
        self._places.set_accounts(config.accounts)
        self._scout.set_config(config)
        self._set_watches(plan)
        self._metrics.config_last_reload_successful.set(1)
        self._metrics.config_last_reload_success_timestamp.set_to_current_time()

    # ------------------------------------------------------------------------------------------------------ discovery

    def _take_discovered(self, found: Discovered) -> None:
        """Watch what was found, from now on."""
        with self._reloading:
            plan = self._plans.with_watches(self._plan, self._found_watches())
            if plan.specs != self._plan.specs:
                _log.info("watches changed by discovery", watches=len(plan.specs), found=len(found.watches))
            self._plan = plan
            self._set_watches(plan)

    def _found_watches(self) -> Sequence[Watch]:
        found = self._scout.found
        return () if found is None else found.watches

    def _set_watches(self, plan: Plan) -> None:
        found = self._scout.found
        self._fleet.apply(plan.specs, rules=plan.rules, recorder=self._recorder)
        by_hand = stage_infos(plan.config.watches)
        if found is None:
            self._totals.set_stages(by_hand)
            self._metrics.set_discovered(stages={}, findings=[], succeeded_at_ms=None)
            return
        names = [watch.name for watch in plan.config.watches]
        known = [
            replace(found.configured[name], api=info.api) if name in found.configured else info
            for name, info in zip(names, by_hand, strict=True)
        ]
        self._totals.set_stages([*known, *found.stages])
        self._metrics.set_discovered(
            stages=found.stage_counts,
            findings=[finding.labels for finding in found.findings],
            succeeded_at_ms=found.succeeded_at_ms,
        )

    def _not_ready(self) -> Sequence[NotReady]:
        if self._scout.is_first_look:
            return [NotReady("discovery", "the accounts were not looked at yet"), *self._fleet.not_ready()]
        return self._fleet.not_ready()

    def _make_recorder(self, plan: Plan) -> Recorder:
        config, recent, shown = plan.config, self._recent, shown_options(plan.config)
        return Recorder(
            wants=config.failures.wants,
            admit=self._totals.admit,
            labelling=labelling_of(config),
            span_options=plan.span_options,
            budget=config.traces.budget.of,
            show=lambda told: None if recent is None else recent.add(told, shown),
        )

    def _failure_routes(self) -> Sequence[Route]:
        if self._recent is None:
            return ()
        return FailurePages(self._recent, causes=lambda: self._plan.rules.causes, now_ms=_now_ms).routes()

    # --------------------------------------------------------------------------------------------------- housekeeping

    def _keep_house(self) -> None:
        due = self._totals.due_for_release()
        if due:
            self._ledger.release(due)
            self._totals.release(due)
        stages = {(api.id, api.stage) for api in self._fleet.stages()}
        old = self._totals.idle_since(int(time.time() * 1000) - self._plan.config.labels.forget_after_ms)
        gone = [key for key in old if (key.labels[0], key.labels[2]) not in stages]
        if gone:
            self._ledger.forget(gone)
            self._totals.forget(gone)
        self._fleet.stretch_intervals()


def _now_ms() -> int:
    return int(time.time() * 1000)


def _monotonic_ms() -> int:
    return int(time.monotonic() * 1000)
