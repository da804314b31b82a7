"""Everything put together: all accounts and regions looked at, and what is to be watched from now on.

`refresh` is a tick of the daemon: it asks AWS, and gives the whole of what is known, old where a call failed. It never
reads a log line, changes no watch by itself, and starts no thread that outlives it.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import boto3

from exporter.config.sections import Account, Discover
from exporter.config.settings import Config, Watch
from exporter.discovery.calls import MANAGEMENT_CALLS_PER_SECOND, Caller
from exporter.discovery.findings import Finding, FindingKind, findings_of
from exporter.discovery.forecast import PlaceForecast, Volume, forecast, stored_volume
from exporter.discovery.linked import LinkedPlace, LinkedSurvey
from exporter.discovery.linked_findings import linked_findings
from exporter.discovery.linking import linked_stages, without_doubles
from exporter.discovery.place import Place
from exporter.discovery.stages import Survey
from exporter.discovery.watching import StageLogs, configured_for, info_of, locate, watches_of
from exporter.metrics import StageInfo
from exporter.model import LogGroup
from exporter.sources.budget import CallBudget
from exporter.sources.sessions import client_config

if TYPE_CHECKING:
    from mypy_boto3_apigateway import APIGatewayClient
    from mypy_boto3_apigatewayv2 import ApiGatewayV2Client
    from mypy_boto3_logs import CloudWatchLogsClient

_MOST_PLACES_AT_ONCE = 8

OnCall = Callable[[str, str, str, str, int], None]
"""Told of every call: account, region, operation, code, bytes of log data (0: discovery reads none)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Discovered:
    """What was found."""

    watches: tuple[Watch, ...]
    """A watch for every stage that has something to read and is not configured by hand."""
    stages: tuple[StageInfo, ...]
    """Every stage found that is not configured by hand, those without anything to read too."""
    configured: Mapping[str, StageInfo]
    """What was found of stages that are configured by hand, by the name of their watch."""
    findings: tuple[Finding, ...]
    forecast: tuple[PlaceForecast, ...]
    """What the discovered and the configured watches take together."""
    stage_counts: Mapping[tuple[str, str], int]
    """How many stages there are, by account name and region."""
    succeeded_at_ms: int | None
    """When every account and region last told all that it was asked; None if that never was."""


class Discovery:
    """Finds what is to be watched. `refresh` may be called from any thread; two at a time follow each other.

    `open_session(account name, region)` gives the session that the account is reached by; `logs_budget(account name,
    region)` the call budget that everything reading logs there shares. `wait(seconds)` pauses the calling thread and
    says True as soon as the program stops (`threading.Event.wait`). `clock` gives seconds since the epoch, `ticks`
    seconds that never step back.
    """

    def __init__(
        self,
        config: Config,
        discover: Discover,
        *,
        open_session: Callable[[str, str], boto3.Session],
        logs_budget: Callable[[str, str], CallBudget],
        on_call: OnCall,
        wait: Callable[[float], bool],
        clock: Callable[[], float],
        ticks: Callable[[], float],
    ) -> None:
        self._config = config
        self._discover = discover
        self._clock = clock
        self._lock = threading.Lock()
        self._succeeded_at_ms: int | None = None
        self._places = [
            Place(
                account,
                region,
                discover=discover,
                clients=_SessionClients(partial(open_session, account.name, region)),
                management=Caller(budget=management, on_call=partial(on_call, account.name, region), wait=wait),
                logs=Caller(
                    budget=logs_budget(account.name, region),
                    on_call=partial(on_call, account.name, region),
                    wait=wait,
                ),
            )
            # AWS counts these calls by account, whatever the region.
            for account, management in _with_budgets(config, wait, ticks)
            for region in account.regions
        ]
        self._discover = discover
        linked = discover.linked_accounts
        self._linked_places = [
            LinkedPlace(
                account,
                region,
                discover=discover,
                linked=linked,
                clients=_SessionClients(partial(open_session, account.name, region)),
                caller=Caller(
                    budget=logs_budget(account.name, region),
                    on_call=partial(on_call, account.name, region),
                    wait=wait,
                ),
            )
            for account in config.accounts
            if linked is not None and linked.through in (None, account.name)
            for region in account.regions
        ]
        self._unplaced = [account.name for account in config.accounts if not account.regions]

    def refresh(self) -> Discovered:
        """Look at everything once.

        It takes as long as the paced calls do: about one second for each API that changed. What AWS refuses is a
        finding; only what nobody foresaw is raised.
        """
        with self._lock:
            surveys: list[Survey] = []
            linked: list[LinkedSurvey] = []
            if self._places:
                most = min(_MOST_PLACES_AT_ONCE, len(self._places) + len(self._linked_places))
                with ThreadPoolExecutor(most, "discovery") as pool:
                    looking = pool.map(LinkedPlace.survey, self._linked_places)
                    surveys = list(pool.map(Place.survey, self._places))
                    linked = list(looking)
            now_ms = int(self._clock() * 1000)
            problems = [*(survey.problems for survey in surveys), *(survey.problems for survey in linked)]
            if not self._unplaced and not any(problems):
                self._succeeded_at_ms = now_ms
            return self._judged(surveys, linked, now_ms)

    def _judged(self, surveys: list[Survey], linked: list[LinkedSurvey], now_ms: int) -> Discovered:
        located = [locate(survey) for survey in surveys]
        seen = self._linked_stages([item for items in located for item in items], linked)
        located += seen
        by_hand = self._config.watches
        free: list[StageLogs] = []
        configured: dict[str, StageInfo] = {}
        for item in (item for items in located for item in items):
            watch = configured_for(item, by_hand)
            if watch is None:
                free.append(item)
            else:
                configured.setdefault(watch.name, info_of(item))
        watches = watches_of(
            free,
            allowed_lateness_ms=self._config.allowed_lateness_ms,
            fetch=self._discover.fetch,
            taken_names={watch.name for watch in by_hand},
        )
        findings = [
            finding
            for survey, items in zip(surveys, located[: len(surveys)], strict=True)
            for finding in findings_of(survey, items)
        ]
        settings = self._discover.linked_accounts
        if settings is not None:
            findings += [
                finding
                for survey, items in zip(linked, seen, strict=True)
                for finding in linked_findings(survey, items, settings)
            ]
        findings += [_without_region(name) for name in self._unplaced]
        return Discovered(
            watches=watches,
            stages=tuple(info_of(item) for item in free),
            configured=configured,
            findings=tuple(findings),
            forecast=forecast(
                (*by_hand, *watches),
                _volumes(surveys, linked, now_ms),
                budgets={account.name: account.calls_per_second for account in self._config.accounts},
                poll_interval_ms=self._config.poll_interval_ms,
            ),
            stage_counts=_counts(surveys, seen),
            succeeded_at_ms=self._succeeded_at_ms,
        )

    def _linked_stages(self, direct: list[StageLogs], linked: list[LinkedSurvey]) -> list[list[StageLogs]]:
        """The stages of each linked survey that nobody in front of it reads."""
        found: list[list[StageLogs]] = []
        settings = self._discover.linked_accounts
        if settings is None:
            return found
        for survey in linked:
            items = linked_stages(survey, self._discover, settings)
            before = [*direct, *(item for items in found for item in items)]
            found.append(without_doubles(before, items))
        return found


