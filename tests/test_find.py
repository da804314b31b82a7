"""`find`, against CloudWatch over HTTP: every entry point, what is asked of AWS for it, and what is said in the end."""

import itertools
import json
import random
import re
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import boto3
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from exporter.access_log import access_parser
from exporter.cli import main
from exporter.filter_patterns import MAX_PATTERN, id_patterns
from exporter.find import Query, Search, read_headers
from exporter.find.patterns import access_pattern, execution_patterns
from exporter.find.stretches import stretches
from exporter.model import Window
from exporter.rules import shipped_rules
from exporter.sources.budget import BURST_SECONDS, CallBudget
from exporter.sources.cloudwatch import CloudWatchSource
from exporter.sources.sessions import AccountAccess, logs_client, open_session
from exporter.watch_spec import WatchGroup, WatchSpec
from tests.fakes import FakeCloudWatch, Faults
from tests.fakes.patterns import compile_pattern
from tests.worlds import ACCESS, API, EXECUTION, START_MS, World, make_world

SPAN_MS = 600_000
END_MS = START_MS + 2 * SPAN_MS


def iso(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%dT%H:%M:%S.%f}Z"


@pytest.fixture
def aws(monkeypatch, tmp_path):
    """A CloudWatch, the environment in which boto3 finds it, and a configuration that reads it."""
    with FakeCloudWatch(clock=lambda: END_MS / 1000) as fake:
        for name, value in {
            "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": fake.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "no_proxy": "127.0.0.1",
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("AWS_PROFILE", raising=False)
        configure(tmp_path, monkeypatch)
        yield fake


def configure(directory: Path, monkeypatch, *, access=True, execution=True, more=""):
    path = directory / "exporter.yaml"
    path.write_text(
        "accounts: [{name: default, regions: [eu-west-1], calls_per_second: 25}]\n"
        'traces: {link_template: "https://traces.example/{trace_id}"}\n'
        "watches:\n  - name: orders-prod\n    api: {id: ab12cd34ef, name: orders, stage: prod}\n"
        + (f"    access_log: {{group: {ACCESS.name}}}\n" if access else "")
        + (f"    execution_log: {{group: {EXECUTION.name}}}\n" if execution else "")
        + more
    )
    monkeypatch.setenv("APIGATEWAY_EXPORTER_CONFIG_FILE", str(path))


def fill(fake: FakeCloudWatch, world: World) -> None:
    """Put a world's lines where they belong, in its batches."""
    batches = defaultdict(list)
    for group, event, visible_ms, number in world.lines:
        batches[group.name, visible_ms, number].append((event.at_ms, event.message))
    for (group, visible_ms, _), lines in batches.items():
        fake.put(group, lines, ingested_at_ms=visible_ms)


def invoke(*arguments: str, text: str | None = None, since=START_MS, until=END_MS):
    span = ["--since", iso(since), "--until", iso(until)]
    return CliRunner().invoke(main, ["find", *arguments, *span], input=text)


def found(*arguments: str, **more) -> list[dict]:
    result = invoke("--format", "json", *arguments, **more)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def patterns(fake: FakeCloudWatch, group: str) -> list[str]:
    return [
        call.parameters.get("filterPattern", "")
        for call in fake.calls_of("FilterLogEvents")
        if call.parameters["logGroupName"] == group
    ]


def one_of(world: World, outcome: str):
    return next(request for request in world.requests if request.outcome == outcome)


@pytest.fixture
def world(aws) -> World:
    made = make_world(random.Random(5), count=80, span_ms=SPAN_MS, lateness_ms=20_000)
    fill(aws, made)
    return made


# -------------------------------------------------------------------------------------------------------- by id


def test_a_request_id_opens_the_whole_picture(world, aws):
    request = one_of(world, "timeout")
    (picture,) = found("--request-id", request.request_id)
    assert (picture["request_id"], picture["extended_request_id"]) == (request.request_id, request.extended_id)
    assert (picture["status"], picture["cause"], picture["category"]) == (504, "integration_timeout", "integration")
    assert picture["api"] == {
        "id": "ab12cd34ef",
        "name": "orders",
        "stage": "prod",
        "type": "REST",
        "region": "eu-west-1",
    }
    assert (picture["method"], picture["resource"]) == (request.method, request.resource)
    assert datetime.fromisoformat(picture["at"]).timestamp() * 1000 == pytest.approx(request.arrival_ms)
    assert picture["fields"]["error.message"] == "Endpoint request timed out"
    assert len(picture["timeline"]) == len(picture["offsets_ms"]) == len(request.execution_lines("INFO"))
    offsets = dict(zip(picture["timeline"], picture["offsets_ms"], strict=True))
    assert offsets["Execution failed due to a timeout error"] == 29_000
    assert [(phase["name"], phase["duration_ms"] > 28_000) for phase in picture["phases"]] == [("integration", True)]
    assert picture["trace_id"] == request.request_id.replace("-", "")
    assert picture["trace_url"] == f"https://traces.example/{picture['trace_id']}"
    assert picture["advice"]
    assert picture["log_groups"] == [ACCESS.name, EXECUTION.name]


def test_people_see_the_same(world, aws):
    request = one_of(world, "lambda_error")
    shown = invoke("--request-id", request.request_id).stdout
    for part in (
        request.extended_id,
        "lambda_error (integration): The Lambda function threw",
        "what to do",
        "Look up the Lambda request id",
        "access record",
        "execution log",
        "+3 ms  Starting execution for request:",
        f"https://traces.example/{request.request_id.replace('-', '')}",
    ):
        assert part in shown


@pytest.mark.parametrize("outcome", ["timeout", "permission", "throttled_lambda", "missing_token", "masked", "ok"])
def test_every_outcome_is_told_by_its_request_id_and_by_its_extended_id(outcome, world, aws):
    request = one_of(world, outcome)
    for arguments in (("--request-id", request.request_id), ("--extended-request-id", request.extended_id)):
        (picture,) = found(*arguments)
        assert (picture["request_id"], picture["status"]) == (request.request_id, request.status)
        assert picture["cause"] == request.cause
        assert picture["failure"] is (request.cause is not None)


def test_an_id_typed_in_capitals_is_found(world, aws):
    request = one_of(world, "timeout")
    assert found("--request-id", request.request_id.upper())[0]["request_id"] == request.request_id


def test_only_lines_with_the_id_are_asked_for(world, aws):
    request = one_of(world, "timeout")
    found("--request-id", request.request_id)
    assert set(patterns(aws, ACCESS.name)) == {f'"{request.request_id}"'}
    assert set(patterns(aws, EXECUTION.name)) == {f'"{request.request_id}"'}


def test_access_lines_without_a_request_id_are_joined_by_the_extended_one(aws):
    made = make_world(random.Random(8), count=20, ids="extended", lateness_ms=20_000)
    fill(aws, made)
    request = one_of(made, "permission")
    (picture,) = found("--extended-request-id", request.extended_id)
    assert picture["cause"] == "lambda_permission"
    assert picture["request_id"] == request.request_id
    assert "access" in picture["log_groups"][0]


def test_an_access_line_with_a_placeholder_is_joined_by_the_extended_id(aws):
    made = make_world(random.Random(4), count=20, placeholder=1.0, outcomes=["permission"], lateness_ms=20_000)
    fill(aws, made)
    request = made.requests[0]
    (picture,) = found("--extended-request-id", request.extended_id)
    assert (picture["request_id"], picture["cause"]) == (request.request_id, "lambda_permission")
    assert len(picture["timeline"]) == len(request.execution_lines("INFO"))


def test_an_id_that_no_access_line_has_is_looked_for_in_execution_lines(aws, monkeypatch, tmp_path):
    made = make_world(random.Random(9), count=20, access=False)
    fill(aws, made)
    aws.create_group(ACCESS.name)
    request = one_of(made, "timeout")
    for arguments in (("--request-id", request.request_id), ("--extended-request-id", request.extended_id)):
        (picture,) = found(*arguments)
        assert (picture["cause"], picture["method"]) == ("integration_timeout", request.method)
        assert picture["fields"] == {}


def test_without_access_logs_execution_lines_are_enough(aws, monkeypatch, tmp_path):
    configure(tmp_path, monkeypatch, access=False)
    made = make_world(random.Random(9), count=40, access=False)
    fill(aws, made)
    request = one_of(made, "permission")
    assert found("--request-id", request.request_id)[0]["cause"] == "lambda_permission"
    wanted = {each.request_id for each in made.requests if each.status == 504}
    assert {picture["request_id"] for picture in found("--status", "504")} == wanted
    masked = {each.request_id for each in made.requests if each.outcome == "masked"}
    assert masked
    assert {picture["request_id"] for picture in found("--cause", "masked_lambda_error")} == masked


def test_without_execution_logs_access_lines_are_enough(aws, monkeypatch, tmp_path):
    configure(tmp_path, monkeypatch, execution=False)
    made = make_world(random.Random(9), count=40, execution=False)
    fill(aws, made)
    request = one_of(made, "timeout")
    (picture,) = found("--request-id", request.request_id)
    assert (picture["cause"], picture["timeline"]) == ("integration_timeout", [])


def test_requests_that_share_an_id_are_all_shown_unless_the_extended_id_tells_which(aws):
    made = make_world(random.Random(2), count=12, reuse=0.8, outcomes=["timeout", "permission"], lateness_ms=20_000)
    fill(aws, made)
    by_id = defaultdict(list)
    for request in made.requests:
        by_id[request.request_id].append(request)
    shared = next(requests for requests in by_id.values() if len(requests) > 1)
    pictures = found("--request-id", shared[0].request_id)
    assert {picture["extended_request_id"] for picture in pictures} <= {each.extended_id for each in shared}
    asked = ("--request-id", shared[0].request_id, "--extended-request-id", shared[0].extended_id)
    (picture,) = found(*asked)
    assert (picture["extended_request_id"], picture["cause"]) == (shared[0].extended_id, shared[0].cause)


# ------------------------------------------------------------------------------------------------ a pasted response

DUMPS = {
    "curl -i": "HTTP/2 504 \r\ndate: {date}\r\nx-amzn-requestid: {id}\r\nx-amz-apigw-id: {extended}\r\n",
    "curl -v": "< HTTP/2 504\n< x-amzn-RequestId: {id}\n< x-amz-apigw-id: {extended}\n< X-Amzn-Trace-Id: Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0\n",
    "browser": "content-length:\n41\nX-Amz-Apigw-Id:\n{extended}\nX-Amzn-Requestid:\n{id}\n",
    "har": '[{{"name": "x-amzn-requestid", "value": "{id}"}}, {{"name": "x-amz-apigw-id", "value": "{extended}"}}]',
    "python": "{{'x-amzn-RequestId': '{id}', 'x-amz-apigw-id': '{extended}', 'Content-Type': 'application/json'}}",
    "javascript": 'headers: {{ "x-amzn-requestid": ["{id}"], "x-amz-apigw-id": ["{extended}"] }}',
    "postman": "x-amzn-RequestId → {id}\nx-amz-apigw-id → {extended}",
    "the id alone": " {id}\n",
}


@pytest.mark.parametrize("dump", DUMPS)
def test_a_pasted_response_is_enough(dump, world, aws):
    request = one_of(world, "permission")
    text = DUMPS[dump].format(id=request.request_id, extended=request.extended_id, date="Thu, 09 Oct 2025 08:58:00 GMT")
    assert found("--headers", "-", text=text)[0]["request_id"] == request.request_id
    assert found("--headers", text)[0]["cause"] == "lambda_permission"


def test_the_date_of_a_response_says_where_to_look_first(world, aws):
    request = one_of(world, "permission")
    answered = datetime.fromtimestamp((request.arrival_ms + request.duration_ms) // 1000, UTC)
    dump = f"date: {answered:%a, %d %b %Y %H:%M:%S} GMT\nx-amzn-requestid: {request.request_id}"
    result = CliRunner().invoke(main, ["find", "--headers", dump, "--format", "json"])  # no --since: the dump says when
    assert result.exit_code == 0, result.output
    first = aws.calls_of("FilterLogEvents")[0].parameters
    assert first["startTime"] <= request.arrival_ms < first["endTime"]
    assert first["endTime"] - first["startTime"] < 300_000


def test_the_request_id_of_an_http_api_is_its_extended_id():
    pasted = read_headers("apigw-requestid: JKJaXmPLvHcESHA=\n")
    assert (pasted.request_ids, pasted.extended_ids) == (frozenset(), {"JKJaXmPLvHcESHA="})


def test_the_backends_own_ids_are_not_taken_for_the_gateways():
    pasted = read_headers(
        "x-amzn-remapped-x-amzn-requestid: 0c7b5b0c-1f6a-4c80-8d1a-000000000000\nx-amzn-remapped-date: Thu, 09 Oct 2025 08:58:00 GMT"
    )
    assert not pasted
    assert pasted.answered_at_ms is None


def test_a_trace_id_tells_the_time_and_finds_the_line_that_logs_it(aws):
    root = f"1-{START_MS // 1000 + 100:08x}-bd862e3fe1be46a994272793"
    line = json.dumps(
        {"requestId": "17cb49b2-1061-45dc-8c6b-2e2e2e2e2e2e", "status": "504", "xrayTraceId": f"Root={root}"}
    )
    aws.put(ACCESS.name, [(START_MS + 100_000, line)], ingested_at_ms=START_MS + 110_000)
    aws.create_group(EXECUTION.name)
    (picture,) = found("--headers", f"x-amzn-trace-id: Root={root};Parent=53995c3f42cd8ad8;Sampled=1")
    assert picture["request_id"] == "17cb49b2-1061-45dc-8c6b-2e2e2e2e2e2e"
    assert picture["trace_id"] == root.replace("1-", "", 1).replace("-", "")


@given(st.text(max_size=300))
def test_any_text_may_be_pasted(text):
    pasted = read_headers(f"x-amzn-requestid: {text}")
    assert all(found in text for found in (*pasted.request_ids, *pasted.extended_ids))


# --------------------------------------------------------------------------------- by status, message and cause


def test_several_matches_are_listed_newest_first(world, aws):
    wanted = [request for request in world.requests if request.status == 504]
    result = invoke("--status", "504")
    assert result.exit_code == 0
    head, *rows = result.stdout.splitlines()
    assert head.split() == ["time", "status", "method", "resource", "cause", "api", "request", "id"]
    assert [row.split()[-1] for row in rows] == [
        request.request_id for request in sorted(wanted, key=lambda request: -request.arrival_ms)
    ]
    assert all("integration_timeout" in row for row in rows)


def test_a_list_is_cut_at_the_limit_and_says_so(world, aws):
    newest = sorted((request for request in world.requests if request.status == 504), key=lambda r: -r.arrival_ms)
    result = invoke("--status", "504", "--limit", "2")
    assert [row.split()[-1] for row in result.stdout.splitlines()[1:]] == [each.request_id for each in newest[:2]]
    assert "there are more" in result.stderr
    assert "there are more" not in invoke("--status", "504", "--limit", str(len(newest) + 1)).stderr


def test_a_single_match_is_opened(world, aws):
    request = one_of(world, "timeout")
    around = {"since": request.arrival_ms, "until": request.arrival_ms + 1}
    assert "execution log" in invoke("--status", "504", **around).stdout


@pytest.mark.parametrize(
    "statuses", [["5xx"], ["500-504"], ["500,502,504"], ["500", "--status", "502", "--status", "504"]]
)
def test_classes_and_ranges_of_statuses(statuses, world, aws):
    wanted = {request.request_id for request in world.requests if request.status >= 500}
    assert {picture["request_id"] for picture in found("--status", *statuses, "--limit", "100")} == wanted


def test_a_message_of_the_access_line(world, aws):
    wanted = {request.request_id for request in world.requests if request.outcome == "timeout"}
    assert {picture["request_id"] for picture in found("--message", "Endpoint request timed out")} == wanted
    assert '"Endpoint request timed out"' in patterns(aws, ACCESS.name)


def test_a_message_that_only_the_execution_log_has(world, aws):
    wanted = {request.request_id for request in world.requests if request.outcome == "permission"}
    pictures = found("--message", "Invalid permissions on Lambda function", "--limit", "100")
    assert {picture["request_id"] for picture in pictures} == wanted
    assert all(picture["fields"] for picture in pictures)


def test_a_message_and_a_status_must_both_hold(world, aws):
    assert invoke("--message", "Internal server error", "--status", "504").exit_code == 1
    assert {picture["status"] for picture in found("--message", "Internal server error", "--status", "502")} == {502}


@pytest.mark.parametrize(
    "cause",
    [
        *("integration_timeout", "lambda_permission", "lambda_error", "lambda_throttled"),
        *("missing_authentication_token", "masked_lambda_error"),
    ],
)
def test_a_cause_finds_all_its_requests_and_no_others(cause, world, aws):
    wanted = {request.request_id for request in world.requests if request.cause == cause}
    assert wanted
    assert {picture["request_id"] for picture in found("--cause", cause, "--limit", "100")} == wanted


def test_a_service_that_ignores_patterns_changes_nothing(world, aws, monkeypatch):
    monkeypatch.setattr(aws.reader, "_pattern", lambda _: lambda _: True)
    for arguments in (
        ["--cause", "lambda_error"],
        ["--status", "504"],
        ["--message", "Endpoint request timed out"],
        ["--request-id", one_of(world, "timeout").request_id],
    ):
        told = {picture["request_id"] for picture in found(*arguments, "--limit", "100")}
        cause = {"--cause": "lambda_error"}.get(arguments[0], "integration_timeout")
        wanted = {request.request_id for request in world.requests if request.cause == cause}
        assert told == ({arguments[1]} if arguments[0] == "--request-id" else wanted)


def test_api_and_stage_narrow_the_search(world, aws, monkeypatch, tmp_path):
    other = "  - {name: pay, api: {id: zz, name: payments, stage: v1}, access_log: {group: access/pay}}\n"
    configure(tmp_path, monkeypatch, more=other)
    line = json.dumps({"requestId": "17cb49b2-1061-45dc-8c6b-2e2e2e2e2e2e", "status": "504"})
    aws.put("access/pay", [(START_MS, line)], ingested_at_ms=START_MS)
    assert {picture["api"]["name"] for picture in found("--status", "504")} == {"orders", "payments"}
    aws.calls.clear()
    assert {picture["api"]["name"] for picture in found("--status", "504", "--api", "payments")} == {"payments"}
    assert not patterns(aws, ACCESS.name)
    assert {picture["api"]["stage"] for picture in found("--status", "504", "--stage", "prod")} == {"prod"}
    assert {picture["api"]["id"] for picture in found("--status", "504", "--api", "ab12cd34ef")} == {"ab12cd34ef"}


# ------------------------------------------------------------------------------------------- what is not found


def test_nothing_found_says_what_was_searched(world, aws):
    result = invoke("--request-id", "00000000-0000-4000-8000-000000000000")
    assert result.exit_code == 1
    assert result.stdout == ""
    calls = len(aws.calls_of("FilterLogEvents"))
    for part in (ACCESS.name, EXECUTION.name, iso(START_MS)[:19], iso(END_MS)[:19], f"{calls} calls"):
        assert part in result.stderr
    assert "\r" not in result.stderr  # progress is for terminals


def test_a_search_stays_within_its_time_and_begins_with_the_newest(world, aws):
    since, until = START_MS + 60_000, START_MS + SPAN_MS
    invoke("--request-id", "00000000-0000-4000-8000-000000000000", since=since, until=until)
    windows = [
        (call.parameters["startTime"], call.parameters["endTime"])
        for call in aws.calls_of("FilterLogEvents")
        if call.parameters["logGroupName"] == ACCESS.name
    ]
    assert windows[0][1] == until
    assert min(windows)[0] == since
    assert windows == sorted(windows, reverse=True)
    assert all(earlier_end == start for (start, _), (_, earlier_end) in itertools.pairwise(windows))


def test_a_recent_request_costs_few_calls(world, aws):
    newest = max((each for each in world.requests if each.outcome == "timeout"), key=lambda each: each.arrival_ms)
    found("--request-id", newest.request_id, until=newest.arrival_ms + 60_000)
    assert len(aws.calls_of("FilterLogEvents")) == 2


def test_a_denied_execution_group_is_named_and_the_rest_is_shown(world, aws):
    aws.group_faults[EXECUTION.name] = Faults(denied=True)
    request = one_of(world, "timeout")
    result = invoke("--request-id", request.request_id)
    assert result.exit_code == 0
    assert request.extended_id in result.stdout
    assert EXECUTION.name in result.stderr
    assert "AWS denies logs:FilterLogEvents" in result.stderr


def test_when_nothing_can_be_read_that_is_what_is_said(world, aws):
    aws.faults.denied = True
    result = invoke("--status", "504")
    assert result.exit_code == 1
    assert result.stderr.count("AWS denies") == 2
    assert "log groups searched: none" in result.stderr


def test_repeated_and_empty_pages_change_nothing(world, aws):
    aws.faults.repeated_pages = aws.faults.empty_pages = 0.3
    aws.faults.empty_first = 2
    wanted = {request.request_id for request in world.requests if request.status == 504}
    assert {picture["request_id"] for picture in found("--status", "504", "--limit", "50")} == wanted


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to look for"),
        (["--cause", "integration_timeuot"], "did you mean `integration_timeout`"),
        (["--status", "7xx"], "`7xx` is not a status"),
        (["--message", '"'], "at least one whole word"),
        (
            ["--status", "504", "--api", "invoices"],
            "no watch is of `invoices`; the configuration has orders/prod (ab12cd34ef)",
        ),
        (["--headers", "content-type: text/html"], "no x-amzn-requestid"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words(arguments, said, aws):
    result = CliRunner().invoke(main, ["find", *arguments])
    assert result.exit_code == 2
    assert said in result.stderr
    assert not aws.calls


@pytest.mark.parametrize("arguments", [["--api", "orders"], ["--stage", "prod"], []], ids=["API", "stage", "time"])
def test_without_a_question_it_lists_what_failed(arguments, world, aws):
    pictures = found(*arguments, "--limit", "500")
    assert {picture["request_id"] for picture in pictures} == {
        request.request_id for request in world.requests if request.status >= 400
    }


@pytest.mark.parametrize("since", ["yesterday", "2x", "2026-13-01"])
def test_a_time_that_is_none_is_refused(since, aws):
    result = CliRunner().invoke(main, ["find", "--status", "504", "--since", since])
    assert (result.exit_code, "--since" in result.stderr) == (2, True)


def test_no_secret_is_shown(aws):
    line = json.dumps(
        {
            "requestId": "17cb49b2-1061-45dc-8c6b-2e2e2e2e2e2e",
            "status": "502",
            "error.message": "login of jane.doe@example.com with AKIAIOSFODNN7EXAMPLE failed",
        }
    )
    aws.put(ACCESS.name, [(START_MS, line)], ingested_at_ms=START_MS)
    aws.create_group(EXECUTION.name)
    for output in ("text", "json"):
        shown = invoke("--status", "502", "--format", output).output
        assert "17cb49b2" in shown
        assert "jane.doe" not in shown
        assert "AKIAIOSFODNN7EXAMPLE" not in shown


# ------------------------------------------------------------------------------------------------------- politeness


def test_a_search_keeps_to_the_call_budget(world, aws):
    spec = WatchSpec(
        name="orders-prod",
        groups=(
            WatchGroup(group=ACCESS, kind="access", apis=(API,), parser=access_parser("auto")),
            WatchGroup(group=EXECUTION, kind="execution", apis=(API,)),
        ),
        max_request_ms=30_000,
        allowed_lateness_ms=330_000,
        poll_interval_ms=20_000,
        initial_lookback_ms=900_000,
    )
    now = 0.0
    calls: list[float] = []

    def wait(seconds: float) -> bool:
        nonlocal now
        now += seconds
        return False

    budget = CallBudget(2, clock=lambda: now, wait=wait)
    source = CloudWatchSource(
        lambda: logs_client(open_session(AccountAccess(), "eu-west-1"), max_connections=1),
        budget=budget,
        on_call=lambda *_: calls.append(now),
        wait=wait,
    )
    search = Search([spec], source_of=lambda _: source, rules=shipped_rules(), query=Query(cause="bad_request"))
    search.run(Window(START_MS - 86_400_000, END_MS), limit=20)
    assert len(calls) > 10
    for first, begun in enumerate(calls):
        for last in range(first, len(calls)):
            assert last - first + 1 <= 2 * (calls[last] - begun + BURST_SECONDS) + 1


@given(st.lists(st.uuids().map(str), min_size=1, max_size=80))
def test_many_ids_fit_into_patterns_that_find_each_of_them(ids):
    made = id_patterns(ids)
    assert all(len(pattern) <= MAX_PATTERN for pattern in made)
    for text in ids:
        assert any(compile_pattern(pattern)(f"({text}) Method completed with status: 504") for pattern in made)


@given(
    st.sets(st.integers(100, 599), max_size=200),
    st.one_of(st.none(), st.text(min_size=1, max_size=2_000)),
    st.one_of(st.none(), st.just("lambda_error")),
)
def test_every_pattern_is_one_that_the_service_takes(statuses, message, cause):
    query = Query(statuses=frozenset(statuses), message=message, cause=cause)
    made = [access_pattern(query), *execution_patterns(query, alone=True), *execution_patterns(query, alone=False)]
    for pattern in made:
        compile_pattern(pattern)


@given(
    st.integers(100, 599),
    st.sampled_from(["x", 'he said "no"', "a\\b", "100 % of it", "ünder load", "one\ntwo", "'user_id'"]),
)
def test_a_pattern_never_leaves_out_what_is_looked_for(status, message):
    line = json.dumps({"status": str(status), "message": message}, ensure_ascii=False)
    pattern = access_pattern(Query(statuses=frozenset({status}), message=message))
    assert compile_pattern(pattern)(line)


@given(
    start=st.integers(0, 10_000_000_000),
    length=st.integers(1, 2_000_000_000),
    answered=st.one_of(st.none(), st.integers(0, 12_000_000_000)),
)
def test_stretches_cover_a_span_once(start, length, answered):
    span = Window(start, start + length)
    made = sorted(stretches(span, answered_at_ms=answered, max_request_ms=30_000))
    assert (made[0].start_ms, made[-1].end_ms) == span
    assert all(one.end_ms == other.start_ms for one, other in itertools.pairwise(made))
    assert all(window.start_ms < window.end_ms for window in made)
    assert len(made) < 40


def test_what_to_do_is_what_the_documentation_says():
    page = (Path(__file__).parent.parent / "docs" / "causes.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if re.match(r"\| `\w+` \|", line)]
    plain = {row[0].strip("`"): re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", row[-1]).replace("`", "'") for row in rows}
    assert {cause.name: cause.advice for cause in shipped_rules().causes.values()} == plain


@mock_aws
def test_a_stage_that_is_discovered_is_searched_too(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    now_ms = int(time.time() * 1000)
    group = "access/found"
    logs = boto3.client("logs", region_name="eu-west-1")
    logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName="s")
    line = json.dumps({"requestId": "17cb49b2-1061-45dc-8c6b-2e2e2e2e2e2e", "status": "504"})
    logs.put_log_events(
        logGroupName=group, logStreamName="s", logEvents=[{"timestamp": now_ms - 1_000, "message": line}]
    )
    gateway = boto3.client("apigatewayv2", region_name="eu-west-1")
    api_id = gateway.create_api(Name="found", ProtocolType="HTTP")["ApiId"]
    gateway.create_stage(
        ApiId=api_id,
        StageName="$default",
        AccessLogSettings={
            "DestinationArn": f"arn:aws:logs:eu-west-1:123456789012:log-group:{group}",
            "Format": '{"requestId":"$context.requestId","status":"$context.status"}',
        },
    )
    path = tmp_path / "exporter.yaml"
    path.write_text("accounts: [{name: default, regions: [eu-west-1]}]\ndiscover: {rest: false, websocket: false}\n")
    arguments = ["find", "--config.file", str(path), "--status", "504", "--since", "10m", "--api", "found"]
    result = CliRunner().invoke(main, [*arguments, "--format", "json"])
    assert result.exit_code == 0, result.output
    picture = json.loads(result.stdout)
    assert (picture["request_id"], picture["api"]["id"]) == ("17cb49b2-1061-45dc-8c6b-2e2e2e2e2e2e", api_id)


@pytest.mark.parametrize("discovered", [False, True], ids=["by ARN", "discovered"])
def test_a_request_of_another_account_is_found_through_the_monitoring_account(
    discovered, world, aws, monkeypatch, tmp_path
):
    source = "111122223333"
    aws.reader.linked.add(source)
    arns = {}
    for group in (ACCESS, EXECUTION):
        arns[group] = f"arn:aws:logs:eu-west-1:{source}:log-group:{group.name}"
        aws.world.groups[arns[group]] = aws.world.groups.pop(group.name)
    request = one_of(world, "timeout")
    path = tmp_path / "linked.yaml"
    hub = "accounts: [{name: hub, regions: [eu-west-1], calls_per_second: 25}]\n"
    by_arn = (
        f"watches: [{{name: orders, access_log: {{group: '{arns[ACCESS]}'}}, "
        f"execution_log: {{group: '{arns[EXECUTION]}'}}}}]\n"
    )
    # The access group's name tells no API: what is discovered is the execution group alone.
    path.write_text(hub + ("discover: {linked_accounts: {}}\n" if discovered else by_arn))
    monkeypatch.setenv("APIGATEWAY_EXPORTER_CONFIG_FILE", str(path))
    (picture,) = found("--request-id", request.request_id)
    assert (picture["status"], picture["cause"]) == (504, "integration_timeout")
    assert (picture["api"]["id"], picture["api"]["account_id"]) == ("ab12cd34ef", source)
    assert picture["log_groups"] == ([] if discovered else [ACCESS.name]) + [EXECUTION.name]
