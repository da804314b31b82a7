"""The spine: what one poll reads, commits and shows; what a crash, a refusal or a wrong clock leaves behind."""

import random
from collections import Counter

import pytest

from exporter.ledger import LedgerError
from tests.worlds import (
    ACCESS,
    API,
    EXECUTION,
    START_MS,
    Crash,
    Life,
    MemorySource,
    Request,
    World,
    denied,
    live,
    make_world,
    unavailable,
)


def one_timeout(arrival_ms: int, *, delivered_ms: int = 2_000) -> World:
    """A 29 s timeout on an otherwise quiet stage."""
    world = World()
    request = Request(
        number=0,
        arrival_ms=arrival_ms,
        duration_ms=29_000,
        outcome="timeout",
        request_id="0c7b5b0c-1f6a-4c80-8d1a-aaaaaaaaaaaa",
        extended_id="x1=",
        logged_request_id="0c7b5b0c-1f6a-4c80-8d1a-aaaaaaaaaaaa",
    )
    world.requests.append(request)
    visible_ms = arrival_ms + 29_000 + delivered_ms
    world.put(ACCESS, [(arrival_ms, request.access_line())], visible_ms=visible_ms)
    world.put(EXECUTION, request.execution_lines("INFO"), visible_ms=visible_ms)
    return world


TIMEOUT = ("GET", "/orders/{id}", "504", "integration_timeout")


@pytest.fixture
def quiet(tmp_path):
    source = MemorySource(world=one_timeout(START_MS + 60_000), now=START_MS)
    life = Life(source, tmp_path, spans=True)
    yield life
    life.ledger.close()


def test_a_timeout_is_counted_at_the_first_poll_after_its_lines_are_there(quiet):
    ended_ms = START_MS + 60_000 + 29_000
    while not quiet.failures():
        quiet.source.now += 20_000
        quiet.poll()
        assert quiet.source.now < ended_ms + 60_000, "not counted within a minute of its end"
    assert quiet.failures() == Counter({TIMEOUT: 1})
    assert quiet.source.now - ended_ms <= 22_000


