"""Log groups of other accounts: by role, by ARN through a monitoring account, and found there by their names."""

import json

import pytest

from exporter.arns import LogGroupArn, is_account_id, read_log_group_arn
from exporter.config import ConfigError, load_config
from exporter.discovery import Discovery, FindingKind
from exporter.iam import policies
from exporter.ledger.sqlite import SqliteLedger
from exporter.model import Commit, GroupProgress, LogGroup
from exporter.planning import Planner
from exporter.sources.budget import CallBudget
from tests.fakes.gateway_account import ACCOUNT_ID, FakeAccount, group_arn

REGION = "eu-west-1"
ORDERS, SHOP = "111122223333", "444455556666"
API, CHAT, WEB = "ab12cd34ef", "chat567890", "web1234567"
EXECUTION = f"API-Gateway-Execution-Logs_{API}/prod"


def arn(name, account=ORDERS, region=REGION):
    return group_arn(name, region, account)


# ------------------------------------------------------------------------------------------------------------------ ARNs


@pytest.mark.parametrize("tail", ["", ":*"])
def test_an_arn_says_whose_the_group_is(tail):
    read = read_log_group_arn(f"arn:aws-cn:logs:cn-north-1:{ORDERS}:log-group:/aws/x_y.z#1{tail}")
    assert read == LogGroupArn("cn-north-1", ORDERS, "/aws/x_y.z#1")
    assert str(read) == f"arn:aws-cn:logs:cn-north-1:{ORDERS}:log-group:/aws/x_y.z#1"


@pytest.mark.parametrize(
    "text",
    [
        "access/orders",
        "arn:aws:firehose:eu-west-1:111122223333:deliverystream/amazon-apigateway-x",
        "arn:aws:logs:eu-west-1:111122223333:log-group:a:log-stream:b",
        "arn:aws:logs:eu-west-1:11112222333:log-group:a",
        "arn:aws:logs:eu-west-1:111122223333:log-group:",
        "arn:aws:logs:eu-west-1:111122223333:log-group:a\n",
    ],
)
def test_what_is_no_log_group_is_none(text):
    assert read_log_group_arn(text) is None


def test_only_twelve_ascii_digits_are_an_account():
    assert [is_account_id(text) for text in (ORDERS, "11112222333", "١١١١٢٢٢٢٣٣٣٣", "default")] == [True, *[False] * 3]


# ---------------------------------------------------------------------------------------------------------- configuration


def config_of(text):
    return load_config("exporter.yaml", text=text, environ={})


def mistakes_in(text):
    with pytest.raises(ConfigError) as error:
        config_of(text)
    return [f"{'.'.join(map(str, mistake.path))}: {mistake.text}" for mistake in error.value.mistakes]


def test_a_watch_reads_groups_of_another_account_by_arn():
    config = config_of(
        f"""
accounts: [{{name: monitoring, regions: [eu-west-1, us-east-1]}}]
watches:
  - name: orders
    access_log: {{group: "{arn("access/orders")}:*"}}
    execution_log: {{group: "{arn(EXECUTION)}"}}
"""
    )
    (watch,) = config.watches
    assert watch.region == REGION, "the ARN tells it"
    assert watch.groups == (LogGroup(ORDERS, REGION, "access/orders"), LogGroup(ORDERS, REGION, EXECUTION))
    assert (watch.api.id, watch.api.stage, watch.api.account_id) == (API, "prod", ORDERS)
    (spec,) = Planner().plan(config, config.watches)
    assert spec.place == ("monitoring", REGION), "the monitoring account's budget and quota"


ROLE = "accounts: [{name: prod, regions: [eu-west-1], role_arn: 'arn:aws:iam::111122223333:role/x'}]\n"
BY_NAME = ROLE + "watches: [{name: a, access_log: {group: access/orders}}]"
BY_ARN = (
    "accounts: [{name: hub, regions: [eu-west-1]}]\n"
    f"watches: [{{name: a, access_log: {{group: '{arn('access/orders')}'}}}}]"
)


def test_a_group_stays_the_same_however_its_account_is_reached():
    assert config_of(BY_NAME).watches[0].groups == config_of(BY_ARN).watches[0].groups


def test_the_own_account_may_be_said_by_id():
    own = f"accounts: [{{name: hub, account_id: {ORDERS}, regions: [eu-west-1]}}]\n"
    by_name = config_of(own + "watches: [{name: a, access_log: {group: access/orders}}]")
    by_arn = config_of(own + f"watches: [{{name: a, access_log: {{group: '{arn('access/orders')}'}}}}]")
    assert by_name.watches[0].groups == by_arn.watches[0].groups
    assert by_name.watches[0].api.account_id == ORDERS


