"""The fake CloudWatch behaves as AWS does: what it stands for in every other test is shown here, by real boto3."""

import contextlib
import http.client
import json
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import FakeCloudWatch, Fault, Faults, Role
from tests.fakes.patterns import BadPattern, compile_pattern

NOW = 1_760_000_000
NOW_MS = NOW * 1000
GROUP = "access/orders"


class Clock:
    def __init__(self):
        self.now = float(NOW)

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def fake(clock):
    with FakeCloudWatch(clock=clock) as server:
        yield server


def client_of(url, service="logs"):
    return boto3.client(
        service,
        region_name="eu-west-1",
        endpoint_url=url,
        aws_access_key_id="AKIA",
        aws_secret_access_key="secret",
        config=Config(retries={"mode": "standard", "total_max_attempts": 1}),
    )


@pytest.fixture
def logs(fake):
    client = client_of(fake.url)
    yield client
    client.close()


def ask(logs, **asked):
    return logs.filter_log_events(**({"logGroupName": GROUP} | asked))


def listing(logs, **asked):
    """All pages of a listing."""
    pages = [ask(logs, **asked)]
    while "nextToken" in pages[-1]:
        pages.append(ask(logs, **asked, nextToken=pages[-1]["nextToken"]))
    return pages


def messages(pages):
    return [event["message"] for page in pages for event in page["events"]]


def code_of(raised):
    return raised.value.response["Error"]["Code"]


# ------------------------------------------------------------------------------------------------------ ids and order


def test_event_ids_are_built_as_aws_builds_them(fake):
    ids = fake.put(GROUP, [(NOW_MS - 9, "a"), (NOW_MS - 8, "b")], ingested_at_ms=NOW_MS)
    assert [len(event_id) for event_id in ids] == [56, 56]
    numbers = [int(event_id) for event_id in ids]
    assert [number >> 144 for number in numbers] == [NOW_MS - 9, NOW_MS - 8]
    assert {number >> 80 & (1 << 64) - 1 for number in numbers} == {NOW_MS}
    assert len({number >> 16 & (1 << 64) - 1 for number in numbers}) == 1
    assert [number & 0xFFFF for number in numbers] == [0, 1]


def test_ids_of_a_seed_are_the_same_again():
    ids = [FakeCloudWatch(clock=Clock(), seed=7).put(GROUP, [(NOW_MS, "a")]) for _ in range(2)]
    assert ids[0] == ids[1]


def test_events_come_by_event_time_then_ingestion_then_batch_then_index(fake, logs):
    fake.put(GROUP, [(NOW_MS - 5, "second of its time"), (NOW_MS - 9, "first")], ingested_at_ms=NOW_MS - 1)
    fake.put(GROUP, [(NOW_MS - 5, "same, ingested earlier")], ingested_at_ms=NOW_MS - 2, stream="other")
    fake.put(GROUP, [(NOW_MS - 4, "x"), (NOW_MS - 4, "y")], ingested_at_ms=NOW_MS)
    assert messages(listing(logs)) == ["first", "same, ingested earlier", "second of its time", "x", "y"]
    ids = [event["eventId"] for event in ask(logs)["events"]]
    assert ids == sorted(ids)


def test_an_event_is_visible_from_its_ingestion_on_plus_the_delay(fake, logs, clock):
    fake.put(GROUP, [(NOW_MS - 30_000, "late")], ingested_at_ms=NOW_MS + 5_000)
    fake.reader.visibility_delay_ms = 2_000
    seen = {}
    for second in (0, 5, 6.9, 7):
        clock.now = NOW + second
        seen[second] = messages(listing(logs))
    assert seen == {0: [], 5: [], 6.9: [], 7: ["late"]}


def test_searched_log_streams_are_empty_and_the_date_is_the_fakes_clock_in_whole_seconds(fake, logs, clock):
    fake.create_group(GROUP)
    clock.now += 0.9
    answer = ask(logs)
    assert answer["searchedLogStreams"] == []
    assert answer["ResponseMetadata"]["HTTPHeaders"]["date"] == "Thu, 09 Oct 2025 08:53:20 GMT"


def test_the_start_is_included_and_the_end_as_switched(fake, logs):
    fake.put(GROUP, [(NOW_MS + n, str(n)) for n in range(5)], ingested_at_ms=NOW_MS)
    assert messages(listing(logs, startTime=NOW_MS + 1, endTime=NOW_MS + 3)) == ["1", "2", "3"]
    fake.reader.end_included = False
    assert messages(listing(logs, startTime=NOW_MS + 1, endTime=NOW_MS + 3)) == ["1", "2"]


