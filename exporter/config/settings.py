"""The configuration as the program sees it: checked, defaults in place, every watch complete, nothing to look up.

Lengths of time are milliseconds (`_ms`), sizes bytes (`_bytes`), paths absolute or relative to the working directory.
Secrets are `SecretStr`: `repr()` and logs do not show them.
"""

from dataclasses import dataclass

from exporter.config.sections import (
    AccessLog,
    Account,
    Discover,
    ExecutionLog,
    Failures,
    Fetch,
    Labels,
    State,
    Traces,
    Web,
)
from exporter.model import Api, LogGroup


@dataclass(frozen=True, kw_only=True, slots=True)
class Watch:
    """A stage to watch: log groups whose requests may refer to each other."""

    name: str
    account: str
    """The name of one of `Config.accounts`."""
    region: str
    api: Api
    access_log: AccessLog | None
    execution_log: ExecutionLog | None
    """At least one of the two logs is there."""
    max_request_ms: int
    allowed_lateness_ms: int
    fetch: Fetch

    @property
    def groups(self) -> tuple[LogGroup, ...]:
        """Its log groups in the order in which they are read: the access group first."""
        logs = (self.access_log, self.execution_log)
        return tuple(LogGroup(self.account, self.region, log.group) for log in logs if log is not None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Everything that can be configured."""

    poll_interval_ms: int
    allowed_lateness_ms: int | None
    """As the file says; each watch has its effective one."""
    initial_lookback_ms: int
    state: State
    web: Web
    accounts: tuple[Account, ...]
    """At least one; each with the regions that are read."""
    watches: tuple[Watch, ...]
    discover: Discover | None
    failures: Failures
    labels: Labels
    rules: tuple[str, ...]
    traces: Traces
