"""`check-config`: the loader of production, and what AWS says to the configuration."""

import click

from exporter import logs
from exporter.access_log import AccessFormatError
from exporter.commands.accounts import Accounts
from exporter.commands.options import config_file_option, fail, load, load_all_rules
from exporter.config import Config, ConfigError
from exporter.discovery import probe, render
from exporter.planning import Planner
from exporter.web_config import load_web_config


@click.command("check-config")
@config_file_option
@click.option(
    "--probe",
    "asks_aws",
    is_flag=True,
    help="Also ask AWS: what discovery finds, whether groups can be read, formats fit and ids join, what it will take.",
)
def check_config(*, config_file: str, asks_aws: bool) -> None:
    """Check the configuration and its rules as `run` would read them; say every mistake with its line."""
    config = load(config_file)
    load_all_rules(config.rules)
    if config.web.config_file is not None:
        try:
            load_web_config(config.web.config_file)
        except ConfigError as error:
            fail(str(error))
    try:
        Planner().plan(config, config.watches)
    except AccessFormatError as error:
        fail(f"{config_file}: {error}")
    watches = ", ".join(watch.name for watch in config.watches) or "none"
    found = "; more are discovered" if config.discover is not None else ""
    click.echo(f"{config_file}: ok; {len(config.watches)} watches: {watches}{found}")
    if asks_aws and not _ask(config):
        raise SystemExit(1)


def _ask(config: Config) -> bool:
    """Print what AWS says; whether everything is as it should be."""
    logs.configure("warn", "logfmt")
    accounts = Accounts(config)
    try:
        report = probe(config, accounts.discovered(), source=accounts.places.source)
    finally:
        accounts.close()
    for line in render(report):
        click.echo(line)
    return report.ok
