"""Discovery: from what an account holds to watches, findings and a forecast; and what a refused call must not break."""

import json
import re
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import boto3
import pytest

from exporter.access_log import access_parser
from exporter.config import AccessLog, Account, Discover, ExecutionLog, Watch, load_config
from exporter.discovery import Discovery, FindingKind, Volume
from exporter.discovery.calls import MANAGEMENT_CALLS_PER_SECOND, PERMISSIONS
from exporter.discovery.findings import SEVERITIES
from exporter.discovery.forecast import PAGE_BYTES, STORED_SHARE, forecast, pages_per_poll, quota_of, stored_volume
from exporter.discovery.stages import GroupFacts
from exporter.metrics.self_metrics import SelfMetrics
from exporter.model import Api, LogGroup
from exporter.sources.budget import BURST_SECONDS, CallBudget
from exporter.sources.sessions import AccountAccess, open_session
from exporter.windows import Timing, wide_is_cheaper
from tests.fakes.gateway_account import ACCOUNT_ID, FakeAccount, group_arn

DOCUMENT = Path(__file__).parent.parent / "docs/discovery.md"
REGION = "eu-west-1"
JSON_FORMAT = '{"requestId":"$context.requestId","status":"$context.status"}'
DAY_MS = 86_400_000
DENIED = (403, "AccessDeniedException")
BROKEN = (500, "InternalFailure")


class Time:
    """A clock that only waiting moves."""

    def __init__(self):
        self.seconds = 1_800_000_000.0
        self.begun = []

    def wait(self, seconds):
        self.seconds += seconds
        return False

    def now(self):
        return self.seconds


def config_with(*, watches=(), accounts=(), **changes):
    config = load_config("exporter.yaml", text="watches: [{name: x, region: eu-west-1, access_log: {group: x}}]")
    accounts = accounts or (Account(name="default", regions=(REGION,)),)
    return replace(config, watches=tuple(watches), accounts=tuple(accounts), **changes)


class Daemon:
    """What the daemon gives to discovery, over fake accounts by their name and region."""

    def __init__(self, fakes, *, discover=None, config=None, wait=None):
        self.time = Time()
        self.calls = Counter()
        self.discovery = Discovery(
            config or config_with(),
            discover or Discover(),
            open_session=lambda account, region: fakes[account, region].session(),
            logs_budget=lambda *_: CallBudget(2, clock=self.time.now, wait=self.time.wait),
            on_call=self._on_call,
            wait=wait or self.time.wait,
            clock=self.time.now,
            ticks=self.time.now,
        )

    def _on_call(self, account, region, operation, code, _):
        self.calls[account, region, operation, code] += 1

    def refresh(self):
        return self.discovery.refresh()


@pytest.fixture
def account():
    return FakeAccount()


def discover_in(account, **settings):
    return Daemon({("default", REGION): account}, **settings)


def names(discovered):
    return [watch.name for watch in discovered.watches]


def kinds(discovered):
    return {finding.kind for finding in discovered.findings}


def the_finding(discovered, kind):
    (finding,) = [finding for finding in discovered.findings if finding.kind is kind]
    return finding


# ---------------------------------------------------------------------------------------------------------- what is found


def test_a_rest_stage_becomes_a_watch_with_its_own_format_and_groups(account):
    api = account.rest("orders", access="access/orders", form=JSON_FORMAT, timeouts_ms=[10_000, 29_000])
    (watch,) = discover_in(account).refresh().watches
    assert watch == Watch(
        name="orders-prod",
        account="default",
        region=REGION,
        api=Api(id=api.id, name="orders", stage="prod", type="REST", region=REGION, account_id=ACCOUNT_ID),
        access_log=AccessLog(group="access/orders", format=JSON_FORMAT),
        execution_log=ExecutionLog(group=f"API-Gateway-Execution-Logs_{api.id}/prod"),
        max_request_ms=30_000,
        allowed_lateness_ms=330_000,
        fetch="all",
    )


def test_discovered_watches_fetch_as_configured_where_their_access_lines_have_a_status(account):
    account.rest("orders", access="access/orders", form=JSON_FORMAT)
    account.rest("blind", access="access/blind", form="$context.requestId $context.path")
    watches = discover_in(account, discover=Discover(fetch="failures")).refresh().watches
    assert {watch.name: watch.fetch for watch in watches} == {"orders-prod": "failures", "blind-prod": "all"}


def test_an_http_stage_has_an_access_log_only(account):
    account.http("shop", access="access/shop", timeouts_ms=[5_000], level="INFO")
    discovered = discover_in(account).refresh()
    (watch,) = discovered.watches
    assert (watch.name, watch.api.type, watch.execution_log) == ("shop-$default", "HTTP", None)
    assert not discovered.findings


