"""What is known of an account and region: its stages, how each of them logs, and the log groups that are there.

The facts as API Gateway and CloudWatch Logs tell them, made by `place.py`, judged by `watching.py` and `findings.py`.
Nothing here calls anybody, and nothing here decides what is to be read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from exporter.arns import read_log_group_arn
from exporter.model import Api
from exporter.sources.refusals import Refusal

ApiId = str
StageKey = tuple[ApiId, str]
"""An API's id and a stage's name."""


class Level(StrEnum):
    """How much a stage writes into its execution log, as API Gateway names it."""

    OFF = "OFF"
    ERROR = "ERROR"
    INFO = "INFO"
    UNKNOWN = "unknown"
    """Nobody tells: the account cannot be asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A stage as API Gateway describes it."""

    api_id: str
    api_name: str
    api_type: str
    """REST, HTTP or WEBSOCKET."""
    name: str
    api_tags: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    deployment_ids: tuple[str, ...] = ()
    """What is deployed to it: its deployment, then its canary's."""
    access_arn: str | None = None
    """Where its access lines go: a log group's ARN, or a Firehose stream's."""
    access_format: str = ""
    level: Level = Level.OFF
    """What methods without a setting of their own log; always OFF for HTTP APIs, which have no execution log."""
    own_levels: Mapping[str, Level] = field(default_factory=dict)
    """Methods (`/orders/GET`) or routes with a level of their own."""
    traced: tuple[str, ...] = ()
    """The methods whose requests and responses are logged whole (full data tracing); `*` stands for the stage."""
    largest_timeout_ms: int | None = None
    """The largest timeout of its API's integrations; None where it could not be read."""

    @property
    def key(self) -> StageKey:
        """What tells it from the other stages of its account and region."""
        return self.api_id, self.name

    @property
    def levels(self) -> frozenset[Level]:
        """The levels that any of its methods log at."""
        return frozenset((self.level, *self.own_levels.values()))

    @property
    def logs_execution(self) -> bool:
        """Whether any method writes execution lines."""
        return self.levels != {Level.OFF}

    @property
    def access_group(self) -> str | None:
        """The log group of its access lines; None if there is none, or they go elsewhere."""
        return None if self.access_arn is None else group_of_arn(self.access_arn)


class GroupFacts(NamedTuple):
    """A log group as CloudWatch Logs describes it."""

    created_at_ms: int | None
    retention_days: int | None
    """None: for ever."""
    stored_bytes: int | None
    """What it holds by CloudWatch's own account, hours behind and after compression."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """Where a stage's execution lines are delivered instead of the group that API Gateway manages (vended logs)."""

    groups: tuple[str, ...] = ()
    """Log groups of the user's own."""
    elsewhere: tuple[str, ...] = ()
    """Destinations that are no log groups, by the type that CloudWatch Logs names: `S3`, `FH`, `XRAY`."""


class Problem(NamedTuple):
    """A call that did not bring what it was made for."""

    refusal: Refusal
    api: str | None = None
    """The name of the API it was made for, if it was for one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """All that is known of one account and region. What a failed call did not bring is as it was known before."""

    account: str
    """The account's name in the configuration."""
    owner: str
    """Whose its log groups are: `LogGroup.account` of them."""
    account_id: str
    """Its 12 digits, or `unknown`."""
    region: str
    stages: tuple[Stage, ...] = ()
    groups: Mapping[str, GroupFacts | None] = field(default_factory=dict)
    """The groups that were looked for: None means that it is not there; a name that is missing was never found out."""
    deliveries: Mapping[StageKey, Delivery] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def api_of(self, stage: Stage) -> Api:
        """Whom failures of this stage are counted for."""
        return Api(
            id=stage.api_id,
            name=stage.api_name,
            stage=stage.name,
            type=stage.api_type,
            region=self.region,
            account_id=self.account_id,
        )


def group_of_arn(arn: str) -> str | None:
    """The name of the log group that an ARN names; None for what is no log group."""
    read = read_log_group_arn(arn)
    return None if read is None else read.name


def execution_group_names(stage: Stage) -> tuple[str, ...]:
    """The names that API Gateway's own execution log group of a stage may have; the likeliest first.

    REST APIs have one name. For WebSocket APIs both are documented (Datadog's forwarder and AWS's texts differ). A
    group that takes the access lines is no candidate.
    """
    managed = f"API-Gateway-Execution-Logs_{stage.api_id}/{stage.name}"
    names = {
        "REST": (managed,),
        "WEBSOCKET": (f"/aws/apigateway/{stage.api_id}/{stage.name}", managed),
    }.get(stage.api_type, ())
    return tuple(name for name in names if name != stage.access_group)
