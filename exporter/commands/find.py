"""`find`: the support case as one command."""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import click
import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from exporter import logs
from exporter.access_log import AccessFormatError
from exporter.commands.accounts import Accounts
from exporter.commands.options import config_file_option, contents, fail, load, load_all_rules
from exporter.conditions import nearest
from exporter.config import parse_duration
from exporter.config.scalars import parse_statuses
from exporter.find import (
    Findings,
    PastedIds,
    Picture,
    Query,
    Search,
    picture_of,
    read_headers,
    render_list,
    render_picture,
)
from exporter.find.watches import NoSuchApi, watches_of
from exporter.model import Window
from exporter.planning import Planner
from exporter.rules import RuleSet
from exporter.spans import SpanOptions
from exporter.version import VERSION

DEFAULT_SINCE = "2h"
_AHEAD_MS = 60_000
"""Lines may be dated a little ahead of our clock."""
_BEFORE_ANSWER_MS = 5 * 60_000


@click.command()
@click.option("--request-id", "request_ids", multiple=True, help="The request's id (x-amzn-requestid).")
@click.option(
    "--extended-request-id", "extended_ids", multiple=True, help="The id that API Gateway made (x-amz-apigw-id)."
)
@click.option(
    "--headers",
    "headers",
    help="A response header dump, or `-` to paste it on standard input; its ids and its date are used.",
)
@click.option("--status", "statuses", multiple=True, help="A status: 504, 5xx, 500-504; may be given several times.")
@click.option("--message", help="Words of the access line or of an execution line.")
@click.option("--cause", help="A cause (docs/causes.md).")
@click.option("--since", help=f"How far back: 15m, 2h, 1d, or an ISO time.  [default: {DEFAULT_SINCE}]")
@click.option("--until", help="Up to when: 15m (ago), or an ISO time.  [default: now]")
@click.option("--api", help="Only this API: its id or its name.")
@click.option("--stage", help="Only this stage.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="The most requests to show.")
@click.option("--format", "output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--rules", "rules", type=click.Path(exists=True, dir_okay=False), multiple=True, help="Own rules.")
@config_file_option
def find(
    *,
    request_ids: tuple[str, ...],
    extended_ids: tuple[str, ...],
    headers: str | None,
    statuses: tuple[str, ...],
    message: str | None,
    cause: str | None,
    since: str | None,
    until: str | None,
    api: str | None,
    stage: str | None,
    limit: int,
    output: str,
    rules: tuple[str, ...],
    config_file: str,
) -> None:
    """Find requests in the log groups of the configuration, and say all that is known of them.

    One request is shown in full, several as a list, the newest first. Exit code 1 if nothing was found.
    """
    logs.configure("error", "logfmt")
    pasted = read_headers("" if headers is None else contents("-") if headers == "-" else headers)
    if headers is not None and not pasted:
        fail("--headers: no x-amzn-requestid, x-amz-apigw-id, apigw-requestid or x-amzn-trace-id in it")
    query = Query(
        request_ids=pasted.request_ids | frozenset(request_ids),
        extended_ids=pasted.extended_ids | frozenset(extended_ids),
        trace_roots=pasted.trace_roots,
        statuses=_statuses(statuses),
        message=message,
        cause=cause,
        api=api,
        stage=stage,
    )
    if not (query.ids or query.statuses or query.message or query.cause):
        if not (api or stage or since or until):
            asked = "--request-id, --extended-request-id, --headers, --status, --message or --cause"
            fail(f"nothing to look for; give {asked}, or --since, --api or --stage for all that failed")
        query = replace(query, statuses=parse_statuses("4xx") | parse_statuses("5xx"))
    if message is not None and not query.words:
        fail("--message: give at least one whole word, without quotes")
    config = load(config_file)
    rule_set = load_all_rules([*config.rules, *rules])
    _check_cause(cause, rule_set)
    span = _span(since, until, pasted, int(time.time() * 1000))
    accounts = Accounts(config)
    progress = _Progress(accounts)
    try:
        found = accounts.discovered()
        watches = config.watches if found is None else (*config.watches, *found.watches)
        search = Search(
            watches_of(Planner().plan(config, watches), api, stage),
            source_of=lambda spec: accounts.places.source(*spec.place),
            rules=rule_set,
            query=query,
            told=progress.show,
        )
        findings = search.run(span, limit=limit, answered_at_ms=pasted.answered_at_ms, whole=output == "json")
    except (AccessFormatError, NoSuchApi) as error:
        fail(str(error))
    except (BotoCoreError, ClientError) as error:
        fail(f"AWS refused the search: {error}")
    finally:
        progress.wipe()
        accounts.close()
    options = SpanOptions(join=config.traces.join, link_template=config.traces.link_template, version=VERSION)
    pictures = [picture_of(match, causes=rule_set.causes.values(), options=options) for match in findings.matches]
    for problem in findings.problems:
        click.echo(f"not searched in full: {problem}", err=True)
    if not pictures:
        click.echo(_nothing(findings, accounts.calls, since), err=True)
        raise SystemExit(1)
    _print(pictures, output, by_id=bool(query.ids))
    if findings.more:
        click.echo(f"there are more, or may be; these are the newest {limit} (--limit)", err=True)


class _Progress:
    """On a terminal, a line that says how the search goes."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._shows = sys.stderr.isatty()

    def show(self, window: Window) -> None:
        """Say which stretch of time comes next."""
        self._say(f"searching back to {_iso(window.start_ms)}; {self._accounts.calls} calls")

    def wipe(self) -> None:
        """Take the line away."""
        self._say("")

    def _say(self, text: str) -> None:
        if self._shows:
            click.echo(f"\r\033[K{text}", err=True, nl=False)


def _print(pictures: Sequence[Picture], output: str, *, by_id: bool) -> None:
    if output == "json":
        for picture in pictures:
            click.echo(msgspec.json.encode(picture).decode())
        return
    if len(pictures) > 1:
        click.echo(render_list(pictures))
    if len(pictures) == 1 or by_id:
        for picture in pictures:
            click.echo(("\n" if len(pictures) > 1 else "") + render_picture(picture))


def _nothing(findings: Findings, calls: int, since: str | None) -> str:
    start, end = (_iso(at_ms) for at_ms in findings.searched)
    groups = ", ".join(group.name for group in findings.groups) or "none"
    hint = "" if since is not None else f" Look further back than {DEFAULT_SINCE} with --since."
    return f"nothing found from {start} to {end}; log groups searched: {groups}; {calls} calls to AWS.{hint}"


def _statuses(asked: Sequence[str]) -> frozenset[int]:
    found: frozenset[int] = frozenset()
    for text in asked:
        for part in text.split(","):
            try:
                found |= parse_statuses(part.strip())
            except ValueError as error:
                fail(f"--status: {str(error).replace('{value}', f'`{part}`')}")
    return found


def _check_cause(cause: str | None, rules: RuleSet) -> None:
    if cause is not None and cause not in rules.causes:
        fail(f"--cause: there is no cause `{cause}`{nearest(cause, rules.causes)}")


def _span(since: str | None, until: str | None, pasted: PastedIds, now_ms: int) -> Window:
    end_ms = now_ms + _AHEAD_MS if until is None else _instant("--until", until, now_ms)
    start_ms = _instant("--since", since or DEFAULT_SINCE, now_ms)
    if since is None and until is not None:
        start_ms = end_ms - parse_duration(DEFAULT_SINCE)
    if since is None and pasted.answered_at_ms is not None:
        # The dump itself says when it was: no need to be told.
        start_ms = min(start_ms, pasted.answered_at_ms - _BEFORE_ANSWER_MS)
    if start_ms >= end_ms:
        fail("--since must be before --until, and not in the future")
    return Window(start_ms, end_ms)


def _instant(name: str, text: str, now_ms: int) -> int:
    """An instant: so long ago, or an ISO time, in UTC where it does not say."""
    try:
        return now_ms - parse_duration(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        fail(f"{name}: `{text}` is neither a length of time like `2h` nor a time like `2026-01-31T12:00:00Z`")
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _iso(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
