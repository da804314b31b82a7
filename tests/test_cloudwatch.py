"""The CloudWatch source, by real boto3 over real HTTP, against a CloudWatch that misbehaves as AWS does."""

import itertools
import json
import random
import ssl
import threading
import time as wall_clock
import tracemalloc
from collections import Counter
from functools import partial
from pathlib import Path

import boto3
import botocore
import msgspec
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.metrics.self_metrics import SelfMetrics
from exporter.model import LogGroup, Window
from exporter.places import Places
from exporter.sources import GroupUnreadable, ListingBroken, PatternRefused, Source, Unavailable
from exporter.sources.budget import CallBudget
from exporter.sources.cloudwatch import FRUITLESS_PAGES, CloudWatchSource
from exporter.sources.lanes import Lanes
from exporter.sources.sessions import AccountAccess, logs_client, open_session
from exporter.sources.wire import Malformed, attach, read_answer
from tests.certificates import Authority
from tests.fakes import FakeCloudWatch, Fault, Faults, Role

NOW = 1_760_000_000
NOW_MS = NOW * 1000
WINDOW = Window(NOW_MS - 600_000, NOW_MS)
GROUP = LogGroup("default", "eu-west-1", "access/orders")
ACROSS = LogGroup("210987654321", "eu-west-1", "access/orders")
ACROSS_ARN = "arn:aws:logs:eu-west-1:210987654321:log-group:access/orders"


class SimulatedTime:
    """One clock for all: it moves when the source waits or a test says so."""

    def __init__(self):
        self.now = float(NOW)
        self.stopped = False
        self.waits = []
        self._lock = threading.Lock()

    def clock(self):
        return self.now

    def wait(self, seconds):
        with self._lock:
            if seconds > 0:
                self.waits.append(seconds)
                self.now += seconds
        return self.stopped


class Bench:
    """A fake, a source that reads it, and what both saw."""

    def __init__(self, fake, time, connect, rate=1_000.0, **more):
        self.fake = fake
        self.time = time
        self.connect = connect
        self.reported = []
        self.source = CloudWatchSource(
            connect,
            budget=CallBudget(rate, clock=time.clock, wait=time.wait),
            wait=time.wait,
            **{"clock": time.clock, "ticks": time.clock, "jitter": random.Random(1), "on_call": self.report} | more,
        )

    def report(self, *call):
        self.reported.append(call)

    def list(self, window=WINDOW, pattern=None, group=GROUP):
        return [event for page in self.source.pages(group, window, pattern) for event in page.events]

    def messages(self, *args, **kwargs):
        return [event.message for event in self.list(*args, **kwargs)]


def plain_client(url, read_timeout=5, ca_file=None):
    once = {"mode": "standard", "total_max_attempts": 1}
    return boto3.client(
        "logs",
        region_name="eu-west-1",
        endpoint_url=url,
        aws_access_key_id="AKIA",
        aws_secret_access_key="secret",
        verify=ca_file,
        config=Config(retries=once, read_timeout=read_timeout, max_pool_connections=10),
    )


@pytest.fixture
def time():
    return SimulatedTime()


@pytest.fixture
def fake(time):
    with FakeCloudWatch(clock=time.clock) as server:
        yield server


@pytest.fixture
def bench(fake, time):
    made = Bench(fake, time, lambda: plain_client(fake.url))
    yield made
    made.source.close()


def fill(fake, count=10, group=GROUP.name, first_ms=NOW_MS - 300_000):
    """`count` events, one a millisecond; their messages."""
    messages = [f"event {n}" for n in range(count)]
    for at in range(0, count, 10_000):
        fake.put(
            group, [(first_ms + n, messages[n]) for n in range(at, min(at + 10_000, count))], ingested_at_ms=NOW_MS - 1
        )
    return messages


# ------------------------------------------------------------------------------------------------------------ listings


def test_it_is_a_source(bench):
    source: Source = bench.source
    assert callable(source.pages)


def test_a_listing_gives_every_event_with_all_that_is_asked_of_the_wire(bench, fake):
    (event_id,) = fake.put(
        GROUP.name, [(NOW_MS - 5_000, 'späť "q"\n\t\u2028 end')], ingested_at_ms=NOW_MS - 1_000, stream="s"
    )
    (event,) = bench.list()
    assert msgspec.structs.asdict(event) == {
        "event_id": event_id,
        "at_ms": NOW_MS - 5_000,
        "message": 'späť "q"\n\t\u2028 end',
        "ingested_at_ms": NOW_MS - 1_000,
    }


def test_pages_carry_their_size_and_the_servers_time(bench, fake):
    fill(fake)
    (page,) = bench.source.pages(GROUP, WINDOW)
    assert page.server_at_ms == NOW_MS
    assert page.response_bytes > 10 * 150
    assert bench.reported == [("FilterLogEvents", "OK", page.response_bytes)]


def test_an_empty_group_is_one_empty_page(bench, fake):
    fake.create_group(GROUP.name)
    assert [page.events for page in bench.source.pages(GROUP, WINDOW)] == [[]]


def test_an_empty_window_asks_nothing(bench, fake):
    assert bench.list(Window(NOW_MS, NOW_MS)) == []
    assert bench.list(Window(NOW_MS, NOW_MS - 1)) == []
    assert fake.calls == []


@pytest.mark.parametrize("end_included", [True, False])
def test_both_readings_of_the_windows_end_give_the_same_events(bench, fake, end_included):
    fake.reader.end_included = end_included
    edges = [WINDOW.start_ms - 1, WINDOW.start_ms, WINDOW.end_ms - 1, WINDOW.end_ms]
    fake.put(GROUP.name, [(at, str(at)) for at in edges], ingested_at_ms=NOW_MS)
    assert bench.messages() == [str(WINDOW.start_ms), str(WINDOW.end_ms - 1)]


