"""What the sections mean together: names that must exist, defaults that depend on other keys, what cannot be.

It works on a file whose sections are each right in themselves, and returns the finished `Config` together with what
is wrong with it; the `Config` is only worth something when nothing is.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import NamedTuple

from exporter.arns import LogGroupArn, read_log_group_arn
from exporter.config.document import Path
from exporter.config.scalars import account_id_of, format_duration
from exporter.config.sections import Account, File, WatchKeys
from exporter.config.settings import Config, Watch
from exporter.model import UNKNOWN, Api, LogGroup

DEFAULT_ACCOUNT = "default"
DEFAULT_LATENESS_MS = 5 * 60_000
"""What `allowed_lateness` adds to `max_request` where the file does not say it."""
LEAST_LATENESS_MS = 60_000
"""What it must add at least: a request is settled `max_request` and a minute after its first line."""

_EXECUTION_GROUP = re.compile(r"(?:API-Gateway-Execution-Logs_|/aws/apigateway/)(?P<id>[a-z0-9]+)/(?P<stage>[^/]+)")

Finding = tuple[Path, str]


class Standing(NamedTuple):
    """Where the items of the file's lists stand in it: items with a mistake of their own have been taken out."""

    accounts: Sequence[int]
    watches: Sequence[int]
    accounts_complete: bool = True
    """Whether an account that is not there is really not there."""
    watches_complete: bool = True


def resolve(
    file: File, standing: Standing, directory: PurePath, environ: Mapping[str, str]
) -> tuple[Config, Sequence[Finding]]:
    """Put the sections together. `directory` is where relative paths start."""
    resolver = _Resolver(file, standing, environ)
    watches = tuple(resolver.watches())
    config = Config(
        poll_interval_ms=file.poll_interval_ms,
        allowed_lateness_ms=file.allowed_lateness_ms,
        initial_lookback_ms=file.initial_lookback_ms,
        state=file.state.model_copy(update={"path": str(directory / file.state.path)}),
        web=file.web.model_copy(update={"config_file": file.web.config_file and str(directory / file.web.config_file)}),
        accounts=tuple(
            _with_regions(account, watches, resolver.environ_region if file.discover is not None else None)
            for account in resolver.accounts.values()
        ),
        watches=watches,
        discover=file.discover,
        failures=file.failures,
        labels=file.labels,
        rules=tuple(str(directory / path) for path in file.rules),
        traces=file.traces,
    )
    findings = [
        *_list_findings(file, standing),
        *_discovery_findings(file, config),
        *resolver.findings,
    ]
    return config, findings


def _discovery_findings(file: File, config: Config) -> Iterator[Finding]:
    if file.discover is None:
        return
    for index, account in enumerate(config.accounts):
        if not account.regions:
            where: Path = ("accounts", index) if file.accounts else ("discover",)
            yield where, "it does not say where to look; give the account `regions: [eu-west-1]`, or set AWS_REGION"
    linked = file.discover.linked_accounts
    names = [account.name for account in config.accounts]
    if linked is not None and linked.through is not None and linked.through not in names:
        listed = ", ".join(f"`{name}`" for name in names)
        text = f"there is no account of this name; write one of {listed}, or add it under `accounts`"
        yield ("discover", "linked_accounts", "through"), text
    if file.discover.refresh_ms > file.initial_lookback_ms:
        most = format_duration(file.initial_lookback_ms)
        text = f"a new stage's first failures could be missed; write at most `initial_lookback`, `{most}`"
        yield ("discover", "refresh"), text