def test_two_watches_of_one_group_become_one_however_they_name_it():
    own = f"accounts: [{{name: hub, account_id: {ORDERS}, regions: [eu-west-1]}}]\n"
    config = config_of(
        own
        + "watches:\n- {name: a, access_log: {group: access/orders}}\n"
        + f"- {{name: b, access_log: {{group: '{arn('access/orders')}'}}}}\n"
    )
    (spec,) = Planner().plan(config, config.watches)
    assert (spec.name, len(spec.groups)) == ("a+b", 1)


HUB = "accounts: [{name: hub, regions: [eu-west-1, us-east-1]}]\n"
TWO = ROLE.replace("}]", "}, {name: hub, regions: [eu-west-1]}]")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            HUB + f"watches: [{{name: a, region: us-east-1, access_log: {{group: '{arn('a')}'}}}}]",
            (
                "watches.0.access_log.group: the ARN is of `eu-west-1` and the watch of `us-east-1`; a monitoring account "
                "reads groups of its own region: write `region:`"
            ),
        ),
        (
            HUB + f"watches: [{{name: a, access_log: {{group: '{arn('a', region='ap-south-1')}'}}}}]",
            (
                "watches.0: account `hub` does not read `ap-south-1`, the region of its ARN; write one of `eu-west-1`, "
                "`us-east-1`, or add it to its `regions`"
            ),
        ),
        (
            HUB + f"watches: [{{name: a, access_log: {{group: '{arn('a')}'}}, execution_log: {{group: b}}}}]",
            (
                "watches.0.execution_log.group: the other log is of account 111122223333, a name alone is of `hub` itself; "
                "write the ARN of this log group, too"
            ),
        ),
        (
            TWO
            + "watches:\n- {name: a, account: prod, access_log: {group: x}}\n"
            + f"- {{name: b, account: hub, access_log: {{group: '{arn('x')}'}}}}\n",
            (
                "watches.1.access_log.group: `watches[0]` reads the same log group through account `prod`; name the same "
                "`account` in both"
            ),
        ),
        (
            HUB
            + "watches:\n- {name: a, region: eu-west-1, access_log: {group: x}}\n"
            + f"- {{name: b, access_log: {{group: '{arn('x')}'}}}}\n",
            (
                "watches.1.access_log.group: it may be the log group of `watches[0]`, which is named in another way; write "
                "it alike in both, or say which account `hub` is: `account_id`"
            ),
        ),
        (
            ROLE.replace("name: prod", f"name: prod, account_id: '{SHOP}'")
            + "watches: [{name: a, access_log: {group: x}}]",
            "accounts.0.account_id: `role_arn` is of another account; keep one of the two",
        ),
        (
            HUB.replace("name: hub", "name: hub, account_id: 1234"),
            "accounts.0.account_id: `1234` is not the id of an account; write its 12 digits in quotes",
        ),
        (
            HUB + "discover: {linked_accounts: {through: hup}}",
            (
                "discover.linked_accounts.through: there is no account of this name; write one of `hub`, or add it under "
                "`accounts`"
            ),
        ),
        (
            HUB + "discover: {linked_accounts: {access_logs: [{group: 'access/{stage}'}]}}",
            (
                "discover.linked_accounts.access_logs.0.group: it must have `{api_id}` once: without it nobody knows which "
                "API's requests these are; list such stages under `watches`"
            ),
        ),
        (
            HUB + "discover: {linked_accounts: {access_logs: [{group: '*/{api_id}'}]}}",
            (
                "discover.linked_accounts.access_logs.0.group: `*/{api_id}` must begin with what the names begin with: every "
                "log group there is would be listed"
            ),
        ),
        (
            HUB + "discover: {linked_accounts: {access_logs: [{group: 'access/{api_id}/{name}'}]}}",
            (
                "discover.linked_accounts.access_logs.0.group: `access/{api_id}/{name}` is not a pattern of log groups; beside "
                "a name's own characters it may have `{api_id}`, `{stage}`, `{api_name}` and `*`"
            ),
        ),
    ],
)
def test_what_cannot_be_is_said(text, expected):
    assert expected in mistakes_in(text)


# ----------------------------------------------------------------------------------------------------------------- state


