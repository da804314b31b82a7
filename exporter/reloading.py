"""What is put in force at the start and by each reload: the configuration with all that it names, read in full.

Everything is read and checked before any of it counts: a `Plan` holds nothing that can still be wrong, so that a
mistake changes nothing. Putting a plan in force is the daemon's work.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from exporter.config import Config, ConfigError, ListenAddress, Watch
from exporter.config.document import Mistake
from exporter.delivery import span_options
from exporter.planning import Planner
from exporter.rules import RuleSet, load_rules, shipped_rules
from exporter.spans import SpanOptions
from exporter.watch_spec import WatchSpec
from exporter.web import LiveWebConfig, WebVersion, parse_listen_address

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

    def over(self, config: Config) -> Config:
        """The configuration with these instead of its own. Raises ValueError for an address that is none."""
        changes: dict[str, object] = {}
        if self.listen_address is not None:
            changes["listen_address"] = ListenAddress(*parse_listen_address(self.listen_address))
        if self.config_file is not None:
            changes["config_file"] = self.config_file
        return replace(config, web=config.web.model_copy(update=changes))


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A configuration, read in full: nothing can be wrong with it any more."""

    config: Config
    rules_text: Sequence[tuple[str, str]]
    """The rules files, by path."""
    rules: RuleSet
    specs: Sequence[WatchSpec]
    web: WebVersion
    span_options: SpanOptions | None
    """How spans are made; None: none are."""


class PlanReader:
    """Makes plans, each of the configuration as it is now."""

    def __init__(
        self,
        *,
        environ: Mapping[str, str],
        options: WebOptions,
        load: Callable[[], Config] | None,
        web_config: LiveWebConfig,
    ) -> None:
        """`load` reads the configuration (raising ConfigError); without it nothing can be read again."""
        self._environ = environ
        self._options = options
        self._load = load
        self._web_config = web_config
        self._planner = Planner()

    def first(self, config: Config) -> Plan:
        """The plan to start with; `config`: with the options over it.

        Raises `ConfigError`, `RulesError`, `AccessFormatError` or `OtlpError` with what is wrong and what to do.
        """
        rules_text = _rules_text(config)
        return Plan(
            config=config,
            rules_text=rules_text,
            rules=_rules(rules_text),
            web=self._web_config.version,
            span_options=span_options(config, self._environ),
            specs=self._planner.plan(config, config.watches),
        )

    def again(self, old: Plan, found: Sequence[Watch]) -> Plan:
        """The plan to be put in force instead of `old`; `found`: by discovery. Raises as `first` does."""
        if self._load is None:
            raise ConfigError(
                "configuration", [Mistake(0, (), "it does not come from a file; there is nothing to reload")]
            )
        config = self._options.over(self._load())
        mistakes = [
            Mistake(0, path, "cannot change while running; restart the exporter")
            for path, value_of in _ONLY_AT_START.items()
            if value_of(config) != value_of(old.config)
        ]
        if mistakes:
            raise ConfigError("configuration", mistakes)
        rules_text = _rules_text(config)
        return Plan(
            config=config,
            rules_text=rules_text,
            rules=old.rules if rules_text == old.rules_text else _rules(rules_text),
            web=self._web_config.read(config.web.config_file),
            span_options=span_options(config, self._environ),
            # Last: a plan that is not put in force must not be remembered.
            specs=self._planner.plan(config, _all_watches(config, found)),
        )

    def with_watches(self, plan: Plan, found: Sequence[Watch]) -> Plan:
        """The same plan after discovery has found these."""
        return replace(plan, specs=self._planner.plan(plan.config, _all_watches(plan.config, found)))


def _all_watches(config: Config, found: Sequence[Watch]) -> Sequence[Watch]:
    """Those configured and those found; configured ones first, so that they win in shared groups."""
    return config.watches if config.discover is None else (*config.watches, *found)


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