@pytest.mark.parametrize("naming", ["/aws/apigateway/{}/live", "API-Gateway-Execution-Logs_{}/live"])
def test_a_websocket_stage_is_read_from_whichever_group_is_there(account, naming):
    api = account.http("chat", "live", kind="WEBSOCKET", access="access/chat", level="INFO")
    account.group(naming.format(api.id))
    (watch,) = discover_in(account).refresh().watches
    assert watch.execution_log == ExecutionLog(group=naming.format(api.id))


def test_of_two_websocket_groups_the_one_that_is_filled_is_read(account):
    api = account.http("chat", "live", kind="WEBSOCKET", level="INFO")
    account.group(f"/aws/apigateway/{api.id}/live")
    account.group(f"API-Gateway-Execution-Logs_{api.id}/live", stored_bytes=5)
    (watch,) = discover_in(account).refresh().watches
    assert watch.execution_log == ExecutionLog(group=f"API-Gateway-Execution-Logs_{api.id}/live")


def test_a_websocket_access_group_that_looks_like_an_execution_group_is_not_taken_for_one(account):
    api = account.http("chat", "live", kind="WEBSOCKET", api_id="ws1", access="/aws/apigateway/ws1/live", level="INFO")
    account.group(f"API-Gateway-Execution-Logs_{api.id}/live")
    (watch,) = discover_in(account).refresh().watches
    assert [group.name for group in watch.groups] == ["/aws/apigateway/ws1/live", "API-Gateway-Execution-Logs_ws1/live"]


def test_a_delivery_moves_execution_lines_to_the_users_own_group(account):
    api = account.rest("orders", access="access/orders")
    account.group("vended/orders")
    account.deliver(api, "prod", "arn:aws:s3:::bucket", kind="S3")
    account.deliver(api, "prod", group_arn("vended/orders") + ":*")
    discovered = discover_in(account).refresh()
    assert discovered.watches[0].execution_log == ExecutionLog(group="vended/orders")
    assert not discovered.findings


def test_a_delivery_of_another_kind_of_log_moves_nothing(account):
    api = account.rest("orders")
    account.deliver(api, "prod", group_arn("other"), log_type="ACCESS_LOGS")
    (watch,) = discover_in(account).refresh().watches
    assert watch.execution_log == ExecutionLog(group=f"API-Gateway-Execution-Logs_{api.id}/prod")


@pytest.mark.parametrize(
    ("timeouts_ms", "lateness_ms", "expected"),
    [
        ([29_000, 120_000, 1_000], None, (121_000, 421_000)),
        ([900_000], 330_000, (901_000, 961_000)),
        ([29_000], 600_000, (30_000, 600_000)),
    ],
)
def test_a_request_may_last_as_long_as_the_largest_integration_timeout(account, timeouts_ms, lateness_ms, expected):
    account.page_size = 1
    account.rest("orders", access="access/orders", timeouts_ms=timeouts_ms)
    (watch,) = discover_in(account, config=config_with(allowed_lateness_ms=lateness_ms)).refresh().watches
    assert (watch.max_request_ms, watch.allowed_lateness_ms) == expected


def test_stage_facts_are_told(account):
    api = account.rest("orders", access="access/orders", level="ERROR", deployment="dep42")
    account.rest("silent", level=None)
    infos = {info.api.name: info for info in discover_in(account).refresh().stages}
    orders, silent = infos["orders"], infos["silent"]
    assert (orders.deployment_id, orders.execution_log_level, orders.data_trace) == ("dep42", "ERROR", False)
    assert orders.execution_log_group == f"API-Gateway-Execution-Logs_{api.id}/prod"
    assert (silent.access_log_group, silent.execution_log_level) == ("unknown", "OFF")


def test_every_page_of_every_listing_is_read(account):
    account.page_size = 1
    for number in range(4):
        api = account.rest(f"rest{number}", access=f"access/rest{number}", timeouts_ms=[1_000, 40_000 + number])
        account.group(f"vended/{number}")
        account.deliver(api, "prod", group_arn(f"vended/{number}"))
        socket = account.http(f"http{number}", "a", kind="WEBSOCKET", access=f"access/http{number}", timeouts_ms=[1, 2])
        account.http("", "b", api_id=socket.id, access=f"access/http{number}b")
    discovered = discover_in(account).refresh()
    assert len(discovered.watches) == 12
    rest = [watch for watch in discovered.watches if watch.api.type == "REST"]
    assert [watch.execution_log.group for watch in rest] == [f"vended/{number}" for number in range(4)]
    assert [watch.max_request_ms for watch in rest] == [41_000 + number for number in range(4)]