def test_adjoining_windows_share_no_event_and_miss_none(bench, fake):
    middle = WINDOW.start_ms + 300_000
    fake.put(GROUP.name, [(middle + n, str(n)) for n in (-1, 0, 0, 1)], ingested_at_ms=NOW_MS)
    assert bench.messages(Window(WINDOW.start_ms, middle)) == ["-1"]
    assert bench.messages(Window(middle, WINDOW.end_ms)) == ["0", "0", "1"]


def test_events_come_in_order_of_event_time_whatever_stream_and_batch_they_are_in(bench, fake):
    fake.put(GROUP.name, [(NOW_MS - 50, "b1"), (NOW_MS - 10, "b2")], ingested_at_ms=NOW_MS - 1, stream="b")
    fake.put(GROUP.name, [(NOW_MS - 90, "a1"), (NOW_MS - 20, "a2")], ingested_at_ms=NOW_MS, stream="a")
    assert bench.messages() == ["a1", "b1", "a2", "b2"]


def test_what_is_not_ingested_yet_comes_later(bench, fake, time):
    fake.put(GROUP.name, [(NOW_MS - 29_000, "late")], ingested_at_ms=NOW_MS + 3_000)
    assert bench.messages() == []
    time.now += 3
    assert bench.messages() == ["late"]


def test_an_event_dated_two_hours_ahead_is_not_in_a_window_that_ends_now(bench, fake):
    fake.put(GROUP.name, [(NOW_MS + 7_200_000, "future"), (NOW_MS - 1, "now")], ingested_at_ms=NOW_MS)
    assert bench.messages() == ["now"]


def test_many_events_of_one_millisecond_split_over_pages_all_come(bench, fake):
    fake.put(GROUP.name, [(NOW_MS - 1_000, str(n)) for n in range(10_000)], ingested_at_ms=NOW_MS)
    fake.put(GROUP.name, [(NOW_MS - 1_000, str(n)) for n in range(10_000, 12_000)], ingested_at_ms=NOW_MS)
    assert Counter(bench.messages()) == Counter(map(str, range(12_000)))


def test_an_event_of_one_megabyte_comes_whole(bench, fake):
    message = "x" * 1_040_000
    fake.put(GROUP.name, [(NOW_MS - 2, message), (NOW_MS - 1, "y")], ingested_at_ms=NOW_MS)
    assert bench.messages() == [message, "y"]


def test_the_filter_pattern_is_handed_over(bench, fake):
    fake.put(GROUP.name, [(NOW_MS - 2, '{"status":"200"}'), (NOW_MS - 1, '{"status":"504"}')], ingested_at_ms=NOW_MS)
    assert bench.messages(pattern="{ $.status = %^[45]% }") == ['{"status":"504"}']


def test_a_group_of_another_account_is_asked_for_by_its_arn(bench, fake):
    fill(fake)  # the account that asks has a group of the same name
    fake.reader.linked.add("210987654321")
    fake.put(ACROSS_ARN, [(NOW_MS - 1, "theirs")], ingested_at_ms=NOW_MS)
    assert bench.messages(group=ACROSS) == ["theirs"]
    assert fake.calls[0].parameters["logGroupIdentifier"] == ACROSS_ARN
    assert "logGroupName" not in fake.calls[0].parameters


def test_an_account_that_is_linked_no_more_has_no_groups(bench, fake):
    fake.put(ACROSS_ARN, [(NOW_MS - 1, "theirs")], ingested_at_ms=NOW_MS)
    with pytest.raises(GroupUnreadable) as refused:
        bench.list(group=ACROSS)
    assert refused.value.reason == "missing"


def test_streams_are_asked_to_be_interleaved_and_pages_to_be_full(bench, fake):
    fill(fake)
    bench.list()
    assert fake.calls[0].parameters["interleaved"] is True
    assert fake.calls[0].parameters["limit"] == 10_000


# ------------------------------------------------------------------------------------------------------- empty pages


@pytest.mark.parametrize("where", ["empty_first", "empty_middle", "empty_last"])
@pytest.mark.parametrize("in_a_row", [1, 20])
def test_empty_pages_with_a_token_are_followed(bench, fake, where, in_a_row):
    written = fill(fake, 11_000)
    fake.faults.set(where, in_a_row)
    assert bench.messages() == written
    assert len(fake.calls) == 2 + in_a_row


def test_pages_that_a_filter_left_empty_are_followed(bench, fake):
    fill(fake, 500)
    fake.put(GROUP.name, [(NOW_MS - 1, "needle")], ingested_at_ms=NOW_MS)
    fake.reader.scan_events = 20
    assert bench.messages(pattern='"needle"') == ["needle"]
    assert len(fake.calls) == 26


def test_a_listing_of_empty_pages_for_ever_is_broken(bench, fake):
    fill(fake)
    fake.faults.endless = True
    with pytest.raises(ListingBroken) as broken:
        bench.list()
    assert broken.value.reason == "endless"
    assert len(fake.calls) <= FRUITLESS_PAGES + 2


def test_a_listing_of_the_same_page_for_ever_under_new_tokens_is_broken(bench, fake):
    fill(fake)
    fake.faults.endless_repeats = True
    with pytest.raises(ListingBroken) as broken:
        bench.list()
    assert broken.value.reason == "endless"


def test_a_page_given_twice_is_passed_on_twice_and_the_listing_goes_on(bench, fake):
    written = fill(fake, 11_000)
    fake.faults.script.append(Fault.REPEATED_PAGE)
    got = bench.messages()
    assert set(got) == set(written)
    assert len(got) > len(written)


# -------------------------------------------------------------------------------------------------------------- tokens