@pytest.mark.parametrize("page_size", [10_000, 3], ids=["one window", "three passes"])
def test_timeouts_are_counted_within_a_minute_whatever_the_reading(tmp_path, page_size):
    rng = random.Random(7)
    world = make_world(rng, count=80, outcomes=["timeout", "ok", "ok"], late=0.0)
    life = Life(MemorySource(world=world, now=START_MS - 300_000, page_size=page_size), tmp_path)
    delays = []
    counted: Counter = Counter()
    while life.source.now < START_MS + 800_000:
        life.source.now += 20_000
        life.poll()
        new = life.failures()
        ended = sorted(
            request.arrival_ms + request.duration_ms for request in world.requests if request.outcome == "timeout"
        )
        grown = sum(new.values()) - sum(counted.values())
        done = sum(counted.values())
        delays += [life.source.now - end_ms for end_ms in ended[done : done + grown]]
        counted = new
    life.ledger.close()
    assert counted == world.failures()
    assert sorted(delays)[len(delays) // 2] < 30_000
    assert max(delays) < 60_000


def test_every_cause_of_a_configured_stage_stands_at_0_before_anything_is_read(quiet):
    quiet.source.fault = lambda group, _page: unavailable(group)
    assert quiet.poll().outcome == "throttled"
    text = quiet.totals.render(openmetrics=False).decode()
    seeded = [line for line in text.splitlines() if line.startswith("aws_apigateway_stage_failures_total{")]
    assert len(seeded) == len(quiet.watch._rules.causes)
    assert all(line.endswith(" 0") for line in seeded)
    assert f'api_id="{API.id}"' in seeded[0]


def test_an_idle_poll_writes_nothing(quiet):
    quiet.source.now = START_MS + 300_000
    quiet.poll()
    commits = []
    quiet.ledger.commit = commits.append
    quiet.source.now += 5_000
    assert quiet.poll().outcome == "ok"
    assert commits == []


def test_a_commit_that_fails_shows_nothing_and_is_made_up_for(tmp_path):
    source = MemorySource(world=one_timeout(START_MS), now=START_MS + 20_000)
    life = Life(source, tmp_path)
    life.poll()
    source.now = START_MS + 60_000
    durable = life.ledger.commit
    life.ledger.commit = lambda _commit: (_ for _ in ()).throw(LedgerError("the disk is full"))
    outcome = life.poll()
    assert outcome.outcome == "ledger"
    assert "integration_timeout" not in "".join(
        line for line in life.totals.render(openmetrics=False).decode().splitlines() if not line.endswith(" 0")
    )
    life.ledger.commit = durable
    source.now += 20_000
    assert life.poll().outcome == "ok"
    assert life.failures() == Counter({TIMEOUT: 1})
    life.ledger.close()


def test_a_crash_right_after_the_commit_counts_nothing_again(quiet):
    quiet.source.now = START_MS + 100_000
    quiet.poll()
    assert quiet.failures() == Counter({TIMEOUT: 1})
    for _ in range(3):
        quiet.die()
        quiet.source.now += 20_000
        quiet.poll()
    assert quiet.failures() == Counter({TIMEOUT: 1})
    assert quiet.totals_by_status() == Counter({"504": 1})
    assert quiet.ledger.outbox_stats().rows == 1


def test_a_listing_that_breaks_off_counts_nothing_of_its_lines(quiet):
    quiet.source.page_size = 1
    quiet.source.now = START_MS + 100_000
    quiet.source.fault = lambda group, page: unavailable(group) if page == 5 else None
    assert quiet.poll().outcome == "throttled"
    assert quiet.failures() == Counter()
    quiet.source.fault = lambda _group, _page: None
    quiet.source.now += 20_000
    assert quiet.poll().outcome == "ok"
    assert quiet.failures() == Counter({TIMEOUT: 1})


def test_an_unforeseen_exception_is_a_small_crash(quiet):
    quiet.source.now = START_MS + 100_000
    quiet.source.fault = lambda _group, page: ZeroDivisionError() if page == 1 else None
    with pytest.raises(ZeroDivisionError):
        quiet.poll()
    quiet.watch.restart("ZeroDivisionError")
    quiet.source.fault = lambda _group, _page: None
    quiet.poll()
    assert quiet.failures() == Counter({TIMEOUT: 1})


def test_a_denied_execution_group_is_named_and_left_out_and_taken_up_again(quiet):
    quiet.source.fault = lambda group, _page: denied(group) if group == EXECUTION else None
    quiet.source.now = START_MS + 100_000
    outcome = quiet.poll()
    assert outcome.outcome == "left_out"
    assert EXECUTION.name in outcome.message
    assert quiet.watch.left_out == {EXECUTION: "denied"}
    labels = {"watch": "orders-prod", "group": EXECUTION.name, "reason": "denied"}
    name = "aws_apigateway_exporter_group_unreadable"
    assert quiet.self_metrics.registry.get_sample_value(name, labels) == 1
    quiet.source.now += 60_000
    quiet.poll()
    assert quiet.failures() == Counter({TIMEOUT: 1}), "counted from the access line alone"
    quiet.source.fault = lambda _group, _page: None
    quiet.source.now += 20_000
    assert quiet.poll().outcome == "ok"
    assert quiet.self_metrics.registry.get_sample_value(name, labels) is None
    live(quiet, random.Random(1), until_ms=START_MS + 900_000)
    assert quiet.failures() == Counter({TIMEOUT: 1}), "its execution lines are late evidence, not a second failure"


def test_a_denied_access_group_stops_the_watch(quiet):
    quiet.source.fault = lambda group, _page: denied(group) if group == ACCESS else None
    quiet.source.now = START_MS + 100_000
    assert quiet.poll().outcome == "denied"
    assert quiet.failures() == Counter()


@pytest.mark.parametrize("ahead_ms", [240_000, -240_000, 86_400_000, -86_400_000])
def test_a_clock_that_is_off_moves_no_watermark(tmp_path, ahead_ms):
    source = MemorySource(world=one_timeout(START_MS), now=START_MS + 60_000, skew_ms=ahead_ms)
    life = Life(source, tmp_path)
    life.poll()
    progress = life.ledger.group_state(ACCESS).progress
    assert progress is not None
    assert progress.watermark_ms <= source.now - 330_000
    source.now += 20_000
    life.poll()
    assert life.failures() == Counter({TIMEOUT: 1})
    life.ledger.close()


def test_the_first_start_looks_back_no_further_than_it_is_told(tmp_path):
    source = MemorySource(world=World(), now=START_MS)
    life = Life(source, tmp_path, initial_lookback_ms=600_000)
    life.poll()
    oldest_ms = min(window.start_ms for _, window in source.windows)
    assert START_MS - 600_000 - 60_000 - 30_000 <= oldest_ms <= START_MS - 600_000
    life.ledger.close()


def test_a_first_answer_that_takes_its_time_is_no_wrong_clock(tmp_path):
    """Many watches wait for the same calls; what the first look back promised is read all the same."""
    arrival_ms = START_MS - 590_000
    source = MemorySource(world=one_timeout(arrival_ms), now=START_MS, page_takes_ms=lambda: 90_000)
    life = Life(source, tmp_path, initial_lookback_ms=600_000)
    assert life.poll().outcome == "ok"
    source.page_takes_ms = None
    live(life, random.Random(1), until_ms=source.now + 900_000)
    assert life.failures() == Counter({TIMEOUT: 1})
    life.ledger.close()


def test_where_the_first_look_back_begins_is_not_forgotten_by_failing_polls_and_crashes(tmp_path):
    world = one_timeout(START_MS - 590_000)
    source = MemorySource(world=world, now=START_MS, page_size=1)
    life = Life(source, tmp_path, initial_lookback_ms=600_000)
    source.fault = lambda group, _page: unavailable(group) if source.pages_given else None
    for _ in range(5):
        source.pages_given = 0
        assert life.poll().outcome == "throttled"
        life.die()
        source.now += 60_000
    source.fault = lambda _group, _page: None
    live(life, random.Random(1), until_ms=source.now + 900_000)
    assert life.failures() == Counter({TIMEOUT: 1})
    life.ledger.close()


def test_access_groups_are_read_before_execution_groups(quiet):
    quiet.poll()
    assert [group for group, _ in quiet.source.windows[:2]] == [ACCESS, EXECUTION]


def test_a_group_that_joins_is_not_counted_behind_what_the_others_have_read(tmp_path):
    world = one_timeout(START_MS)
    source = MemorySource(world=world, now=START_MS + 60_000)
    access_only = Life(source, tmp_path, execution=False)
    live(access_only, random.Random(1), until_ms=START_MS + 600_000)
    before = access_only.failures()
    assert sum(before.values()) == 1
    access_only.ledger.close()
    source.windows.clear()
    both = Life(source, tmp_path)
    live(both, random.Random(1), until_ms=START_MS + 1_200_000)
    assert both.failures() == before
    watermark_ms = START_MS + 600_000 - 330_000
    assert all(window.start_ms >= watermark_ms - 60_000 - 30_000 for _, window in source.windows)
    both.ledger.close()


def test_a_day_of_backlog_is_read_in_slices_each_committed(tmp_path):
    source = MemorySource(world=one_timeout(START_MS), now=START_MS - 600_000)
    life = Life(source, tmp_path)
    life.poll()
    source.now = START_MS + 86_400_000
    progress = []
    durable = life.ledger.commit

    def commit(one):
        durable(one)
        progress.extend(item.watermark_ms for item in one.progress.values())

    life.ledger.commit = commit
    life.poll()
    assert len(set(progress)) > 10
    assert progress == sorted(progress)
    assert life.failures() == Counter({TIMEOUT: 1})
    longest = max(window.end_ms - window.start_ms for _, window in source.windows[2:])
    assert longest <= 900_000 + 30_000
    life.ledger.close()


def test_a_crash_in_mid_listing_is_no_listing(quiet):
    quiet.source.now = START_MS + 100_000
    quiet.source.fault = lambda _group, page: Crash() if page == 1 else None
    with pytest.raises(Crash):
        quiet.poll()
    quiet.source.fault = lambda _group, _page: None
    quiet.die()
    quiet.poll()
    assert quiet.failures() == Counter({TIMEOUT: 1})


def test_a_backlog_does_not_count_as_what_a_poll_costs(tmp_path):
    life = Life(MemorySource(world=World(), now=START_MS), tmp_path)
    first = life.poll()
    listings = len(life.source.windows)
    life.source.now += 20_000
    second = life.poll()
    life.ledger.close()
    assert listings >= 4, "the first start looks back in slices"
    assert first.pages <= 4, "else the fleet would stretch its polls by what only the start costs"
    assert second.pages == 2
