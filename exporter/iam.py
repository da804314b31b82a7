"""The IAM policy that a configuration needs, and nothing beyond it: JSON for AWS, HCL for Terraform.

Pure: it reads a checked configuration and asks AWS nothing. An *identity* is whoever calls AWS: the exporter's own
(the credential chain's), a `profile:…`, or the ARN of a role that is assumed. Every policy denies `logs:Unmask`, so
that data protection policies hold for the exporter whatever else its identity is allowed.
"""

import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from exporter.arns import is_account_id, partition_of
from exporter.config import Account, Config, Discover
from exporter.discovery.calls import PERMISSIONS

OWN: Final = "own"
"""The identity that the credential chain gives: the pod's, task's or instance's role, or the environment's."""

MANAGED_POLICY_CHARACTERS: Final = 6_144
"""The most characters, white space apart, of a managed policy [IAM quotas]; a role's inline policies have 10,240."""

_REST: Final = frozenset({"GetRestApis", "GetStages", "GetResources"})
_HTTP: Final = frozenset({"GetApis", "GetApiStages", "GetIntegrations"})
_EXECUTION_GROUPS: Final = ("API-Gateway-Execution-Logs_*", "/aws/apigateway/*")
"""Where discovery finds execution lines: API Gateway's own groups, and those that vended logs go to."""


class IamError(Exception):
    """What the configuration leaves open, and the option that says it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Statement:
    """One statement of a policy."""

    sid: str
    effect: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]


def policies(
    config: Config, *, access_groups: Sequence[str] = (), account_id: str | None = None
) -> Mapping[str, tuple[Statement, ...]]:
    """The statements of every identity that the configuration uses, by the identity's name.

    `access_groups` are the names, with `*`, of the access log groups that discovery will find: a configuration does
    not tell them. `account_id` is that of accounts which no `role_arn` names; without it ARNs have `*` there, which
    reaches no further, because an identity reads other accounts' groups only where these let it. Raises `IamError`.
    """
    if config.discover is not None and not access_groups:
        raise IamError(
            "discovery finds access log groups that the configuration does not name: say how they are called with "
            "--access-log-groups, for example 'access/*'"
        )
    found: dict[str, list[Statement]] = {}
    roles: defaultdict[str, set[str]] = defaultdict(set)
    for account in config.accounts:
        source = OWN if account.profile is None else f"profile:{account.profile}"
        if account.role_arn is not None:
            roles[source].add(account.role_arn)
        statements = found.setdefault(account.role_arn or source, [])
        statements += _reading(config, account, access_groups, account_id)
        statements += _discovering(config, account)
    for source, arns in roles.items():
        found.setdefault(source, []).append(_allow("AssumeRoles", ["sts:AssumeRole"], arns))
    return {identity: (*_merged(statements), _NEVER_UNMASK) for identity, statements in found.items()}


def policy_json(statements: Sequence[Statement]) -> str:
    """The policy as `aws iam create-policy --policy-document` takes it."""
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Sid": statement.sid,
                    "Effect": statement.effect,
                    "Action": list(statement.actions),
                    "Resource": list(statement.resources),
                }
                for statement in statements
            ],
        },
        indent=2,
    )


def policy_terraform(identity: str, statements: Sequence[Statement]) -> str:
    """The policy as a data source of Terraform's AWS provider, written as `terraform fmt` writes it."""
    # Roles of several accounts are often called the same.
    label = re.sub(r"[^A-Za-z0-9]+", "_", re.sub(r"arn:.*?::([0-9]+):role/", r"\1_", identity)).strip("_").lower()
    blocks = "\n".join(_hcl_statement(statement) for statement in statements)
    return f'# identity: {identity}\ndata "aws_iam_policy_document" "apigateway_exporter_{label}" {{\n{blocks}}}\n'


def is_too_long(statements: Sequence[Statement]) -> bool:
    """Whether it does not fit a managed policy."""
    return len("".join(policy_json(statements).split())) > MANAGED_POLICY_CHARACTERS


# ---------------------------------------------------------------------------------------------------------- statements

_NEVER_UNMASK: Final = Statement(sid="NeverUnmask", effect="Deny", actions=("logs:Unmask",), resources=("*",))


