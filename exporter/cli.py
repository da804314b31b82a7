"""The command line: what people type, and what it says to them.

Commands are thin: they read their input, call the part that does the work, and print. Exit codes: 0 ok, 1 a check
failed, 2 usage or bad configuration. Every option has an environment twin (`APIGATEWAY_EXPORTER_…`).
"""

import ctypes
import os
import shlex
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import click
import structlog

from exporter import logs
from exporter.commands.check_config import check_config
from exporter.commands.classify import classify
from exporter.commands.find import find
from exporter.commands.iam_policy import iam_policy
from exporter.commands.options import config_file_option, fail, load, option
from exporter.commands.replay import replay
from exporter.commands.test_rules import test_rules
from exporter.config import Config, ConfigError, load_config
from exporter.daemon import Daemon
from exporter.ledger import LedgerError
from exporter.loops import COMPILED
from exporter.otlp_settings import OtlpError
from exporter.reloading import WebOptions
from exporter.rules import RulesError
from exporter.signals import heed_signals
from exporter.sources.demo import DemoCloud, DemoUnavailable, demo_config_text, demo_environ
from exporter.version import VERSION

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
@click.version_option(
    VERSION,
    prog_name="apigateway-exporter",
    message=f"%(prog)s, version %(version)s ({'compiled' if COMPILED else 'not compiled'})",
)
def main() -> None:
    """Tell why Amazon API Gateway requests fail: counters for Prometheus, traces over OpenTelemetry."""


for _command in (check_config, classify, test_rules, find, replay, iam_policy):
    main.add_command(_command)


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


_M_ARENA_MAX = -8
"""`mallopt(3)`, glibc's: so many arenas at most."""


def _share_arenas() -> None:
    """Let all threads allocate from two arenas.

    glibc gives each thread its own, and pages that one thread makes and another lets go of leave a tenth of the memory
    as holes in them. Other C libraries have no such setting and no such arenas.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def _serve(
    config: Config,
    web: WebOptions,
    *,
    load: Callable[[], Config] | None = None,
    after_start: Callable[[str], None] | None = None,
) -> None:
    try:
        _share_arenas()
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
  failures    {url.rsplit("/", 1)[0]}/failures
  one cause   curl -s {url} | grep 'failed_requests_total.*integration_timeout'
  one request (. {environment}; apigateway-exporter find --cause integration_timeout --limit 1)

Set OTEL_EXPORTER_OTLP_ENDPOINT (for example http://127.0.0.1:4318) before starting to get a trace of each failure.
Ctrl-C ends it.
"""
    )
