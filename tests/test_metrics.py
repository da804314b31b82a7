"""What a scrape sees of the ledger's counters."""

import math
import re
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.metrics import (
    ALL,
    BUCKETS,
    COUNTED,
    FAILED_REQUESTS,
    INTEGRATION_LATENCY,
    REQUESTS,
    RESPONSE_LATENCY,
    STAGE_FAILURES,
    StageInfo,
    failed_requests,
    latencies,
    requests,
    route_labels,
    stage_failures,
)
from exporter.metrics.totals import Totals
from exporter.model import OVERFLOW, UNKNOWN, Api, Commit, CounterKey, Exemplar, SeriesState

HERE = Path(__file__).parent
API = Api(id="ab12cd34ef", name="orders", stage="prod", region="eu-west-1", account_id="123456789012")
OTHER_API = Api(id="zz99", name="billing", stage="test")
BORN_MS = 1_700_000_000_000
HOLD_MS = 120_000
TRACE = Exemplar(trace_id="0af7651916cd43dd8448eb211c80319c", span_id="b7ad6b7169203331", at_ms=1_700_000_012_345)


class Clock:
    def __init__(self):
        self.ms = BORN_MS

    def __call__(self):
        return self.ms


@pytest.fixture
def clock():
    return Clock()


def totals_with(clock, *, zero_hold_ms=0, max_series=20_000):
    return Totals(zero_hold_ms=zero_hold_ms, max_series=max_series, now_ms=clock)


def commit(increments=None, *, born=(), exemplars=None, at_ms=BORN_MS):
    return Commit(
        progress={},
        tallies={},
        tombstones={},
        increments=increments or {},
        exemplars=exemplars or {},
        born=frozenset(born),
        at_ms=at_ms,
    )


def row(key, value, *, released, exemplar=None, created_at_ms=BORN_MS, touched_at_ms=BORN_MS):
    return SeriesState(
        key=key,
        value=value,
        created_at_ms=created_at_ms,
        released=released,
        touched_at_ms=touched_at_ms,
        exemplar=exemplar,
    )


def observations(*seen, api=API, histogram=RESPONSE_LATENCY):
    return latencies(histogram, api, [(ms, 1) for ms in seen])


def samples(totals, *, openmetrics=False):
    """Every sample shown, by name and label values, as prometheus_client's own parsers read it."""
    text = totals.render(openmetrics=openmetrics).decode()
    families = parse_openmetrics(text + "# EOF\n") if openmetrics else parse_text(text)
    found = [(s.name, tuple(s.labels.values()), s) for family in families for s in family.samples]
    assert len({(name, labels) for name, labels, _ in found}) == len(found), "a series is shown twice"
    return {(name, labels): sample for name, labels, sample in found}


def value(totals, key, *, openmetrics=False):
    sample = samples(totals, openmetrics=openmetrics).get((key.metric, key.labels))
    return None if sample is None else sample.value


TIMEOUT = failed_requests(API, "GET", "/orders/{id}", 504, "integration_timeout")
SEEDED = stage_failures(API, "integration_timeout", "integration")


# ------------------------------------------------------------------------------------------------------------ the keys


def test_keys_have_one_value_for_each_label_and_the_api_first():
    keys = [
        stage_failures(API, "integration_timeout", "integration"),
        failed_requests(API, "GET", "/orders/{id}", 504, "integration_timeout"),
        requests(API, "GET", "/orders/{id}", 200),
    ]
    for metric, key in zip((STAGE_FAILURES, FAILED_REQUESTS, REQUESTS), keys, strict=True):
        assert key.metric == metric.name
        assert len(key.labels) == len(metric.labels)
        assert key.labels[:3] == ("ab12cd34ef", "orders", "prod")


@pytest.mark.parametrize(
    ("status", "label"),
    [
        (504, "504"),
        (100, "100"),
        (599, "599"),
        (None, UNKNOWN),
        (0, UNKNOWN),
        (99, UNKNOWN),
        (600, UNKNOWN),
        (-1, UNKNOWN),
    ],
)
def test_status_is_a_status_or_unknown(status, label):
    assert requests(API, "GET", "/", status).labels[-1] == label


def test_a_switched_off_label_says_all():
    assert route_labels("GET", "/a", by_method=True, by_resource=True) == ("GET", "/a")
    assert route_labels("GET", "/a", by_method=False, by_resource=True) == (ALL, "/a")
    assert route_labels("GET", "/a", by_method=True, by_resource=False) == ("GET", ALL)


