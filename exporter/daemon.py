"""The wiring: what a running exporter is made of, from its configuration over reloads to its orderly stop.

It alone names the concrete ledger and the scheduler. A reload reads everything first and changes nothing if anything
is wrong with it; then watches are exchanged between their polls. Nothing here reads a log line.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from pathlib import Path

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from starlette.routing import Route

from exporter.access_log import AccessFormatError
from exporter.config import Config, ConfigError, ListenAddress, Watch, masked_yaml
from exporter.config.document import Mistake
from exporter.delivery import Delivery, shown_options, span_options
from exporter.discovery import Discovered
from exporter.failures import FailurePages, RecentFailures
from exporter.fleet import Fleet
from exporter.ledger.sqlite import SqliteLedger
from exporter.loops import COMPILED
from exporter.metrics.self_metrics import SelfMetrics
from exporter.metrics.totals import Totals
from exporter.otlp_settings import OtlpError
from exporter.places import Places
from exporter.planning import Planner, labelling_of, stage_infos
from exporter.record import Recorder
from exporter.rules import RulesError, RuleSet, load_rules, shipped_rules
from exporter.scouting import Scout
from exporter.spans import SpanOptions
from exporter.version import VERSION
from exporter.watch_spec import WatchSpec
from exporter.web import LiveWebConfig, NotReady, WebServer, WebVersion, build_app, parse_listen_address

_log = structlog.get_logger(__name__)

STOP_GRACE_SECONDS = 10.0
"""How long a stop waits for polls to end and spans to leave; what is not done by then is done after the next start."""

_SAME_SIGNAL_SECONDS = 1.0
"""A signal to a process group arrives more than once where a parent (make, a shell) passes it on."""
_MOST_THREADS = 32
_HOUSEKEEPING_SECONDS = 5

_ONLY_AT_START: Mapping[tuple[str, str], Callable[[Config], object]] = {
    ("state", "path"): lambda config: config.state.path,
    ("state", "max_outbox"): lambda config: config.state.max_outbox_bytes,
    ("web", "listen_address"): lambda config: config.web.listen_address,
    ("web", "failures_page"): lambda config: config.web.failures_page,
    ("labels", "max_series"): lambda config: config.labels.max_series,
    ("labels", "zero_hold"): lambda config: config.labels.zero_hold_ms,
    ("traces", "endpoint"): lambda config: config.traces.endpoint,
    ("traces", "protocol"): lambda config: config.traces.protocol,
    ("traces", "headers"): lambda config: config.traces.headers,
    ("traces", "timeout"): lambda config: config.traces.timeout_ms,
    ("traces", "events"): lambda config: config.traces.events,
}
"""What a reload refuses to change."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WebOptions:
    """What the command line says of the web face; it wins over the configuration."""

    listen_address: str | None = None
    config_file: str | None = None
    telemetry_path: str = "/metrics"
    enable_lifecycle: bool = False
    """Whether `/-/reload` reloads."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """A configuration, read in full: nothing can be wrong with it any more."""

    config: Config
    rules_text: Sequence[tuple[str, str]]
    rules: RuleSet
    specs: Sequence[WatchSpec]
    web: WebVersion


class Daemon:
    """A running exporter. `start`, then `wait`, then `stop`."""

    def __init__(
        self,
        config: Config,
        *,
        environ: Mapping[str, str],
        web: WebOptions = WebOptions(),
        load: Callable[[], Config] | None = None,
    ) -> None:
        """Open the state and make everything ready; nothing is read yet.

        `load` reads the configuration again (raising ConfigError); without it nothing can be reloaded.
        Raises `ConfigError`, `RulesError`, `AccessFormatError`, `OtlpError`, `LedgerError`, ValueError or OSError with
        what is wrong and what to do.
        """
        self._environ = environ
        self._options = web
        self._load = load
        self._stop = threading.Event()
        self._reloading = threading.Lock()
        self._planner = Planner()
        config = self._with_options(config)
        self._web_config = LiveWebConfig(config.web.config_file)
        options = span_options(config, environ)
        rules_text = _rules_text(config)
        self._plan = _Plan(
            config=config,
            rules_text=rules_text,
            rules=_rules(rules_text),
            specs=self._planner.plan(config, config.watches),
            web=self._web_config.version,
        )
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
        self._recorder = self._make_recorder(config, options)
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
                plan = self._read_anew()
            except (ConfigError, RulesError, AccessFormatError, OtlpError) as error:
                self._metrics.config_last_reload_successful.set(0)
                _log.error("configuration not reloaded; the one in force stays", mistakes=str(error))
                return str(error)
            self._put_in_force(plan)
            _log.info("configuration reloaded", watches=len(plan.specs))
            return None

    def _read_anew(self) -> _Plan:
        """Everything that a reload puts in force, or one of the errors."""
        if self._load is None:
            raise ConfigError(
                "configuration", [Mistake(0, (), "it does not come from a file; there is nothing to reload")]
            )
        old = self._plan
        config = self._with_options(self._load())
        mistakes = [
            Mistake(0, path, "cannot change while running; restart the exporter")
            for path, value_of in _ONLY_AT_START.items()
            if value_of(config) != value_of(old.config)
        ]
        if mistakes:
            raise ConfigError("configuration", mistakes)
        rules_text = _rules_text(config)
        span_options(config, self._environ)
        return _Plan(
            config=config,
            rules_text=rules_text,
            rules=old.rules if rules_text == old.rules_text else _rules(rules_text),
            web=self._web_config.read(config.web.config_file),
            # Last: a plan that is not put in force must not be remembered.
            specs=self._planner.plan(config, self._all_watches(config)),
        )

    def _put_in_force(self, plan: _Plan) -> None:
        """Nothing of this can fail."""
        config, old = plan.config, self._plan.config
        if (config.failures, labelling_of(config), config.traces) != (old.failures, labelling_of(old), old.traces):
            self._recorder = self._make_recorder(config, span_options(config, self._environ))
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
            plan = replace(
                self._plan, specs=self._planner.plan(self._plan.config, self._all_watches(self._plan.config))
            )
            if plan.specs != self._plan.specs:
                _log.info("watches changed by discovery", watches=len(plan.specs), found=len(found.watches))
            self._plan = plan
            self._set_watches(plan)

    def _all_watches(self, config: Config) -> Sequence[Watch]:
        """Those configured and those found; configured ones first, so that they win in shared groups."""
        found = self._scout.found if config.discover is not None else None
        return config.watches if found is None else (*config.watches, *found.watches)

    def _set_watches(self, plan: _Plan) -> None:
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

    def _make_recorder(self, config: Config, options: SpanOptions | None) -> Recorder:
        recent, shown = self._recent, shown_options(config)
        return Recorder(
            wants=config.failures.wants,
            admit=self._totals.admit,
            labelling=labelling_of(config),
            span_options=options,
            budget=config.traces.budget.of,
            show=lambda told: None if recent is None else recent.add(told, shown),
        )

    def _failure_routes(self) -> Sequence[Route]:
        if self._recent is None:
            return ()
        return FailurePages(self._recent, causes=lambda: self._plan.rules.causes, now_ms=_now_ms).routes()

    def _with_options(self, config: Config) -> Config:
        """The configuration with what the command line says instead."""
        changes: dict[str, object] = {}
        if self._options.listen_address is not None:
            changes["listen_address"] = ListenAddress(*parse_listen_address(self._options.listen_address))
        if self._options.config_file is not None:
            changes["config_file"] = self._options.config_file
        return replace(config, web=config.web.model_copy(update=changes))

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


def heed_signals(daemon: Daemon) -> None:
    """From now on SIGTERM and SIGINT ask the daemon to stop, a second one ends the process, and SIGHUP reloads.

    To be called before the daemon starts: until then a SIGHUP ends the process.
    """
    asked_at: list[float] = []

    def on_signal(number: int, _: object) -> None:
        now = time.monotonic()
        if not asked_at:
            _log.info("stopping", signal=signal.Signals(number).name)
            asked_at.append(now)
            daemon.ask_to_stop()
        elif now - asked_at[0] > _SAME_SIGNAL_SECONDS:
            os._exit(128 + number)  # nothing is lost: what is not committed is read again

    def on_hangup(_: int, __: object) -> None:
        # Not here: a signal handler interrupts whatever the main thread is doing.
        threading.Thread(target=daemon.reload, name="reload", daemon=True).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    signal.signal(signal.SIGHUP, on_hangup)


def _rules_text(config: Config) -> Sequence[tuple[str, str]]:
    """The rules files, by path. Raises ConfigError."""
    texts = []
    for path in config.rules:
        try:
            texts.append((path, Path(path).read_text(encoding="utf-8")))
        except OSError as error:
            raise ConfigError(path, [Mistake(0, (), f"cannot be read: {error.strerror or error}")]) from None
        except UnicodeDecodeError:
            raise ConfigError(path, [Mistake(0, (), "is not UTF-8 text; save it as UTF-8")]) from None
    return texts


def _rules(texts: Sequence[tuple[str, str]]) -> RuleSet:
    rules = shipped_rules()
    for path, text in texts:
        rules = load_rules(text, source=path, extends=rules)
    return rules


def _now_ms() -> int:
    return int(time.time() * 1000)


def _monotonic_ms() -> int:
    return int(time.monotonic() * 1000)
