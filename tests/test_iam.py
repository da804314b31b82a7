"""Policies made from a configuration: every right that is needed, none beyond it, and never the one to unmask."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from exporter.cli import main
from exporter.config import Discover, load_config
from exporter.discovery.calls import PERMISSIONS
from exporter.iam import IamError, is_too_long, policies, policy_json, policy_terraform

ONE = """
watches:
  - name: orders
    region: eu-west-1
    access_log: {group: access/orders}
    execution_log: {group: API-Gateway-Execution-Logs_ab12cd34ef/prod}
"""
ROLES = """
accounts:
  - {name: prod, regions: [eu-west-1], role_arn: "arn:aws:iam::123456789012:role/reader", external_id: only-we-know}
  - {name: dev, regions: [eu-west-1], role_arn: "arn:aws:iam::210987654321:role/reader", profile: ops}
watches:
  - {name: orders, account: prod, access_log: {group: access/orders}}
  - {name: orders-dev, account: dev, access_log: {group: access/orders}}
"""
PROD, DEV = "arn:aws:iam::123456789012:role/reader", "arn:aws:iam::210987654321:role/reader"


def config_of(text):
    return load_config("exporter.yaml", text=text)


def document(statements):
    return json.loads(policy_json(statements))


def allowed(statements):
    """Action -> resources."""
    return {
        action: set(statement["Resource"])
        for statement in document(statements)["Statement"]
        if statement["Effect"] == "Allow"
        for action in statement["Action"]
    }


def test_one_account_needs_one_right_on_its_groups_alone():
    found = policies(config_of(ONE), account_id="123456789012")
    assert allowed(found["own"]) == {
        "logs:FilterLogEvents": {
            "arn:aws:logs:eu-west-1:123456789012:log-group:access/orders:*",
            "arn:aws:logs:eu-west-1:123456789012:log-group:API-Gateway-Execution-Logs_ab12cd34ef/prod:*",
        }
    }
    assert found.keys() == {"own"}


def test_who_fetches_by_patterns_may_also_ask_what_they_select():
    config = config_of(ONE + "    fetch: failures\n")
    found = allowed(policies(config, account_id="123456789012")["own"])
    assert found.pop("logs:TestMetricFilter") == {"*"}
    assert found == allowed(policies(config_of(ONE), account_id="123456789012")["own"])
    discovering = config_of("accounts: [{name: a, regions: [eu-west-1]}]\ndiscover: {fetch: auto}")
    assert "logs:TestMetricFilter" in allowed(policies(discovering, access_groups=["access/*"])["own"])


def test_an_account_that_nothing_names_is_left_open_and_nothing_else():
    (group, _) = sorted(allowed(policies(config_of(ONE))["own"])["logs:FilterLogEvents"], reverse=True)
    assert group == "arn:aws:logs:eu-west-1:*:log-group:access/orders:*"


@pytest.mark.parametrize("text", [ONE, ROLES])
def test_every_identity_is_denied_to_unmask(text):
    for statements in policies(config_of(text)).values():
        denied = [statement for statement in document(statements)["Statement"] if statement["Effect"] == "Deny"]
        assert denied == [{"Sid": "NeverUnmask", "Effect": "Deny", "Action": ["logs:Unmask"], "Resource": ["*"]}]


def test_each_role_reads_its_own_account_and_whoever_assumes_it_may_do_only_that():
    found = policies(config_of(ROLES))
    assert found.keys() == {"own", "profile:ops", PROD, DEV}
    assert allowed(found["own"]) == {"sts:AssumeRole": {PROD}}
    assert allowed(found["profile:ops"]) == {"sts:AssumeRole": {DEV}}
    assert allowed(found[PROD]) == {
        "logs:FilterLogEvents": {"arn:aws:logs:eu-west-1:123456789012:log-group:access/orders:*"}
    }
    assert allowed(found[DEV]) == {
        "logs:FilterLogEvents": {"arn:aws:logs:eu-west-1:210987654321:log-group:access/orders:*"}
    }


def test_accounts_of_one_identity_make_one_policy():
    text = """
accounts: [{name: a, regions: [eu-west-1]}, {name: b, regions: [us-east-1]}]
watches:
  - {name: one, account: a, access_log: {group: access/one}}
  - {name: two, account: b, access_log: {group: access/two}}