def test_200_stages_are_found_politely(account):
    for number in range(200):
        account.rest(f"api{number}", access=f"/aws/apigateway/access/{number}")
    daemon = discover_in(account)
    began = daemon.time.seconds
    assert len(set(names(daemon.refresh()))) == 200
    management = sum(account.calls[name] for name in ("GetRestApis", "GetApis", "GetStages", "GetResources"))
    assert management <= (daemon.time.seconds - began + BURST_SECONDS) * MANAGEMENT_CALLS_PER_SECOND + 1
    assert account.calls["DescribeLogGroups"] <= 10

    account.calls.clear()
    daemon.refresh()
    assert account.calls["GetResources"] == 0, "what was not deployed anew needs no second look"


# -------------------------------------------------------------------------------------------------------------- filters


@pytest.mark.parametrize(
    ("discover", "expected"),
    [
        ({}, {"orders-prod", "orders-dev", "billing-prod", "chat-live", "shop-$default"}),
        ({"rest": False}, {"chat-live", "shop-$default"}),
        ({"http": False}, {"orders-prod", "orders-dev", "billing-prod", "chat-live"}),
        ({"websocket": False, "http": False}, {"orders-prod", "orders-dev", "billing-prod"}),
        ({"include": {"names": ["orders", "bill*"]}}, {"orders-prod", "orders-dev", "billing-prod"}),
        ({"include": {"names": ["ORDERS"]}}, set()),
        ({"include": {"stages": ["pro?"]}}, {"orders-prod", "billing-prod"}),
        ({"include": {"names": ["orders"], "stages": ["prod"]}}, {"orders-prod"}),
        ({"include": {"tags": {"team": "pay*"}}}, {"billing-prod"}),
        ({"include": {"tags": {"watch": "yes"}}}, {"orders-prod"}),
        ({"include": {"tags": {"team": "*", "watch": "*"}}}, set()),
        ({"exclude": {"tags": {"team": "*"}}}, {"orders-prod", "orders-dev", "chat-live", "shop-$default"}),
        ({"exclude": {"names": ["orders"], "stages": ["live"]}}, {"billing-prod", "shop-$default"}),
        ({"include": {"names": ["orders"]}, "exclude": {"stages": ["dev"]}}, {"orders-prod"}),
        ({"exclude": {"tags": {"watch": "yes"}}}, {"orders-dev", "billing-prod", "chat-live", "shop-$default"}),
    ],
)
def test_filters(account, discover, expected):
    orders = account.rest("orders", access="access/orders", stage_tags={"watch": "yes"})
    account.rest("orders", "dev", api_id=orders.id, access="access/dev")
    account.rest("billing", access="access/billing", tags={"team": "payments"})
    account.http("chat", "live", kind="WEBSOCKET", access="access/chat")
    account.http("shop", access="access/shop")
    assert set(names(discover_in(account, discover=Discover.model_validate(discover)).refresh())) == expected


def test_what_is_filtered_by_name_costs_no_call(account):
    account.rest("orders", access="access/orders")
    account.rest("legacy", access="access/legacy")
    discover_in(account, discover=Discover.model_validate({"exclude": {"names": ["legacy"]}})).refresh()
    assert (account.calls["GetStages"], account.calls["GetResources"]) == (1, 1)


# ---------------------------------------------------------------------------------------------------------------- names


def test_names_stay_unique_and_do_not_depend_on_what_was_there_before(account):
    one = account.rest("orders", access="access/1")
    assert names(discover_in(account).refresh()) == ["orders-prod"]
    two = account.rest("orders", access="access/2")
    both = sorted(names(discover_in(account).refresh()))
    assert both == sorted([f"orders-prod-{one.id}", f"orders-prod-{two.id}"])


def test_a_name_that_is_configured_by_hand_is_not_taken(account):
    api = account.rest("orders", access="access/orders")
    by_hand = Watch(
        name="orders-prod",
        account="default",
        region=REGION,
        api=Api(id="other", stage="prod"),
        access_log=AccessLog(group="another"),
        execution_log=None,
        max_request_ms=30_000,
        allowed_lateness_ms=330_000,
        fetch="all",
    )
    config = config_with(watches=[by_hand])
    assert names(discover_in(account, config=config).refresh()) == [f"orders-prod-{api.id}"]


def by_hand(*, access=None, execution=None, **api):
    return Watch(
        name="by-hand",
        account="default",
        region=REGION,
        api=Api(**api),
        access_log=None if access is None else AccessLog(group=access),
        execution_log=None if execution is None else ExecutionLog(group=execution),
        max_request_ms=30_000,
        allowed_lateness_ms=330_000,
        fetch="all",
    )