def test_a_token_that_repeats_breaks_the_listing(bench, fake):
    fill(fake, 25_000)
    fake.faults.script.extend([Fault.NONE, Fault.SAME_TOKEN])
    with pytest.raises(ListingBroken) as broken:
        bench.list()
    assert broken.value.reason == "token"
    assert len(fake.calls) == 2


def test_a_token_refused_in_mid_listing_breaks_it_at_once(bench, fake):
    fill(fake, 25_000)
    fake.faults.script.extend([Fault.NONE, Fault.REFUSED_TOKEN])
    with pytest.raises(ListingBroken) as broken:
        bench.list()
    assert broken.value.reason == "token"
    assert len(fake.calls) == 2


def test_a_token_older_than_a_day_breaks_the_listing(bench, fake, time):
    fill(fake, 25_000)
    pages = bench.source.pages(GROUP, WINDOW)
    next(pages)
    time.now += 24 * 3_600 + 1
    with pytest.raises(ListingBroken):
        next(pages)


def test_a_broken_listing_can_be_listed_anew(bench, fake):
    written = fill(fake, 11_000)
    fake.faults.script.extend([Fault.NONE, Fault.REFUSED_TOKEN])
    with pytest.raises(ListingBroken):
        bench.list()
    assert bench.messages() == written


def test_a_bad_pattern_is_no_broken_listing_but_a_mistake_that_shows(bench, fake):
    fill(fake)
    with pytest.raises(PatternRefused, match="the service refused the filter pattern"):
        bench.list(pattern="{ $.status = ")
    assert len(fake.calls) == 1


def test_a_token_refused_in_a_filtered_listing_is_no_bad_pattern(bench, fake):
    fill(fake, 25_000)
    fake.faults.script.extend([Fault.NONE, Fault.REFUSED_TOKEN])
    with pytest.raises(ListingBroken):
        bench.list(pattern="event")


def test_the_service_tells_what_a_pattern_selects(bench, fake):
    assert bench.source.selected("ERROR", ["an ERROR", "none", "ERROR again"]) == {"an ERROR", "ERROR again"}
    assert [call.operation for call in fake.calls] == ["TestMetricFilter"]
    assert ("TestMetricFilter", "OK") in [call[:2] for call in bench.reported]


@pytest.mark.parametrize("fault", [Fault.DENIED, Fault.THROTTLE, Fault.SERVER_ERROR])
def test_who_may_not_ask_what_a_pattern_selects_does_without(bench, fake, fault):
    fake.faults.script.append(fault)
    assert bench.source.selected("ERROR", ["an ERROR"]) is None
    assert len(fake.calls) == 1, "one attempt"


def test_a_pattern_that_selects_nothing_in_much_may_give_very_many_empty_pages(bench, fake):
    fake.faults.empty_first = FRUITLESS_PAGES + 5
    fill(fake, 3)
    assert len(bench.list(pattern="event")) == 3


# -------------------------------------------------------------------------------------------------------------- faults

PASSING = {
    Fault.THROTTLE: "throttled",
    Fault.SERVER_ERROR: "unavailable",
    Fault.UNAVAILABLE: "unavailable",
    Fault.HTML_ERROR: "unavailable",
    Fault.RESET: "network",
    Fault.RESET_MIDWAY: "network",
    Fault.CUT: "malformed",
    Fault.CUT_CLEAN: "malformed",
    Fault.HTML: "malformed",
}


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_retried_page_by_page(bench, fake, fault):
    written = fill(fake, 11_000)
    fake.faults.script.extend([*[fault] * 5, Fault.NONE, *[fault] * 5])
    assert bench.messages() == written
    assert len(fake.calls) == 5 + 1 + 5 + 1


@pytest.mark.parametrize("fault", PASSING)
def test_what_does_not_pass_leaves_the_window_unread(bench, fake, fault):
    fill(fake)
    fake.faults.script.extend([fault] * 6)
    with pytest.raises(Unavailable) as refused:
        bench.list()
    assert refused.value.reason == PASSING[fault]
    assert len(fake.calls) == 6
    assert len(bench.reported) == 6


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("fault", [Fault.CUT, Fault.CUT_CLEAN])
def test_an_answer_cut_anywhere_is_never_taken_for_the_end(bench, fake, fault, chunked):
    """botocore itself reads a cut 200 as a result without events and without token."""
    written = fill(fake, 3)
    fake.chunked = chunked
    fake.faults.script.append(fault)
    assert bench.messages() == written


def test_retries_wait_longer_and_longer_with_full_jitter(fake, time):
    fill(fake)
    fake.faults.throttled = 1
    client = plain_client(fake.url)
    waits = []
    for seed in range(40):
        bench = Bench(fake, time, lambda: client, jitter=random.Random(seed))
        time.waits.clear()
        with pytest.raises(Unavailable):
            bench.list()
        waits.append(tuple(time.waits))
    client.close()
    for nth, drawn in enumerate(zip(*waits, strict=True)):
        longest = 0.5 * 2**nth
        assert min(drawn) < 0.2 * longest
        assert 0.8 * longest < max(drawn) <= longest


def test_every_attempt_takes_a_turn_of_the_budget(fake, time):
    fill(fake)
    fake.faults.script.extend([Fault.THROTTLE] * 5)
    bench = Bench(fake, time, lambda: plain_client(fake.url), rate=0.01)
    bench.list()
    bench.source.close()
    assert time.now - NOW >= 5 / 0.01 - 2


def test_a_quota_of_others_is_waited_out(bench, fake):
    written = fill(fake, 40_000)
    fake.calls_per_second = 1
    assert bench.messages() == written
    assert bench.fake.codes["ThrottlingException"] > 0


def test_a_slow_answer_times_out_and_is_tried_again(fake, time):
    written = fill(fake)
    fake.faults.script.append(Fault.SLOW)
    fake.faults.slow_seconds = 1.5
    bench = Bench(fake, time, lambda: plain_client(fake.url, read_timeout=0.5))
    assert bench.messages() == written
    assert [code for _, code, _ in bench.reported] == ["ReadTimeoutError", "OK"]
    bench.source.close()


