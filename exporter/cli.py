"""The command line: what people type, and what it says to them.

Commands are thin: they read their input, call the part that does the work, and print. Exit codes: 0 ok, 1 a check
failed, 2 usage or bad configuration. Every option has an environment twin (`APIGATEWAY_EXPORTER_…`).
"""

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
import structlog

from exporter import logs
from exporter.access_log import AccessFormatError
from exporter.commands.find import find
from exporter.commands.iam_policy import iam_policy
from exporter.commands.options import config_file_option, contents, fail, load, load_all_rules, option
from exporter.commands.replay import replay
from exporter.config import Config, ConfigError, load_config
from exporter.daemon import Daemon, WebOptions, heed_signals
from exporter.excerpt import read_excerpt, render_json, render_text
from exporter.excerpt.rule_check import RuleReport, check_rules
from exporter.ledger import LedgerError
from exporter.otlp_settings import OtlpError
from exporter.rules import RulesError, shipped_rules, shipped_text
from exporter.sources.demo import DemoCloud, DemoUnavailable, demo_config_text, demo_environ
from exporter.version import VERSION
from exporter.web_config import load_web_config

_log = structlog.get_logger(__name__)

_Command = TypeVar("_Command", bound=Callable[..., object])


def _web(command: _Command) -> _Command:
    """The options of the web face, as one `WebOptions`."""
    for decorate in (
        option(
            "--web.enable-lifecycle",
            "enable_lifecycle",
            is_flag=True,
            help="Let POST and PUT of /-/reload reload the configuration.",
        ),
        option(
            "--web.telemetry-path", "telemetry_path", default="/metrics", show_default=True, help="Path of the metrics."
        ),
        option(
            "--web.config.file",
            "web_config_file",
            type=click.Path(dir_okay=False),
            help="Web configuration file (TLS, client certificates, users); wins over the configuration.",
        ),
        option(
            "--web.listen-address",
            "listen_address",
            help="Where to serve metrics, host:port; wins over the configuration.",
        ),
    ):
        command = decorate(command)
    return command


def _logging(command: _Command) -> _Command:
    for decorate in (
        option(
            "--log.level",
            "log_level",
            type=click.Choice(logs.LEVELS),
            default="info",
            show_default=True,
            help="What to log.",
        ),
        option(
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


main.add_command(find)
main.add_command(replay)
main.add_command(iam_policy)


@main.command()
@config_file_option
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
    _serve(load(config_file), web, load=lambda: load_config(config_file))


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
            config, environment = _write_demo(cloud)
            web = WebOptions(
                listen_address=listen_address,
                config_file=web_config_file,
                telemetry_path=telemetry_path,
                enable_lifecycle=enable_lifecycle,
            )
            _serve(config, web, after_start=lambda url: _show_demo(url, environment))
    except DemoUnavailable as error:
        fail(str(error))


@main.command("check-config")
@config_file_option
def check_config(config_file: str) -> None:
    """Check the configuration and its rules as `run` would read them; say every mistake with its line."""
    config = load(config_file)
    load_all_rules(config.rules)
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
    rule_set = load_all_rules(rules)
    text = "\n".join(contents(name) for name in files or ("-",))
    try:
        excerpt = read_excerpt(text, access_format=access_format)
    except AccessFormatError as error:
        fail(f"--access-format: {error}")
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
        fail(str(error))
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
        heed_signals(daemon)
        daemon.start()
    except (ConfigError, LedgerError, OtlpError, RulesError, ValueError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot listen on {web.listen_address or config.web.listen_address}: {error.strerror or error}")
    host, port = daemon.address
    shown = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104 compared, not bound
    if after_start is not None:
        after_start(f"{'https' if daemon.serves_tls else 'http'}://{shown}:{port}{web.telemetry_path}")
    daemon.wait()
    daemon.stop()


def _write_demo(cloud: DemoCloud) -> tuple[Config, Path]:
    """Write down what other commands need to read the demo's cloud, too: its configuration and its environment."""
    path = cloud.state_directory / "demo.yaml"
    path.write_text(demo_config_text(cloud), encoding="utf-8")
    variables = {**demo_environ(cloud), "APIGATEWAY_EXPORTER_CONFIG_FILE": str(path)}
    environment = cloud.state_directory / "environment"
    environment.write_text(
        "".join(
            f"unset {name}\n" if value is None else f"export {name}={shlex.quote(value)}\n"
            for name, value in variables.items()
        ),
        encoding="utf-8",
    )
    return load_config(str(path)), environment


def _show_demo(url: str, environment: Path) -> None:
    click.echo(
        f"""
The demo runs: generated traffic of four APIs fails in every way there is.

  metrics     {url}
  overview    {url.rsplit("/", 1)[0]}/
  one cause   curl -s {url} | grep 'failed_requests_total.*integration_timeout'
  one request (. {environment}; apigateway-exporter find --cause integration_timeout --limit 1)

Set OTEL_EXPORTER_OTLP_ENDPOINT (for example http://127.0.0.1:4318) before starting to get a trace of each failure.
Ctrl-C ends it.
"""
    )


def _load_web(path: str) -> None:
    try:
        load_web_config(path)
    except ConfigError as error:
        fail(str(error))