def _list_findings(file: File, standing: Standing) -> Iterator[Finding]:
    if not file.watches and standing.watches_complete and file.discover is None:
        yield ("watches",), "there is nothing to watch; list at least one stage with its log groups under `watches`"
    for key, names, places in (
        ("accounts", [account.name for account in file.accounts], standing.accounts),
        ("watches", [watch.name for watch in file.watches], standing.watches),
    ):
        first: dict[str, int] = {}
        for index, name in zip(places, names, strict=True):
            if first.setdefault(name, index) != index:
                yield (key, index, "name"), f"`{key}[{first[name]}]` has the same name; give each its own"
    for index, account in zip(standing.accounts, file.accounts, strict=True):
        if account.external_id is not None and account.role_arn is None:
            yield (
                ("accounts", index, "external_id"),
                "an external id is for assuming a role; add `role_arn` or remove it",
            )
        of_role = account.role_arn and account_id_of(account.role_arn)
        if account.account_id is not None and of_role not in (None, account.account_id):
            yield ("accounts", index, "account_id"), "`role_arn` is of another account; keep one of the two"
        for place, region in enumerate(account.regions):
            if region in account.regions[:place]:
                yield ("accounts", index, "regions", place), "the region is listed twice; keep one of the two"


class _Resolver:
    """Completes watches; what cannot be completed becomes a finding."""

    def __init__(self, file: File, standing: Standing, environ: Mapping[str, str]) -> None:
        self.findings: list[Finding] = []
        self.accounts = {account.name: account for account in file.accounts}
        if not self.accounts and standing.accounts_complete:
            self.accounts = {DEFAULT_ACCOUNT: Account(name=DEFAULT_ACCOUNT)}
        self._file = file
        self._standing = standing
        self.environ_region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or None
        self._named: dict[tuple[str, str], tuple[int, Account, LogGroup]] = {}
        """The log groups named so far, by region and name."""

    def watches(self) -> Iterator[Watch]:
        for index, keys in zip(self._standing.watches, self._file.watches, strict=True):
            self._check_logs(keys, index)
            lateness_ms = self._lateness_ms(keys, index)
            account = self._account(keys, index)
            if account is None:
                continue
            region = self._region(keys, account, index)
            if region is not None:
                watch = Watch(
                    name=keys.name,
                    account=account.name,
                    region=region,
                    api=_api(keys, account, region),
                    access_log=keys.access_log,
                    execution_log=keys.execution_log,
                    max_request_ms=keys.max_request_ms,
                    allowed_lateness_ms=lateness_ms,
                    fetch=keys.fetch,
                    owner=account.known_id,
                )
                self._check_arns(watch, index)
                self._check_sharing(watch, account, index)
                yield watch

    def _check_logs(self, keys: WatchKeys, index: int) -> None:
        if keys.access_log is None and keys.execution_log is None:
            text = "it has no log group; add `access_log: {group: …}`, `execution_log: {group: …}` or, best, both"
            self._found(("watches", index), text)
        elif keys.access_log and keys.execution_log and keys.access_log.group == keys.execution_log.group:
            text = "the access log is in the same group; a log group holds one kind of lines: name the other group"
            self._found(("watches", index, "execution_log", "group"), text)

    def _check_arns(self, watch: Watch, index: int) -> None:
        """A log group of another account has to be where the watch looks, and so has the other log of its stage."""
        owner = watch.owner or watch.account
        groups = {"access_log": watch.access_group, "execution_log": watch.execution_group}
        for key, group in groups.items():
            if group is not None and group.region != watch.region:
                text = f"the ARN is of `{group.region}` and the watch of `{watch.region}`; a monitoring account reads"
                self._found(("watches", index, key, "group"), f"{text} groups of its own region: write `region:`")
        foreign = [group for group in watch.groups if group.account != owner]
        if len(foreign) == 1 and len(watch.groups) == 2:
            key = next(key for key, group in groups.items() if group is not None and group.account == owner)
            text = f"the other log is of account {foreign[0].account}, a name alone is of `{watch.account}` itself"
            self._found(("watches", index, key, "group"), f"{text}; write the ARN of this log group, too")

    def _check_sharing(self, watch: Watch, account: Account, index: int) -> None:
        """The lines of a log group are read once: through one account, and under one identity."""
        for key, group in (("access_log", watch.access_group), ("execution_log", watch.execution_group)):
            if group is None:
                continue
            first, other, known = self._named.setdefault((group.region, group.name), (index, account, group))
            if first == index:
                continue
            if known == group and other.name != account.name:
                text = f"`watches[{first}]` reads the same log group through account `{other.name}`"
                self._found(("watches", index, key, "group"), f"{text}; name the same `account` in both")
            elif known.account != group.account and other is account and account.known_id is None:
                text = f"it may be the log group of `watches[{first}]`, which is named in another way"
                advice = f"write it alike in both, or say which account `{account.name}` is: `account_id`"
                self._found(("watches", index, key, "group"), f"{text}; {advice}")

    def _lateness_ms(self, keys: WatchKeys, index: int) -> int:
        least_ms = keys.max_request_ms + LEAST_LATENESS_MS
        if self._file.allowed_lateness_ms is None:
            return keys.max_request_ms + DEFAULT_LATENESS_MS
        if self._file.allowed_lateness_ms < least_ms:
            text = f"`watches[{index}]` needs its `max_request` and a minute; write at least"
            self._found(("allowed_lateness",), f"{text} `{format_duration(least_ms)}`, or leave it out")
        return self._file.allowed_lateness_ms

    def _account(self, keys: WatchKeys, index: int) -> Account | None:
        names = ", ".join(f"`{name}`" for name in self.accounts)
        if keys.account is not None and keys.account in self.accounts:
            return self.accounts[keys.account]
        if not self._standing.accounts_complete:
            return None
        if keys.account is not None:
            text = f"there is no account of this name; write one of {names}, or add it under `accounts`"
            self._found(("watches", index, "account"), text)
            return None
        if len(self.accounts) > 1:
            self._found(
                ("watches", index), f"it does not say which account it is in; add `account:` with one of {names}"
            )
            return None
        return next(iter(self.accounts.values()))

    def _region(self, keys: WatchKeys, account: Account, index: int) -> str | None:
        regions = account.regions
        names = ", ".join(f"`{name}`" for name in regions)
        arn = next((arn for arn in _arns(keys).values()), None)
        region = keys.region or (None if arn is None else arn.region)
        if region is not None:
            if not regions or region in regions:
                return region
            which = "this region" if keys.region is not None else f"`{region}`, the region of its ARN"
            text = f"account `{account.name}` does not read {which}; write one of {names}, or add it to its `regions`"
            where: Path = ("watches", index, "region") if keys.region is not None else ("watches", index)
            self._found(where, text)
            return None
        if len(regions) == 1:
            return regions[0]
        if regions:
            self._found(("watches", index), f"it does not say which region it is in; add `region:` with one of {names}")
            return None
        if self.environ_region is None:
            text = "it does not say which region it is in; add `region: eu-west-1` or the like, or set AWS_REGION"
            self._found(("watches", index), text)
        return self.environ_region

    def _found(self, path: Path, text: str) -> None:
        self.findings.append((path, text))


