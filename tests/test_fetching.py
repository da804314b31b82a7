"""A watch that fetches only what tells of failures: what it counts, when it asks, and when it gives up doing so."""

import contextlib
import gc
import json
import random
from collections import Counter
from itertools import pairwise

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.sources import PatternRefused
from tests.worlds import (
    ACCESS,
    EXECUTION,
    START_MS,
    Life,
    MemorySource,
    Request,
    World,
    denied,
    live,
    make_world,
    scratch,
    unavailable,
    vended_json,
    vended_plain,
)

FORMAT = json.dumps(
    {
        name: f"$context.{name}"
        for name in (
            *("requestId", "extendedRequestId", "httpMethod", "resourcePath", "status", "responseLatency"),
            *("error.message", "error.responseType"),
        )
    }
)
END_MS = START_MS + 1_600_000
LOUD = ["ok", "ok", "ok", "timeout", "permission", "lambda_error", "throttled_lambda", "missing_token"]
"""What an access line tells by itself: all but the error behind a status of 200."""


def truth(world, *, masked=False):
    """The true counts; masked errors have an access line like any success, which is not fetched."""
    return Counter({key: count for key, count in world.failures().items() if masked or key[3] != "masked_lambda_error"})


@contextlib.contextmanager
def alive(source, **options):
    with scratch() as directory:
        life = Life(source, directory, **{"fetch": "failures"} | options)
        try:
            yield life
        finally:
            life.ledger.close()


def lived(world, seed=0, *, until_ms=END_MS, crash=0.0, gaps=0.0, **options):
    rng = random.Random(seed)
    source = MemorySource(world=world, filters=True)
    with alive(source, **options) as life:
        live(life, rng, until_ms=until_ms, crash=crash, gaps=gaps)
        return life, life.failures()


WORLDS = {
    "plain": {},
    "in the stage's own format": {"access_format": FORMAT},
    "extended ids only": {"ids": "extended"},
    "request ids only": {"ids": "request"},
    "at ERROR level": {"level": "ERROR"},
    "without execution logs": {"execution": False},
    "lines of a request in two batches": {"two_batches": 0.5},
    "ids of WebSocket APIs": {"websocket": True},
    "vended as JSON": {"vended": vended_json},
    "vended as text": {"vended": vended_plain},
    "a server that ignores patterns": {"ignores": True},
    "pages that come twice": {"repeats": True},
}


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("seed", range(3))
def test_every_failure_that_the_access_log_tells_of_is_counted_once_with_its_cause(name, seed):
    options = dict(WORLDS[name])
    life_options = {key: options.pop(key) for key in ("access_format",) if key in options}
    ignores, repeats = options.pop("ignores", False), options.pop("repeats", False)
    rng = random.Random(seed)
    world = make_world(rng, outcomes=LOUD, **options)
    source = MemorySource(world=world, filters=True, page_size=7, selects_all=ignores)
    if repeats:
        source.repeat = lambda: rng.random() < 0.3
    with alive(source, execution=options.get("execution", True), **life_options) as life:
        live(life, rng, until_ms=END_MS, crash=0.1, gaps=0.1)
        expected = truth(world)
        if not options.get("execution", True):  # causes are then as good as the access line
            assert by_status(life.failures()) == by_status(expected)
        else:
            assert life.failures() == expected


def by_status(counts):
    found = Counter()
    for (_, _, status, _), count in counts.items():
        found[status] += count
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("level", ["INFO", "ERROR"])
@pytest.mark.parametrize("how", [{}, {"websocket": True}, {"vended": vended_json}], ids=["", "websocket", "vended"])
def test_without_access_logs_the_execution_log_tells_and_masked_errors_too(seed, level, how):
    world = make_world(random.Random(seed), access=False, level=level, **how)
    _, counted = lived(world, seed, access=False, crash=0.1, gaps=0.1)
    if level == "ERROR":  # its lines name neither method nor resource
        assert by_status(counted) == by_status(truth(world, masked=True))
    else:
        assert counted == truth(world, masked=True)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 10_000),
    logs=st.sampled_from([("both", "INFO"), ("extended", "INFO"), ("request", "INFO"), ("request", "ERROR")]),
    late=st.floats(0, 1),
    crash=st.floats(0, 0.3),
    throttled=st.floats(0, 0.3),
)
def test_crashes_throttles_and_late_lines_change_nothing(seed, logs, late, crash, throttled):
    ids, level = logs
    rng = random.Random(seed)
    world = make_world(rng, count=30, outcomes=LOUD, ids=ids, level=level, late=late)
    source = MemorySource(world=world, filters=True)
    with alive(source) as life:
        source.fault = lambda group, _: unavailable(group) if rng.random() < throttled else None
        live(life, rng, until_ms=END_MS, crash=crash, gaps=0.1)
        source.fault = lambda _group, _page: None
        live(life, rng, until_ms=END_MS + 900_000)
        assert life.failures() == truth(world)


