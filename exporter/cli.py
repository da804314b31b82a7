"""The command line: what people type, and what it says to them.

Commands are thin: they read their input, call the part that does the work, and print. Exit codes: 0 ok, 1 a check
failed, 2 usage or bad configuration. Every option has an environment twin (`APIGATEWAY_EXPORTER_…`).
"""

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn, TypeVar

import click
import structlog

from exporter import logs
from exporter.access_log import AccessFormatError
from exporter.config import Config, ConfigError, load_config
from exporter.daemon import Daemon, WebOptions, run_until_signalled
from exporter.excerpt import read_excerpt, render_json, render_text
from exporter.excerpt.rule_check import RuleReport, check_rules
from exporter.ledger import LedgerError
from exporter.otlp_settings import OtlpError
from exporter.rules import RulesError, RuleSet, load_rules, shipped_rules, shipped_text
from exporter.sources.demo import DemoCloud, DemoUnavailable, demo_config_text, demo_environ
from exporter.version import VERSION
from exporter.web_config import load_web_config

_ENVIRONMENT = "APIGATEWAY_EXPORTER"
_log = structlog.get_logger(__name__)

_Command = TypeVar("_Command", bound=Callable[..., object])


def _option(name: str, field: str, **settings: object) -> Callable[[_Command], _Command]:
    """An option spelt as Prometheus spells its flags, with its environment twin."""
    twin = f"{_ENVIRONMENT}_{name.removeprefix('--').replace('.', '_').replace('-', '_').upper()}"
    return click.option(name, field, envvar=twin, show_envvar=True, **settings)  # type: ignore[arg-type]


_config_file = _option(
    "--config.file",
    "config_file",
    type=click.Path(dir_okay=False),
    default="/etc/apigateway-exporter/exporter.yaml",
    show_default=True,
    help="The configuration file.",
)


def _web(command: _Command) -> _Command:
    """The options of the web face, as one `WebOptions`."""
    for decorate in (
        _option(
            "--web.enable-lifecycle",
            "enable_lifecycle",
            is_flag=True,
            help="Let POST and PUT of /-/reload reload the configuration.",
        ),
        _option(
            "--web.telemetry-path", "telemetry_path", default="/metrics", show_default=True, help="Path of the metrics."
        ),
        _option(
            "--web.config.file",
            "web_config_file",
            type=click.Path(dir_okay=False),
            help="Web configuration file (TLS, client certificates, users); wins over the configuration.",
        ),
        _option(
            "--web.listen-address",
            "listen_address",
            help="Where to serve metrics, host:port; wins over the configuration.",
        ),
    ):
        command = decorate(command)
    return command