def test_nobody_listening_is_unavailable(time):
    bench = Bench(None, time, lambda: plain_client("http://127.0.0.1:9"))
    with pytest.raises(Unavailable) as refused:
        bench.list()
    assert refused.value.reason == "network"
    bench.source.close()


def test_a_stop_interrupts_the_retries(bench, fake, time):
    fill(fake)
    fake.faults.throttled = 1
    pages = bench.source.pages(GROUP, WINDOW)
    time.stopped = True
    with pytest.raises(Unavailable) as refused:
        next(pages)
    assert refused.value.reason == "stopping"
    assert len(fake.calls) == 0


def test_a_denied_group_is_named_and_asked_once(bench, fake):
    fill(fake)
    fake.group_faults[GROUP.name] = Faults(denied=True)
    with pytest.raises(GroupUnreadable, match=r"access/orders.*denies") as refused:
        bench.list()
    assert refused.value.reason == "denied"
    assert len(fake.calls) == 1


def test_a_denied_group_does_not_trouble_the_others(bench, fake):
    written = fill(fake)
    fake.group_faults["secret"] = Faults(denied=True)
    with pytest.raises(GroupUnreadable):
        bench.list(group=GROUP._replace(name="secret"))
    assert bench.messages() == written


def test_a_group_that_vanishes_and_comes_back(bench, fake):
    fill(fake)
    fake.delete_group(GROUP.name)
    with pytest.raises(GroupUnreadable) as refused:
        bench.list()
    assert refused.value.reason == "missing"
    written = fill(fake, 3)
    assert bench.messages() == written


def test_an_error_nobody_foresaw_is_passed_on_and_counted(bench, fake):
    with pytest.raises(Exception, match="Parameter validation failed"):
        bench.list(group=GROUP._replace(name=""))
    assert bench.reported == [("FilterLogEvents", "ParamValidationError", 0)]


# -------------------------------------------------------------------------------------------------- broken-off bodies

BROKEN_OFF = {
    # reason of the error, code of the call
    Fault.RESET_MIDWAY: ("network", "ConnectionClosedError"),
    Fault.STALL: ("timeout", "ReadTimeoutError"),
    Fault.CUT: ("malformed", "Malformed"),
    Fault.GARBLED: ("network", "SSLError"),
}
OVER_HTTP = [("http", fault) for fault in (Fault.RESET_MIDWAY, Fault.STALL, Fault.CUT)]
OVER_TLS = [("https", fault) for fault in (Fault.STALL, Fault.CUT, Fault.GARBLED)]
RESET_OVER_TLS = ("https", Fault.RESET_MIDWAY)
"""Which `ssl` of older Pythons makes an end in order of (python/cpython#115627)."""


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture
def breaking(request, time, tmp_path, authority):
    """A source that waits half a second for the next bytes, and what breaks its answers off; over HTTP or HTTPS."""
    scheme, fault = request.param
    tls, ca_file = None, None
    if scheme == "https":
        tls, ca_file = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), tmp_path / "ca.crt"
        tls.load_cert_chain(*authority.issue("127.0.0.1").write(tmp_path, "server"))
        ca_file.write_text(authority.certificate)
    with FakeCloudWatch(clock=time.clock, tls=tls) as fake:
        made = Bench(fake, time, lambda: plain_client(fake.url, 0.5, ca_file and str(ca_file)))
        yield made, fault
        made.source.close()


def ways(*faults):
    return pytest.mark.parametrize("breaking", faults, indirect=True, ids=" ".join)


def codes(bench):
    return [code for _, code, _ in bench.reported]


@ways(*OVER_HTTP, *OVER_TLS)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_breaks_off_is_asked_for_again(breaking, chunked):
    """By the very next call: a connection left over from the broken answer would fail once more."""
    bench, fault = breaking
    written = fill(bench.fake, 11_000)
    bench.fake.chunked = chunked
    bench.fake.faults.script.extend([Fault.NONE, fault])
    assert bench.messages() == written
    # Where chunks announce their end, the lack of it shows before the body is decoded.
    code = "ConnectionClosedError" if chunked and fault is Fault.CUT else BROKEN_OFF[fault][1]
    assert codes(bench) == ["OK", code, "OK"]


@ways(*OVER_HTTP, ("https", Fault.GARBLED))
def test_a_body_that_always_breaks_off_leaves_the_window_unread_and_all_else_free(breaking):
    bench, fault = breaking
    written = fill(bench.fake)
    bench.fake.faults.script.extend([fault] * 6)
    with pytest.raises(Unavailable) as refused:
        bench.list()
    reason, code = BROKEN_OFF[fault]
    assert refused.value.reason == reason
    assert codes(bench) == [code] * 6
    assert bench.messages() == written
    assert codes(bench) == [code] * 6 + ["OK"]
    assert shortest_listing_seconds(bench) < 0.045, "waits for a turn that was not given back"


def shortest_listing_seconds(bench):
    """A turn that nobody gives back would cost every body 50 ms; a busy machine does not slow every listing down."""
    took = []
    for _ in range(20):
        began = wall_clock.perf_counter()
        bench.list()
        took.append(wall_clock.perf_counter() - began)
    return min(took)


@ways(*OVER_HTTP, *OVER_TLS, RESET_OVER_TLS)
def test_a_body_that_breaks_off_fails_as_botocore_lets_it_fail(breaking):
    bench, fault = breaking
    fill(bench.fake)
    stock, ours = bench.connect(), bench.connect()
    attach(ours)
    raised = []
    for client in (stock, ours):
        bench.fake.faults.script.append(fault)
        with pytest.raises((BotoCoreError, Malformed)) as error:
            read_answer(client.filter_log_events(logGroupName=GROUP.name))
        raised.append(error)
        client.close()
    assert raised[0].type is raised[1].type
    if raised[0].type is not Malformed:
        assert str(raised[0].value) == str(raised[1].value)


