"""What an account lacks for its failures to be told and explained, as values with the way to mend each of them.

A closed set of kinds. Pure: from what was found to what is said about it; no log line is ever part of it.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from exporter.access_format import AccessFormatError, Variable, pieces_of
from exporter.discovery.calls import PERMISSIONS
from exporter.discovery.stages import Level, Problem, Stage, Survey
from exporter.discovery.watching import StageLogs
from exporter.metrics.self_metrics import StageFinding
from exporter.model import Api, LogGroup

Severity = Literal["error", "warning", "info"]
"""`error`: failures are not seen at all; `warning`: they are seen, but not as they should be; `info`: good to know."""


class FindingKind(StrEnum):
    """What can be wrong with a stage's logging, or with looking at it."""

    NO_LOGS = "no_logs"
    NO_ACCESS_LOG = "no_access_log"
    ACCESS_TO_FIREHOSE = "access_to_firehose"
    ACCESS_WITHOUT_ID = "access_without_id"
    ACCESS_WITHOUT_STATUS = "access_without_status"
    ACCESS_FORMAT_UNREADABLE = "access_format_unreadable"
    EXECUTION_OFF = "execution_off"
    EXECUTION_ELSEWHERE = "execution_elsewhere"
    IDS_CANNOT_JOIN = "ids_cannot_join"
    DATA_TRACE = "data_trace"
    SHARED_GROUP = "shared_group"
    GROUP_MISSING = "group_missing"
    DENIED = "denied"
    NOT_REFRESHED = "not_refreshed"
    LINKED = "linked"
    NOT_LINKED = "not_linked"


