"""What commands share: options spelt as Prometheus spells them, reading what they name, saying what is wrong."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn, TypeVar

import click

from exporter.config import Config, ConfigError, load_config
from exporter.rules import RulesError, RuleSet, load_rules, shipped_rules

_ENVIRONMENT = "APIGATEWAY_EXPORTER"

_Command = TypeVar("_Command", bound=Callable[..., object])


def option(name: str, field: str, **settings: object) -> Callable[[_Command], _Command]:
    """An option spelt as Prometheus spells its flags, with its environment twin."""
    twin = f"{_ENVIRONMENT}_{name.removeprefix('--').replace('.', '_').replace('-', '_').upper()}"
    return click.option(name, field, envvar=twin, show_envvar=True, **settings)  # type: ignore[arg-type]


config_file_option = option(
    "--config.file",
    "config_file",
    type=click.Path(dir_okay=False),
    default="/etc/apigateway-exporter/exporter.yaml",
    show_default=True,
    help="The configuration file.",
)


def load(path: str) -> Config:
    """Read a configuration; its mistakes end the program."""
    try:
        return load_config(path)
    except ConfigError as error:
        fail(str(error))


def load_all_rules(paths: Iterable[str]) -> RuleSet:
    """The shipped rules and, in front of them, those of `paths`; their mistakes end the program."""
    rules = shipped_rules()
    for path in paths:
        try:
            rules = load_rules(Path(path).read_text(encoding="utf-8"), source=path, extends=rules)
        except RulesError as error:
            fail(str(error))
        except (OSError, UnicodeDecodeError) as error:
            fail(f"{path}: {error}")
    return rules


def contents(name: str) -> str:
    """The text of a file, `-` is standard input."""
    data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    return data.decode("utf-8", errors="replace")


def fail(message: str) -> NoReturn:
    """Bad input: say it on standard error and exit with 2."""
    click.echo(message, err=True)
    raise SystemExit(2)