@pytest.mark.parametrize("seed", range(4))
def test_ids_used_again_neither_lose_nor_double_what_failed(seed):
    world = make_world(random.Random(seed), outcomes=LOUD, reuse=0.4)
    _, counted = lived(world, seed, crash=0.1)
    assert counted == truth(world)


def test_an_error_behind_a_good_status_is_not_counted_because_its_id_was_asked_for():
    """Its access line, which tells method and resource, is not fetched; with another id nobody would know of it."""
    world = World()
    failed = request(0, START_MS, 400)
    masked = request(1, START_MS + 4_000, 400, outcome="masked")
    masked.request_id = masked.logged_request_id = failed.request_id
    for one in (failed, masked):
        put(world, one, visible_ms=START_MS + 8_000)
    _, counted = lived(world, until_ms=START_MS + 900_000, access_format=FORMAT)
    assert counted == truth(world)


def test_successes_are_not_fetched_and_there_are_no_totals():
    world = make_world(random.Random(1), count=400, outcomes=["ok"] * 40 + ["timeout"])
    failed = sum(truth(world).values())
    source = MemorySource(world=world, filters=True, page_bytes=1_000_000)
    with alive(source, access_format=FORMAT) as life:
        live(life, random.Random(0), until_ms=END_MS)
        assert life.failures() == truth(world)
        assert life.totals_by_status() == {}
        fetched = Counter(
            {
                sample.labels["group"]: sample.value
                for metric in life.self_metrics.registry.collect()
                for sample in metric.samples
                if sample.name == "aws_apigateway_exporter_log_events_total"
            }
        )
    assert fetched[ACCESS.name] <= failed * 25, "in each poll, for as long as lines may come late"
    assert fetched[EXECUTION.name] <= failed * 14 * 4


def test_a_timeout_is_counted_with_its_execution_lines_soon_after_its_end():
    world = World()
    put(world, request(0, START_MS, 29_000), visible_ms=START_MS + 32_000)
    source = MemorySource(world=world, filters=True)
    spans = []
    with alive(source, access_format=FORMAT, spans=True, show=spans.extend) as life:
        while not life.failures():
            source.now += 20_000
            life.poll()
        assert source.now <= START_MS + 60_000
        assert life.settled() == {"covered": 1}
        (told,) = spans
        assert "Execution failed due to a timeout error" in [line.text for line in told.settled.unit.execution]