@pytest.mark.parametrize(
    ("ms", "le"),
    [
        *[(0, "0.05"), (50, "0.05"), (51, "0.1"), (28_000, "28.0"), (28_001, "29.0"), (29_000, "29.0")],
        *[(29_003, "30.0"), (30_001, "60.0"), (900_000, "900.0"), (900_001, "+Inf"), (-5, "0.05"), (10**30, "+Inf")],
    ],
)
def test_an_observation_lands_in_the_first_bucket_that_holds_it(ms, le):
    ((bucket, three), (total, added)) = latencies(RESPONSE_LATENCY, API, [(ms, 3)]).items()
    assert bucket == CounterKey("aws_apigateway_response_latency_seconds_bucket", (API.id, API.name, API.stage, le))
    assert total == CounterKey("aws_apigateway_response_latency_seconds_sum", (API.id, API.name, API.stage))
    assert three == 3
    assert added == 3 * min(max(ms, 0), 86_400_000)


def test_observations_add_up_in_their_buckets_and_none_add_nothing():
    added = latencies(RESPONSE_LATENCY, API, [(10, 2), (50, 1), (29_003, 4)])
    assert {key.labels[-1]: amount for key, amount in added.items() if key.metric.endswith("_bucket")} == {
        "0.05": 3,
        "30.0": 4,
    }
    assert sum(amount for key, amount in added.items() if key.metric.endswith("_sum")) == 2 * 10 + 50 + 4 * 29_003
    assert latencies(RESPONSE_LATENCY, API, []) == {}


def test_bucket_bounds_are_canonical_and_show_the_default_timeout():
    bounds = [float(le) for le in BUCKETS]
    assert bounds == sorted(set(bounds))
    assert bounds[-1] == math.inf
    assert {28.0, 29.0, 30.0, 900.0} <= set(bounds)
    assert all(re.fullmatch(r"\d+\.\d+|\+Inf", le) for le in BUCKETS)


# ------------------------------------------------------------------------------------------------------------ zero hold


def test_a_late_born_series_shows_0_until_it_was_served_for_the_hold_and_released(clock):
    totals = totals_with(clock, zero_hold_ms=HOLD_MS)
    totals.apply(commit({TIMEOUT: 3}, exemplars={TIMEOUT: TRACE}))
    clock.ms += 10 * HOLD_MS
    assert totals.due_for_release() == []  # old, but never served

    assert value(totals, TIMEOUT) == 0
    clock.ms += HOLD_MS - 1
    totals.apply(commit({TIMEOUT: 2}))
    assert value(totals, TIMEOUT) == 0
    assert totals.due_for_release() == []

    clock.ms += 1
    assert totals.due_for_release() == [TIMEOUT]
    assert value(totals, TIMEOUT) == 0  # not durable yet
    assert samples(totals, openmetrics=True)[TIMEOUT.metric, TIMEOUT.labels].exemplar is None

    totals.release([TIMEOUT])
    assert value(totals, TIMEOUT) == 5
    assert samples(totals, openmetrics=True)[TIMEOUT.metric, TIMEOUT.labels].exemplar is not None
    assert totals.due_for_release() == []


def test_a_seeded_series_counts_from_the_next_scrape_on(clock):
    totals = totals_with(clock, zero_hold_ms=HOLD_MS)
    totals.apply(commit(born=[SEEDED]))
    assert value(totals, SEEDED) == 0
    assert totals.due_for_release() == []  # the ledger holds it as released already
    totals.apply(commit({SEEDED: 1}))
    assert value(totals, SEEDED) == 1


def test_a_seeded_series_that_counts_before_any_scrape_shows_its_0_once(clock):
    totals = totals_with(clock, zero_hold_ms=HOLD_MS)
    totals.apply(commit(born=[SEEDED]))
    totals.apply(commit({SEEDED: 4}))
    assert [value(totals, SEEDED) for _ in range(3)] == [0, 4, 4]


def test_a_series_born_with_its_first_increment_is_held(clock):
    totals = totals_with(clock, zero_hold_ms=HOLD_MS)
    totals.apply(commit({SEEDED: 1}, born=[SEEDED]))
    assert value(totals, SEEDED) == 0
    assert value(totals, SEEDED) == 0
    clock.ms += HOLD_MS
    assert totals.due_for_release() == [SEEDED]


def test_seeding_again_changes_nothing(clock):
    totals = totals_with(clock)
    totals.apply(commit({SEEDED: 7}))
    totals.apply(commit(born=[SEEDED], at_ms=BORN_MS + 1))
    assert value(totals, SEEDED) == 7


