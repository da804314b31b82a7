"""From stages to watches: which log groups of a stage are to be read, under which name, and how long a request lasts.

Pure. Watches that are configured by hand win over discovered ones of the same stage. A group that is known not to be
there is not watched until it is; a group of which nothing is known is.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from exporter.access_filter import failed_access_patterns
from exporter.access_log import AccessFormatError, access_parser
from exporter.arns import LogGroupArn
from exporter.config.resolving import DEFAULT_LATENESS_MS, LEAST_LATENESS_MS
from exporter.config.sections import AccessLog, ExecutionLog, Fetch
from exporter.config.settings import Watch
from exporter.discovery.stages import Delivery, GroupFacts, Stage, Survey, execution_group_names
from exporter.metrics import StageInfo
from exporter.model import UNKNOWN, Api, LogGroup

LEAST_MAX_REQUEST_MS: Final = 30_000
"""The default integration timeout of 29 s, and a second for the gateway itself."""
GATEWAY_MS: Final = 1_000
"""What the gateway itself takes beyond an integration's timeout."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StageLogs:
    """A stage and the log groups that its lines are to be read from."""

    stage: Stage
    account: str
    """The account that reads it, by its name in the configuration."""
    owner: str
    """Whose log groups are: `LogGroup.account`."""
    api: Api
    access: LogGroup | None
    execution: LogGroup | None
    missing: tuple[str, ...] = ()
    """Groups that it should write to and that are not there."""
    elsewhere: tuple[str, ...] = ()
    """Where its execution lines go instead of a log group, as CloudWatch Logs names it (`S3`, `FH`, …)."""
    mixed: bool = False
    """Whether its execution lines go to its access group: a group is read as one kind of lines, access lines here."""
    format: str = "auto"
    """How its access lines are to be read: the stage's own format, `auto` where that cannot be."""
    format_refused: str | None = None
    """Why its own format cannot be read."""
    linked: bool = False
    """Whether it is seen through a monitoring account only: API Gateway could not be asked about it."""
    unread: tuple[str, ...] = ()
    """Groups that may be its access log, too, and are not read."""

    @property
    def groups(self) -> tuple[LogGroup, ...]:
        """The groups to read."""
        return tuple(group for group in (self.access, self.execution) if group is not None)


def locate(survey: Survey) -> list[StageLogs]:
    """Where the lines of every stage are, in the order of their names."""
    stages = sorted(survey.stages, key=lambda stage: (stage.api_name, stage.name, stage.api_id))
    return [_locate(stage, survey) for stage in stages]


def _locate(stage: Stage, survey: Survey) -> StageLogs:
    missing: list[str] = []
    access = stage.access_group
    if access is not None and _is_missing(access, survey):
        missing.append(access)
        access = None
    delivery = survey.deliveries.get(stage.key, Delivery())
    execution = None
    if stage.logs_execution and not (delivery.elsewhere and not delivery.groups):
        candidates = delivery.groups or execution_group_names(stage)
        execution = _best(candidates, survey)
        if execution is None:
            missing += candidates[:1]
    mixed = execution is not None and execution == access
    if mixed:
        execution = None
    text, refused = _readable_format(stage)
    return StageLogs(
        stage=stage,
        account=survey.account,
        api=survey.api_of(stage),
        owner=survey.owner,
        access=None if access is None else LogGroup(survey.owner, survey.region, access),
        execution=None if execution is None else LogGroup(survey.owner, survey.region, execution),
        missing=tuple(missing),
        elsewhere=() if delivery.groups else delivery.elsewhere,
        mixed=mixed,
        format=text,
        format_refused=refused,
    )


def _is_missing(group: str, survey: Survey) -> bool:
    return group in survey.groups and survey.groups[group] is None


def _best(candidates: Sequence[str], survey: Survey) -> str | None:
    """The candidate that is there, of several the fullest; else the first of which nothing is known."""
    there = [name for name in candidates if survey.groups.get(name) is not None]
    if there:
        return max(there, key=lambda name: _stored_bytes(survey.groups[name]))
    return next((name for name in candidates if name not in survey.groups), None)


def _stored_bytes(facts: GroupFacts | None) -> int:
    return 0 if facts is None else facts.stored_bytes or 0