def test_a_request_is_asked_for_in_growing_pauses_and_a_last_time_before_it_is_given_up():
    """Its execution lines never come, and its access line alone proves no cause."""
    world = World()
    lost = request(0, START_MS, 500, outcome="permission")
    world.put(ACCESS, [(lost.arrival_ms, lost.access_line())], visible_ms=START_MS + 2_000)
    source = MemorySource(world=world, filters=True)
    with alive(source, access_format=FORMAT) as life:
        asked = []
        for _ in range(40):
            source.now += 20_000
            source.patterns.clear()
            life.poll()
            if any(pattern and lost.request_id in pattern for pattern in source.patterns):
                asked.append((source.now - START_MS) // 1_000)
        assert by_status(life.failures()) == {"500": 1}
        pauses = [after - before for before, after in pairwise(asked)]
        assert len(asked) <= 7, asked
        assert pauses[:-1] == sorted(pauses[:-1]), asked
        assert asked[-1] >= 330, "once nothing can be late any more"


def test_twenty_five_ids_are_asked_for_in_one_call():
    world = World()
    for number in range(50):
        put(world, request(number, START_MS + number, 400), visible_ms=START_MS + 3_000)
    source = MemorySource(world=world, now=START_MS + 10_000, filters=True, page_bytes=20_000_000)
    with alive(source, access_format=FORMAT) as life:
        life.poll()
        asked = asked_for(source)
        assert len(asked) == 2
        assert all(len(pattern) <= 1_024 for _, pattern in asked)
        assert sum(life.failures().values()) == 50


def asked_for(source):
    """Over which time, and by which pattern, execution lines were asked for by id."""
    return [
        (window, pattern)
        for (group, window), pattern in zip(source.windows, source.patterns, strict=True)
        if group == EXECUTION and pattern is not None
    ]


def test_where_nearly_everything_fails_all_lines_are_read_instead_of_asked_for_by_id():
    world = World()
    for number in range(600):
        put(world, request(number, START_MS - 420_000 + number * 100, 400), visible_ms=START_MS - 300_000)
    for number in range(600, 1_200):
        put(world, request(number, START_MS + number, 400), visible_ms=START_MS + 3_000)
    source = MemorySource(world=world, now=START_MS + 10_000, filters=True)
    with alive(source, access_format=FORMAT) as life:
        life.poll()
        assert asked_for(source) == []
        live(life, random.Random(0), until_ms=START_MS + 600_000)
        assert life.failures() == truth(world)


def test_an_execution_group_that_cannot_be_read_leaves_what_access_lines_tell():
    world = make_world(random.Random(3), outcomes=["ok", "timeout", "missing_token"])
    source = MemorySource(world=world, filters=True)
    source.fault = lambda group, _: denied(group) if group == EXECUTION else None
    with alive(source, access_format=FORMAT) as life:
        outcomes = set()
        while source.now < END_MS:
            source.now += 20_000
            outcomes.add(life.poll().outcome)
        assert life.failures() == truth(world)
        assert "left_out" in outcomes


def test_an_execution_group_that_stays_denied_is_told_once_and_costs_no_further_looks():
    world = make_world(random.Random(3), outcomes=["ok", "permission"], span_ms=1_200_000)
    source = MemorySource(world=world, filters=True)
    source.fault = lambda group, _: denied(group) if group == EXECUTION else None
    with alive(source, access_format=FORMAT) as life, structlog.testing.capture_logs() as said:
        live(life, random.Random(0), until_ms=END_MS)
        assert by_status(life.failures()) == by_status(truth(world))
    told = Counter(line["event"] for line in said)
    assert told["log group cannot be read"] == 1
    assert told["log group can be read again"] == 0
    assert source.patterns.count(None) <= 6, "one look at each group an hour, or in five minutes where it was empty"


def test_a_poll_tells_no_small_price_of_everything_before_it_knows_it():
    world = make_world(random.Random(3), outcomes=LOUD)
    source = MemorySource(world=world, filters=True)
    source.fault = lambda group, _: unavailable(group) if source.patterns[-1] is None else None
    with alive(source, access_format=FORMAT) as life:
        assert life.poll().pages_in_full == float("inf")
        source.fault = lambda _group, _page: None
        assert 0 < life.poll().pages_in_full < 100


@pytest.mark.parametrize("access", [True, False])
def test_what_was_settled_is_let_go_of(access):
    world = make_world(random.Random(4), count=200, outcomes=["ok", "timeout"], access=access)
    source = MemorySource(world=world, filters=True)
    with alive(source, access=access) as life:
        gc.collect()
        before = held()
        live(life, random.Random(0), until_ms=END_MS + 600_000)
        assert life.failures() == truth(world)
        gc.collect()
        assert held() - before <= 5


def held():
    """How many open requests and lines of them are in memory."""
    return sum(type(thing).__name__ in {"OpenRequest", "ExecutionLine", "AccessLine"} for thing in gc.get_objects())


def test_requests_far_from_each_other_are_asked_for_where_they_are():
    """In a stretch where requests fail all the time, each 25 of them are looked for in their own minutes."""
    world = World()
    for number in range(100):
        put(world, request(number, START_MS - 900_000 + number * 6_000, 400), visible_ms=START_MS - 200_000)
    source = MemorySource(world=world, now=START_MS + 10_000, filters=True, page_bytes=200_000_000)
    with alive(source, access_format=FORMAT, initial_lookback_ms=1_800_000) as life:
        live(life, random.Random(0), until_ms=START_MS + 100_000)
        assert life.failures() == truth(world)
    longest = max(window.end_ms - window.start_ms for window, _ in asked_for(source))
    assert longest <= 25 * 6_000 + 120_000


@pytest.mark.parametrize("hostile", ['x" || "y', "a" * 2_000, 'é\n"', "%.*%", "-"])
def test_an_id_that_a_caller_made_up_spoils_no_pattern(hostile):
    world = World()
    bad = request(0, START_MS, 400)
    bad.logged_request_id = hostile
    good = request(1, START_MS + 10, 400)
    for one in (bad, good):
        put(world, one, visible_ms=START_MS + 3_000)
    _, counted = lived(world, until_ms=START_MS + 900_000, access_format=FORMAT)
    assert counted == truth(world)


# ------------------------------------------------------------------------------------------- patterns that do not serve


def changed_line(one):
    return f'{{"requestId":"{one.request_id}","statusCode": {one.status}}}'


def test_a_format_that_was_changed_without_a_word_is_noticed_before_a_failure_is_missed():
    world = World()
    for number in range(60):
        one = request(number, START_MS - 400_000 + number * 1_000, 400, outcome="ok")
        world.put(ACCESS, [(one.arrival_ms, changed_line(one))], visible_ms=one.arrival_ms + 2_000)
    failed = request(60, START_MS + 5_000, 400, outcome="missing_token")
    world.put(ACCESS, [(failed.arrival_ms, changed_line(failed))], visible_ms=failed.arrival_ms + 2_000)
    _, counted = lived(world, until_ms=START_MS + 600_000, access_format=FORMAT)
    assert by_status(counted) == {"403": 1}


@pytest.mark.parametrize("tells", [True, False])
def test_a_service_that_reads_the_pattern_otherwise_is_read_in_full(tells):
    """Whether it says so itself or only gives too little."""
    world = make_world(random.Random(5), outcomes=LOUD)
    source = MemorySource(world=world, now=START_MS + 700_000, filters=True, tells_selected=tells)
    source.selects_none_by = "%"
    with alive(source, access_format=FORMAT) as life:
        live(life, random.Random(0), until_ms=END_MS)
        assert life.failures() == truth(world)
        assert sum(life.totals_by_status().values()) > 0
        assert failures_only(life) == 0


def failures_only(life):
    return life.self_metrics.registry.get_sample_value(
        "aws_apigateway_exporter_fetches_failures_only", {"watch": "orders-prod"}
    )


def test_a_pattern_that_the_service_refuses_is_done_without():
    world = make_world(random.Random(6), outcomes=LOUD)
    source = MemorySource(world=world, filters=True, tells_selected=False)
    plain = source.pages

    def pages(group, window, pattern=None, parts=1):
        if pattern is not None and pattern.startswith("%"):
            raise PatternRefused(group, "pattern", "refused")
        return plain(group, window, pattern, parts)

    source.pages = pages
    with alive(source, access_format=FORMAT) as life:
        live(life, random.Random(0), until_ms=END_MS)
        assert life.failures() == truth(world)
        assert failures_only(life) == 0


def test_while_its_patterns_serve_the_metric_says_that_only_failures_are_fetched():
    life, _ = lived(make_world(random.Random(7), outcomes=LOUD), access_format=FORMAT)
    assert failures_only(life) == 1


# --------------------------------------------------------------------------------------------- from one to the other


@pytest.mark.parametrize("seed", range(4))
def test_changing_from_all_lines_to_failing_ones_and_back_counts_nothing_twice(seed):
    rng = random.Random(seed)
    world = make_world(rng, count=120, outcomes=LOUD)
    source = MemorySource(world=world, filters=True)
    with alive(source, fetch="auto", access_format=FORMAT) as life:
        while source.now < END_MS:
            source.now += 20_000
            if rng.random() < 0.1:
                life.watch.fetches_failures = not life.watch.fetches_failures
            life.poll()
            if rng.random() < 0.05:
                life.die()
        assert life.failures() == truth(world)
        seen, real = life.totals_by_status(), world.totals()
        assert all(seen[status] <= real[status] for status in seen), "some are missed, none is doubled"


def request(number, arrival_ms, duration_ms, outcome="timeout"):
    return Request(
        number=number,
        arrival_ms=arrival_ms,
        duration_ms=duration_ms,
        outcome=outcome,
        request_id=f"00000000-0000-4000-8000-{number:012d}",
        extended_id=f"ext{number:08d}=",
        logged_request_id=f"00000000-0000-4000-8000-{number:012d}",
    )


def put(world, one, *, visible_ms):
    world.requests.append(one)
    world.put(ACCESS, [(one.arrival_ms, one.access_line())], visible_ms=visible_ms)
    lines = one.execution_lines("INFO")
    if lines:
        world.put(EXECUTION, lines, visible_ms=visible_ms)