def test_without_zero_hold_values_show_at_once_and_become_durable_as_such(clock):
    totals = totals_with(clock, zero_hold_ms=0)
    totals.apply(commit({TIMEOUT: 3}))
    assert value(totals, TIMEOUT) == 3
    assert totals.due_for_release() == [TIMEOUT]  # or a restart with a hold would take the value back
    totals.release([TIMEOUT])
    assert totals.due_for_release() == []


def test_hold_is_kept_over_a_restart_and_what_was_shown_is_shown_at_once(clock):
    totals = totals_with(clock, zero_hold_ms=HOLD_MS)
    totals.load([row(TIMEOUT, 5, released=False, exemplar=TRACE), row(SEEDED, 9, released=True, exemplar=TRACE)])
    shown = samples(totals, openmetrics=True)
    assert shown[TIMEOUT.metric, TIMEOUT.labels].value == 0
    assert shown[TIMEOUT.metric, TIMEOUT.labels].exemplar is None
    assert shown[SEEDED.metric, SEEDED.labels].value == 9
    assert shown[SEEDED.metric, SEEDED.labels].exemplar.labels["trace_id"] == TRACE.trace_id

    clock.ms += HOLD_MS
    assert totals.due_for_release() == [TIMEOUT]
    totals.release([TIMEOUT])
    assert value(totals, TIMEOUT) == 5


def test_a_histogram_is_held_and_released_as_a_whole(clock):
    totals = totals_with(clock, zero_hold_ms=HOLD_MS)
    increments = observations(40, 29_003)
    totals.apply(commit(increments))
    assert {sample.value for sample in samples(totals).values()} == {0}

    clock.ms += HOLD_MS
    due = totals.due_for_release()
    assert set(due) == set(increments)
    totals.release(due)
    totals.apply(commit(observations(120)))  # a bucket that was never hit before: its line was always there

    shown = {name + labels[-1]: sample.value for (name, labels), sample in samples(totals).items()}
    name = RESPONSE_LATENCY.name
    assert shown[f"{name}_bucket0.05"] == 1
    assert shown[f"{name}_bucket0.25"] == 2
    assert shown[f"{name}_bucket29.0"] == 2
    assert shown[f"{name}_bucket30.0"] == shown[f"{name}_bucket+Inf"] == shown[f"{name}_countprod"] == 3
    assert shown[f"{name}_sumprod"] == 29.163
    assert totals.due_for_release() == []


def test_a_histogram_with_one_released_bucket_is_released_after_a_restart(clock):
    first, second = observations(40), observations(29_003)
    totals = totals_with(clock, zero_hold_ms=HOLD_MS)
    totals.load([row(key, amount, released=True) for key, amount in first.items()])
    (late_bucket, one), _ = second.items()
    totals.load([row(late_bucket, one, released=False, created_at_ms=BORN_MS + 1)])
    shown = samples(totals)
    assert shown[f"{RESPONSE_LATENCY.name}_count", (API.id, API.name, API.stage)].value == 2
    assert totals.due_for_release() == []


def test_two_scrapers_of_different_formats_both_see_the_0_and_then_the_value(clock):
    totals = totals_with(clock, zero_hold_ms=HOLD_MS)
    totals.apply(commit({TIMEOUT: 1}))
    seen = {False: [], True: []}
    for _ in range(8):
        for openmetrics, values in seen.items():
            values.append(value(totals, TIMEOUT, openmetrics=openmetrics))
        clock.ms += 30_000
        totals.release(totals.due_for_release())
    assert seen == {False: [0, 0, 0, 0, 1, 1, 1, 1], True: [0, 0, 0, 0, 1, 1, 1, 1]}


# -------------------------------------------------------------------------------------------------- caps and forgetting


def test_an_admitted_series_stays_admitted_and_the_rest_goes_to_the_overflow_of_its_api(clock):
    totals = totals_with(clock, max_series=2)
    first, second, third = (requests(API, "GET", f"/{path}", 200) for path in "abc")
    assert [totals.admit(first), totals.admit(second)] == [first, second]
    overflow = CounterKey(REQUESTS.name, (API.id, API.name, API.stage, OVERFLOW, OVERFLOW, OVERFLOW))
    assert totals.admit(third) == overflow
    assert totals.admit(third) == overflow
    assert totals.admit(overflow) == overflow
    assert totals.admit(first) == first
    assert totals.admit(failed_requests(API, "GET", "/c", 500, "x")).labels[-1] == "x"  # a metric of its own
    assert totals.overflow_counts() == {metric.name: 2 if metric is REQUESTS else 0 for metric in COUNTED}