class _SessionClients:
    """The clients of a place, made from one session when first asked for."""

    def __init__(self, open_session: Callable[[], boto3.Session]) -> None:
        self._open_session = open_session
        self._session: boto3.Session | None = None
        self._rest: APIGatewayClient | None = None
        self._http: ApiGatewayV2Client | None = None
        self._logs: CloudWatchLogsClient | None = None

    def rest(self) -> "APIGatewayClient":
        if self._rest is None:
            self._rest = self._opened().client("apigateway", config=client_config(max_connections=1))
        return self._rest

    def http(self) -> "ApiGatewayV2Client":
        if self._http is None:
            self._http = self._opened().client("apigatewayv2", config=client_config(max_connections=1))
        return self._http

    def logs(self) -> "CloudWatchLogsClient":
        if self._logs is None:
            self._logs = self._opened().client("logs", config=client_config(max_connections=1))
        return self._logs

    def forget(self) -> None:
        self._session = self._rest = self._http = self._logs = None

    def _opened(self) -> boto3.Session:
        if self._session is None:
            self._session = self._open_session()
        return self._session


def _with_budgets(
    config: Config, wait: Callable[[float], bool], ticks: Callable[[], float]
) -> list[tuple[Account, CallBudget]]:
    return [(account, CallBudget(MANAGEMENT_CALLS_PER_SECOND, clock=ticks, wait=wait)) for account in config.accounts]


def _counts(surveys: list[Survey], seen: list[list[StageLogs]]) -> Mapping[tuple[str, str], int]:
    counts = Counter({(survey.account, survey.region): len(survey.stages) for survey in surveys})
    counts.update((item.account, item.api.region) for items in seen for item in items)
    return counts


def _volumes(surveys: list[Survey], linked: list[LinkedSurvey], now_ms: int) -> dict[LogGroup, Volume]:
    theirs = {
        LogGroup(account_id, survey.region, name): volume
        for survey in linked
        for account_id, groups in survey.groups.items()
        for name, facts in groups.items()
        if (volume := stored_volume(facts, now_ms=now_ms)) is not None
    }
    return theirs | {
        LogGroup(survey.owner, survey.region, name): volume
        for survey in surveys
        for name, facts in survey.groups.items()
        if (volume := stored_volume(facts, now_ms=now_ms)) is not None
    }


def _without_region(account: str) -> Finding:
    text = "the account names no region to look into; add `regions: […]` to it, or set AWS_REGION"
    return Finding(kind=FindingKind.NOT_REFRESHED, account=account, region="", api=None, text=text)