def test_retention_hides_what_is_older(fake, logs):
    fake.create_group(GROUP, retention_days=1)
    fake.put(GROUP, [(NOW_MS - 86_400_001, "old"), (NOW_MS - 86_400_000, "kept")])
    assert messages(listing(logs)) == ["kept"]


def test_events_two_hours_ahead_are_taken_and_later_ones_and_those_over_14_days_are_not(fake, logs):
    fake.put(GROUP, [(NOW_MS + 7_200_000, "ahead"), (NOW_MS - 14 * 86_400_000, "old")])
    assert messages(listing(logs)) == ["old", "ahead"]
    for at_ms in (NOW_MS + 7_200_001, NOW_MS - 14 * 86_400_000 - 1):
        with pytest.raises(ValueError, match="AWS takes no"):
            fake.put(GROUP, [(at_ms, "x")])


# --------------------------------------------------------------------------------------------------------------- pages


def test_a_page_has_at_most_ten_thousand_events(fake, logs):
    for _ in range(2):
        fake.put(GROUP, [(NOW_MS, "")] * 6_000)
    pages = listing(logs)
    assert sum(len(page["events"]) for page in pages) == 12_000
    assert all(len(page["events"]) <= 10_000 for page in pages)


def test_a_page_has_at_most_one_megabyte(fake, logs):
    fake.put(GROUP, [(NOW_MS, "x" * 100_000)] * 25)
    pages = listing(logs)
    assert [len(page["events"]) for page in pages] == [10, 10, 5]
    assert all(int(page["ResponseMetadata"]["HTTPHeaders"]["content-length"]) <= 1_048_576 for page in pages)


def test_a_page_has_at_most_as_many_events_as_asked_for(fake, logs):
    fake.put(GROUP, [(NOW_MS, str(n)) for n in range(5)])
    assert [len(page["events"]) for page in listing(logs, limit=2)] == [2, 2, 1]