def kept(ledger, group, watermark_ms):
    progress = GroupProgress(watermark_ms, watermark_ms)
    ledger.commit(Commit(progress={group: progress}, tallies={(group, 1): b"t"}, tombstones={}, increments={}))


def test_what_was_kept_under_a_name_is_kept_under_the_id(tmp_path):
    ledger = SqliteLedger(tmp_path / "state.db")
    old, new = LogGroup("default", REGION, "x"), LogGroup(ORDERS, REGION, "x")
    kept(ledger, old, 5)
    ledger.rename(old, new)
    assert ledger.group_state(new).progress == GroupProgress(5, 5)
    assert ledger.group_state(new).tallies == {1: b"t"}
    assert ledger.group_state(old).progress is None
    kept(ledger, old, 7)
    assert ledger.group_state(new).progress == GroupProgress(5, 5), "the old name is another group from now on"
    ledger.rename(old, new)
    assert ledger.group_state(new).progress == GroupProgress(5, 5), "what is known is not overwritten"
    ledger.close()


# ------------------------------------------------------------------------------------------------------------- discovery


class Time:
    def __init__(self):
        self.seconds = 1_800_000_000.0

    def wait(self, seconds):
        self.seconds += seconds
        return False

    def now(self):
        return self.seconds


@pytest.fixture
def hub():
    account = FakeAccount()
    account.group("own")  # by which it knows its own id
    return account


def discovery_of(fakes, *, accounts="{name: hub, regions: [eu-west-1]}", watches="[]", selection=None, **linked):
    time = Time()
    text = f"accounts: [{accounts}]\nwatches: {watches}\ndiscover: {json.dumps({**(selection or {}), 'linked_accounts': linked})}"
    config = config_of(text)
    assert config.discover is not None
    return Discovery(
        config,
        config.discover,
        open_session=lambda account, _: fakes[account].session(),
        logs_budget=lambda *_: CallBudget(2, clock=time.now, wait=time.wait),
        on_call=lambda *_: None,
        wait=time.wait,
        clock=time.now,
        ticks=time.now,
    )


def refreshed(hub, **linked):
    return discovery_of({"hub": hub}, **linked).refresh()


ACCESS = [{"group": "access/{api_id}/{stage}"}]


def test_a_stage_is_found_by_the_names_of_its_groups(hub):
    hub.linked_group(ORDERS, EXECUTION)
    hub.linked_group(ORDERS, f"access/{API}/prod")
    found = refreshed(hub, access_logs=ACCESS, max_request="60s")
    (watch,) = found.watches
    assert watch.access_log.group == arn(f"access/{API}/prod")
    assert watch.execution_log.group == arn(EXECUTION)
    assert watch.groups == (LogGroup(ORDERS, REGION, f"access/{API}/prod"), LogGroup(ORDERS, REGION, EXECUTION))
    assert (watch.account, watch.name, watch.max_request_ms) == ("hub", f"{API}-prod", 60_000)
    assert (watch.api.type, watch.api.account_id, watch.access_log.format) == ("REST", ORDERS, "auto")
    (info,) = found.stages
    assert info.execution_log_level == "unknown", "nobody can be asked"
    assert found.stage_counts == {("hub", REGION): 1}
    (finding,) = found.findings
    assert finding.kind is FindingKind.LINKED
    assert "111122223333" in finding.text
    assert "60 seconds" in finding.text


def test_every_page_of_every_prefix_is_read(hub):
    hub.page_size = 1
    for account in (ORDERS, SHOP):
        for number in range(3):
            hub.linked_group(account, f"API-Gateway-Execution-Logs_api{number}567890/prod")
            hub.linked_group(account, f"access/api{number}567890/prod")
            hub.linked_group(account, f"/other/api{number}567890/prod")
    found = refreshed(hub, access_logs=ACCESS)
    assert len(found.watches) == 6
    assert all(len(watch.groups) == 2 for watch in found.watches)
    assert len({watch.name for watch in found.watches}) == 6


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([f"/aws/apigateway/{CHAT}/live"], ("WEBSOCKET", [f"/aws/apigateway/{CHAT}/live"], "live")),
        (
            [f"/aws/apigateway/{CHAT}/live", f"API-Gateway-Execution-Logs_{CHAT}/live"],
            ("WEBSOCKET", [f"/aws/apigateway/{CHAT}/live"], "live"),
        ),
        ([f"access/{WEB}/default"], ("HTTP", [f"access/{WEB}/default"], "$default")),
        ([f"access/{WEB}/v1"], ("HTTP", [f"access/{WEB}/v1"], "v1")),
        (
            [f"API-Gateway-Execution-Logs_{API}/default", f"access/{API}/default"],
            ("REST", [f"access/{API}/default", f"API-Gateway-Execution-Logs_{API}/default"], "default"),
        ),
        ([f"one/{API}"], ("HTTP", [f"one/{API}"], "unknown")),
        ([f"one/{API}", EXECUTION], ("REST", [f"one/{API}", EXECUTION], "prod")),
        (["/aws/apigateway/welcome"], None),
        (["/aws/apigateway/my-api/prod"], None),
        (["access/orders/prod"], None),
    ],
)
def test_what_names_tell(hub, groups, expected):
    for name in groups:
        hub.linked_group(ORDERS, name)
    found = refreshed(hub, access_logs=[*ACCESS, {"group": "one/{api_id}"}]).watches
    told = [(watch.api.type, [group.name for group in watch.groups], watch.api.stage) for watch in found]
    assert told == ([] if expected is None else [expected])