def test_overflow_series_are_capped_too(clock):
    totals = totals_with(clock, max_series=3)
    apis = [Api(id=f"api{n}", name="x", stage="prod") for n in range(50)]
    admitted = {totals.admit(requests(api, "GET", "/", 200)) for api in apis}
    assert CounterKey(REQUESTS.name, (OVERFLOW,) * 6) in admitted
    assert len(admitted) == 3 + 3 + 1


def test_a_histogram_overflows_with_its_buckets_and_sum_together(clock):
    totals = totals_with(clock, max_series=21)  # room for one
    increments = {}
    for api in (API, OTHER_API):
        for key, amount in observations(40, 29_003, api=api).items():
            increments[totals.admit(key)] = amount
    totals.apply(commit(increments))
    counts = {labels: s.value for (name, labels), s in samples(totals).items() if name.endswith("_count")}
    assert counts == {(API.id, API.name, API.stage): 2, (OVERFLOW,) * 3: 2}


def test_what_the_ledger_holds_is_known_even_beyond_the_cap(clock):
    totals = totals_with(clock, max_series=1)
    keys = [requests(API, "GET", f"/{n}", 200) for n in range(5)]
    totals.load([row(key, 1, released=True) for key in keys])
    assert [totals.admit(key) for key in keys] == keys
    assert totals.admit(requests(API, "GET", "/new", 200)) not in keys
    assert totals.series_counts()[REQUESTS.name] == 5


def test_100_000_paths_make_no_more_series_than_the_cap_allows(clock):
    totals = totals_with(clock, max_series=500)
    began = time.perf_counter()
    for start in range(0, 100_000, 1000):
        increments = {}
        for number in range(start, start + 1000):
            key = totals.admit(failed_requests(API, "GET", f"/{number}", 404, "route_not_found"))
            increments[key] = increments.get(key, 0) + 1
        totals.apply(commit(increments))
    assert time.perf_counter() - began < 5
    shown = [s for (name, _), s in samples(totals).items() if name == FAILED_REQUESTS.name]
    assert len(shown) == 501
    assert sum(s.value for s in shown) == 100_000
    assert totals.overflow_counts()[FAILED_REQUESTS.name] == 99_500
    assert len(totals.render(openmetrics=True)) < 500_000


def test_admitting_an_undeclared_metric_is_refused(clock):
    with pytest.raises(KeyError):
        totals_with(clock).admit(CounterKey("aws_apigateway_invented_total", ("a",)))


def test_idle_series_are_offered_and_once_forgotten_gone_with_their_room(clock):
    totals = totals_with(clock, max_series=2)
    old, young, newcomer = (requests(API, "GET", f"/{path}", 200) for path in "abc")
    totals.apply(commit({totals.admit(old): 1}))
    totals.apply(commit({totals.admit(young): 1}, at_ms=BORN_MS + 1000))
    assert totals.idle_since(BORN_MS) == []
    assert totals.idle_since(BORN_MS + 1000) == [old]

    totals.apply(commit({old: 1}, at_ms=BORN_MS + 2000))
    assert totals.idle_since(BORN_MS + 2000) == [young]
    totals.forget([young])
    assert value(totals, young) is None
    assert totals.admit(newcomer) == newcomer


def test_what_was_turned_away_once_stays_so_or_it_would_count_twice_when_listed_again(clock):
    totals = totals_with(clock, max_series=1)
    first, second = (requests(API, "GET", f"/{path}", 200) for path in "ab")
    totals.apply(commit({totals.admit(first): 1}))
    overflow = totals.admit(second)
    totals.apply(commit({overflow: 1}))
    totals.forget([first])
    assert totals.admit(second) == overflow
    assert totals.admit(requests(API, "GET", "/c", 200)) == overflow


def test_a_histogram_is_forgotten_with_every_key_the_ledger_has_of_it(clock):
    totals = totals_with(clock)
    increments = observations(40, 29_003, histogram=INTEGRATION_LATENCY)
    totals.apply(commit(increments))
    idle = totals.idle_since(BORN_MS + 1)
    assert set(idle) == set(increments)
    totals.forget(idle)
    assert samples(totals) == {}