@pytest.mark.parametrize("limit", [0, 10_001])
def test_a_limit_out_of_range_is_refused(fake, limit):
    fake.create_group(GROUP)
    body = json.dumps({"logGroupName": GROUP, "limit": limit}).encode()
    request = urllib.request.Request(fake.url, body, {"X-Amz-Target": "Logs_20140328.FilterLogEvents"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert json.load(refused.value)["__type"] == "InvalidParameterException"
    refused.value.close()


@pytest.mark.parametrize(
    ("where", "sizes"),
    [
        ("empty_first", [0, 0, 2, 2]),
        ("empty_middle", [2, 0, 0, 2]),
        ("empty_last", [2, 2, 0, 0]),
    ],
)
def test_empty_pages_with_tokens_come_where_they_are_wanted(fake, logs, where, sizes):
    fake.put(GROUP, [(NOW_MS, str(n)) for n in range(4)])
    fake.faults.set(where, 2)
    assert [len(page["events"]) for page in listing(logs, limit=2)] == sizes


def test_one_call_looks_at_a_bounded_number_of_events(fake, logs):
    fake.put(GROUP, [(NOW_MS, "hay")] * 7 + [(NOW_MS, "needle")])
    fake.reader.scan_events = 3
    assert [len(page["events"]) for page in listing(logs, filterPattern="needle")] == [0, 0, 1]


def test_an_event_that_arrives_behind_the_place_of_a_listing_is_missed_by_it(fake, logs):
    fake.put(GROUP, [(NOW_MS, "b"), (NOW_MS + 2, "d")])
    first = ask(logs, limit=1)
    fake.put(GROUP, [(NOW_MS - 1, "a"), (NOW_MS + 1, "c")])
    rest = ask(logs, nextToken=first["nextToken"])
    assert messages([first, rest]) == ["b", "c", "d"]


# -------------------------------------------------------------------------------------------------------------- tokens


@pytest.fixture
def token(fake, logs):
    fake.put(GROUP, [(NOW_MS, str(n)) for n in range(4)])
    return ask(logs, limit=2, startTime=NOW_MS)["nextToken"]


@pytest.mark.parametrize(
    "changed", [{"startTime": NOW_MS - 1}, {"endTime": NOW_MS}, {"filterPattern": "x"}, {"logStreamNamePrefix": "s"}]
)
def test_a_token_belongs_to_its_query(logs, token, changed):
    with pytest.raises(ClientError) as refused:
        ask(logs, **({"startTime": NOW_MS, "nextToken": token} | changed))
    assert code_of(refused) == "InvalidParameterException"


@pytest.mark.parametrize("forged", ["x", "A" * 80, "öä"])
def test_a_token_that_was_never_given_is_refused(logs, token, forged):
    with pytest.raises(ClientError) as refused:
        ask(logs, startTime=NOW_MS, nextToken=forged)
    assert code_of(refused) == "InvalidParameterException"


def test_a_token_lives_for_a_day(logs, token, clock):
    clock.now += 86_400
    assert messages([ask(logs, startTime=NOW_MS, nextToken=token)]) == ["2", "3"]
    clock.now += 1
    with pytest.raises(ClientError) as refused:
        ask(logs, startTime=NOW_MS, nextToken=token)
    assert code_of(refused) == "InvalidParameterException"


def test_a_token_outlives_a_restart_of_the_fake(token, clock):
    with FakeCloudWatch(clock=clock) as again:
        again.put(GROUP, [(NOW_MS, str(n)) for n in range(4)])
        client = client_of(again.url)
        assert messages([ask(client, startTime=NOW_MS, nextToken=token)]) == ["2", "3"]
        client.close()


def test_tokens_of_equal_pages_differ(fake, logs):
    fake.create_group(GROUP)
    fake.faults.empty_first = 5
    tokens = [page.get("nextToken") for page in listing(logs)]
    assert len(set(tokens)) == 6


def test_a_token_can_repeat(fake, logs, token):
    fake.faults.script.append(Fault.SAME_TOKEN)
    assert ask(logs, startTime=NOW_MS, nextToken=token)["nextToken"] == token


def test_a_page_can_repeat_under_a_new_token(fake, logs):
    fake.put(GROUP, [(NOW_MS, str(n)) for n in range(3)])
    fake.faults.script.append(Fault.REPEATED_PAGE)
    assert messages(listing(logs, limit=2)) == ["0", "1", "0", "1", "2"]


def test_a_listing_can_be_endless(fake, logs):
    fake.put(GROUP, [(NOW_MS, "a")])
    fake.faults.endless = True
    answer = ask(logs)
    for _ in range(30):
        answer = ask(logs, nextToken=answer["nextToken"])
        assert answer["events"] == []


# ------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault.THROTTLE, 400),
        (Fault.SERVER_ERROR, 500),
        (Fault.UNAVAILABLE, 503),
        (Fault.EXPIRED, 400),
        (Fault.DENIED, 400),
        (Fault.MISSING, 400),
        (Fault.REFUSED_TOKEN, 400),
    ],
)
def test_error_answers_have_awss_code_and_status(fake, logs, fault, status):
    fake.create_group(GROUP)
    fake.faults.script.append(fault)
    with pytest.raises(ClientError) as refused:
        ask(logs)
    assert (code_of(refused), refused.value.response["ResponseMetadata"]["HTTPStatusCode"]) == (fault.value, status)
    assert ask(logs)["events"] == []
    assert [call.code for call in fake.calls] == [fault.value, "OK"]


def test_a_reset_is_a_closed_connection(fake, logs):
    fake.create_group(GROUP)
    fake.faults.script.append(Fault.RESET)
    with pytest.raises(ConnectionClosedError):
        ask(logs)


@pytest.fixture
def half_an_answer(fake):
    """Asks by plain HTTP and reads as many bytes as a broken answer brings; the connection and the rest of the answer."""
    connections = []

    def ask(fault):
        fake.put(GROUP, [(NOW_MS, "a" * 1_000)])
        fake.faults.script.append(fault)
        connections.append(http.client.HTTPConnection(fake.url.removeprefix("http://"), timeout=0.3))
        body = json.dumps({"logGroupName": GROUP})
        connections[-1].request("POST", "/", body, {"X-Amz-Target": "Logs_20140328.FilterLogEvents"})
        response = connections[-1].getresponse()
        half = int(response.headers["Content-Length"]) // 2
        assert (response.status, len(response.read(half))) == (200, half)
        return connections[-1], response

    yield ask
    for connection in connections:
        connection.close()


def test_a_connection_can_be_reset_in_the_middle_of_a_body(fake, half_an_answer):
    _, rest = half_an_answer(Fault.RESET_MIDWAY)
    with pytest.raises(ConnectionResetError):
        rest.read(1)
    assert fake.codes == {"reset midway": 1}