def test_a_pattern_may_tell_the_name_and_say_what_is_known(hub):
    form = "$context.requestId|$context.status"
    hub.linked_group(ORDERS, f"/logs/orders-api/{API}-prod")
    hub.linked_group(SHOP, f"/logs/shop/{WEB}-prod")
    found = refreshed(
        hub,
        access_logs=[
            {"group": "/logs/{api_name}/{api_id}-{stage}", "account_id": ORDERS, "format": form, "type": "REST"},
            {"group": "/logs/*/{api_id}-{stage}"},
        ],
    )
    watches = {watch.name: watch for watch in found.watches}
    assert watches["orders-api-prod"].access_log.format == form
    assert watches["orders-api-prod"].api.type == "REST"
    assert watches[f"{WEB}-prod"].access_log.format == "auto"
    texts = {finding.api.account_id: finding.text for finding in found.findings if finding.kind is FindingKind.LINKED}
    assert "name" not in texts[ORDERS].split("not known")[0].split(": ", 1)[1]
    assert "the API's name, the format" in texts[SHOP]
    assert {finding.kind for finding in found.findings if finding.api.account_id == ORDERS} == {
        FindingKind.LINKED,
        FindingKind.EXECUTION_OFF,
    }


def test_groups_that_fit_the_same_stage_are_told_and_the_fullest_is_read(hub):
    hub.linked_group(ORDERS, EXECUTION)
    hub.linked_group(ORDERS, f"access/{API}/prod", stored_bytes=1)
    hub.linked_group(ORDERS, f"blue/{API}/prod", stored_bytes=9)
    found = refreshed(hub, access_logs=[*ACCESS, {"group": "blue/{api_id}/{stage}"}])
    assert found.watches[0].access_group.name == f"blue/{API}/prod"
    (finding,) = [finding for finding in found.findings if finding.kind is FindingKind.SHARED_GROUP]
    assert f"access/{API}/prod" in finding.text


def test_only_the_accounts_that_are_named_are_read_and_silent_ones_are_told(hub):
    hub.linked_group(ORDERS, EXECUTION)
    hub.linked_group(SHOP, EXECUTION)
    hub.linked_group("777788889999", "nothing/of/ours")
    assert {watch.api.account_id for watch in refreshed(hub, ids=[ORDERS]).watches} == {ORDERS}
    found = refreshed(hub, ids=[ORDERS, "777788889999"])
    (finding,) = [finding for finding in found.findings if finding.kind is FindingKind.NOT_LINKED]
    assert "777788889999" in finding.text


def test_one_account_that_is_not_linked_hides_no_other(hub):
    hub.linked_group(ORDERS, EXECUTION)
    hub.linked_group(SHOP, EXECUTION)
    found = refreshed(hub, ids=[ORDERS, "999999999999"])
    assert [watch.api.account_id for watch in found.watches] == [ORDERS]
    assert {finding.kind for finding in found.findings} >= {FindingKind.NOT_LINKED}
    assert found.succeeded_at_ms is not None


def test_more_accounts_than_a_call_takes(hub):
    ids = [f"{number:012}" for number in range(1, 46)]
    for account in ids:
        hub.linked_group(account, EXECUTION)
    assert {watch.api.account_id for watch in refreshed(hub, ids=ids).watches} == set(ids)


def test_the_monitoring_accounts_own_groups_are_no_linked_ones(hub):
    hub.group(EXECUTION)
    assert refreshed(hub).watches == ()