@pytest.mark.parametrize(
    ("watch", "left"),
    [
        (by_hand(access="shared"), []),
        (by_hand(access="shared", id="a1"), ["two-prod"]),
        (by_hand(access="shared", id="a1", stage="prod"), ["two-prod"]),
        (by_hand(access="shared", id="a1", stage="dev"), ["one-prod", "two-prod"]),
        (by_hand(execution="API-Gateway-Execution-Logs_a2/prod"), ["one-prod"]),
        (by_hand(access="elsewhere", id="a2", stage="prod"), ["one-prod"]),
        (by_hand(access="elsewhere"), ["one-prod", "two-prod"]),
        (replace(by_hand(access="shared"), region="us-east-1"), ["one-prod", "two-prod"]),
    ],
)
def test_watches_configured_by_hand_win(account, watch, left):
    account.rest("one", api_id="a1", access="shared")
    account.rest("two", api_id="a2", access="shared")
    discovered = discover_in(account, config=config_with(watches=[watch])).refresh()
    assert names(discovered) == left
    assert len(discovered.stages) == len(left)
    assert set(discovered.configured) == (set() if len(left) == 2 else {"by-hand"})


# -------------------------------------------------------------------------------------------------- an account that changes


def test_a_changed_account_converges(account):
    account.rest("orders", access="access/orders")
    account.rest("old", api_id="old", access="access/old")
    daemon = discover_in(account)
    assert names(daemon.refresh()) == ["old-prod", "orders-prod"]

    del account.apis["old"]
    api = account.rest("orders", access="access/moved", form=JSON_FORMAT, api_id="0000000000", level="OFF")
    account.rest("orders", "dev", api_id=api.id, access="access/dev", deployment="d9", timeouts_ms=[60_000])
    dev, prod = daemon.refresh().watches
    assert (dev.name, prod.name) == ("orders-dev", "orders-prod")
    assert (prod.access_log, prod.execution_log) == (AccessLog(group="access/moved", format=JSON_FORMAT), None)
    assert dev.max_request_ms == 61_000

    del api.stages["prod"]
    assert names(daemon.refresh()) == ["orders-dev"]


def test_a_group_that_is_not_there_is_watched_as_soon_as_it_is(account):
    api = account.rest("orders", access="access/orders")
    execution = f"API-Gateway-Execution-Logs_{api.id}/prod"
    del account.groups[execution]
    daemon = discover_in(account)
    discovered = daemon.refresh()
    assert discovered.watches[0].execution_log is None
    assert execution in the_finding(discovered, FindingKind.GROUP_MISSING).text
    account.group(execution)
    discovered = daemon.refresh()
    assert discovered.watches[0].execution_log == ExecutionLog(group=execution)
    assert not discovered.findings


def test_a_deleted_delivery_leads_back_to_the_managed_group(account):
    api = account.rest("orders")
    account.group("vended")
    account.deliver(api, "prod", group_arn("vended"))
    daemon = discover_in(account)
    assert daemon.refresh().watches[0].execution_log == ExecutionLog(group="vended")
    account.delivery_sources.clear()
    assert daemon.refresh().watches[0].execution_log.group.startswith("API-Gateway-Execution-Logs_")


# ---------------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("operation", sorted(PERMISSIONS))
def test_a_denied_call_names_its_permission_and_takes_nothing_away(account, operation):
    account.rest("orders", access="access/orders", timeouts_ms=[60_000])
    chat = account.http("chat", "live", kind="WEBSOCKET", access="access/chat", level="INFO", timeouts_ms=[45_000])
    account.group(f"API-Gateway-Execution-Logs_{chat.id}/live")
    account.group("vended")
    account.deliver(account.apis["0000000000"], "prod", group_arn("vended"))
    daemon = discover_in(account)
    before = daemon.refresh()
    assert before.succeeded_at_ms is not None
    for api in account.apis.values():
        for stage in api.stages.values():
            stage["deploymentId"] = "another, so that everything is asked for again"
    account.refusals[operation] = DENIED
    after = daemon.refresh()
    assert after.watches == before.watches
    denials = [finding for finding in after.findings if finding.kind is FindingKind.DENIED]
    assert denials
    assert all(PERMISSIONS[operation].action in denial.text for denial in denials)
    assert after.succeeded_at_ms == before.succeeded_at_ms
    del account.refusals[operation]
    assert not daemon.refresh().findings


def test_nothing_but_the_denied_is_missing_from_a_first_look(account):
    account.rest("orders", access="access/orders")
    account.http("shop", access="access/shop")
    for operation in ("GetApis", "DescribeLogGroups", "GetResources", "DescribeDeliverySources"):
        account.refusals[operation] = DENIED
    discovered = discover_in(account).refresh()
    (watch,) = discovered.watches
    assert len(watch.groups) == 2, "a group of which nothing is known is watched by its name"
    assert discovered.succeeded_at_ms is None
    assert len([finding for finding in discovered.findings if finding.kind is FindingKind.DENIED]) == 4


