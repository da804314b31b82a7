"""The log groups of linked accounts, as a monitoring account sees them: CloudWatch cross-account observability.

From a monitoring account CloudWatch Logs can be read and API Gateway cannot be asked, so all there is to look at are
names of log groups. `survey` lists them again and again; what a call did not bring stays as it was known before, an
account that is linked no more is gone. It decides nothing (`linking.py` does). Used by one thread at a time.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from exporter.arns import LogGroupArn, read_log_group_arn
from exporter.config.sections import Account, Discover, LinkedAccounts
from exporter.discovery.calls import Caller, CallFailed
from exporter.discovery.log_groups import group_facts
from exporter.discovery.stages import GroupFacts, Problem

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_logs.type_defs import DescribeLogGroupsRequestTypeDef, LogGroupTypeDef

_OPERATION: Final = "DescribeLogGroups"
_PAGE: Final = 50
_MOST_IDS: Final = 20
"""The most `accountIdentifiers` of a call [DescribeLogGroups]."""
EXECUTION_PREFIX: Final = "API-Gateway-Execution-Logs_"
WEBSOCKET_PREFIX: Final = "/aws/apigateway/"

GroupsByAccount = Mapping[str, Mapping[str, GroupFacts]]
"""The groups of each account by its 12 digits, by their names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkedSurvey:
    """What a monitoring account sees of the accounts that are linked to it."""

    account: str
    """The monitoring account's name in the configuration."""
    region: str
    groups: GroupsByAccount = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


class LogsClients(Protocol):
    """The client of one account and region, made when first asked for."""

    def logs(self) -> "CloudWatchLogsClient":
        """CloudWatch Logs' client."""
        ...

    def forget(self) -> None:
        """Make it anew: its credentials failed, and files may have changed."""
        ...


class LinkedPlace:
    """A monitoring account and region, and what is linked to it."""

    def __init__(
        self,
        account: Account,
        region: str,
        *,
        discover: Discover,
        linked: LinkedAccounts,
        clients: LogsClients,
        caller: Caller,
    ) -> None:
        self._account = account
        self._region = region
        self._ids = linked.ids
        self._prefixes = _prefixes(discover, linked)
        self._clients = clients
        self._caller = caller
        self._own_id = account.known_id
        self._groups: GroupsByAccount = {}

    def survey(self) -> LinkedSurvey:
        """List everything once. Never raises for a call that failed: that is a `Problem` of the survey."""
        problems: tuple[Problem, ...] = ()
        try:
            if self._own_id is None:
                self._own_id = self._asked_id()
            self._groups = self._listed()
        except CallFailed as failed:
            problems = (Problem(failed.refusal),)
            if failed.refusal.reason == "credentials":
                self._clients.forget()
        return LinkedSurvey(account=self._account.name, region=self._region, groups=self._groups, problems=problems)

    def _asked_id(self) -> str | None:
        """Whose groups are not linked ones; None for an account that has no group, and so none to be mistaken."""
        answer = self._caller.ask(_OPERATION, lambda: self._clients.logs().describe_log_groups(limit=1))
        return next((arn.account_id for group in answer.get("logGroups", []) if (arn := _arn(group))), None)

    def _listed(self) -> GroupsByAccount:
        try:
            chunks = [self._ids[at : at + _MOST_IDS] for at in range(0, len(self._ids), _MOST_IDS)] or [()]
            listed = [group for prefix in self._prefixes for ids in chunks for group in self._list(prefix, ids)]
        except CallFailed as failed:
            if failed.hopeless or not self._ids:
                raise
            # One account that is not linked spoils the question: ask for all of them, and look for oneself.
            listed = [group for prefix in self._prefixes for group in self._list(prefix, ())]
        found: defaultdict[str, dict[str, GroupFacts]] = defaultdict(dict)
        for group in listed:
            arn = _arn(group)
            if arn is None or arn.account_id in (None, self._own_id) or arn.region != self._region:
                continue
            if arn.account_id is not None and (not self._ids or arn.account_id in self._ids):
                found[arn.account_id][arn.name] = group_facts(group)
        return found

    def _list(self, prefix: str, ids: Sequence[str]) -> "list[LogGroupTypeDef]":
        def page(token: str | None) -> "tuple[list[LogGroupTypeDef], str | None]":
            request: DescribeLogGroupsRequestTypeDef = {
                "limit": _PAGE,
                "logGroupNamePrefix": prefix,
                "includeLinkedAccounts": True,
            }
            if ids:
                request["accountIdentifiers"] = list(ids)
            if token is not None:
                request["nextToken"] = token
            answer = self._clients.logs().describe_log_groups(**request)
            return answer.get("logGroups", []), answer.get("nextToken")

        return self._caller.list_all(_OPERATION, page)


def _arn(group: "LogGroupTypeDef") -> LogGroupArn | None:
    return read_log_group_arn(group.get("logGroupArn") or group.get("arn", ""))


def _prefixes(discover: Discover, linked: LinkedAccounts) -> list[str]:
    """What names of groups may begin with; none that another one covers."""
    wanted = {access.prefix for access in linked.access_logs}
    wanted |= {EXECUTION_PREFIX} if discover.rest or discover.websocket else set()
    wanted |= {WEBSOCKET_PREFIX} if discover.websocket else set()
    return sorted(prefix for prefix in wanted if not any(prefix != one and prefix.startswith(one) for one in wanted))
