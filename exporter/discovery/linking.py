"""From names of log groups in linked accounts to stages: what a monitoring account can tell, and what it cannot.

Pure. A name tells the API's id and the stage; API Gateway's own answers (format string, timeout, level, API name) are
out of reach, so they are what the configuration says, or not known, and a finding says so.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from exporter.access_log import AccessFormatError, access_parser
from exporter.arns import LogGroupArn
from exporter.config.sections import Discover, LinkedAccessLog, LinkedAccounts
from exporter.discovery.linked import LinkedSurvey
from exporter.discovery.selection import takes
from exporter.discovery.stages import GroupFacts, Level, Stage
from exporter.discovery.watching import GATEWAY_MS, StageLogs
from exporter.model import UNKNOWN, Api, LogGroup

_EXECUTION: Final = re.compile(r"API-Gateway-Execution-Logs_(?P<id>[a-z0-9]{10})/(?P<stage>[\w-]+)", re.ASCII)
_WEBSOCKET: Final = re.compile(r"/aws/apigateway/(?P<id>[a-z0-9]{10})/(?P<stage>[\w-]+)", re.ASCII)
_HTTP_DEFAULT: Final = "$default"

_Groups = Mapping[str, GroupFacts]


class _Access(NamedTuple):
    """An access group, by what its name tells."""

    name: str
    setting: LinkedAccessLog
    stage: str | None
    """None: the name does not say it, the group takes the lines of every stage of the API."""
    api_name: str | None


class _Execution(NamedTuple):
    name: str
    api_type: str


def linked_stages(survey: LinkedSurvey, discover: Discover, linked: LinkedAccounts) -> list[StageLogs]:
    """Every stage that the names tell of and that the configuration takes, in the order of accounts and names."""
    found = [
        item
        for account_id in sorted(survey.groups)
        for item in _of_account(survey, account_id, survey.groups[account_id], linked)
    ]
    return [item for item in found if takes(discover, item.stage)]


def silent_accounts(survey: LinkedSurvey, linked: LinkedAccounts) -> list[str]:
    """The accounts that the configuration names and of which no log group is seen."""
    return [] if survey.problems else [account for account in linked.ids if not survey.groups.get(account)]


def without_doubles(direct: Sequence[StageLogs], linked: Iterable[StageLogs]) -> list[StageLogs]:
    """The linked stages that nobody else reads: an account that can be asked itself tells more of its own."""
    stages = {_stage_key(item) for item in direct}
    groups = {key for item in direct for key in _group_keys(item)}
    kept = []
    for item in linked:
        if _stage_key(item) not in stages and groups.isdisjoint(_group_keys(item)):
            kept.append(item)
            stages.add(_stage_key(item))
    return kept


def _stage_key(item: StageLogs) -> tuple[str, str, str, str]:
    return item.api.account_id, item.api.region, item.api.id, item.api.stage


def _group_keys(item: StageLogs) -> set[tuple[str, str, str]]:
    return {(item.api.account_id, group.region, group.name) for group in item.groups}


def _of_account(survey: LinkedSurvey, account_id: str, groups: _Groups, linked: LinkedAccounts) -> Iterator[StageLogs]:
    accesses = _accesses(account_id, groups, linked)
    taken = {access.name for found in accesses.values() for access in found}
    executions = _executions(groups, taken)
    keys = {*executions, *((api_id, access.stage) for api_id, found in accesses.items() for access in found)}
    # A group without a stage in its name belongs to the stages that others name.
    staged = {api_id for api_id, stage in keys if stage is not None}
    for api_id, stage in sorted(keys, key=lambda key: (key[0], key[1] or "")):
        if stage is None and api_id in staged:
            continue
        mine = [access for access in accesses.get(api_id, []) if access.stage in (stage, None)]
        # A name that says the stage is nearer than one that does not; of several the fullest.
        mine.sort(key=lambda access: (access.stage is None, -(groups[access.name].stored_bytes or 0), access.name))
        names = _Names(account_id, api_id, stage, mine, executions.get((api_id, stage)))
        yield _stage(survey, names, linked)


def _accesses(account_id: str, groups: _Groups, linked: LinkedAccounts) -> Mapping[str, list[_Access]]:
    found: defaultdict[str, list[_Access]] = defaultdict(list)
    settings = [one for one in linked.access_logs if one.account_id in (None, account_id)]
    for name in groups:
        for setting in settings:
            match = setting.pattern.fullmatch(name)
            if match is None:
                continue
            told = match.groupdict()
            found[told["api_id"]].append(_Access(name, setting, told.get("stage"), told.get("api_name")))
            break
    return found


def _executions(groups: _Groups, taken: set[str]) -> Mapping[tuple[str, str | None], _Execution]:
    found: dict[tuple[str, str | None], _Execution] = {}
    for name in sorted(groups):
        match = _EXECUTION.fullmatch(name) or _WEBSOCKET.fullmatch(name)
        if match is None or name in taken:
            continue
        key = (match["id"], match["stage"])
        other = found.get(key)
        # WebSocket APIs write to one of two groups; where both are there, the fullest is it.
        if other is None or (groups[name].stored_bytes or 0) > (groups[other.name].stored_bytes or 0):
            is_socket = other is not None or match.re is _WEBSOCKET
            found[key] = _Execution(name=name, api_type="WEBSOCKET" if is_socket else "REST")
        else:
            found[key] = _Execution(name=other.name, api_type="WEBSOCKET")
    return found


class _Names(NamedTuple):
    """What the names of groups tell of one stage."""

    account_id: str
    api_id: str
    stage: str | None
    accesses: Sequence[_Access]
    """Its access group, then others that could be it."""
    execution: _Execution | None


def _stage(survey: LinkedSurvey, names: _Names, linked: LinkedAccounts) -> StageLogs:
    account_id, api_id, stage, accesses, execution = names
    access = accesses[0] if accesses else None
    text, refused = _format(access)
    api_name = next((one.api_name for one in accesses if one.api_name), api_id)
    api_type = execution.api_type if execution is not None else "REST" if access is None else access.setting.type
    if api_type == "HTTP" and stage == "default":
        stage = _HTTP_DEFAULT  # the name of a log group cannot hold the `$`
    arn = None if access is None else str(LogGroupArn(survey.region, account_id, access.name))
    return StageLogs(
        stage=Stage(
            api_id=api_id,
            api_name=api_name,
            api_type=api_type,
            name=stage or UNKNOWN,
            access_arn=arn,
            access_format=text if "$context" in text else "",
            level=Level.OFF if execution is None else Level.UNKNOWN,
            largest_timeout_ms=linked.max_request_ms - GATEWAY_MS,
        ),
        account=survey.account,
        owner=account_id,
        api=Api(
            id=api_id,
            name=api_name,
            stage=stage or UNKNOWN,
            type=api_type,
            region=survey.region,
            account_id=account_id,
        ),
        access=None if access is None else LogGroup(account_id, survey.region, access.name),
        execution=None if execution is None else LogGroup(account_id, survey.region, execution.name),
        format=text,
        format_refused=refused,
        linked=True,
        unread=tuple(one.name for one in accesses[1:]),
    )


def _format(access: _Access | None) -> tuple[str, str | None]:
    if access is None:
        return "auto", None
    try:
        access_parser(access.setting.format)
    except AccessFormatError as error:
        return "auto", str(error)
    return access.setting.format, None
