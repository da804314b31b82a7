"""Configuration: a YAML file -> a frozen `Config`, or all of its mistakes at once, with line and hint.

`document` reads YAML and knows no key; `scalars` and `sections` say what the file may hold; `resolving` judges what
the sections mean together; `settings` is what the program gets; `wording` and `loading` put it together.
"""

from exporter.config.loading import ConfigError, config_schema, load_config, masked_yaml
from exporter.config.scalars import ListenAddress, format_duration, parse_duration, parse_listen_address
from exporter.config.sections import (
    AccessLog,
    Account,
    Discover,
    ExecutionLog,
    Failures,
    Labels,
    LinkedAccounts,
    State,
    Traces,
    Web,
)
from exporter.config.settings import Config, Watch

__all__ = [
    "AccessLog",
    "Account",
    "Config",
    "ConfigError",
    "Discover",
    "ExecutionLog",
    "Failures",
    "Labels",
    "LinkedAccounts",
    "ListenAddress",
    "State",
    "Traces",
    "Watch",
    "Web",
    "config_schema",
    "format_duration",
    "load_config",
    "masked_yaml",
    "parse_duration",
    "parse_listen_address",
]