def test_a_series_forgotten_while_held_is_never_due(clock):
    totals = totals_with(clock, zero_hold_ms=HOLD_MS)
    totals.apply(commit({TIMEOUT: 1}))
    totals.render(openmetrics=False)
    totals.forget([TIMEOUT])
    clock.ms += HOLD_MS
    assert totals.due_for_release() == []


def test_a_forgotten_series_that_comes_back_starts_at_0_again(clock):
    totals = totals_with(clock, zero_hold_ms=HOLD_MS)
    totals.load([row(TIMEOUT, 5, released=True)])
    totals.forget([TIMEOUT])
    totals.apply(commit({TIMEOUT: 1}))
    assert value(totals, TIMEOUT) == 0


@pytest.mark.parametrize(
    "key",
    [
        CounterKey("aws_apigateway_of_another_version_total", ("a", "b")),
        CounterKey(REQUESTS.name, ("fewer", "labels")),
        CounterKey(f"{RESPONSE_LATENCY.name}_bucket", (API.id, API.name, API.stage, "wide")),
        CounterKey(f"{RESPONSE_LATENCY.name}_bucket", (API.id, API.name, API.stage, "nan")),
    ],
)
def test_a_series_of_another_version_is_not_shown_but_offered_for_forgetting(clock, key):
    totals = totals_with(clock)
    totals.load([row(key, 5, released=True)])
    assert samples(totals) == {}
    assert totals.idle_since(BORN_MS + 1) == [key]
    totals.forget([key])
    assert totals.idle_since(BORN_MS + 1) == []


def test_a_bucket_of_another_version_counts_in_the_first_that_holds_it(clock):
    totals = totals_with(clock)
    totals.load(
        [row(CounterKey(f"{RESPONSE_LATENCY.name}_bucket", (API.id, API.name, API.stage, "0.2")), 5, released=True)]
    )
    shown = samples(totals)
    stage = (API.id, API.name, API.stage)
    assert shown[f"{RESPONSE_LATENCY.name}_bucket", (*stage, "0.1")].value == 0
    assert shown[f"{RESPONSE_LATENCY.name}_bucket", (*stage, "0.25")].value == 5


# ------------------------------------------------------------------------------------------------------------ rendering


def test_exemplars_carry_the_requests_own_time_and_only_the_newest_is_kept(clock):
    totals = totals_with(clock)
    older = Exemplar(trace_id="f" * 32, span_id="e" * 16, at_ms=TRACE.at_ms - 1)
    totals.apply(commit({TIMEOUT: 1}, exemplars={TIMEOUT: TRACE}))
    totals.apply(commit({TIMEOUT: 1}, exemplars={TIMEOUT: older}))
    exemplar = samples(totals, openmetrics=True)[TIMEOUT.metric, TIMEOUT.labels].exemplar
    assert exemplar.labels == {"trace_id": TRACE.trace_id, "span_id": TRACE.span_id}
    assert float(exemplar.timestamp) == 1_700_000_012.345
    assert b"trace_id" not in totals.render(openmetrics=False)


def test_created_is_shown_in_openmetrics_only_and_survives_a_restart(clock):
    increments = observations(40, 29_003) | {TIMEOUT: 1}
    rows = [
        row(key, amount, released=True, created_at_ms=BORN_MS + n) for n, (key, amount) in enumerate(increments.items())
    ]
    totals = totals_with(clock)
    totals.load(reversed(rows))
    shown = samples(totals, openmetrics=True)
    assert shown["aws_apigateway_failed_requests_created", TIMEOUT.labels].value == (BORN_MS + 3) / 1000
    assert shown[f"{RESPONSE_LATENCY.name}_created", (API.id, API.name, API.stage)].value == BORN_MS / 1000
    assert b"_created" not in totals.render(openmetrics=False)


def test_both_formats_show_the_same_numbers(clock):
    totals = totals_with(clock)
    increments = observations(3, 40, 29_003, 31_000, 10**9) | observations(
        7, histogram=INTEGRATION_LATENCY, api=OTHER_API
    )
    increments |= {TIMEOUT: 3, SEEDED: 2**60, requests(OTHER_API, "GET", "/", None): 1}
    totals.apply(commit(increments, exemplars={TIMEOUT: TRACE}))
    totals.set_stages([StageInfo(api=API, data_trace=True)])
    text = {key: sample.value for key, sample in samples(totals).items()}
    openmetrics = {key: sample.value for key, sample in samples(totals, openmetrics=True).items()}
    assert {key: v for key, v in openmetrics.items() if not key[0].endswith("_created")} == text
    for key, amount in increments.items():
        if key.metric.endswith("_total"):
            assert text[key.metric, key.labels] == amount


