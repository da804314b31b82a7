"""What one watch reads: its log groups, and the settings that it reads them by. Nouns only."""

from dataclasses import dataclass
from typing import Literal

from exporter.access_log import AccessParser
from exporter.model import Api, LogGroup
from exporter.taking import Labelling

Fetch = Literal["all", "failures", "auto"]
"""`failures`: only lines of failed requests. `auto`: those where the call budget is not enough for all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchGroup:
    """A log group of a watch, and how its lines are read."""

    group: LogGroup
    kind: Literal["access", "execution"]
    apis: tuple[Api, ...]
    """The stages that log into it, as far as they are configured."""
    parser: AccessParser | None = None
    """For access groups."""
    failure_patterns: tuple[str, ...] = ()
    """For access groups: filter patterns that select failing lines, the most sparing first; none: nothing does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchSpec:
    """What one watch reads: groups whose requests may refer to each other, in one account and region."""

    name: str
    groups: tuple[WatchGroup, ...]
    max_request_ms: int
    allowed_lateness_ms: int
    poll_interval_ms: int
    initial_lookback_ms: int
    labelling: Labelling = Labelling()  # noqa: RUF009 frozen, holds two booleans
    fetch: Fetch = "all"
    reader: str | None = None
    """The account, by its name in the configuration, that reads the groups; None: the one they belong to."""

    @property
    def place(self) -> tuple[str, str]:
        """Whose connections, call budget and quota it uses: account name and region."""
        group = self.groups[0].group
        return self.reader or group.account, group.region