def test_a_body_that_stalls_holds_no_other_listing_up(fake, time):
    other = GROUP._replace(name="other")
    written = fill(fake, group=other.name)
    fill(fake)
    bench = Bench(fake, time, lambda: plain_client(fake.url, read_timeout=2))
    stalls = Faults()
    stalls.script.append(Fault.STALL)
    fake.group_faults[GROUP.name] = stalls
    stalled = threading.Thread(target=bench.list)
    stalled.start()
    assert fake.stalled.wait(20)
    assert bench.messages(group=other) == written
    assert codes(bench) == ["OK"], "the one that stalls still waits"
    stalled.join()
    assert codes(bench) == ["OK", "ReadTimeoutError", "OK"]
    bench.source.close()


@ways(*OVER_HTTP)
def test_a_call_whose_body_broke_off_is_in_the_exporters_own_metrics_under_the_code_of_what_happened(breaking):
    reader, fault = breaking
    own = SelfMetrics(version="test", now_ms=lambda: NOW_MS)
    count = partial(Places([], own, threading.Event()).count, "default", "eu-west-1")
    bench = Bench(reader.fake, reader.time, reader.connect, on_call=count)
    fill(bench.fake)
    bench.fake.faults.script.extend([fault, fault])
    bench.list()
    bench.source.close()

    def counted(code):
        labels = {"account": "default", "region": "eu-west-1", "operation": "FilterLogEvents", "code": code}
        return own.registry.get_sample_value("aws_apigateway_exporter_aws_requests_total", labels)

    assert (counted(BROKEN_OFF[fault][1]), counted("OK")) == (2, 1)


# --------------------------------------------------------------------------------------------------------- compression


@pytest.mark.parametrize(("gzipped", "chunked"), list(itertools.product([True, False], repeat=2)))
def test_compressed_and_chunked_answers_are_read(bench, fake, gzipped, chunked):
    written = fill(fake, 11_000)
    fake.gzipped, fake.chunked = gzipped, chunked
    assert bench.messages() == written


def test_compressed_refusals_are_understood(bench, fake):
    fake.gzipped = True
    with pytest.raises(GroupUnreadable) as refused:
        bench.list()
    assert refused.value.reason == "missing"


def test_a_cut_compressed_answer_is_tried_again(bench, fake):
    written = fill(fake, 100)
    fake.gzipped = True
    fake.faults.script.extend([Fault.CUT, Fault.CUT_CLEAN])
    assert bench.messages() == written


# -------------------------------------------------------------------------------------------------------- both parsers


@pytest.fixture
def both_clients(fake):
    stock, fast = plain_client(fake.url), plain_client(fake.url)
    attach(fast)
    yield stock, fast
    stock.close()
    fast.close()


def test_botocores_parser_and_ours_read_the_same(fake, both_clients):
    fake.put(
        GROUP.name, [(NOW_MS - n, f'{{"n":{n},"text":"ü\\u2028\\"🎈"}}') for n in range(500)], ingested_at_ms=NOW_MS
    )
    stock, fast = (read_answer(client.filter_log_events(logGroupName=GROUP.name, limit=400)) for client in both_clients)
    assert stock.events == fast.events
    assert len(fast.events) == 400
    assert (stock.body_bytes, stock.server_at_ms) == (fast.body_bytes, fast.server_at_ms)
    assert stock.next_token
    assert fast.next_token


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.CUT_CLEAN, Fault.HTML])
def test_both_parsers_refuse_a_body_that_is_no_answer(fake, both_clients, fault):
    fill(fake)
    for client in both_clients:
        fake.faults.script.append(fault)
        with pytest.raises(Malformed):
            read_answer(client.filter_log_events(logGroupName=GROUP.name))


class OneAnswer:
    """Makes the fake's next bodies these bytes: what no well-behaved service would send."""

    def __init__(self, fake):
        self.fake = fake

    def __call__(self, body):
        self.fake.reader.filter_log_events = lambda *_: body


EVENT = b'{"eventId":"1","timestamp":%d,"ingestionTime":2,"logStreamName":"s","message":%s}' % (NOW_MS - 1, b"%s")


def test_bytes_that_are_no_utf8_become_replacement_characters(bench, fake):
    OneAnswer(fake)(b'{"events":[' + EVENT % b'"caf\xe9"' + b"]}")
    assert bench.messages() == ["caf\ufffd"]


def test_half_a_surrogate_pair_becomes_a_question_mark(bench, fake):
    OneAnswer(fake)(b'{"events":[' + EVENT % b'"half \\ud83d."' + b"]}")
    assert bench.messages() == ["half ?."]


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b'{"events":null}', b'{"events":[{"message":"no id"}]}'])
def test_a_body_without_what_makes_a_page_is_malformed_not_empty(bench, fake, body):
    OneAnswer(fake)(body)
    with pytest.raises(Unavailable) as refused:
        bench.list()
    assert refused.value.reason == "malformed"


def test_an_empty_token_is_no_token(bench, fake):
    OneAnswer(fake)(b'{"events":[],"nextToken":""}')
    assert bench.list() == []


# --------------------------------------------------------------------------------------------------------- credentials


def test_expired_credentials_leave_the_window_unread_without_retries(bench, fake):
    fill(fake)
    fake.faults.expired = True
    with pytest.raises(Unavailable) as refused:
        bench.list()
    assert refused.value.reason == "credentials"
    assert len(fake.calls) == 1


