"""The configuration as the program sees it: checked, defaults in place, every watch complete, nothing to look up.

Lengths of time are milliseconds (`_ms`), sizes bytes (`_bytes`), paths absolute or relative to the working directory.
Secrets are `SecretStr`: `repr()` and logs do not show them.
"""

from dataclasses import dataclass

from exporter.arns import read_log_group_arn
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
    """The name of one of `Config.accounts`: the one that reads its log groups, its own or a monitoring account."""
    region: str
    api: Api
    access_log: AccessLog | None
    execution_log: ExecutionLog | None
    """At least one of the two logs is there."""
    max_request_ms: int
    allowed_lateness_ms: int
    fetch: Fetch
    owner: str | None = None
    """Whose a log group is that is named without an account (`Account.owner`); None: as `account` is called."""

    @property
    def groups(self) -> tuple[LogGroup, ...]:
        """Its log groups in the order in which they are read: the access group first."""
        return tuple(group for group in (self.access_group, self.execution_group) if group is not None)

    @property
    def access_group(self) -> LogGroup | None:
        """The group of its access lines."""
        return None if self.access_log is None else self._group(self.access_log.group)

    @property
    def execution_group(self) -> LogGroup | None:
        """The group of its execution lines."""
        return None if self.execution_log is None else self._group(self.execution_log.group)

    def _group(self, text: str) -> LogGroup:
        arn = read_log_group_arn(text)
        if arn is None:
            return LogGroup(self.owner or self.account, self.region, text)
        return LogGroup(arn.account_id or self.owner or self.account, arn.region, arn.name)


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