def test_one_broken_api_does_not_take_the_others_or_itself_away(account):
    for number in range(3):
        account.rest(f"api{number}", access=f"access/{number}")
    daemon = discover_in(account)
    daemon.refresh()
    account.refusals["GetStages", "0000000001"] = BROKEN
    account.apis["0000000002"].stages["new"] = {"stageName": "new"} | {
        "accessLogSettings": {"destinationArn": group_arn("access/2"), "format": JSON_FORMAT}
    }
    discovered = daemon.refresh()
    assert names(discovered) == ["api0-prod", "api1-prod", "api2-new", "api2-prod"]
    assert "api1" in the_finding(discovered, FindingKind.NOT_REFRESHED).text


def test_an_api_deleted_while_looking_is_gone(account):
    account.rest("orders", access="access/orders")
    daemon = discover_in(account)
    daemon.refresh()
    account.refusals["GetStages", "0000000000"] = (404, "NotFoundException")
    discovered = daemon.refresh()
    assert not discovered.watches
    assert not discovered.findings


@pytest.mark.parametrize(
    "refusal", [(403, "ExpiredTokenException"), (429, "TooManyRequestsException"), BROKEN, (400, "WhoKnows")]
)
def test_one_account_that_fails_takes_nothing_from_itself_or_the_others(refusal):
    ours, theirs = FakeAccount(), FakeAccount()
    ours.rest("ours", access="access/ours")
    theirs.rest("theirs", access="access/theirs")
    accounts = [Account(name=name, regions=(REGION,)) for name in ("ours", "theirs")]
    daemon = Daemon(
        {("ours", REGION): ours, ("theirs", REGION): theirs},
        config=config_with(accounts=accounts),
    )
    assert names(daemon.refresh()) == ["ours-prod", "theirs-prod"]
    for operation in PERMISSIONS:
        theirs.refusals[operation] = refusal
    ours.rest("new", access="access/new")
    discovered = daemon.refresh()
    assert names(discovered) == ["new-prod", "ours-prod", "theirs-prod"]
    assert {finding.account for finding in discovered.findings} == {"theirs"}


def test_a_throttled_account_is_left_alone_until_the_next_refresh(account):
    for number in range(20):
        account.rest(f"api{number}", access=f"access/{number}")
    account.refusals["GetStages"] = (429, "TooManyRequestsException")
    discover_in(account).refresh()
    assert account.calls["GetStages"] < 10
    assert not account.calls["GetApis"]


def test_calls_are_retried_before_they_count_as_failed(account):
    account.rest("orders", access="access/orders")
    account.refusals["GetRestApis"] = BROKEN

    def recover_after_a_while(_):
        if account.calls["GetRestApis"] >= 2:
            account.refusals.clear()
        return False

    daemon = discover_in(account, wait=recover_after_a_while)
    discovered = daemon.refresh()
    assert names(discovered) == ["orders-prod"]
    assert not discovered.findings
    assert daemon.calls["default", REGION, "GetRestApis", "InternalFailure"] == 2
    assert daemon.calls["default", REGION, "GetRestApis", "OK"] == 1


def test_a_stopping_program_asks_nothing_more(account):
    account.rest("orders", access="access/orders")
    discover_in(account, wait=lambda _: True).refresh()
    assert not account.calls


def test_an_account_without_a_region_is_a_finding(account):
    discovered = discover_in(account, config=config_with(accounts=[Account(name="bare")])).refresh()
    assert "regions" in the_finding(discovered, FindingKind.NOT_REFRESHED).text
    assert discovered.succeeded_at_ms is None


# -------------------------------------------------------------------------------------------------------------- findings

BOTH_IDS = "$context.requestId $context.extendedRequestId $context.status"


def findings_for(account, **stage):
    account.rest("orders", **{"access": "access/orders", "form": BOTH_IDS} | stage)
    return discover_in(account).refresh()


def test_a_stage_that_logs_as_it_should_has_no_finding(account):
    assert not findings_for(account).findings