def _readable_format(stage: Stage) -> tuple[str, str | None]:
    if stage.access_group is None:
        return "auto", None
    try:
        access_parser(stage.access_format)
    except AccessFormatError as error:
        return "auto", str(error)
    # A format without variables that happens to be a format's name (`json`) means nothing but itself.
    if "$context" not in stage.access_format and "${context" not in stage.access_format:
        return "auto", "it names no $context variable"
    return stage.access_format, None


# -------------------------------------------------------------------------------------------------------------- watches


def configured_for(found: StageLogs, configured: Sequence[Watch]) -> Watch | None:
    """The configured watch that takes this stage's place, if there is one."""
    return next((watch for watch in configured if _is_same_stage(watch, found)), None)


def _is_same_stage(watch: Watch, found: StageLogs) -> bool:
    # A watch may name a group by its ARN where the configuration does not tell the account's id, and the other way.
    owners = {found.owner, found.api.account_id}
    if watch.region != found.api.region or not any(group.account in owners for group in watch.groups):
        return False
    if watch.api.id not in (UNKNOWN, found.api.id) or watch.api.stage not in (UNKNOWN, found.api.stage):
        # It says that it is for another stage, which may log into the same group.
        return False
    if watch.api.id == found.api.id and watch.api.stage == found.api.stage:
        return True
    return bool({group.name for group in watch.groups} & {group.name for group in found.groups})


def watches_of(
    found: Sequence[StageLogs], *, allowed_lateness_ms: int | None, fetch: Fetch, taken_names: Collection[str]
) -> tuple[Watch, ...]:
    """A watch for every stage that has a group to read.

    `allowed_lateness_ms`, `fetch`: as configured; a stage that needs more time gets it, one whose access lines have no
    status is read in full. `taken_names`: names no watch may have.
    """
    readable = [item for item in found if item.groups]
    return tuple(
        _watch(item, name, allowed_lateness_ms, fetch)
        for item, name in zip(readable, _names(readable, taken_names), strict=True)
    )


def _names(found: Sequence[StageLogs], taken: Collection[str]) -> Iterator[str]:
    """`{api_name}-{stage}`, with as much behind it as makes it unique.

    It depends on what is there alone, so that a restart and a second replica give the same names.
    """
    choices = [list(_choices(item)) for item in found]
    counts = Counter(name for names in choices for name in names)
    for names in choices:
        yield next((name for name in names if counts[name] == 1 and name not in taken), names[-1])


def _choices(item: StageLogs) -> Iterator[str]:
    name = f"{item.api.name}-{item.api.stage}"
    yield name
    yield f"{name}-{item.api.id}"
    yield f"{name}-{item.api.id}-{item.owner if item.linked else item.account}-{item.api.region}"


def _watch(item: StageLogs, name: str, allowed_lateness_ms: int | None, fetch: Fetch) -> Watch:
    max_request_ms = max(LEAST_MAX_REQUEST_MS, (item.stage.largest_timeout_ms or 0) + GATEWAY_MS)
    return Watch(
        name=name,
        account=item.account,
        region=item.api.region,
        api=item.api,
        access_log=None if item.access is None else AccessLog(group=_address(item, item.access), format=item.format),
        execution_log=None if item.execution is None else ExecutionLog(group=_address(item, item.execution)),
        max_request_ms=max_request_ms,
        allowed_lateness_ms=(
            max_request_ms + DEFAULT_LATENESS_MS
            if allowed_lateness_ms is None
            else max(allowed_lateness_ms, max_request_ms + LEAST_LATENESS_MS)
        ),
        fetch=fetch if item.access is None or failed_access_patterns(item.format) else "all",
        owner=None if item.linked or item.owner == item.account else item.owner,
    )


def _address(item: StageLogs, group: LogGroup) -> str:
    """How a watch names a group: in its own account by name, through another one by ARN."""
    return str(LogGroupArn(group.region, group.account, group.name)) if item.linked else group.name


def info_of(item: StageLogs) -> StageInfo:
    """What `aws_apigateway_stage_info` shows of a stage."""
    stage = item.stage
    levels = stage.levels
    return StageInfo(
        api=item.api,
        deployment_id=stage.deployment_ids[0] if stage.deployment_ids else UNKNOWN,
        access_log_group=UNKNOWN if item.access is None else item.access.name,
        execution_log_group=UNKNOWN if item.execution is None else item.execution.name,
        execution_log_level=next(level for level in ("INFO", "ERROR", UNKNOWN, "OFF") if level in levels),
        data_trace=bool(stage.traced),
    )