def _api(keys: WatchKeys, account: Account, region: str) -> Api:
    arns = _arns(keys)
    arn = arns.get("execution_log")
    execution = arn.name if arn is not None else keys.execution_log and keys.execution_log.group
    group = _EXECUTION_GROUP.fullmatch(execution) if execution else None
    api_id = keys.api.id or (group and group["id"])
    stage = keys.api.stage or (group["stage"] if group and group["id"] == api_id else None)
    return Api(
        id=api_id or UNKNOWN,
        name=keys.api.name or api_id or UNKNOWN,
        stage=stage or UNKNOWN,
        type=keys.api.type,
        region=region,
        account_id=next((arn.account_id for arn in arns.values() if arn.account_id), account.known_id or UNKNOWN),
    )


def _arns(keys: WatchKeys) -> Mapping[str, LogGroupArn]:
    """The ARNs among its log groups, by the key of the log."""
    logs = {"access_log": keys.access_log, "execution_log": keys.execution_log}
    read = {key: read_log_group_arn(log.group) for key, log in logs.items() if log is not None}
    return {key: arn for key, arn in read.items() if arn is not None}


def _with_regions(account: Account, watches: Sequence[Watch], else_in: str | None) -> Account:
    regions = account.regions or tuple(
        dict.fromkeys(watch.region for watch in watches if watch.account == account.name)
    )
    if not regions and else_in is not None:
        regions = (else_in,)
    return account.model_copy(update={"regions": regions})