"""
    statements = policies(config_of(text))["own"]
    assert [statement.sid for statement in statements] == ["ReadLogLines", "NeverUnmask"]
    assert allowed(statements)["logs:FilterLogEvents"] == {
        "arn:aws:logs:eu-west-1:*:log-group:access/one:*",
        "arn:aws:logs:us-east-1:*:log-group:access/two:*",
    }


@pytest.mark.parametrize(
    ("region", "partition"),
    [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov"), ("us-east-1", "aws"), ("eusc-de-east-1", "aws-eusc")],
)
def test_arns_are_of_the_regions_partition(region, partition):
    found = policies(config_of(ONE.replace("eu-west-1", region)))
    assert all(arn.startswith(f"arn:{partition}:") for arn in allowed(found["own"])["logs:FilterLogEvents"])


def discovering(**settings):
    config = config_of("accounts: [{name: prod, regions: [eu-west-1]}]\n" + ONE)
    return replace(config, watches=(), discover=Discover(**settings))


def test_discovery_gets_every_right_that_it_asks_for_in_its_regions():
    rights = allowed(policies(discovering(), access_groups=["access/*"])["own"])
    assert rights.keys() == {"logs:FilterLogEvents"} | {permission.action for permission in PERMISSIONS.values()}
    assert rights["apigateway:GET"] == {
        permission.resource.replace("*", "eu-west-1", 1)
        for permission in PERMISSIONS.values()
        if permission.action == "apigateway:GET"
    }
    assert rights["logs:FilterLogEvents"] == {
        "arn:aws:logs:eu-west-1:*:log-group:access/*:*",
        "arn:aws:logs:eu-west-1:*:log-group:API-Gateway-Execution-Logs_*:*",
        "arn:aws:logs:eu-west-1:*:log-group:/aws/apigateway/*:*",
    }


def test_discovery_of_http_apis_alone_may_not_list_rest_apis_nor_read_execution_logs():
    rights = allowed(policies(discovering(rest=False, websocket=False), access_groups=["access/*"])["own"])
    assert not any("/restapis" in arn for arn in rights["apigateway:GET"])
    assert rights["logs:FilterLogEvents"] == {"arn:aws:logs:eu-west-1:*:log-group:access/*:*"}


def test_groups_that_discovery_will_find_have_to_be_named_rather_than_opened_wide():
    with pytest.raises(IamError, match="--access-log-groups"):
        policies(discovering())


def test_a_policy_that_no_managed_policy_can_hold_is_told():
    watches = "".join(
        f"  - {{name: w{n}, region: eu-west-1, access_log: {{group: access/{n:03}}}}}\n" for n in range(200)
    )
    assert is_too_long(policies(config_of(f"watches:\n{watches}"))["own"])
    assert not is_too_long(policies(config_of(ONE))["own"])


# ----------------------------------------------------------------------------------------------------- as people see it


def iam_policy(tmp_path, text, *options):
    path = tmp_path / "exporter.yaml"
    path.write_text(text)
    return CliRunner().invoke(main, ["iam-policy", "--config.file", str(path), *options])


def test_the_command_prints_a_document_that_can_be_piped(tmp_path):
    result = iam_policy(tmp_path, ONE)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["Version"] == "2012-10-17"


def test_json_of_several_identities_asks_which_and_lists_them(tmp_path):
    result = iam_policy(tmp_path, ROLES)
    assert (result.exit_code, result.stdout) == (2, "")
    assert {"own", "profile:ops", PROD, DEV} <= set(result.stderr.split())
    assert iam_policy(tmp_path, ROLES, "--identity", "nobody").exit_code == 2
    assert PROD in iam_policy(tmp_path, ROLES, "--identity", "own").stdout


def test_terraform_gets_a_document_for_each_identity_under_a_name_of_its_own(tmp_path):
    text = iam_policy(tmp_path, ROLES, "--format", "terraform").stdout
    assert text.count("data ") == 4
    assert len({line for line in text.splitlines() if line.startswith("data ")}) == 4
    assert text.count('actions   = ["logs:Unmask"]') == 4


def test_terraform_is_laid_out_as_its_formatter_does():
    (statements,) = policies(discovering(), access_groups=["access/*"]).values()
    (block,) = [part for part in policy_terraform("own", statements).split("\n\n") if "FindLogGroups" in part]
    assert block == (
        '  statement {\n    sid    = "FindLogGroups"\n    effect = "Allow"\n    actions = [\n'
        '      "logs:DescribeDeliveries",\n      "logs:DescribeDeliveryDestinations",\n'
        '      "logs:DescribeDeliverySources",\n      "logs:DescribeLogGroups",\n    ]\n    resources = ["*"]\n  }'
    )


def test_terraform_says_what_json_says():
    (statements,) = policies(config_of(ONE)).values()
    text = policy_terraform("own", statements)
    for statement in statements:
        for word in (statement.sid, statement.effect, *statement.actions, *statement.resources):
            assert f'"{word}"' in text


def test_no_secret_is_printed(tmp_path):
    for options in ((), ("--format", "terraform"), ("--identity", PROD)):
        result = iam_policy(tmp_path, ROLES, *options)
        assert "only-we-know" not in result.stdout + result.stderr