def test_credentials_that_expire_in_mid_listing_do_so_too(bench, fake):
    fill(fake, 11_000)
    fake.faults.script.extend([Fault.NONE, Fault.EXPIRED])
    with pytest.raises(Unavailable) as refused:
        bench.list()
    assert refused.value.reason == "credentials"


def test_after_a_minute_of_bad_credentials_a_new_client_looks_for_new_ones(fake, time):
    written = fill(fake)
    made = []

    def connect():
        made.append(plain_client(fake.url))
        return made[-1]

    bench = Bench(fake, time, connect)
    fake.faults.expired = True
    for _ in range(12):
        with pytest.raises(Unavailable):
            bench.list()
        time.now += 20
    assert len(made) == 4
    fake.faults.expired = False
    assert bench.messages() == written
    for client in made:
        client.close()


def test_credentials_that_cannot_be_found_at_start_are_looked_for_again(fake, time, no_credentials, monkeypatch):
    written = fill(fake)
    bench = Bench(fake, time, lambda: logs_client(open_session(AccountAccess(), "eu-west-1"), max_connections=2))
    with pytest.raises(Unavailable) as refused:
        bench.list()
    assert refused.value.reason == "credentials"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    time.now += 61
    assert bench.messages() == written
    bench.source.close()


# ------------------------------------------------------------------------------------------------------------ sessions

ROLE = "arn:aws:iam::210987654321:role/reader"


@pytest.fixture
def no_credentials(fake, monkeypatch, tmp_path):
    """A machine without any AWS set-up, whose endpoint for everything is the fake."""
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_PROFILE",
        "AWS_DEFAULT_REGION",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", fake.url)
    return tmp_path


@pytest.fixture
def own_credentials(no_credentials, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOWN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return no_credentials


def bench_of(fake, time, access):
    return Bench(fake, time, lambda: logs_client(open_session(access, "eu-west-1"), max_connections=2))


def test_a_further_region_costs_little_memory(own_credentials):
    """What botocore knows of AWS's services is nine megabytes; with a region or account more it is not read again."""
    logs_client(open_session(AccountAccess(), "eu-west-1"), max_connections=2).close()
    tracemalloc.start()
    try:
        session = open_session(AccountAccess(role_arn=ROLE), "us-east-1")
        client = logs_client(session, max_connections=2)
        assert tracemalloc.get_traced_memory()[0] < 3 << 20
    finally:
        tracemalloc.stop()
    client.close()


def test_models_that_the_user_brings_win(own_credentials, monkeypatch, tmp_path):
    model = json.loads((Path(botocore.__file__).parent / "data/endpoints.json").read_text(encoding="utf-8"))
    model["partitions"][0]["services"]["logs"]["endpoints"]["xx-own-1"] = {}
    model["partitions"][0]["regions"]["xx-own-1"] = {"description": "our own"}
    (tmp_path / "models").mkdir()
    (tmp_path / "models/endpoints.json").write_text(json.dumps(model), encoding="utf-8")
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path / "models"))
    assert "xx-own-1" in open_session(AccountAccess(), "eu-west-1").get_available_regions("logs")
    monkeypatch.delenv("AWS_DATA_PATH")
    assert "xx-own-1" not in open_session(AccountAccess(), "eu-west-1").get_available_regions("logs")


def test_the_default_chain_reads_with_its_own_credentials(fake, time, own_credentials):
    written = fill(fake)
    bench = bench_of(fake, time, AccountAccess())
    assert bench.messages() == written
    assert fake.calls[0].access_key == "AKIAOWN"
    bench.source.close()


def test_a_named_profile_reads_with_its_credentials(fake, time, own_credentials):
    (own_credentials / "credentials").write_text("[ops]\naws_access_key_id=AKIAOPS\naws_secret_access_key=s\n")
    fill(fake)
    bench = bench_of(fake, time, AccountAccess(profile="ops"))
    bench.list()
    assert fake.calls[0].access_key == "AKIAOPS"
    bench.source.close()


def test_a_profile_that_does_not_exist_is_a_matter_of_credentials(fake, time, own_credentials):
    bench = bench_of(fake, time, AccountAccess(profile="nobody"))
    with pytest.raises(Unavailable) as refused:
        bench.list()
    assert refused.value.reason == "credentials"


def test_the_logs_endpoint_variable_goes_before_the_general_one(fake, time, own_credentials, monkeypatch):
    written = fill(fake)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", fake.url)
    bench = bench_of(fake, time, AccountAccess())
    assert bench.messages() == written
    bench.source.close()


@pytest.fixture
def real_time():
    """botocore judges by the real clock whether credentials are due."""
    with FakeCloudWatch() as server:
        yield server


def test_a_role_is_assumed_with_its_external_id_and_read_with(fake, time, own_credentials):
    written = fill(fake)
    fake.sts.roles[ROLE] = Role(external_id="42", seconds=10 * 365 * 86_400)
    bench = bench_of(fake, time, AccountAccess(role_arn=ROLE, external_id="42"))
    assert bench.messages() == written
    assert bench.messages() == written
    assert [call.operation for call in fake.calls] == ["AssumeRole", "FilterLogEvents", "FilterLogEvents"]
    assert [call.access_key[:4] for call in fake.calls] == ["AKIA", "ASIA", "ASIA"]
    assert fake.calls[0].parameters["ExternalId"] == "42"
    bench.source.close()


def test_a_role_that_may_not_be_assumed_says_nothing_about_the_group(fake, time, own_credentials):
    """STS answers AccessDenied, as a denied log group does."""
    fill(fake)
    fake.sts.roles[ROLE] = Role(external_id="42")
    bench = bench_of(fake, time, AccountAccess(role_arn=ROLE, external_id="wrong"))
    with pytest.raises(Unavailable) as refused:
        bench.list()
    assert refused.value.reason == "credentials"
    assert bench.reported == [("AssumeRole", "AccessDenied", 0)]
    bench.source.close()