def _reading(config: Config, account: Account, access_groups: Sequence[str], account_id: str | None) -> list[Statement]:
    owner = account.known_id or account_id or "*"
    resources = {
        _group_arn(group.name, group.region, group.account if is_account_id(group.account) else owner)
        for watch in config.watches
        if watch.account == account.name
        for group in watch.groups
    }
    if config.discover is not None:
        execution = _EXECUTION_GROUPS if config.discover.rest or config.discover.websocket else ()
        resources |= {
            _group_arn(name, region, owner) for name in (*access_groups, *execution) for region in account.regions
        }
        resources |= {
            _group_arn(name, region, whose)
            for whose, name in _linked_groups(config.discover, account, execution)
            for region in account.regions
        }
    if not resources:
        return []
    own = [watch.fetch for watch in config.watches if watch.account == account.name]
    fetches = own if config.discover is None else [*own, config.discover.fetch]
    # Asking what a pattern selects is granted on no resource [AWS: actions of CloudWatch Logs].
    test = [_allow("TestFilterPatterns", ["logs:TestMetricFilter"], ["*"])] if {*fetches} - {"all"} else []
    return [_allow("ReadLogLines", ["logs:FilterLogEvents"], resources), *test]


def _linked_groups(discover: Discover, account: Account, execution: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The groups that discovery finds in linked accounts: whose, and how they are called."""
    linked = discover.linked_accounts
    if linked is None or linked.through not in (None, account.name):
        return
    for whose in linked.ids or ("*",):
        yield from ((whose, name) for name in execution)
        for access in linked.access_logs:
            if access.account_id in (None, whose) or whose == "*":
                yield access.account_id or whose, re.sub(r"\{\w+\}", "*", access.group)


def _discovering(config: Config, account: Account) -> list[Statement]:
    discover = config.discover
    if discover is None:
        return []
    unused = (frozenset() if discover.rest else _REST) | (frozenset() if discover.http or discover.websocket else _HTTP)
    found: defaultdict[str, set[str]] = defaultdict(set)
    for operation, permission in PERMISSIONS.items():
        if operation in unused:
            continue
        for region in account.regions:
            resource = permission.resource.replace(
                "arn:aws:apigateway:*:", f"arn:{partition_of(region)}:apigateway:{region}:"
            )
            found[permission.action].add(resource)
    management = {action: arns for action, arns in found.items() if arns != {"*"}}
    lists = [action for action, arns in found.items() if arns == {"*"}]
    return [
        *(_allow("FindStages", [action], arns) for action, arns in management.items()),
        _allow("FindLogGroups", lists, ["*"]),
    ]


def _merged(statements: Sequence[Statement]) -> list[Statement]:
    """Statements that say the same of several accounts of one identity, as one."""
    together: dict[tuple[str, tuple[str, ...]], set[str]] = {}
    for statement in statements:
        together.setdefault((statement.sid, statement.actions), set()).update(statement.resources)
    return [_allow(sid, actions, resources) for (sid, actions), resources in together.items()]


def _allow(sid: str, actions: Collection[str], resources: Collection[str]) -> Statement:
    return Statement(sid=sid, effect="Allow", actions=tuple(sorted(actions)), resources=tuple(sorted(resources)))


def _group_arn(name: str, region: str, owner: str) -> str:
    """FilterLogEvents is granted on a group's ARN that ends in `:*`."""
    return f"arn:{partition_of(region)}:logs:{region}:{owner}:log-group:{name}:*"


def _hcl_statement(statement: Statement) -> str:
    values = {
        "sid": f'"{statement.sid}"',
        "effect": f'"{statement.effect}"',
        "actions": _hcl_list(statement.actions),
        "resources": _hcl_list(statement.resources),
    }
    # Equals signs of neighbours stand in one column, where their values are of one line.
    lines = ""
    for is_long, keys in groupby(values, lambda key: "\n" in values[key]):
        run = list(keys)
        width = max(map(len, run))
        lines += "".join(f"    {key if is_long else key.ljust(width)} = {values[key]}\n" for key in run)
    return f"  statement {{\n{lines}  }}\n"


def _hcl_list(texts: Sequence[str]) -> str:
    if len(texts) == 1:
        return f'["{texts[0]}"]'
    return "[\n" + "".join(f'      "{text}",\n' for text in texts) + "    ]"