@pytest.mark.parametrize(
    ("stage", "kind", "mend"),
    [
        ({"access": None, "level": None}, FindingKind.NO_LOGS, "$context.status"),
        ({"access": None, "level": "OFF"}, FindingKind.NO_LOGS, "$context.requestId"),
        ({"access": None, "level": "ERROR"}, FindingKind.NO_ACCESS_LOG, "no totals"),
        ({"form": "$context.status $context.path"}, FindingKind.ACCESS_WITHOUT_ID, "$context.requestId"),
        ({"form": "$context.requestId $context.path"}, FindingKind.ACCESS_WITHOUT_STATUS, "$context.status"),
        ({"level": None}, FindingKind.EXECUTION_OFF, "ERROR"),
        ({"level": "OFF"}, FindingKind.EXECUTION_OFF, "INFO"),
        (
            {"form": "$context.extendedRequestId $context.status", "level": "ERROR"},
            FindingKind.IDS_CANNOT_JOIN,
            "$context.requestId",
        ),
        ({"trace": True}, FindingKind.DATA_TRACE, "turn it off"),
        (
            {"access": f"arn:aws:firehose:eu-west-1:{ACCOUNT_ID}:deliverystream/amazon-apigateway-x"},
            FindingKind.ACCESS_TO_FIREHOSE,
            "log group",
        ),
    ],
)
def test_what_a_stage_lacks_is_said_once_with_the_way_to_mend_it(account, stage, kind, mend):
    discovered = findings_for(account, **stage)
    finding = the_finding(discovered, kind)
    assert kinds(discovered) == {kind}
    assert mend in finding.text
    assert finding.api.name == "orders"
    assert finding.labels == (finding.api.id, "orders", "prod", kind.value)


def test_ids_that_info_lines_join_are_no_finding(account):
    assert not findings_for(account, form="$context.extendedRequestId $context.status", level="INFO").findings


def test_a_format_that_cannot_be_read_is_read_by_auto(account):
    form = "$context.requestId$context.error.message$context.path $context.status"
    discovered = findings_for(account, form=form)
    finding = the_finding(discovered, FindingKind.ACCESS_FORMAT_UNREADABLE)
    assert "error.message" in finding.text
    assert discovered.watches[0].access_log.format == "auto"


@pytest.mark.parametrize("form", ["", "nothing", "json"])
def test_a_format_without_variables_is_a_finding_and_no_crash(account, form):
    discovered = findings_for(account, form=form)
    assert kinds(discovered) == {FindingKind.ACCESS_FORMAT_UNREADABLE}
    assert discovered.watches[0].access_log.format == "auto"


def test_methods_with_levels_of_their_own(account):
    api = account.rest("orders", access="access/orders", form=BOTH_IDS)
    settings = api.stages["prod"]["methodSettings"]
    settings["~1pets~1{id}/GET"] = {"loggingLevel": "OFF", "dataTraceEnabled": True}
    settings["~1cats/GET"] = {"throttlingRateLimit": 5.0, "dataTraceEnabled": True}
    discovered = discover_in(account).refresh()
    assert "/pets/{id}/GET" in the_finding(discovered, FindingKind.EXECUTION_OFF).text
    traced = the_finding(discovered, FindingKind.DATA_TRACE).text
    assert "/cats/GET" in traced, "a setting about something else inherits the stage's level"
    assert "/pets" not in traced, "without a level nothing is traced"

    settings["*/*"] = {"loggingLevel": "OFF", "dataTraceEnabled": True}
    settings["~1pets~1{id}/GET"] = {"loggingLevel": "INFO"}
    del settings["~1cats/GET"]
    discovered = discover_in(account).refresh()
    assert "all methods but /pets/{id}/GET" in the_finding(discovered, FindingKind.EXECUTION_OFF).text
    assert discovered.watches[0].execution_log is not None
    assert discovered.stages[0].data_trace is False


def test_execution_lines_that_go_elsewhere_are_not_looked_for_in_the_managed_group(account):
    api = account.rest("orders", access="access/orders", form=BOTH_IDS)
    account.deliver(api, "prod", "arn:aws:s3:::bucket", kind="S3")
    discovered = discover_in(account).refresh()
    assert "S3" in the_finding(discovered, FindingKind.EXECUTION_ELSEWHERE).text
    assert discovered.watches[0].execution_log is None


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        (BOTH_IDS, BOTH_IDS, "add $context.apiId"),
        (f"{BOTH_IDS} $context.apiId $context.stage", f"{BOTH_IDS} $context.apiId $context.stage", "are told apart"),
        (BOTH_IDS, JSON_FORMAT, "formats differ"),
    ],
)
def test_stages_in_one_group(account, first, second, says):
    account.rest("one", access="shared", form=first)
    account.rest("two", access="shared", form=second)
    discovered = discover_in(account).refresh()
    texts = [finding.text for finding in discovered.findings if finding.kind is FindingKind.SHARED_GROUP]
    assert len(texts) == 2
    assert "two/prod" in texts[0]
    assert "one/prod" in texts[1]
    assert all(says in text for text in texts)