def test_sts_out_of_reach_at_start_heals_by_itself(fake, time, own_credentials):
    written = fill(fake)
    fake.sts.roles[ROLE] = Role(seconds=10 * 365 * 86_400)
    fake.faults.sts_down = True
    bench = bench_of(fake, time, AccountAccess(role_arn=ROLE))
    with pytest.raises(Unavailable) as refused:
        bench.list()
    assert refused.value.reason == "credentials"
    fake.faults.sts_down = False
    assert bench.messages() == written
    bench.source.close()


def test_a_roles_credentials_are_renewed_before_they_expire(real_time, time, own_credentials, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", real_time.url)
    real_time.create_group(GROUP.name)
    real_time.sts.roles[ROLE] = Role(seconds=60)  # within botocore's margin: due again at once
    bench = bench_of(real_time, time, AccountAccess(role_arn=ROLE))
    bench.list()
    bench.list()
    assert [call.operation for call in real_time.calls] == ["AssumeRole", "FilterLogEvents"] * 2
    bench.source.close()


def test_a_role_whose_credentials_come_expired_is_a_matter_of_credentials(
    real_time, time, own_credentials, monkeypatch
):
    monkeypatch.setenv("AWS_ENDPOINT_URL", real_time.url)
    real_time.create_group(GROUP.name)
    real_time.sts.roles[ROLE] = Role(seconds=-60)
    bench = bench_of(real_time, time, AccountAccess(role_arn=ROLE))
    with pytest.raises(Unavailable) as refused:
        bench.list()
    assert refused.value.reason == "credentials"
    bench.source.close()


def test_clients_try_once_with_short_timeouts_and_enough_connections(own_credentials):
    client = logs_client(open_session(AccountAccess(), "eu-west-1"), max_connections=7)
    config = client.meta.config
    assert config.retries == {"mode": "standard", "total_max_attempts": 1}
    assert (config.connect_timeout, config.read_timeout, config.max_pool_connections) == (5, 30, 7)
    client.close()


# --------------------------------------------------------------------------------------------------------------- clock


def test_before_the_first_answer_it_is_our_clock(bench, time):
    time.now += 7
    assert bench.source.now_ms() == NOW_MS + 7_000


@pytest.mark.parametrize("wrong_by", [-300, 240, 0])
def test_our_clock_may_be_wrong(fake, time, wrong_by):
    fill(fake)
    bench = Bench(fake, time, lambda: plain_client(fake.url), clock=lambda: time.now + wrong_by)
    bench.list()
    time.now += 100
    assert abs(bench.source.now_ms() - (NOW_MS + 100_000)) <= 500
    bench.source.close()


def test_our_clock_may_step_while_we_run(fake, time):
    fill(fake)
    steps = [0]
    bench = Bench(fake, time, lambda: plain_client(fake.url), clock=lambda: time.now + steps[0])
    bench.list()
    steps[0] = -3_600
    assert abs(bench.source.now_ms() - NOW_MS) <= 500
    bench.source.close()


def test_a_proxys_clock_is_not_the_services(bench, fake, time):
    """Between us and AWS an error page may be dated by anybody."""
    fill(fake)
    bench.list()
    time.now += 1_000
    fake.faults.script.extend([Fault.HTML_ERROR] * 6)
    fake.clock = lambda: time.now + 600
    with pytest.raises(Unavailable):
        bench.list()
    assert abs(bench.source.now_ms() - time.now * 1000) <= 500


# ---------------------------------------------------------------------------------------------------------- everything


@pytest.fixture(scope="module")
def shared():
    """One fake and one source for all examples of a property (groups differ)."""
    time = SimulatedTime()
    with FakeCloudWatch(clock=time.clock) as server:
        bench = Bench(server, time, lambda: plain_client(server.url))
        yield bench
        bench.source.close()


worlds = st.lists(
    st.tuples(
        st.integers(min_value=-3_000, max_value=3_000),  # event time, around both ends of the window
        st.integers(min_value=-2_000, max_value=500),  # ingestion, by now or later
        st.integers(min_value=0, max_value=2),  # stream
    ),
    max_size=40,
)
group_numbers = itertools.count()
EARLIER_MS = NOW_MS - 3_600_000
EMPTIES = ("empty_first", "empty_middle", "empty_last")


@st.composite
def conditions(draw):
    """A window around the events, and how the service behaves while it is listed."""
    start = draw(st.integers(min_value=-2_000, max_value=1_000))
    window = Window(EARLIER_MS + start, EARLIER_MS + start + draw(st.integers(min_value=0, max_value=2_000)))
    faults = Faults(**{where: draw(st.integers(min_value=0, max_value=2)) for where in EMPTIES})
    faults.script.extend(draw(st.lists(st.sampled_from([*PASSING, Fault.NONE, Fault.NONE, Fault.EMPTY]), max_size=5)))
    return window, faults, draw(st.booleans()), draw(st.one_of(st.none(), st.integers(min_value=1, max_value=9)))


@settings(max_examples=60, deadline=None)
@given(world=worlds, condition=conditions())
def test_any_world_in_any_pages_under_any_faults_lists_the_windows_visible_events_and_no_others(
    shared, world, condition
):
    fake = shared.fake
    window, faults, fake.reader.end_included, fake.reader.scan_events = condition
    group = GROUP._replace(name=f"any-{next(group_numbers)}")
    fake.create_group(group.name)
    fake.group_faults[group.name] = faults
    now_ms = int(shared.time.now * 1000)
    truth = {}
    for at, ingested, stream in world:
        event = (EARLIER_MS + at, "m")
        (event_id,) = fake.put(group.name, [event], ingested_at_ms=now_ms + ingested * 1_000, stream=f"s{stream}")
        if ingested <= 0 and window.start_ms <= event[0] < window.end_ms:
            truth[event_id] = event[0]
    # Waiting between attempts moves the clock, so some of the events still to come may have come: they are let off.
    listed = [event for event in shared.list(window, group=group) if event.ingested_at_ms <= now_ms]
    assert [event.event_id for event in listed] == sorted(truth)
    assert {event.event_id: event.at_ms for event in listed} == truth


def test_thirty_percent_throttles_and_every_other_fault_lose_nothing(bench, fake):
    written = fill(fake, 30_000)
    fake.reader.scan_events = 500
    fake.faults = Faults(throttled=0.3, server_errors=0.05, resets=0.05, cuts=0.05, empty_pages=0.1)
    got = None
    for _ in range(20):
        try:
            got = bench.messages()
        except Unavailable:
            continue
        break
    assert got == written


def test_threads_list_at_once_through_one_source(bench, fake):
    groups = [GROUP._replace(name=f"g{n}") for n in range(6)]
    for n, group in enumerate(groups):
        fill(fake, 11_000 + n, group.name)
    sizes = {}
    threads = [threading.Thread(target=lambda g=g: sizes.update({g.name: len(bench.list(group=g))})) for g in groups]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == {f"g{n}": 11_000 + n for n in range(6)}


def test_a_moto_server_is_read_right(time, own_credentials, monkeypatch, moto_url):
    """moto orders by stream unless asked to interleave, numbers its events 0, 1, 2 and takes other times as they are."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_url)
    now_ms = int(wall_clock.time() * 1000)
    bench = bench_of(None, time, AccountAccess())
    client = logs_client(open_session(AccountAccess(), "eu-west-1"), max_connections=1)
    client.create_log_group(logGroupName=GROUP.name)
    for stream, offsets in {"b": [-50, -10], "a": [-90, -20, 0]}.items():
        client.create_log_stream(logGroupName=GROUP.name, logStreamName=stream)
        events = [{"timestamp": now_ms + n, "message": f"{stream}{n}"} for n in offsets]
        client.put_log_events(logGroupName=GROUP.name, logStreamName=stream, logEvents=events)
    client.close()
    assert bench.messages(Window(now_ms - 60_000, now_ms)) == ["a-90", "b-50", "a-20", "b-10"]
    with pytest.raises(GroupUnreadable) as refused:
        bench.list(group=GROUP._replace(name="nowhere"))
    assert refused.value.reason == "missing"
    bench.source.close()


# ------------------------------------------------------------------------------------------------- parts side by side


@pytest.fixture
def wide_bench(fake, time):
    made = Bench(fake, time, lambda: plain_client(fake.url), rate=25, lanes=Lanes(4))
    yield made
    made.source.close()


def listed_in_parts(bench, parts, window=WINDOW):
    found = {}
    for page in bench.source.pages(GROUP, window, None, parts):
        found.setdefault(page.part, []).extend(page.events)
    return found


@pytest.mark.parametrize("parts", [2, 3, 7, 64])
def test_parts_side_by_side_bring_every_event_once_each_part_in_order(wide_bench, fake, parts):
    written = fill(fake, 30_000)
    found = listed_in_parts(wide_bench, parts)
    assert len(found) > 1
    for events in found.values():
        assert events == sorted(events, key=lambda event: event.event_id)
    assert sorted((event.at_ms, event.message) for events in found.values() for event in events) == sorted(
        (NOW_MS - 300_000 + number, message) for number, message in enumerate(written)
    )
    windows = {(call.parameters["startTime"], call.parameters["endTime"]) for call in fake.calls_of("FilterLogEvents")}
    bounds = sorted({at_ms for window in windows for at_ms in window})
    assert sorted(windows) == list(itertools.pairwise(bounds))
    assert (bounds[0], bounds[-1]) == WINDOW


def test_parts_are_asked_for_at_the_same_time(wide_bench, fake):
    fill(fake, 100)
    together = threading.Barrier(4)
    answer = fake.answer

    def wait_for_the_others(*asked):
        together.wait(20)
        return answer(*asked)

    fake.answer = wait_for_the_others
    assert len(listed_in_parts(wide_bench, 4)) >= 1


@pytest.mark.parametrize(("rate", "lanes"), [(2, Lanes(8)), (25, None)])
def test_a_small_budget_needs_no_parts(fake, time, rate, lanes):
    fill(fake, 30_000)
    bench = Bench(fake, time, lambda: plain_client(fake.url), rate=rate, lanes=lanes)
    assert list(listed_in_parts(bench, 5)) == [0]
    bench.source.close()


def test_a_window_of_few_milliseconds_has_as_many_parts(wide_bench, fake):
    fill(fake, 10)
    window = Window(NOW_MS - 300_000, NOW_MS - 299_997)
    assert sorted(event.message for events in listed_in_parts(wide_bench, 9, window).values() for event in events) == [
        "event 0",
        "event 1",
        "event 2",
    ]


@pytest.mark.parametrize("fault", [Faults(denied=True), Faults(throttled=1.0)])
def test_a_part_that_cannot_be_read_is_told_as_for_the_whole(wide_bench, fake, fault):
    fill(fake, 30_000)
    fake.group_faults[GROUP.name] = fault
    with pytest.raises((GroupUnreadable, Unavailable)) as refused:
        listed_in_parts(wide_bench, 5)
    assert refused.value.group == GROUP


def test_parts_survive_what_the_network_does(wide_bench, fake):
    written = fill(fake, 30_000)
    # Should they all meet the same page, that is still one attempt fewer than it has.
    fake.faults.script.extend([Fault.RESET, Fault.THROTTLE, Fault.CUT, Fault.RESET_MIDWAY, Fault.SERVER_ERROR])
    found = listed_in_parts(wide_bench, 6)
    assert sorted(event.message for events in found.values() for event in events) == sorted(written)