def test_an_account_that_can_be_asked_itself_is_not_read_twice(hub):
    own = FakeAccount()
    api = own.rest("orders", access="access/orders")
    hub.linked_group(ACCOUNT_ID, f"API-Gateway-Execution-Logs_{api.id}/prod")
    hub.linked[ORDERS] = {}
    accounts = f"{{name: hub, account_id: {ORDERS}, regions: [eu-west-1]}}, {{name: prod, regions: [eu-west-1]}}"
    hub.groups.clear()
    found = discovery_of({"hub": hub, "prod": own}, accounts=accounts, through="hub").refresh()
    assert [(watch.name, watch.account) for watch in found.watches] == [("orders-prod", "prod")]


def test_a_watch_by_hand_wins_over_what_is_found(hub):
    hub.linked_group(ORDERS, EXECUTION)
    by_hand = f"[{{name: mine, execution_log: {{group: '{arn(EXECUTION)}'}}}}]"
    found = discovery_of({"hub": hub}, watches=by_hand).refresh()
    assert found.watches == ()
    assert set(found.configured) == {"mine"}


@pytest.mark.parametrize("refusal", [(400, "AccessDeniedException"), (400, "ThrottlingException"), (500, "")])
def test_a_refusal_takes_nothing_away(hub, refusal):
    hub.linked_group(ORDERS, EXECUTION)
    discovery = discovery_of({"hub": hub})
    before = discovery.refresh()
    hub.refusals["DescribeLogGroups"] = refusal
    after = discovery.refresh()
    assert after.watches == before.watches != ()
    assert {finding.kind for finding in after.findings} & {FindingKind.DENIED, FindingKind.NOT_REFRESHED}
    assert after.succeeded_at_ms == before.succeeded_at_ms


def test_accounts_come_and_go_without_a_restart(hub):
    hub.linked_group(ORDERS, EXECUTION)
    discovery = discovery_of({"hub": hub})
    first = discovery.refresh().watches
    hub.linked_group(SHOP, EXECUTION)
    assert {watch.api.account_id for watch in discovery.refresh().watches} == {ORDERS, SHOP}
    unlinked = hub.linked.pop(ORDERS)
    assert {watch.api.account_id for watch in discovery.refresh().watches} == {SHOP}
    del hub.linked[SHOP]
    hub.linked[ORDERS] = unlinked
    assert discovery.refresh().watches == first, "the same groups, so what was committed of them goes on"


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({}, {API, CHAT}),
        ({"include": {"stages": ["prod"]}}, {API}),
        ({"exclude": {"names": [API]}}, {CHAT}),
        ({"include": {"tags": {"team": "*"}}}, set()),
        ({"rest": False, "websocket": False}, set()),
    ],
)
def test_tags_are_not_known_and_names_are_the_ids(hub, selection, expected):
    hub.linked_group(ORDERS, EXECUTION)
    hub.linked_group(ORDERS, f"API-Gateway-Execution-Logs_{CHAT}/dev")
    found = discovery_of({"hub": hub}, selection=selection).refresh()
    assert {watch.api.id for watch in found.watches} == expected


# ----------------------------------------------------------------------------------------------------------------- policy


def test_the_policy_names_the_linked_groups_and_asks_for_nothing_else():
    config = config_of(
        "accounts: [{name: hub, regions: [eu-west-1]}]\n"
        "discover: {http: false, websocket: false, linked_accounts: "
        f"{{ids: ['{ORDERS}'], access_logs: [{{group: 'access/{{api_id}}/{{stage}}'}}]}}}}"
    )
    statements = {one.sid: one for one in policies(config, access_groups=["own/*"], account_id=ACCOUNT_ID)["own"]}
    assert statements["ReadLogLines"].resources == tuple(
        sorted(
            f"arn:aws:logs:eu-west-1:{whose}:log-group:{name}:*"
            for whose, name in (
                (ACCOUNT_ID, "own/*"),
                (ACCOUNT_ID, "API-Gateway-Execution-Logs_*"),
                (ACCOUNT_ID, "/aws/apigateway/*"),
                (ORDERS, "API-Gateway-Execution-Logs_*"),
                (ORDERS, "/aws/apigateway/*"),
                (ORDERS, "access/*/*"),
            )
        )
    )
    assert not any(action.startswith("oam:") for one in statements.values() for action in one.actions)


def test_the_policy_of_a_watch_by_arn_is_on_the_source_accounts_group():
    (reading, *_) = policies(config_of(BY_ARN))["own"]
    assert reading.resources == (arn("access/orders") + ":*",)