def test_a_connection_can_end_in_the_middle_of_a_body(fake, half_an_answer):
    _, rest = half_an_answer(Fault.CUT)
    assert rest.read(1) == b""
    assert fake.codes == {"cut": 1}


def test_a_body_can_stall_until_its_reader_goes_away(fake, half_an_answer):
    before = set(threading.enumerate())
    connection, rest = half_an_answer(Fault.STALL)
    with pytest.raises(TimeoutError):
        rest.read(1)
    (serving,) = set(threading.enumerate()) - before
    assert fake.codes == {"stall": 1}
    rest.close()
    connection.close()
    serving.join(20)
    assert not serving.is_alive()


def test_resets_come_before_and_in_the_middle_of_an_answer_in_turns(fake, logs):
    fake.create_group(GROUP)
    fake.faults.resets = 1
    for _ in range(4):
        with pytest.raises(ConnectionClosedError):
            ask(logs)
    assert fake.codes == {"reset": 2, "reset midway": 2}


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.CUT_CLEAN, Fault.HTML])
def test_botocore_takes_a_cut_answer_for_the_end_of_a_listing(fake, logs, fault):
    """The trap that `exporter.sources.wire` is there for; if this fails, botocore has learned better."""
    fake.put(GROUP, [(NOW_MS, "a")])
    fake.faults.script.append(fault)
    answer = ask(logs)
    assert "events" not in answer
    assert "nextToken" not in answer


def test_more_calls_a_second_than_the_quota_are_throttled(fake, logs, clock):
    fake.create_group(GROUP)
    fake.calls_per_second = 3
    for second in range(3):
        clock.now = NOW + second
        for _ in range(3):
            ask(logs)
        with pytest.raises(ClientError, match="Rate exceeded"):
            ask(logs)
    assert fake.codes == {"OK": 9, "ThrottlingException": 3}


def test_probabilities_hit_about_that_often_and_the_same_calls_for_a_seed(clock):
    outcomes = []
    for _ in range(2):
        with FakeCloudWatch(clock=clock, seed=3) as fake:
            fake.create_group(GROUP)
            fake.faults = Faults(throttled=0.3)
            for _ in range(300):
                fake.answer("FilterLogEvents", {"logGroupName": GROUP}, "")
            outcomes.append([call.code for call in fake.calls])
    assert outcomes[0] == outcomes[1]
    assert 60 <= outcomes[0].count("ThrottlingException") <= 120


def test_a_group_can_have_faults_of_its_own(fake, logs):
    fake.create_group(GROUP)
    fake.create_group("other")
    fake.group_faults["other"] = Faults(denied=True)
    ask(logs)
    with pytest.raises(ClientError, match="not authorized"):
        ask(logs, logGroupName="other")


def test_a_group_can_vanish_and_come_back_empty(fake, logs):
    fake.put(GROUP, [(NOW_MS, "a")])
    fake.delete_group(GROUP)
    with pytest.raises(ClientError) as refused:
        ask(logs)
    assert code_of(refused) == "ResourceNotFoundException"
    fake.create_group(GROUP)
    assert messages(listing(logs)) == []


def test_a_group_is_named_once_by_name_or_by_arn_without_its_end(fake, logs):
    fake.put(GROUP, [(NOW_MS, "a")])
    arn = f"arn:aws:logs:eu-west-1:123456789012:log-group:{GROUP}"
    assert messages([logs.filter_log_events(logGroupIdentifier=arn)]) == ["a"]
    for wrong in (
        {"logGroupIdentifier": arn, "logGroupName": GROUP},
        {"logGroupIdentifier": f"{arn}:*"},
        {},
    ):
        with pytest.raises(ClientError) as refused:
            logs.filter_log_events(**wrong)
        assert code_of(refused) == "InvalidParameterException"


# ------------------------------------------------------------------------------------------------------------ patterns

CLF = '198.51.100.1 - alice [09/Oct/2025:08:53:20 +0000] "GET /a b HTTP/1.1" {} 12 c6af-9ac6 JKJaXmPLvHcESHA='
CLF_PATTERN = "[ip, caller, user, time, request, status={}, length, requestId, extended]"