def _logging(command: _Command) -> _Command:
    for decorate in (
        _option(
            "--log.level",
            "log_level",
            type=click.Choice(logs.LEVELS),
            default="info",
            show_default=True,
            help="What to log.",
        ),
        _option(
            "--log.format",
            "log_format",
            type=click.Choice(logs.FORMATS),
            default="logfmt",
            show_default=True,
            help="How to log.",
        ),
    ):
        command = decorate(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": None})
@click.version_option(VERSION, prog_name="apigateway-exporter")
def main() -> None:
    """Tell why Amazon API Gateway requests fail: counters for Prometheus, traces over OpenTelemetry."""


@main.command()
@_config_file
@_web
@_logging
def run(
    *,
    config_file: str,
    listen_address: str | None,
    web_config_file: str | None,
    telemetry_path: str,
    enable_lifecycle: bool,
    log_level: logs.Level,
    log_format: logs.Format,
) -> None:
    """Run the exporter. SIGHUP makes it read its configuration again."""
    logs.configure(log_level, log_format)
    web = WebOptions(
        listen_address=listen_address,
        config_file=web_config_file,
        telemetry_path=telemetry_path,
        enable_lifecycle=enable_lifecycle,
    )
    _serve(_load(config_file), web, load=lambda: load_config(config_file))


@main.command()
@_web
@_logging
def demo(
    *,
    listen_address: str | None,
    web_config_file: str | None,
    telemetry_path: str,
    enable_lifecycle: bool,
    log_level: logs.Level,
    log_format: logs.Format,
) -> None:
    """Run the exporter on an embedded CloudWatch with generated traffic: no account, no setup."""
    logs.configure(log_level, log_format)
    try:
        with DemoCloud() as cloud:
            for name, value in demo_environ(cloud).items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            config = load_config("demo.yaml", text=demo_config_text(cloud))
            web = WebOptions(
                listen_address=listen_address,
                config_file=web_config_file,
                telemetry_path=telemetry_path,
                enable_lifecycle=enable_lifecycle,
            )
            _serve(config, web, after_start=_show_demo)
    except DemoUnavailable as error:
        _fail(str(error))


@main.command("check-config")
@_config_file
def check_config(config_file: str) -> None:
    """Check the configuration and its rules as `run` would read them; say every mistake with its line."""
    config = _load(config_file)
    _load_all_rules(config.rules)
    if config.web.config_file is not None:
        _load_web(config.web.config_file)
    watches = ", ".join(watch.name for watch in config.watches) or "none"
    click.echo(f"{config_file}: ok; {len(config.watches)} watches: {watches}")


@main.command()
@click.option("--format", "output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--access-format",
    default="auto",
    show_default=True,
    help="How access lines are written: auto, json, clf, csv, xml, or the stage's own $context format.",
)
@click.option("--rules", "rules", type=click.Path(exists=True, dir_okay=False), multiple=True, help="Own rules.")
@click.argument("files", type=click.Path(exists=True, dir_okay=False, allow_dash=True), nargs=-1)
def classify(output: str, access_format: str, rules: tuple[str, ...], files: tuple[str, ...]) -> None:
    """Say of every request in log text why it failed.

    FILES (or standard input) hold raw access and execution lines, JSON lines of events, or the JSON of
    `aws logs filter-log-events`.
    """
    rule_set = _load_all_rules(rules)
    text = "\n".join(_contents(name) for name in files or ("-",))
    try:
        excerpt = read_excerpt(text, access_format=access_format)
    except AccessFormatError as error:
        _fail(f"--access-format: {error}")
    render = render_json if output == "json" else render_text
    for timeline in excerpt.requests:
        click.echo(render(timeline, rule_set.classify(timeline)))
    if excerpt.unreadable:
        click.echo(f"{excerpt.unreadable} lines are none of API Gateway's, or could not be read", err=True)


@main.command("test-rules")
@click.argument("files", type=click.Path(exists=True, dir_okay=False), nargs=-1)
def test_rules(files: tuple[str, ...]) -> None:
    """Run the tests that stand beside the rules: those of FILES, or the shipped ones.

    Also names rules that no test proves, and rules that others in front of them shadow. Exit code 1 if any test fails
    or a rule is unproven.
    """
    good = True
    try:
        if not files:
            good = _tell_rules("shipped rules", check_rules(shipped_text(), source="rules.yaml"))
        for name in files:
            text = Path(name).read_text(encoding="utf-8")
            good = _tell_rules(name, check_rules(text, source=name, extends=shipped_rules())) and good
    except (RulesError, AccessFormatError, UnicodeDecodeError) as error:
        _fail(str(error))
    if not good:
        raise SystemExit(1)


def _tell_rules(name: str, report: RuleReport) -> bool:
    for result in report.results:
        if result.problem is not None:
            click.echo(f"{name}: rule `{result.test.rule}`, test `{result.test.name}`: {result.problem}")
    for rule in report.unproven:
        click.echo(f"{name}: rule `{rule}`: no test of it proves that it ever matches; give it one that it decides")
    for rule, front in report.shadowed.items():
        click.echo(f"{name}: rule `{rule}` never decides: rule `{front}` stands in front of it and takes its requests")
    failed = sum(result.problem is not None for result in report.results)
    click.echo(f"{name}: {len(report.results) - failed} passed, {failed} failed")
    return report.is_good


def _serve(
    config: Config,
    web: WebOptions,
    *,
    load: Callable[[], Config] | None = None,
    after_start: Callable[[str], None] | None = None,
) -> None:
    try:
        daemon = Daemon(config, environ=os.environ, web=web, load=load)
        daemon.start()
    except (ConfigError, LedgerError, OtlpError, RulesError, ValueError) as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"cannot listen on {web.listen_address or config.web.listen_address}: {error.strerror or error}")
    host, port = daemon.address
    shown = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104 compared, not bound
    if after_start is not None:
        after_start(f"{'https' if daemon.serves_tls else 'http'}://{shown}:{port}{web.telemetry_path}")
    run_until_signalled(daemon)


def _show_demo(url: str) -> None:
    click.echo(
        f"""
The demo runs: generated traffic of four APIs fails in every way there is.

  metrics     {url}
  overview    {url.rsplit("/", 1)[0]}/
  one cause   curl -s {url} | grep 'failed_requests_total.*integration_timeout'

Set OTEL_EXPORTER_OTLP_ENDPOINT (for example http://127.0.0.1:4318) before starting to get a trace of each failure.
Ctrl-C ends it.
"""
    )


def _load(path: str) -> Config:
    try:
        return load_config(path)
    except ConfigError as error:
        _fail(str(error))


def _load_web(path: str) -> None:
    try:
        load_web_config(path)
    except ConfigError as error:
        _fail(str(error))


def _load_all_rules(paths: Iterable[str]) -> RuleSet:
    rules = shipped_rules()
    for path in paths:
        try:
            rules = load_rules(Path(path).read_text(encoding="utf-8"), source=path, extends=rules)
        except RulesError as error:
            _fail(str(error))
        except (OSError, UnicodeDecodeError) as error:
            _fail(f"{path}: {error}")
    return rules


def _contents(name: str) -> str:
    data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    return data.decode("utf-8", errors="replace")


def _fail(message: str) -> NoReturn:
    """Bad input: say it on standard error and exit with 2."""
    click.echo(message, err=True)
    raise SystemExit(2)