SEVERITIES: Final[Mapping[FindingKind, Severity]] = {
    FindingKind.NO_LOGS: "error",
    FindingKind.NO_ACCESS_LOG: "warning",
    FindingKind.ACCESS_TO_FIREHOSE: "warning",
    FindingKind.ACCESS_WITHOUT_ID: "warning",
    FindingKind.ACCESS_WITHOUT_STATUS: "error",
    FindingKind.ACCESS_FORMAT_UNREADABLE: "warning",
    FindingKind.EXECUTION_OFF: "warning",
    FindingKind.EXECUTION_ELSEWHERE: "warning",
    FindingKind.IDS_CANNOT_JOIN: "warning",
    FindingKind.DATA_TRACE: "warning",
    FindingKind.SHARED_GROUP: "info",
    FindingKind.GROUP_MISSING: "info",
    FindingKind.DENIED: "error",
    FindingKind.NOT_REFRESHED: "warning",
    FindingKind.LINKED: "info",
    FindingKind.NOT_LINKED: "warning",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    kind: FindingKind
    account: str
    """The account's name in the configuration."""
    region: str
    api: Api | None
    """The stage; None for what concerns the account and region, or an API as a whole."""
    text: str
    """For people: what is wrong, and how to mend it."""

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return SEVERITIES[self.kind]

    @property
    def labels(self) -> StageFinding:
        """The series of `aws_apigateway_exporter_stage_findings` that shows it."""
        api = self.api or Api()
        return StageFinding(api.id, api.name, api.stage, self.kind.value)


def findings_of(survey: Survey, found: Sequence[StageLogs]) -> Iterator[Finding]:
    """Everything there is to say about one account and region. `found`: its stages, as `watching.locate` gives them."""
    for problem in survey.problems:
        kind, text = of_problem(problem)
        yield Finding(kind=kind, account=survey.account, region=survey.region, api=None, text=text)
    sharers = sharers_of(found)
    for item in found:
        for kind, text in (*_of_stage(item), *of_sharing(item, sharers)):
            yield Finding(kind=kind, account=item.account, region=item.api.region, api=item.api, text=text)


Said = tuple[FindingKind, str]
"""A kind, and for people what is wrong and how to mend it."""


def of_problem(problem: Problem) -> Said:
    """A call that failed."""
    refusal = problem.refusal
    whose = "" if problem.api is None else f" for the API {problem.api}"
    permission = PERMISSIONS.get(refusal.operation)
    if refusal.reason == "denied" and permission is not None:
        text = f"AWS denies {permission.action} ({refusal.operation}{whose}); allow it on {permission.resource}"
        return FindingKind.DENIED, f"{text}. What was known before stays in use"
    text = f"{refusal.operation}{whose} failed: {refusal.code or refusal.reason}"
    return FindingKind.NOT_REFRESHED, f"{text}. What was known before stays in use; it is tried again"


def _of_stage(item: StageLogs) -> Iterator[Said]:
    stage = item.stage
    if stage.access_arn is None and not stage.logs_execution:
        text = "the stage logs nothing: none of its failures can be seen; set an access log with a format that has"
        yield FindingKind.NO_LOGS, f"{text} $context.requestId, $context.extendedRequestId and $context.status"
        return
    yield from of_access(item)
    yield from _of_execution(item)
    for group in item.missing:
        text = f"the log group {group} is not there (yet: API Gateway makes its own with the first line)"
        yield FindingKind.GROUP_MISSING, f"{text}; it is read as soon as it is"


def of_access(item: StageLogs) -> Iterator[Said]:
    """What a stage's access log lacks."""
    stage = item.stage
    if stage.access_arn is None:
        text = "the stage has no access log: its failures are counted from execution lines alone"
        totals = ", and at level ERROR there are no totals" if Level.INFO not in stage.levels else ""
        yield FindingKind.NO_ACCESS_LOG, f"{text}{totals}; set an access log that goes to CloudWatch Logs"
        return
    if stage.access_group is None:
        text = "its access lines go to Firehose, where this exporter cannot read them"
        yield (
            FindingKind.ACCESS_TO_FIREHOSE,
            f"{text}; send them to a log group (a subscription filter can feed Firehose)",
        )
        return
    if item.format_refused is not None:
        text = f"the access log's format cannot be read as it is ({item.format_refused})"
        yield FindingKind.ACCESS_FORMAT_UNREADABLE, f"{text}; its lines are read by `auto`, as far as that goes"
    names = _variables(stage)
    if names is None:
        return
    if not names & {"requestId", "extendedRequestId"}:
        text = "the access log's format has no request id, so its lines cannot be joined with execution lines"
        yield FindingKind.ACCESS_WITHOUT_ID, f"{text}; add $context.requestId and $context.extendedRequestId"
    if "status" not in names:
        text = "the access log's format has no status, so its lines cannot tell which requests failed"
        yield FindingKind.ACCESS_WITHOUT_STATUS, f"{text}; add $context.status"


def _of_execution(item: StageLogs) -> Iterator[Said]:
    stage = item.stage
    if stage.api_type == "HTTP":
        return
    if not stage.logs_execution:
        text = "execution logging is OFF: causes are told from the access line alone"
        yield FindingKind.EXECUTION_OFF, f"{text}; set the stage's log level to ERROR, or INFO for the whole story"
        return
    silent = [method for method, level in stage.own_levels.items() if level is Level.OFF]
    if silent or stage.level is Level.OFF:
        which = _listed(silent) if silent else f"all methods but {_listed([*stage.own_levels])}"
        yield FindingKind.EXECUTION_OFF, f"execution logging is OFF for {which}; set their log level to ERROR or INFO"
    if item.elsewhere:
        text = f"its execution lines are delivered to {', '.join(item.elsewhere)} only, where they cannot be read"
        yield FindingKind.EXECUTION_ELSEWHERE, f"{text}; add a delivery to a log group, which can be a second one"
    names = _variables(stage)
    joins_by_extended = names is not None and "extendedRequestId" in names and "requestId" not in names
    if joins_by_extended and stage.api_type == "REST" and Level.ERROR in stage.levels:
        text = "access lines name the extended request id alone, and at level ERROR execution lines never name it"
        yield FindingKind.IDS_CANNOT_JOIN, f"{text}; add $context.requestId to the format, or set the level to INFO"
    if stage.traced:
        text = f"full data tracing is on for {'the stage' if '*' in stage.traced else _listed(stage.traced)}"
        advice = "whole requests and responses, secrets too, stand in its log; AWS advises against it in production"
        yield FindingKind.DATA_TRACE, f"{text}: {advice}; turn it off"


def sharers_of(found: Sequence[StageLogs]) -> Mapping[LogGroup, Sequence[StageLogs]]:
    """The stages that log to each group."""
    sharers: defaultdict[LogGroup, list[StageLogs]] = defaultdict(list)
    for item in found:
        for group in item.groups:
            sharers[group].append(item)
    return sharers


def of_sharing(item: StageLogs, sharers: Mapping[LogGroup, Sequence[StageLogs]]) -> Iterator[Said]:
    """What comes of sharing a group. `sharers`: as `sharers_of` gives them."""
    if item.access is not None and item.mixed:
        text = f"the log group {item.access.name} takes access and execution lines; only the access lines are read"
        yield FindingKind.SHARED_GROUP, f"{text}; deliver the execution lines to a group of their own"
    for group in item.groups:
        others = [f"{other.api.name}/{other.api.stage}" for other in sharers[group] if other is not item]
        if not others:
            continue
        text = f"the log group {group.name} also takes the lines of {_listed(others)}"
        if group != item.access:
            advice = "they are told apart by their request ids alone; give each stage its own group"
        elif any(other.stage.access_format != item.stage.access_format for other in sharers[group]):
            advice = "and their formats differ; give them one format, or each its own group"
        elif not {"apiId", "stage"} <= (_variables(item.stage) or set()):
            advice = "and the format does not tell them apart; add $context.apiId and $context.stage"
        else:
            advice = "they are told apart by $context.apiId and $context.stage"
        yield FindingKind.SHARED_GROUP, f"{text}; {advice}"


def _variables(stage: Stage) -> set[str] | None:
    """The `$context` variables of the stage's access format; None where it has none that can be read."""
    if stage.access_group is None:
        return None
    try:
        names = {piece.name for piece in pieces_of(stage.access_format) if isinstance(piece, Variable)}
    except AccessFormatError:
        return None
    return names or None


def _listed(names: Sequence[str], most: int = 3) -> str:
    listed = ", ".join(names[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"