@pytest.mark.parametrize(
    ("pattern", "hits", "misses"),
    [
        (None, ["anything", ""], []),
        ("  ", ["anything"], []),
        ("ERROR", ["an ERROR here", "[ERROR]"], ["an error", "ERRORS"]),
        ("ERROR 400", ["400 then ERROR"], ["ERROR only"]),
        ('"Execution failed"', ["(1) Execution failed due to"], ["Execution is failed"]),
        ('"a b" "c d"', ["c d a b"], ["a b c"]),
        ('?"id-1" ?"id-2"', ["x id-1", "id-2 y"], ["id-3"]),
        ('?"id-1" ?"id-2" ERROR', ["ERROR without any id"], ["id-1"]),  # AWS ignores `?` terms mixed with others
        ("ERROR -DEBUG", ["ERROR"], ["ERROR DEBUG", "INFO"]),
        (r"%status:\s[45]%", ["with status: 502"], ["with status: 200"]),
        (r"?%status:\s4% ?%status:\s5%", ["status: 404", "status: 504"], ["status: 204"]),
        ('{ $.status = "4*" || $.status = "5*" }', ['{"status":"404"}'], ['{"status":"200"}', "404", '{"status":404']),
        ("{ $.status = %^[45]% }", ['{"status":"404"}', '{"status":504}'], ['{"status":"204"}', '{"status":null}']),
        ("{ $.status = 5* }", ['{"status":"504"}', '{"status":504}'], ['{"status":404}']),
        ("{ $.status >= 400 }", ['{"status":404}'], ['{"status":"404"}', '{"status":200}']),
        ('{ ($.a = "1" || $.b = "1") && $.c != "x" }', ['{"b":"1","c":"y"}'], ['{"b":"1","c":"x"}', '{"c":"y"}']),
        ('{ $.a = "1" || $.b = "1" && $.c = "1" }', ['{"a":"1"}', '{"b":"1","c":"1"}'], ['{"b":"1"}', '{"c":"1"}']),
        ("{ $.['error.responseType'] != \"-\" }", ['{"error.responseType":"X"}'], ['{"error.responseType":"-"}', "{}"]),
        ("{ $.a.b[0] = 7 }", ['{"a":{"b":[7]}}'], ['{"a":{"b":[8,7]}}', '{"a":{"b":[]}}', '{"a":{"b":7}}']),
        ("{ $.a[*] = 7 }", ['{"a":[1,7]}'], ['{"a":[1]}']),
        ("{ $.a = * }", ['{"a":"x"}', '{"a":1}'], ['{"a":{}}', '{"a":[]}', "{}"]),
        ("{ $.a IS NULL }", ['{"a":null}'], ['{"a":0}', "{}"]),
        ("{ $.a NOT EXISTS }", ["{}"], ['{"a":null}']),
        (CLF_PATTERN.format("%^[45]%"), [CLF.format(404)], [CLF.format(200), CLF.format(404) + " more", "404"]),
        (CLF_PATTERN.format("4* || status=5*"), [CLF.format(404), CLF.format(504)], [CLF.format(304)]),
        ("[ip, ..., status>=500, length, a, b]", [CLF.format(504)], [CLF.format(404)]),
        ("[..., status=5*, length, a, b]", [CLF.format(504), "500 1 2 3"], ["1 2 3"]),
        ("[ip=198.*, ...]", [CLF.format(200)], ["10.0.0.1 x"]),
    ],
)
def test_patterns_select_as_aws_documents(pattern, hits, misses):
    selects = compile_pattern(pattern)
    assert [message for message in hits if not selects(message)] == []
    assert [message for message in misses if selects(message)] == []


@pytest.mark.parametrize(
    "pattern",
    [
        "a-b",
        '"open',
        "{ $.a = ",
        "{ $.a }",
        "{ $.a > x }",
        "{ a = 1 }",
        "{ $.a = %1% || $.a = %2% || $.a = %3% }",
        "[a, b=%1%, c=%2%, d=%3%]",
        "[a, ..., b, ...]",
        "%(a|b)%",
        "%a b%",  # AWS documents no space in its regular expressions
        "%[%",
        "x" * 1_025,
    ],
)
def test_patterns_that_aws_refuses_are_refused(pattern):
    with pytest.raises(BadPattern):
        compile_pattern(pattern)


@given(st.text(alphabet='{}[]$.="%*?-&| abAB01<>!,()', max_size=40))
def test_any_text_is_a_pattern_or_a_bad_one(text):
    with contextlib.suppress(BadPattern):
        assert compile_pattern(text)('{"a": 1}') in (True, False)