def test_a_group_that_takes_both_kinds_of_lines_is_read_as_access_lines(account):
    api = account.rest("orders", access="both", form=BOTH_IDS)
    account.deliver(api, "prod", group_arn("both"))
    discovered = discover_in(account).refresh()
    assert discovered.watches[0].groups == (LogGroup("default", REGION, "both"),)
    assert kinds(discovered) == {FindingKind.SHARED_GROUP}


def test_findings_become_metrics_that_vanish_with_them(account):
    account.rest("orders", access="access/orders", form=BOTH_IDS, trace=True)
    daemon = discover_in(account)
    own = SelfMetrics(version="1", now_ms=lambda: 0)

    def shown():
        found = daemon.refresh()
        own.set_discovered(
            stages=found.stage_counts,
            findings=[finding.labels for finding in found.findings],
            succeeded_at_ms=found.succeeded_at_ms,
        )
        return own.render(openmetrics=False).decode()

    series = 'stage_findings{api_id="0000000000",api_name="orders",kind="data_trace",stage="prod"} 1.0'
    text = shown()
    assert series in text
    assert f'discovered_stages{{account="default",region="{REGION}"}} 1.0' in text
    assert "discovery_last_success_timestamp_seconds 1.8" in text
    account.apis["0000000000"].stages["prod"]["methodSettings"]["*/*"]["dataTraceEnabled"] = False
    assert "kind=" not in shown()


# -------------------------------------------------------------------------------------------------------------- forecast