@given(name=st.text(), resource=st.text())
def test_any_label_value_survives_both_formats(name, resource):
    totals = totals_with(Clock())
    key = requests(Api(id="a", name=name, stage="s"), "GET", resource, 200)
    totals.apply(commit({key: 3}))
    assert value(totals, key) == 3
    assert value(totals, key, openmetrics=True) == 3


@pytest.mark.parametrize("nasty", ['"', "\\", "\n", 'a"\\\n"b', "\\n", "ünïcödé ☃", "\u2028\x85\r\t", "{}=,# EOF", " "])
def test_nasty_label_values_survive_both_formats(clock, nasty):
    totals = totals_with(clock)
    key = requests(API, "GET", nasty, 200)
    totals.apply(commit({key: 3}))
    assert value(totals, key) == value(totals, key, openmetrics=True) == 3


def test_a_lone_surrogate_does_not_break_the_scrape(clock):
    totals = totals_with(clock)
    totals.apply(commit({requests(API, "GET", "/\ud800", 200): 3}))
    assert value(totals, requests(API, "GET", "/\\ud800", 200)) == 3


def test_a_stage_that_is_told_twice_is_shown_once(clock):
    totals = totals_with(clock)
    totals.set_stages([StageInfo(api=API), StageInfo(api=API)])
    assert [name for name, _ in samples(totals)] == ["aws_apigateway_stage_info"]
    totals.set_stages([])
    assert samples(totals) == {}


@pytest.mark.parametrize("openmetrics", [False, True])
def test_golden(clock, openmetrics):
    totals = totals_with(clock)
    totals.apply(
        commit({TIMEOUT: 3}, born=[SEEDED, stage_failures(API, "throttled", "throttle")], exemplars={TIMEOUT: TRACE})
    )
    totals.apply(commit({SEEDED: 3, requests(API, "GET", "/orders/{id}", 504): 3}, exemplars={SEEDED: TRACE}))
    totals.apply(commit({requests(OTHER_API, "_OTHER", 'say "hi"\\\n', None): 1}))
    totals.apply(commit(observations(41, 29_003, 29_010, 30_005)))
    totals.set_stages(
        [StageInfo(api=API, access_log_group="access/orders", execution_log_level="INFO", data_trace=False)]
    )
    golden = HERE / "golden" / ("metrics.openmetrics.txt" if openmetrics else "metrics.txt")
    assert totals.render(openmetrics=openmetrics).decode() == golden.read_text()


def test_rendering_is_cached_until_something_changes(clock):
    totals = totals_with(clock)
    totals.apply(commit({TIMEOUT: 1}))
    before = totals.render(openmetrics=False)
    totals.apply(commit())
    assert totals.render(openmetrics=False) is before
    totals.apply(commit({TIMEOUT: 1}))
    assert totals.render(openmetrics=False) != before


def test_values_never_step_back_while_commits_and_scrapes_run_side_by_side(clock):
    totals = totals_with(clock, zero_hold_ms=1)
    seen = {False: [], True: []}
    done = threading.Event()
    line = re.compile(
        rb'^aws_apigateway_failed_requests_total\{[^}]*resource="/orders/\{id\}"[^}]*\} (\d+)', re.MULTILINE
    )

    def scrape(openmetrics):
        while not done.is_set():
            found = line.search(totals.render(openmetrics=openmetrics))
            if found is not None:
                seen[openmetrics].append(int(found[1]))

    def count(worker):
        for number in range(500):
            own = failed_requests(API, "GET", f"/{worker}/{number}", 500, "lambda_error")
            totals.apply(commit({totals.admit(TIMEOUT): 1, totals.admit(own): 1}))
            clock.ms += 1
            totals.release(totals.due_for_release())

    scrapers = [threading.Thread(target=scrape, args=[openmetrics]) for openmetrics in (False, True)]
    counters = [threading.Thread(target=count, args=[worker]) for worker in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # threads meet in the middle of things
    try:
        for thread in scrapers + counters:
            thread.start()
        for thread in counters:
            thread.join()
    finally:
        done.set()
        for thread in scrapers:
            thread.join()
        sys.setswitchinterval(interval)
    for values in seen.values():
        assert all(before <= after for before, after in pairwise(values))
    totals.render(openmetrics=False)
    clock.ms += 1
    totals.release(totals.due_for_release())
    assert value(totals, TIMEOUT) == 1000