def test_a_bad_pattern_is_an_invalid_parameter(fake, logs):
    fake.create_group(GROUP)
    with pytest.raises(ClientError) as refused:
        ask(logs, filterPattern="{ $.a")
    assert code_of(refused) == "InvalidParameterException"


# ---------------------------------------------------------------------------------------------------- other operations


def test_groups_are_described_in_order_and_by_the_page(fake, logs):
    for n in range(120):
        fake.create_group(f"prefix/{n:03}")
    fake.create_group("other", retention_days=7)
    pages = list(logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix="prefix/"))
    assert [len(page["logGroups"]) for page in pages] == [50, 50, 20]
    (other,) = logs.describe_log_groups(logGroupNamePattern="the")["logGroups"]
    assert (other["logGroupName"], other["retentionInDays"]) == ("other", 7)
    assert other["arn"] == other["logGroupArn"] + ":*"


def test_a_stream_is_read_from_its_head_until_the_token_stays(fake, logs):
    fake.put(GROUP, [(NOW_MS + n, str(n)) for n in range(3)], stream="a")
    fake.put(GROUP, [(NOW_MS, "other")], stream="b")
    assert [s["logStreamName"] for s in logs.describe_log_streams(logGroupName=GROUP)["logStreams"]] == ["a", "b"]
    asked = {"logGroupName": GROUP, "logStreamName": "a", "startFromHead": True, "limit": 2, "endTime": NOW_MS + 2}
    first = logs.get_log_events(**asked)
    last = logs.get_log_events(**asked, nextToken=first["nextForwardToken"])
    assert messages([first, last]) == ["0", "1"]
    assert last["nextForwardToken"] == first["nextForwardToken"]
    assert "eventId" not in first["events"][0]


def test_a_role_is_assumed_by_those_who_know_its_external_id(fake):
    arn = "arn:aws:iam::210987654321:role/reader"
    fake.sts.roles[arn] = Role(external_id="42")
    sts = client_of(fake.url, "sts")
    assert sts.assume_role(RoleArn=arn, RoleSessionName="me", ExternalId="42")["Credentials"]["SessionToken"]
    assert sts.get_caller_identity()["Account"] == "123456789012"
    with pytest.raises(ClientError) as refused:
        sts.assume_role(RoleArn=arn, RoleSessionName="me", ExternalId="43")
    assert code_of(refused) == "AccessDenied"
    sts.close()


def test_a_roles_credentials_are_refused_once_they_expire(fake, clock):
    fake.create_group(GROUP)
    _, _, body = fake.sts.answer({"Action": "AssumeRole", "RoleArn": _role(fake, 900)}, "AKIA", down=False)
    key = body.decode().split("<AccessKeyId>")[1].split("<")[0]
    for second, code in ((899, "OK"), (900, "ExpiredTokenException")):
        clock.now = NOW + second
        fake.answer("FilterLogEvents", {"logGroupName": GROUP}, key)
        assert fake.calls[-1].code == code


def _role(fake, seconds):
    arn = "arn:aws:iam::210987654321:role/short"
    fake.sts.roles[arn] = Role(seconds=seconds)
    return arn


# ------------------------------------------------------------------------------------------------- a process of its own


def test_it_runs_as_a_process_with_a_world_from_a_file_and_faults_changed_on_the_way(tmp_path):
    world = tmp_path / "world.jsonl"
    world.write_text(
        "\n".join(
            json.dumps({"group": GROUP, "at_ms": n, "ingested_at_ms": ingested, "message": str(n)})
            for n, ingested in enumerate([0, 0, 10**9])
        )
    )
    with subprocess.Popen(
        [sys.executable, "-m", "tests.fakes", "--world", world, "--start-ms", str(NOW_MS), "--set", "empty_first=1"],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            started = json.loads(process.stdout.readline())
            assert started["start_ms"] == NOW_MS
            logs = client_of(started["url"])
            pages = listing(logs)
            assert [len(page["events"]) for page in pages] == [0, 3]
            assert [event["timestamp"] for event in pages[1]["events"]] == [NOW_MS, NOW_MS + 1, NOW_MS + 2]
            urllib.request.urlopen(started["url"] + "/fakes", b'{"throttled": 1}').close()
            with pytest.raises(ClientError, match="Rate exceeded"):
                ask(logs)
            with urllib.request.urlopen(started["url"] + "/fakes") as answer:
                assert json.load(answer) == {"OK": 2, "ThrottlingException": 1}
            logs.close()
        finally:
            process.terminate()