def test_stored_bytes_tell_a_range():
    facts = GroupFacts(created_at_ms=0, retention_days=None, stored_bytes=1_000)
    assert stored_volume(facts, now_ms=10 * DAY_MS) == Volume(100, 100 / STORED_SHARE)
    assert stored_volume(facts._replace(retention_days=4), now_ms=10 * DAY_MS) == Volume(250, 250 / STORED_SHARE)
    assert stored_volume(facts, now_ms=DAY_MS // 2) is None
    assert stored_volume(facts._replace(stored_bytes=0), now_ms=10 * DAY_MS) is None
    assert stored_volume(None, now_ms=10 * DAY_MS) is None


def test_the_quota_is_the_regions():
    assert (quota_of("us-east-1"), quota_of("eu-central-1"), quota_of("eu-west-1")) == (25, 5, 10)


def test_a_group_costs_at_least_a_call_a_poll(account):
    account.rest("orders", access="access/orders")
    (place,) = discover_in(account).refresh().forecast
    assert place.calls_per_second == pytest.approx(2 / 20)
    assert place.watches[0].volume is None
    assert len(place.watches[0].unknown_groups) == 2
    assert place.fits
    assert not place.fetch_failures


@pytest.mark.parametrize("pages_per_second", [0.0001, 0.001, 0.01, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("max_request_ms", [30_000, 900_000])
def test_the_forecast_reads_as_the_windows_do(pages_per_second, max_request_ms):
    lateness_ms = max_request_ms + 300_000
    timing = Timing(max_request_ms=max_request_ms, allowed_lateness_ms=lateness_ms)
    pages = pages_per_poll(
        pages_per_second / 1000, max_request_ms=max_request_ms, allowed_lateness_ms=lateness_ms, poll_interval_ms=20_000
    )
    reads_all_each_time = pages == pytest.approx(
        max(1, pages_per_second / 1000 * (lateness_ms + max_request_ms + 30_000)), rel=0.02
    )
    assert reads_all_each_time == wide_is_cheaper(pages_per_second / 1000, timing, 20_000)


def test_the_greatest_stages_are_named_for_fetching_failures_only(account):
    watches = [by_hand(access=name) for name in ("huge", "big", "small")]
    watches = [replace(watch, name=watch.access_log.group) for watch in watches]
    per_day = {"huge": 2.0, "big": 0.3, "small": 0.001}
    volumes = {
        LogGroup("default", REGION, name): Volume(0, pages * PAGE_BYTES * 86_400) for name, pages in per_day.items()
    }
    (place,) = forecast(watches, volumes, budgets={"default": 2.0}, poll_interval_ms=20_000)
    assert not place.fits
    assert place.fetch_failures == ("huge",)
    assert place.volume.high == pytest.approx(2.301 * PAGE_BYTES * 86_400)

    followed = [replace(watch, fetch="failures") if watch.name == "huge" else watch for watch in watches]
    (place,) = forecast(followed, volumes, budgets={"default": 2.0}, poll_interval_ms=20_000)
    assert place.fits
    assert not place.fetch_failures


def test_many_small_stages_are_not_told_to_fetch_failures_only():
    watches = [replace(by_hand(access=f"group{number}"), name=f"w{number}") for number in range(100)]
    (place,) = forecast(watches, {}, budgets={"default": 2.0}, poll_interval_ms=20_000)
    assert not place.fits
    assert not place.fetch_failures


# ----------------------------------------------------------------------------------------------------- against moto, by HTTP


@pytest.fixture
def moto(monkeypatch, moto_url):
    for name, value in {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_ENDPOINT_URL": moto_url,
    }.items():
        monkeypatch.setenv(name, value)


def test_a_real_client_finds_and_follows_an_account(moto):
    rest, http, logs = (boto3.client(name, region_name=REGION) for name in ("apigateway", "apigatewayv2", "logs"))
    api = rest.create_rest_api(name="orders", tags={"team": "shop"})["id"]
    root = rest.get_resources(restApiId=api)["items"][0]["id"]
    rest.put_method(restApiId=api, resourceId=root, httpMethod="GET", authorizationType="NONE")
    rest.put_integration(
        restApiId=api, resourceId=root, httpMethod="GET", type="HTTP", uri="http://x", integrationHttpMethod="GET"
    )
    rest.create_deployment(restApiId=api, stageName="prod")
    operations = {
        "/accessLogSettings/destinationArn": group_arn("access/orders"),
        "/accessLogSettings/format": BOTH_IDS,
        "/*/*/logging/loglevel": "INFO",
        "/*/*/logging/dataTrace": "true",
    }

    def update(**changed):
        patches = [{"op": "replace", "path": path, "value": value} for path, value in (operations | changed).items()]
        rest.update_stage(restApiId=api, stageName="prod", patchOperations=patches)

    update()
    logs.create_log_group(logGroupName="access/orders")
    logs.create_log_group(logGroupName=f"API-Gateway-Execution-Logs_{api}/prod")
    discovery = Discovery(
        config_with(),
        Discover(),
        open_session=lambda _, region: open_session(AccountAccess(), region),
        logs_budget=lambda *_: CallBudget(1_000, clock=time.monotonic, wait=lambda _: False),
        on_call=lambda *_: None,
        wait=lambda _: False,
        clock=time.time,
        ticks=time.monotonic,
    )
    discovered = discovery.refresh()
    (watch,) = discovered.watches
    assert [group.name for group in watch.groups] == ["access/orders", f"API-Gateway-Execution-Logs_{api}/prod"]
    assert watch.access_log.format == BOTH_IDS
    assert kinds(discovered) == {FindingKind.DATA_TRACE}

    update(**{"/accessLogSettings/destinationArn": group_arn("access/moved")})
    logs.create_log_group(logGroupName="access/moved")
    socket = http.create_api(Name="chat", ProtocolType="WEBSOCKET", RouteSelectionExpression="$request.body.action")
    http.create_stage(
        ApiId=socket["ApiId"],
        StageName="live",
        AccessLogSettings={"DestinationArn": group_arn("access/chat"), "Format": JSON_FORMAT},
    )
    logs.create_log_group(logGroupName="access/chat")
    chat, orders = discovery.refresh().watches
    assert (chat.name, chat.api.type, chat.access_log.group) == ("chat-live", "WEBSOCKET", "access/chat")
    assert orders.access_log.group == "access/moved"

    rest.delete_stage(restApiId=api, stageName="prod")
    http.delete_api(ApiId=socket["ApiId"])
    discovered = discovery.refresh()
    assert not discovered.watches
    assert not discovered.findings


# -------------------------------------------------------------------------------------------------------------- documents


def test_the_documented_policy_is_the_least_that_the_calls_need():
    (text,) = re.findall(r"```json\n(\{\s*\"Version\".*?)```", DOCUMENT.read_text(), re.DOTALL)
    granted = set()
    for statement in json.loads(text)["Statement"]:
        assert statement["Effect"] == "Allow"
        resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        granted |= {(action, resource) for action in statement["Action"] for resource in resources}
    reading = {grant for grant in granted if grant[0] == "logs:FilterLogEvents"}
    assert reading, "reading log lines is what the whole is for"
    assert granted - reading == {tuple(permission) for permission in PERMISSIONS.values()}


def test_every_permission_is_needed(account):
    account.rest("orders", access="access/orders")
    account.http("chat", kind="WEBSOCKET", access="access/chat")
    account.deliver(account.apis["0000000000"], "prod", group_arn("vended"))
    discover_in(account).refresh()
    assert set(account.calls) == set(PERMISSIONS)


def test_every_finding_is_documented_with_its_severity():
    rows = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", DOCUMENT.read_text(), re.MULTILINE))
    assert rows == {kind.value: severity for kind, severity in SEVERITIES.items()}
    assert set(SEVERITIES) == set(FindingKind)


def test_the_formats_of_the_findings_are_readable():
    for form in (BOTH_IDS, JSON_FORMAT):
        access_parser(form)
