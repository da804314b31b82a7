"""Where log groups are read: one source and one call budget for each account and region, shared by all who read there.

It names the concrete source and opens the boto3 sessions. An account whose access or budget changes gets new sources;
the others keep their connections and what they know of AWS's clock.
"""

import threading
import time
from collections.abc import Sequence
from functools import partial

import boto3

from exporter.config import Account
from exporter.metrics.self_metrics import SelfMetrics
from exporter.sources.budget import CallBudget
from exporter.sources.cloudwatch import CloudWatchSource
from exporter.sources.lanes import Lanes
from exporter.sources.sessions import AccountAccess, logs_client, open_session

_MOST_CONNECTIONS = 32
_LANES = 8
"""So many threads at most list parts of windows, in the whole process; the watches' own threads are not counted."""


class Places:
    """Sources by place: account name and region. `stop` ends every wait of theirs."""

    def __init__(self, accounts: Sequence[Account], self_metrics: SelfMetrics, stop: threading.Event) -> None:
        self._metrics = self_metrics
        self._stop = stop
        self._accounts = {account.name: account for account in accounts}
        self._sources: dict[tuple[str, str], CloudWatchSource] = {}
        self._budgets: dict[tuple[str, str], CallBudget] = {}
        self._lanes = Lanes(_LANES)

    def set_accounts(self, accounts: Sequence[Account]) -> None:
        """Reach accounts as `accounts` says from now on."""
        new = {account.name: account for account in accounts}
        same = {name for name in new if name in self._accounts and _reached_alike(self._accounts[name], new[name])}
        self._sources = {place: source for place, source in self._sources.items() if place[0] in same}
        self._budgets = {place: budget for place, budget in self._budgets.items() if place[0] in same}
        # Watches of an account that is gone may still be ending.
        self._accounts |= new

    def source(self, account: str, region: str) -> CloudWatchSource:
        """The source of a place, made when first asked for; it connects when first used."""
        place = (account, region)
        if place not in self._sources:
            access = _access(self._accounts[account])
            self._sources[place] = CloudWatchSource(
                lambda: logs_client(open_session(access, region), max_connections=_MOST_CONNECTIONS),
                budget=self.budget(account, region),
                on_call=partial(self.count, account, region),
                wait=self._stop.wait,
                own={account, self._accounts[account].owner},
                lanes=self._lanes,
            )
        return self._sources[place]

    def budget(self, account: str, region: str) -> CallBudget:
        """The call budget of a place, shared by everything that reads logs there."""
        place = (account, region)
        if place not in self._budgets:
            rate = self._accounts[account].calls_per_second
            self._budgets[place] = CallBudget(rate, clock=time.monotonic, wait=self._stop.wait)
        return self._budgets[place]

    def session(self, account: str, region: str) -> boto3.Session:
        """A session by which the account is reached."""
        return open_session(_access(self._accounts[account]), region)

    def owner(self, account: str) -> str:
        """Whose an account's own log groups are: `LogGroup.account` of them."""
        return self._accounts[account].owner

    def rate(self, account: str) -> float:
        """The calls a second that are allowed in each region of an account."""
        return self._accounts[account].calls_per_second

    def close(self) -> None:
        """Close all connections."""
        for source in self._sources.values():
            source.close()

    def count(self, account: str, region: str, operation: str, code: str, response_bytes: int) -> None:
        """Tell the metrics of a call to AWS."""
        self._metrics.aws_requests.labels(account, region, operation, code).inc()
        self._metrics.aws_response_bytes.labels(account, region).inc(response_bytes)
        if "hrottl" in code or code in {"LimitExceededException", "TooManyRequestsException"}:
            self._metrics.aws_throttles.labels(account, region, operation).inc()


def _access(account: Account) -> AccountAccess:
    return AccountAccess(
        profile=account.profile,
        role_arn=account.role_arn,
        external_id=None if account.external_id is None else account.external_id.get_secret_value(),
    )


def _reached_alike(one: Account, other: Account) -> bool:
    return (_access(one), one.calls_per_second, one.owner) == (_access(other), other.calls_per_second, other.owner)
