"""The 27 ways in which readers of CloudWatch Logs are known to lose or double events, one test each.

The numbers are those of the project's list of scenarios; the world's truth is known, and each test asserts exact
counts with all labels, spans and the self-metrics where the scenario is about them. What is about tokens, throttles
and credentials goes by real boto3 over HTTP; everything runs on a simulated clock. Elsewhere or still to come: the
discovery half of 10 (prefixes, groups found later) and the reload half of 25 come with their features; 22 needs a real
Prometheus and Alertmanager (`test_pager.py`); the full volume of 20 is in `test_outbox.py`, the real process of 12 in
`test_kill.py`, every broken file of 13 in `test_ledger.py`.
"""

import gc
import gzip
import itertools
import json
import random
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import boto3
import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from exporter import pacing
from exporter.access_log import access_parser
from exporter.audit import Audit
from exporter.config import load_config
from exporter.ledger import LedgerError
from exporter.ledger.sqlite import SqliteLedger
from exporter.metrics.self_metrics import SelfMetrics
from exporter.metrics.totals import Totals
from exporter.model import Api, LogGroup
from exporter.otlp import Delivered, Refused, Retry
from exporter.outbox import Outbox
from exporter.pipeline import Watch
from exporter.planning import Planner
from exporter.record import Recorder
from exporter.rules import shipped_rules
from exporter.sources.budget import CallBudget
from exporter.sources.cloudwatch import CloudWatchSource
from exporter.sources.lanes import Lanes
from exporter.sources.sessions import client_config
from exporter.taking import Labelling
from exporter.watch_spec import WatchGroup, WatchSpec
from tests.fakes import FakeCloudWatch, Fault, Faults
from tests.otlp_receiver import ReceivedSpan, decode_spans
from tests.worlds import (
    ACCESS,
    EXECUTION,
    PLACEHOLDER,
    START_MS,
    Crash,
    Life,
    MemorySource,
    Request,
    World,
    broken,
    denied,
    live,
    make_world,
    unavailable,
)

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
OWN = "aws_apigateway_exporter_"


@pytest.fixture(autouse=True)
def quiet():
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.reset_defaults()


# ---------------------------------------------------------------------------------------------------- worlds and lives


def happen(
    world: World,
    outcome: str,
    ago_ms: int = 0,
    *,
    access_ms: int | None = 2_000,
    execution_ms: int | None = 2_000,
    **fields,
) -> Request:
    """A request that arrives at START + `ago_ms`; its lines become visible so long after its end, or never (None)."""
    number = len(world.requests)
    settings = {
        "number": number,
        "arrival_ms": START_MS + ago_ms,
        "duration_ms": 29_000 if outcome == "timeout" else 120,
        "outcome": outcome,
        "request_id": f"{number:08x}-1f6a-4c80-8d1a-000000000000",
        "extended_id": f"extended{number}=",
        "has_access": access_ms is not None,
    }
    request = Request(**settings | fields)
    if request.logged_request_id is None:
        request.logged_request_id = request.request_id
    world.requests.append(request)
    end_ms = request.arrival_ms + request.duration_ms
    if access_ms is not None:
        lines = [(request.arrival_ms, request.access_line())]
        world.put(ACCESS, lines, visible_ms=end_ms + access_ms, number=number)
    if execution_ms is not None:
        world.put(EXECUTION, request.execution_lines("INFO"), visible_ms=end_ms + execution_ms, number=number)
    return request


@pytest.fixture
def lives(tmp_path):
    """Makes lives, each on a state of its own, and ends them."""
    born: list[Life] = []

    def make(world: World | None = None, *, source=None, now_ms=START_MS, page_size=10_000, **options) -> Life:
        directory = tmp_path / str(len(born))
        directory.mkdir()
        source = source or MemorySource(world=world or World(), now=now_ms, page_size=page_size)
        born.append(Life(source, directory, **options))
        return born[-1]

    yield make
    for life in born:
        life.ledger.close()


def pass_time(life: Life, until_ms: int, **adversity) -> None:
    live(life, random.Random(0), until_ms=START_MS + until_ms, **adversity)


def counted(life: Life, metric: str) -> Counter[tuple[str, ...]]:
    return Counter(
        {row.key.labels[3:]: row.value for row in life.ledger.series() if row.key.metric == metric and row.value}
    )


def assert_exact(world: World, life: Life) -> None:
    """Failures by method, resource, status and cause, and by cause; all requests by method, resource and status."""
    assert counted(life, "aws_apigateway_failed_requests_total") == world.failures()
    by_cause = Counter(request.cause for request in world.requests if request.cause is not None)
    stage = counted(life, "aws_apigateway_stage_failures_total")
    assert Counter({cause: count for (cause, _category), count in stage.items()}) == by_cause
    requests = Counter((r.method, r.resource, str(r.status)) for r in world.requests if r.has_access)
    assert counted(life, "aws_apigateway_requests_total") == requests


def spans(life: Life) -> list[ReceivedSpan]:
    """The SERVER spans that wait in the outbox."""
    rows = life.ledger.outbox_head(1 << 30)
    return [s for row in rows for s in decode_spans(gzip.decompress(row.body)) if s.kind == "SERVER"]


def assert_every_failure_is_one_span(world: World, found: Sequence[ReceivedSpan]) -> None:
    assert len({span.span_id for span in found}) == len(found)
    told = Counter((span.attributes["apigateway.request_id"], span.attributes["apigateway.cause"]) for span in found)
    assert told == Counter((r.request_id, r.cause) for r in world.requests if r.cause is not None)


def own(life: Life, name: str, **labels: str) -> float:
    """A self-metric's value, summed over the labels not named."""
    return sum(
        sample.value
        for metric in life.self_metrics.registry.collect()
        for sample in metric.samples
        if sample.name == OWN + name and labels.items() <= sample.labels.items()
    )


# ------------------------------------------------------------------------------------------------------------ over HTTP


class OverHttp:
    """The real source by real boto3, reading a fake that shows a world; one simulated clock for all."""

    def __init__(
        self,
        fake: FakeCloudWatch,
        world: World,
        *,
        rate: float = 1_000.0,
        wall_ms: int = 0,
        lanes: Lanes | None = None,
    ) -> None:
        self.now = START_MS
        self.wall_ms = wall_ms
        """How far the clock on our wall is ahead."""
        self.fake = fake
        fake.clock = fake.world.clock = fake.sts._clock = lambda: self.now / 1000
        for name in (ACCESS.name, EXECUTION.name):
            fake.create_group(name)
        self.show(world.lines)
        self.pages_given = 0
        self.real = CloudWatchSource(
            lambda: boto3.client(
                "logs",
                region_name="eu-west-1",
                endpoint_url=fake.url,
                aws_access_key_id="AKIAEXAMPLE",
                aws_secret_access_key="secret",
                config=client_config(max_connections=2),
            ),
            budget=CallBudget(rate, clock=lambda: self.now / 1000, wait=self._wait),
            on_call=lambda *_: None,
            wait=self._wait,
            clock=lambda: (self.now + self.wall_ms) / 1000,
            ticks=lambda: self.now / 1000,
            jitter=random.Random(1),
            lanes=lanes,
        )
        self.pages, self.now_ms = self.real.pages, self.real.now_ms

    def show(self, lines) -> None:
        batches: dict[tuple, list] = {}
        for group, event, visible_ms, number in lines:
            batches.setdefault((group.name, visible_ms, number), []).append((event.at_ms, event.message))
        for (group, visible_ms, number), events in batches.items():
            self.fake.put(group, events, ingested_at_ms=visible_ms, stream=f"stream-{number % 3}")

    def _wait(self, seconds: float) -> bool:
        self.now += int(seconds * 1000)
        return False


@pytest.fixture
def over_http(monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with FakeCloudWatch() as fake:
        made = []

        def make(world: World, **options) -> OverHttp:
            made.append(OverHttp(fake, world, **options))
            return made[-1]

        yield make
        for source in made:
            source.real.close()


def small_world(seed: int = 0, count: int = 60) -> World:
    return make_world(random.Random(seed), count=count, lateness_ms=60_000)


def poll_for(life: Life, duration_ms: int, step_ms: int = 20_000) -> list[str]:
    """Poll over HTTP, where waiting for turns and retries moves the clock, too; how the polls ended."""
    until_ms = life.source.now + duration_ms
    outcomes = []
    while life.source.now < until_ms:
        life.source.now += step_ms
        outcomes.append(life.poll().outcome)
    return outcomes


# ----------------------------------------------------------------------------------------------------- many watches


class Several:
    """Watches of access logs on one ledger, as in one daemon."""

    def __init__(
        self, source: MemorySource, ledger: SqliteLedger, specs: Sequence[WatchSpec], max_series=20_000
    ) -> None:
        self.ledger = ledger
        self.totals = Totals(zero_hold_ms=0, max_series=max_series, now_ms=lambda: source.now)
        self.self_metrics = SelfMetrics(version="test", now_ms=lambda: source.now)
        recorder = Recorder(
            wants=lambda _status, _cause: True,
            admit=self.totals.admit,
            labelling=Labelling(),
            span_options=None,
        )
        self.watches = [
            Watch(
                spec,
                source=source,
                ledger=ledger,
                totals=self.totals,
                self_metrics=self.self_metrics,
                rules=shipped_rules(),
                recorder=recorder,
                ticks=lambda: source.now / 1000,
                stopping=lambda: False,
            )
            for spec in specs
        ]

    def by_stage(self, metric: str) -> Counter[tuple[str, ...]]:
        """Counts by (api id, stage, all but the API's labels)."""
        return Counter(
            {
                (row.key.labels[0], row.key.labels[2], *row.key.labels[3:]): row.value
                for row in self.ledger.series()
                if row.key.metric == metric and row.value
            }
        )


def access_watch(number: int) -> WatchSpec:
    api = Api(id=f"api{number}", name=f"api{number}", stage="prod", region="eu-west-1")
    group = LogGroup("default", "eu-west-1", f"access/{number}")
    return WatchSpec(
        name=f"watch-{number}",
        groups=(WatchGroup(group=group, kind="access", apis=(api,), parser=access_parser("auto")),),
        max_request_ms=30_000,
        allowed_lateness_ms=330_000,
        poll_interval_ms=20_000,
        initial_lookback_ms=900_000,
    )


@pytest.fixture
def ledger(tmp_path):
    ledger = SqliteLedger(tmp_path / "several.db")
    yield ledger
    ledger.close()


# ------------------------------------------------------------------------------------------------------- late and split


def test_01_five_percent_late(lives):
    world = make_world(random.Random(1), count=400, late=0.05, lateness_ms=180_000)
    life = lives(world, spans=True)
    pass_time(life, 1_500_000)
    assert_exact(world, life)
    assert_every_failure_is_one_span(world, spans(life))
    assert own(life, "late_events_total") == 0
    assert own(life, "requests_settled_total") == sum(world.failures().values())


def test_02_one_second_inside_and_one_second_beyond_the_window(lives):
    # In a minute that the audit looks at again, an hour later.
    minute_ms = next(
        at for at in range(0, HOUR_MS, MINUTE_MS) if Audit().minute(ACCESS, START_MS + at, START_MS + at + MINUTE_MS)
    )
    passed_ms = minute_ms + MINUTE_MS + 340_000  # the first poll whose watermark passes the minute
    world = World()
    for visible_ms in (passed_ms - 1_000, passed_ms + 1_000):
        happen(world, "missing_token", minute_ms + 20_000, access_ms=visible_ms - minute_ms - 20_120)
    life = lives(world, execution=False, now_ms=START_MS + minute_ms)
    pass_time(life, passed_ms - 20_000)
    life.source.now = START_MS + passed_ms
    life.poll()
    pass_time(life, passed_ms + 2 * HOUR_MS)
    assert counted(life, "aws_apigateway_failed_requests_total") == {
        ("GET", "/orders/{id}", "403", "missing_authentication_token"): 1
    }
    assert counted(life, "aws_apigateway_requests_total") == {("GET", "/orders/{id}", "403"): 1}
    assert own(life, "late_events_total", group=ACCESS.name) == 1


def test_03_fifty_failures_on_one_ms_split_over_a_page_end_and_a_poll(lives):
    world = World()
    for number in range(60):
        late_ms = 2_000 if number < 50 else 25_000
        happen(world, "lambda_error", 5_000, access_ms=late_ms, execution_ms=late_ms)
    life = lives(world, page_size=30, spans=True)
    pass_time(life, 900_000)
    assert_exact(world, life)
    assert_every_failure_is_one_span(world, spans(life))


def test_04_empty_pages_anywhere(lives, over_http):
    world = small_world()
    source = over_http(world)
    source.fake.reader.scan_events = 40
    life = lives(source=source)
    for name in ("empty_first", "empty_middle", "empty_last"):
        source.fake.faults.set(name, 20 if name != "empty_middle" else 2)
        assert poll_for(life, 20_000) == ["ok"]
    source.fake.faults = Faults(empty_pages=0.4)
    assert set(poll_for(life, 1_000_000, step_ms=50_000)) == {"ok"}
    assert_exact(world, life)


def test_05_a_token_that_repeats(lives, over_http):
    world = small_world()
    source = over_http(world)
    source.fake.reader.scan_events = 40
    life = lives(source=source)
    source.fake.faults.same_tokens = 1.0
    before = len(source.fake.calls)
    assert poll_for(life, 40_000) == ["token", "token"]
    assert len(source.fake.calls) - before < 30, "a listing that does not end is given up soon"
    source.fake.faults.same_tokens = 0.02
    poll_for(life, 900_000, step_ms=50_000)
    source.fake.faults.same_tokens = 0.0
    assert poll_for(life, 200_000)[-1] == "ok"
    assert_exact(world, life)


def test_06_a_token_refused_in_mid_listing(lives, over_http):
    world = small_world()
    source = over_http(world)
    source.fake.reader.scan_events = 40
    life = lives(source=source)
    source.fake.faults.refused_tokens = 0.2
    poll_for(life, 1_000_000, step_ms=50_000)
    assert source.fake.codes[Fault.REFUSED_TOKEN] > 5
    source.fake.faults.refused_tokens = 0.0
    assert poll_for(life, 200_000)[-1] == "ok"
    assert_exact(world, life)


def test_parts_listed_side_by_side_by_real_threads_count_the_truth(lives, over_http, monkeypatch):
    """With pages so small that every window is cut, faults on, and the process dying now and then."""
    monkeypatch.setattr(pacing, "_PART_PAGES", 2)
    world = small_world(count=80)
    lanes = Lanes(4)
    source = over_http(world, lanes=lanes)
    source.fake.reader.scan_events = 8
    source.fake.faults = Faults(throttled=0.1, resets=0.02, empty_pages=0.2, refused_tokens=0.003)
    side_by_side = []
    merged = lanes.merged
    monkeypatch.setattr(lanes, "merged", lambda chains, wanted: side_by_side.append(wanted) or merged(chains, wanted))
    life = lives(source=source)
    for _ in range(8):
        poll_for(life, 120_000)
        life.die()
    source.fake.faults = Faults()
    assert poll_for(life, 200_000)[-1] == "ok"
    assert len(side_by_side) > 10
    assert max(side_by_side) > 3
    assert_exact(world, life)


class TwoStreams(MemorySource):
    """A listing stream by stream: the second begins long before the first ends."""

    def pages(self, group, window, pattern=None, parts=1):
        for page in super().pages(group, window, pattern, parts):
            ends = [[event for event in page.events if int(event.event_id) >> 16 & 1 == odd] for odd in (0, 1)]
            yield from (
                type(page)(events=events, response_bytes=page.response_bytes, server_at_ms=page.server_at_ms)
                for events in ends
            )


def torn(lives, world: World) -> Life:
    """A watch without access log, whose listing has passed the first lines of a timeout when they become visible."""
    happen(world, "timeout", access_ms=None)
    # Its lines fill the first page, and their time lies between the first and the last lines of the other.
    happen(world, "ok", 5_000, access_ms=None)
    source = MemorySource(world=world, now=START_MS - 100_000, page_size=8)
    life = lives(source=source, access=False)
    life.poll()
    # The timeout's lines become visible at once, 31 s after its arrival, between one page and the next.
    source.now, source.page_takes_ms = START_MS + 30_900, lambda: 90
    life.poll()
    source.page_takes_ms = None
    return life


def test_a_listing_that_passes_the_first_lines_of_a_request_does_not_lose_its_labels(lives):
    world = World()
    life = torn(lives, world)
    pass_time(life, 900_000)
    assert counted(life, "aws_apigateway_failed_requests_total") == world.failures()


def test_a_listing_that_passes_the_first_lines_of_a_request_does_not_lose_the_next_one_under_its_id(lives):
    world = World()
    life = torn(lives, world)
    happen(world, "timeout", 60_000, access_ms=None, request_id=world.requests[0].request_id)
    pass_time(life, 900_000)
    assert sum(counted(life, "aws_apigateway_failed_requests_total").values()) == 2


def test_a_request_known_by_its_extended_id_alone_is_not_counted_again_after_a_restart(lives):
    """A restart reads again from behind the line that names the extended id, and no access line tells what ids there are."""
    world = World()
    request = happen(world, "timeout", 28_000, access_ms=None, execution_ms=200_000)
    request.has_access, request.logged_request_id = True, None
    world.put(ACCESS, [(request.arrival_ms, request.access_line())], visible_ms=request.arrival_ms + 31_000)
    life = lives(world, now_ms=START_MS - 100_000)
    life.poll()
    pass_time(life, 400_000)  # the watermark stands in the midst of the request
    life.die()
    pass_time(life, 1_300_000)
    assert_exact(world, life)


def test_a_failure_whose_request_id_is_not_known_is_not_counted_again_after_a_restart_in_quiet_times(lives):
    """Until an access line comes, only what was settled tells that access lines carry no request id."""
    world = World()
    request = happen(world, "timeout", 28_000, access_ms=None, execution_ms=None)
    request.has_access, request.logged_request_id = True, None
    world.put(ACCESS, [(request.arrival_ms, request.access_line())], visible_ms=request.arrival_ms + 31_000)
    world.put(EXECUTION, request.execution_lines("ERROR"), visible_ms=request.arrival_ms + 200_000)
    life = lives(world, now_ms=START_MS - 100_000)
    life.poll()
    pass_time(life, 400_000)  # the watermark stands in the midst of the request
    life.die()
    pass_time(life, 1_300_000)
    assert sum(counted(life, "aws_apigateway_failed_requests_total").values()) == 1


def test_a_success_in_the_midst_of_a_failure_of_its_id_takes_none_of_its_lines_away(lives):
    """Its end does not end the other one, whose first lines alone tell the route and the extended id."""
    world = World()
    failed = happen(world, "timeout", access_ms=None)
    happen(world, "timeout", -60_000, access_ms=None, request_id=failed.request_id)
    happen(world, "ok", 5_000, access_ms=None, request_id=failed.request_id)
    life = lives(world, now_ms=START_MS - 100_000, access=False)
    life.poll()
    pass_time(life, 900_000)
    assert counted(life, "aws_apigateway_failed_requests_total") == world.failures()


def test_two_requests_of_one_id_at_one_time_are_two_failures(lives):
    """At ERROR level nothing tells whose lines are whose, so each is near enough to the other's access line, too."""
    world = World()
    for at_ms in (40_000, 46_000):
        request = happen(world, "timeout", at_ms, execution_ms=None, request_id="594dd09c-1f6a-4c80-8d1a-000000000000")
        world.put(EXECUTION, request.execution_lines("ERROR"), visible_ms=START_MS + at_ms + 31_000)
    life = lives(world, now_ms=START_MS - 100_000)
    life.poll()
    pass_time(life, 1_100_000)
    assert sum(counted(life, "aws_apigateway_failed_requests_total").values()) == 2


def test_07_two_streams_not_interleaved(lives):
    world = small_world()
    life = lives(source=TwoStreams(world=world, now=START_MS), spans=True)
    pass_time(life, 1_400_000)
    assert_exact(world, life)
    assert_every_failure_is_one_span(world, spans(life))


# --------------------------------------------------------------------------------------------- what AWS and people do


def test_08_throttled_for_ten_polls_then_clear(lives, over_http):
    world = small_world()
    source = over_http(world, rate=5.0)
    life = lives(source=source)
    neighbour = lives(source=source, execution=False)
    poll_for(life, 60_000)

    def lag() -> float:
        return own(life, "watermark_lag_seconds", group=EXECUTION.name)

    fresh = lag()
    source.fake.group_faults[EXECUTION.name] = Faults(throttled=1.0)
    began, before = source.now, len(source.fake.calls)
    shown = life.totals.render(openmetrics=False)
    for _ in range(10):
        source.now += 20_000
        assert life.poll().outcome == "throttled"
        assert neighbour.poll().outcome == "ok"
        assert life.totals.render(openmetrics=False) == shown, "what is not committed is not shown"
    made = source.fake.calls[before:]
    assert len(made) <= 5 * ((source.now - began) / 1000 + 2) + 1
    pauses = {round(after.at - call.at, 3) for call, after in itertools.pairwise(made) if call.code != "OK"}
    assert len(pauses) > 10, "pauses are drawn, not fixed"
    assert own(life, "watch_up") == 0
    assert lag() >= fresh + 200
    assert own(neighbour, "watermark_lag_seconds") < fresh + 100
    source.fake.group_faults.clear()
    assert poll_for(life, 1_000_000)[-1] == "ok"
    assert own(life, "watch_up") == 1
    assert lag() < 330 + 90
    assert_exact(world, life)
    poll_for(neighbour, 20_000)
    assert counted(neighbour, "aws_apigateway_requests_total") == counted(life, "aws_apigateway_requests_total")


@pytest.mark.parametrize("failing", [unavailable, denied, broken])
def test_09_one_group_of_twenty_fails_for_ever(ledger, failing):
    specs = [access_watch(number) for number in range(20)]
    world = World()
    source = MemorySource(world=world, now=START_MS)
    for number, spec in enumerate(specs):
        for _ in range(number + 1):
            request = happen(world, "missing_token", 1_000, access_ms=None, execution_ms=None)
            line = (request.arrival_ms, request.access_line())
            world.put(spec.groups[0].group, [line], visible_ms=request.arrival_ms + 2_000)
    source.fault = lambda group, _page: failing(group) if group.name == "access/7" else None
    several = Several(source, ledger, specs)
    for _ in range(30):
        source.now += 20_000
        outcomes = {watch.spec.name: watch.poll() for watch in several.watches}
    assert several.by_stage("aws_apigateway_failed_requests_total") == {
        (f"api{n}", "prod", "GET", "/orders/{id}", "403", "missing_authentication_token"): n + 1
        for n in range(20)
        if n != 7
    }
    assert [name for name, outcome in outcomes.items() if outcome.outcome != "ok"] == ["watch-7"]
    assert "access/7" in outcomes["watch-7"].message
    up = {
        sample.labels["watch"]: sample.value
        for metric in several.self_metrics.registry.collect()
        for sample in metric.samples
        if sample.name == OWN + "watch_up"
    }
    assert up == {spec.name: float(spec.name != "watch-7") for spec in specs}


def test_10_a_group_deleted_and_made_again_and_one_made_late(lives, over_http):
    world = small_world(count=40)
    source = over_http(World())
    source.fake.delete_group(EXECUTION.name)
    source.fake.delete_group(ACCESS.name)
    life = lives(source=source)
    assert set(poll_for(life, 600_000, step_ms=60_000)) == {"missing"}
    # Ten minutes after the start both are there, with what happened meanwhile.
    source.show(world.lines)
    assert set(poll_for(life, 600_000, step_ms=60_000)) == {"ok"}
    assert_exact(world, life)
    source.fake.delete_group(ACCESS.name)
    assert set(poll_for(life, 300_000, step_ms=60_000)) == {"missing"}
    assert_exact(world, life)
    source.fake.create_group(ACCESS.name)
    after = happen(World(), "missing_token", source.now - START_MS)
    world.requests.append(after)
    source.fake.put(ACCESS.name, [(after.arrival_ms, after.access_line())], ingested_at_ms=source.now + 5_000)
    assert set(poll_for(life, 600_000, step_ms=60_000)) == {"ok"}
    assert_exact(world, life)


def test_11_credentials_expire_in_mid_page_and_access_is_denied(lives, over_http):
    world = small_world()
    source = over_http(world)
    source.fake.reader.scan_events = 40
    life = lives(source=source)
    source.fake.faults.expired = True
    outcome = life.poll()
    assert (outcome.outcome, "ExpiredToken" in outcome.message) == ("credentials", True)
    source.fake.faults.expired = False
    poll_for(life, 300_000)
    source.fake.faults.script.extend([Fault.NONE, Fault.NONE, Fault.EXPIRED])
    assert poll_for(life, 20_000) == ["credentials"]
    source.fake.faults.denied = True
    source.now += 20_000
    outcome = life.poll()
    assert (outcome.outcome, ACCESS.name in outcome.message) == ("denied", True)
    source.fake.faults.denied = False
    assert poll_for(life, 1_200_000, step_ms=50_000)[-1] == "ok"
    assert own(life, "polls_total", outcome="credentials") == 2
    assert own(life, "polls_total", outcome="denied") == 1
    assert_exact(world, life)


# ------------------------------------------------------------------------------------------------------------- crashes


class Mortal(SqliteLedger):
    """A ledger in whose commits the process may die: before or after the transaction."""

    chance = 0.0
    rng = random.Random(12)

    def commit(self, commit):
        dies, before = self.rng.random() < self.chance, self.rng.random() < 0.5
        if dies and before:
            raise Crash
        super().commit(commit)
        if dies:
            raise Crash


def test_12_kill_9_at_fifty_random_points(lives):
    rng = random.Random(12)
    world = make_world(rng, count=300, span_ms=1_500_000, two_batches=0.2)
    life = lives(world, spans=True, open_ledger=Mortal)
    while life.source.now < START_MS + 1_900_000:
        Mortal.chance = 0.2
        try:
            live(life, rng, until_ms=life.source.now + 20_000, crash=0.4)
        except Crash:
            life.die()
    Mortal.chance = 0.0
    deaths = life.restarts
    pass_time(life, 2_600_000)
    assert deaths >= 50
    assert_exact(world, life)
    assert_every_failure_is_one_span(world, spans(life))


def test_13_a_full_disk_stops_counting_and_heals_and_a_broken_state_is_refused(lives):
    world = small_world()
    life = lives(world)
    pass_time(life, 100_000)
    (pages,) = life.ledger._db.execute("PRAGMA page_count").fetchone()
    life.ledger._db.execute(f"PRAGMA max_page_count = {pages}")
    shown = counted(life, "aws_apigateway_requests_total")
    outcomes = []
    while life.source.now < START_MS + 500_000:
        life.source.now += 20_000
        outcomes.append(life.poll())
    assert {outcome.outcome for outcome in outcomes[-5:]} == {"ledger"}
    assert "Free space" in outcomes[-1].message
    assert counted(life, "aws_apigateway_requests_total") >= shown
    assert own(life, "watch_restarts_total", reason="ledger") >= 5
    life.ledger._db.execute("PRAGMA max_page_count = 1000000")
    pass_time(life, 1_500_000)
    assert_exact(world, life)

    life.ledger.close()
    whole = life.path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"garbage" * 1_000):
        life.path.write_bytes(damaged)
        with pytest.raises(LedgerError, match=r"begin anew|not a state file|malformed|not a database"):
            life.born()
        assert life.path.read_bytes() == damaged, "it is left for a person to look at"
    life.path.write_bytes(whole)
    life.born()
    pass_time(life, 1_600_000)
    assert_exact(world, life)


def test_14_first_start_on_a_group_that_holds_weeks(lives):
    world = World()
    for days in range(1, 14):
        for _ in range(20):
            happen(world, "timeout", -days * 24 * HOUR_MS)
    old = len(world.requests)
    for minutes in range(1, 14):
        happen(world, "lambda_error", -minutes * MINUTE_MS)
    life = lives(world)
    pass_time(life, 900_000)
    recent = replace(world, requests=world.requests[old:])
    assert_exact(recent, life)
    first_ms = min(window.start_ms for _, window in life.source.windows)
    assert first_ms >= START_MS - 17 * MINUTE_MS
    assert own(life, "log_events_total") < 13 * 10 * 60, "no flood"


def test_15_six_hours_of_downtime(lives):
    world = make_world(random.Random(15), count=2_000, span_ms=6 * HOUR_MS, lateness_ms=300_000)
    life = lives(world, spans=True)
    life.poll()
    life.die()
    life.source.now += 6 * HOUR_MS
    life.source.windows.clear()
    outcomes = poll_for(life, 900_000)
    assert set(outcomes) == {"ok"}
    lengths = [window.end_ms - window.start_ms for _, window in life.source.windows]
    assert max(lengths) <= 15 * MINUTE_MS + 30_000 + 10_000, "memory holds a slice, not six hours"
    swept = [
        window.end_ms
        for group, window in life.source.windows
        if group == ACCESS and window.end_ms - window.start_ms > MINUTE_MS and window.end_ms < START_MS + 5 * HOUR_MS
    ]
    assert swept == sorted(swept), "in order"
    assert_exact(world, life)
    assert_every_failure_is_one_span(world, spans(life))


# ---------------------------------------------------------------------------------------------------- joining two logs


def test_16_access_and_execution_lines_apart_or_alone(lives):
    world = World()
    happen(world, "lambda_error", 1_000, access_ms=2_000, execution_ms=92_000)
    happen(world, "lambda_error", 2_000, access_ms=92_000, execution_ms=2_000)
    alone = happen(world, "lambda_error", 3_000, execution_ms=None)
    happen(world, "missing_token", 4_000, execution_ms=None)
    # Its execution lines come after all waiting has ended.
    late = happen(world, "lambda_error", 5_000, execution_ms=600_000)
    life = lives(world, spans=True)
    pass_time(life, 80_000)
    assert counted(life, "aws_apigateway_failed_requests_total") == {
        ("GET", "/orders/{id}", "403", "missing_authentication_token"): 1
    }
    pass_time(life, 1_600_000)
    # Without its reason a request is counted by what its access line says.
    route = ("GET", "/orders/{id}", "502")
    assert counted(life, "aws_apigateway_failed_requests_total") == {
        (*route, "lambda_error"): 2,
        (*route, "internal_error"): 2,
        ("GET", "/orders/{id}", "403", "missing_authentication_token"): 1,
    }
    by_id = {span.attributes["apigateway.request_id"]: span for span in spans(life)}
    assert set(by_id) == {request.request_id for request in world.requests}
    assert by_id[alone.request_id].events == []
    assert by_id[late.request_id].attributes["apigateway.cause"] == "internal_error"

    http_api = World()
    happen(http_api, "missing_token", 1_000, execution_ms=None)
    life = lives(http_api, execution=False, spans=True)
    pass_time(life, 40_000)
    assert_exact(http_api, life)
    assert len(spans(life)) == 1


def test_16_lines_that_come_after_the_count_are_late_evidence(lives):
    world = World()
    # The cause is told by the access line alone, so nobody waits for the reason line; then it comes.
    happen(world, "timeout", 1_000, access_ms=1_000, execution_ms=200_000)
    life = lives(world)
    pass_time(life, 900_000)
    assert_exact(world, life)
    assert own(life, "late_evidence_total") == 1


def test_17_one_request_id_a_thousand_times_and_five_hundred_placeholders(lives):
    world = World()
    for number in range(1_000):
        outcome = ("timeout", "permission", "lambda_error")[number % 3]
        happen(world, outcome, number * 300, request_id="11111111-1f6a-4c80-8d1a-000000000000")
    for number in range(500):
        happen(
            world,
            "permission",
            number * 600,
            request_id=f"{number:08x}-2f6a-4c80-8d1a-000000000000",
            extended_id=f"placeholder{number}=",
            logged_request_id=PLACEHOLDER,
            method="POST",
        )
    life = lives(world, spans=True)
    pass_time(life, 1_600_000, step_ms=100_000)
    assert sum(world.failures().values()) == 1_500
    assert_exact(world, life)
    found = spans(life)
    assert len({span.span_id for span in found}) == len(found) == 1_500
    assert max(Counter(span.trace_id for span in found).values()) <= 100, "a caller's id makes no endless trace"


@pytest.mark.parametrize("whose", ["each its own", "one for all", "the placeholder's"])
def test_17_the_work_for_a_request_does_not_grow_with_how_many_there_are(lives, whose):
    def calls_of(count: int) -> int:
        world = World()
        for number in range(count):
            ids = {
                "each its own": {},
                "one for all": {"request_id": "11111111-1f6a-4c80-8d1a-000000000000"},
                "the placeholder's": {"logged_request_id": PLACEHOLDER},
            }[whose]
            happen(world, ("timeout", "permission", "lambda_error")[number % 3], number * 100, **ids)
        life = lives(world, spans=True)
        calls = 0

        def count_call(_frame, event, _argument) -> None:
            nonlocal calls
            calls += event in {"call", "c_call"}

        sys.setprofile(count_call)
        try:
            pass_time(life, 600_000, step_ms=100_000)
        finally:
            sys.setprofile(None)
        assert_exact(world, life)
        return calls

    nothing, few, many = calls_of(0), calls_of(50), calls_of(400)
    assert many - nothing < (few - nothing) * 8 * 1.25


@pytest.mark.parametrize("access", [True, False])
def test_17_timeouts_in_the_midst_of_many_successes_under_their_id(lives, access):
    """One client gives the same id to all it sends: every tenth request waits for half a minute while others end."""
    world = World()
    for number in range(400):
        outcome = "ok" if number % 10 else "timeout"
        request_id = "11111111-1f6a-4c80-8d1a-000000000000"
        happen(world, outcome, number * 150, request_id=request_id, access_ms=2_000 if access else None)
    life = lives(world, access=access)
    pass_time(life, 700_000, step_ms=20_000)
    assert world.failures().total() == 40
    assert counted(life, "aws_apigateway_failed_requests_total") == world.failures()
    totals = Counter[str]()
    for (_method, _resource, status), count in counted(life, "aws_apigateway_requests_total").items():
        totals[status] += count
    assert totals == {"200": 360, "504": 40}


@pytest.mark.parametrize("seed", [1, 2])
def test_17_successes_in_two_batches_take_no_failure_of_their_id_for_their_end(lives, seed):
    """What is read again of a failure, but for its beginning, is put to a success whose end is not here yet."""
    rng, world, request_id = random.Random(seed), World(), "11111111-1f6a-4c80-8d1a-000000000000"
    for number in range(800):
        outcome = "ok" if number % 10 else rng.choice(["timeout", "lambda_error", "permission"])
        torn = outcome == "ok" and rng.random() < 0.3
        duration_ms = 29_000 if outcome == "timeout" else rng.randrange(2_000, 20_000)
        happened = happen(
            world,
            outcome,
            number * 75,
            request_id=request_id,
            duration_ms=duration_ms,
            access_ms=None,
            execution_ms=None if torn else rng.randrange(1_000, 20_000),
        )
        if torn:
            lines = happened.execution_lines("INFO")
            cut = rng.randrange(1, len(lines))
            for part in (lines[:cut], lines[cut:]):
                world.put(EXECUTION, part, visible_ms=part[-1][0] + rng.randrange(500, 20_000), number=number)
    life = lives(world, access=False)
    pass_time(life, 700_000, step_ms=20_000)
    assert world.failures().total() == 80
    assert counted(life, "aws_apigateway_failed_requests_total") == world.failures()


def test_18_lines_of_any_shape(lives):
    world = World()
    number = 18
    vended = f"{number:08x}-3f6a-4c80-8d1a-000000000000"
    body = "é" * 500_000
    happen(world, "lambda_error", 1_000)
    cut = happen(world, "lambda_error", 2_000, execution_ms=None)
    reason = f"({cut.request_id}) Lambda execution failed with status 200 due to customer function error: "
    lines = cut.execution_lines("INFO")
    lines = [
        (at, text if "customer function" not in text else (reason + "é" * 2_000)[:1_010] + " [TRUNCATED]")
        for at, text in lines
    ]
    world.put(EXECUTION, lines, visible_ms=cut.arrival_ms + 2_000)
    huge = happen(world, "lambda_error", 3_000, request_id=vended, execution_ms=None)
    lines = [(at, json.dumps({"payload": text})) for at, text in huge.execution_lines("INFO")]
    detail = f"({vended}) Endpoint response body before transformations: {body}"
    lines.insert(-3, (lines[-3][0], json.dumps({"payload": detail})))
    world.put(EXECUTION, lines, visible_ms=huge.arrival_ms + 2_000)
    at_ms = START_MS + 4_000
    unreadable = ["", "\x00\xff not a log line", '{"requestId": [[[[', "null"]
    world.put(ACCESS, [(at_ms, line) for line in unreadable], visible_ms=at_ms + 1_000)
    world.put(EXECUTION, [(at_ms, ""), (at_ms, "no id at all")], visible_ms=at_ms + 1_000)
    # What has no status, or was cut before it, is a request all the same.
    odd = '{"requestId": "odd", "httpMethod": "GET", "resourcePath": "/odd", "status": "-"}'
    world.put(ACCESS, [(at_ms, odd), (at_ms, '{"requestId": "a", "status": 5')], visible_ms=at_ms + 1_000)
    life = lives(world, spans=True)
    pass_time(life, 900_000)

    assert counted(life, "aws_apigateway_failed_requests_total") == world.failures()
    requests = Counter((r.method, r.resource, str(r.status)) for r in world.requests)
    requests["GET", "/odd", "unknown"] += 1
    requests["unknown", "unknown", "unknown"] += 1
    assert counted(life, "aws_apigateway_requests_total") == requests
    assert own(life, "unreadable_lines_total", group=ACCESS.name) == len(unreadable)
    assert own(life, "unreadable_lines_total", group=EXECUTION.name, reason="no_request_id") == 2
    [span] = [span for span in spans(life) if span.attributes["apigateway.request_id"] == vended]
    assert max(len(str(value)) for event in span.events for value in event.attributes.values()) < 20_000


def test_18_common_log_format(tmp_path):
    text = '192.0.2.1 - - [09/Oct/2025:08:54:00 +0000] "GET /orders/{{id}} HTTP/1.1" {status} 12 {id}'
    clf = access_watch(0)
    group = replace(clf.groups[0], parser=access_parser("clf"))
    world = World()
    statuses = [200, 504, 504, 403]
    for number, status in enumerate(statuses):
        line = text.format(status=status, id=f"{number:08x}-1f6a-4c80-8d1a-000000000000")
        world.put(group.group, [(START_MS + number, line)], visible_ms=START_MS + 1_000)
    source = MemorySource(world=world, now=START_MS + 20_000)
    ledger = SqliteLedger(tmp_path / "clf.db")
    several = Several(source, ledger, [replace(clf, groups=(group,))])
    several.watches[0].poll()
    found = several.by_stage("aws_apigateway_requests_total")
    ledger.close()
    assert found == Counter(("api0", "prod", "GET", "/orders/{id}", str(status)) for status in statuses)


# --------------------------------------------------------------------------------------------------------------- time


@pytest.mark.parametrize("skew_ms", [-300_000, 0, 300_000])
def test_19_an_event_two_hours_ahead_and_clocks_that_are_off(lives, skew_ms):
    world = small_world()
    ahead = happen(world, "missing_token", 2 * HOUR_MS, access_ms=-2 * HOUR_MS, execution_ms=None)
    life = lives(world)
    life.source.skew_ms = skew_ms
    pass_time(life, 1_200_000)
    world.requests.remove(ahead)
    assert_exact(world, life)
    progress = life.ledger.group_state(ACCESS).progress
    assert life.source.now - 330_000 - MINUTE_MS <= progress.watermark_ms <= life.source.now - 330_000
    # It counts once its time has come.
    life.source.now = START_MS + 2 * HOUR_MS
    pass_time(life, 2 * HOUR_MS + 120_000)
    world.requests.append(ahead)
    assert_exact(world, life)


def test_19_our_clock_steps_back_and_ahead_during_a_run(lives, over_http):
    world = small_world()
    source = over_http(world, wall_ms=300_000)
    life = lives(source=source)
    for step_ms in (-300_000, 300_000, -3_600_000):
        source.wall_ms += step_ms
        assert set(poll_for(life, 300_000, step_ms=50_000)) == {"ok"}
    assert set(poll_for(life, 500_000, step_ms=50_000)) == {"ok"}
    assert_exact(world, life)


# ---------------------------------------------------------------------------------------------------------- users' side


class Receiver:
    """Takes spans unless it is down, and refuses a request that holds a poisonous one."""

    def __init__(self) -> None:
        self.down = True
        self.poison = ""
        self.spans: list[ReceivedSpan] = []

    def send(self, body: bytes, timeout_s: float | None = None):
        if self.down:
            return Retry(reason="down")
        found = decode_spans(body)
        if any(span.attributes.get("apigateway.request_id") == self.poison for span in found):
            return Refused(status="400", message="bad span")
        self.spans += found
        return Delivered()


class Told:
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def sent(self, signal: str, count: int) -> None:
        self.counts["sent"] += count

    def rejected(self, signal: str, count: int) -> None:
        self.counts["rejected"] += count

    def dropped(self, signal: str, reason: str, count: int) -> None:
        self.counts[reason] += count


def test_20_otlp_down_for_an_hour_then_up_with_one_bad_span(lives):
    world = make_world(random.Random(20), count=800, span_ms=HOUR_MS, lateness_ms=30_000)
    life = lives(world, spans=True)
    receiver, told = Receiver(), Told()
    outbox = Outbox(
        life.ledger,
        receiver,
        told,
        max_bytes=1 << 30,
        clock=lambda: life.source.now / 1000,
        jitter=lambda: 0.5,
    )
    while life.source.now < START_MS + HOUR_MS + 600_000:
        life.source.now += 20_000
        assert life.poll().outcome == "ok"
        outbox.work()
    assert_exact(world, life)
    assert told.counts == {}
    assert len(spans(life)) == sum(world.failures().values())
    receiver.down = False
    receiver.poison = next(r.request_id for r in world.requests if r.cause == "integration_timeout")
    for _ in range(1_000):
        life.source.now += 10_000
        outbox.work()
    served = [span for span in receiver.spans if span.kind == "SERVER"]
    poisoned = replace(world, requests=[r for r in world.requests if r.request_id != receiver.poison])
    assert_every_failure_is_one_span(poisoned, served)
    assert life.ledger.outbox_stats().rows == 0
    assert told.counts["refused"] == 1
    assert told.counts["sent"] == len(receiver.spans)


def shown(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of a scrape."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_21_scrapes_in_the_middle_of_polls(lives):
    world = make_world(random.Random(21), count=300)
    life = lives(world, page_size=200)
    scrapes = []

    def scrape(_group, _page):
        calls = life.source.pages_given
        scrapes.append(shown(life.totals.render(openmetrics=False)))
        assert life.source.pages_given == calls, "a scrape never asks AWS"

    life.source.fault = scrape
    pass_time(life, 1_200_000)
    assert len(scrapes) > 200
    for before, after in itertools.pairwise(scrapes):
        assert all(after.get(key, -1) >= value for key, value in before.items()), "no value steps back or vanishes"
    for scrape_ in scrapes:
        by_cause, detail = Counter(), Counter()
        for (name, labels), value in scrape_.items():
            if name == "aws_apigateway_stage_failures_total":
                by_cause[dict(labels)["cause"]] += value
            elif name == "aws_apigateway_failed_requests_total":
                detail[dict(labels)["cause"]] += value
        assert +by_cause == +detail, "every scrape is one state, not parts of two"
    assert_exact(world, life)


# 22, the first ever failure on the pager, needs a real Prometheus and Alertmanager: test_pager.py.


def test_23_a_restart_restores_every_value_and_its_birth(lives):
    world = small_world()
    life = lives(world)
    pass_time(life, 400_000)
    before, created = life.totals.render(openmetrics=False), life.totals.render(openmetrics=True)
    life.die()
    assert sorted(life.totals.render(openmetrics=False).splitlines()) == sorted(before.splitlines())
    assert sorted(life.totals.render(openmetrics=True).splitlines()) == sorted(created.splitlines())
    assert b"_created" in created
    pass_time(life, 1_200_000)
    assert_exact(world, life)
    gained = shown(life.totals.render(openmetrics=False))
    was = shown(before)
    increase = sum(v - was.get(k, 0) for k, v in gained.items() if k[0] == "aws_apigateway_failed_requests_total")
    missed = sum(v for k, v in was.items() if k[0] == "aws_apigateway_failed_requests_total")
    assert increase == sum(world.failures().values()) - missed


def test_24_callers_cannot_make_series(tmp_path, ledger):
    spec = access_watch(0)
    world = World()
    group = spec.groups[0].group
    for number in range(5_000):
        attack = {
            "requestId": f"{number:08x}-1f6a-4c80-8d1a-000000000000",
            "httpMethod": f"METHOD{number}",
            "path": f"/orders/{number}",
            "status": f"{number}x",
        }
        world.put(group, [(START_MS + number, json.dumps(attack))], visible_ms=START_MS + 6_000)
    for number in range(3_000):
        honest = {"requestId": f"b{number}", "httpMethod": "GET", "resourcePath": f"/r{number}", "status": "403"}
        world.put(group, [(START_MS + number, json.dumps(honest))], visible_ms=START_MS + 6_000)
    source = MemorySource(world=world, now=START_MS + 20_000)
    several = Several(source, ledger, [spec], max_series=1_000)
    for _ in range(3):
        several.watches[0].poll()
        source.now += 20_000
    requests = several.by_stage("aws_apigateway_requests_total")
    assert sum(requests.values()) == 8_000, "nothing goes uncounted"
    assert requests["api0", "prod", "_OTHER", "unknown", "unknown"] == 5_000
    assert len(requests) <= 1_001
    assert requests["api0", "prod", "__other__", "__other__", "__other__"] == 3_000 - 999
    failures = several.by_stage("aws_apigateway_failed_requests_total")
    assert sum(failures.values()) == 3_000
    assert len(failures) <= 1_001
    assert several.totals.overflow_counts()["aws_apigateway_requests_total"] > 0


def test_25_two_daemons_on_one_state(lives):
    life = lives(small_world())
    pass_time(life, 400_000)
    before = counted(life, "aws_apigateway_requests_total")
    with pytest.raises(LedgerError, match="count twice"):
        Life(life.source, life.path.parent)
    pass_time(life, 1_200_000)
    assert counted(life, "aws_apigateway_requests_total") > before
    assert_exact(life.source.world, life)


TWO_STAGES = """
watches:
  - name: orders-prod
    region: eu-west-1
    api: {id: ab12cd34ef, name: orders, stage: prod}
    access_log: {group: access/shared}
  - name: orders-dev
    region: eu-west-1
    api: {id: ab12cd34ef, name: orders, stage: dev}
    access_log: {group: access/shared}
"""


def test_26_two_watches_of_one_group(ledger):
    config = load_config("exporter.yaml", text=TWO_STAGES)
    specs = Planner().plan(config, config.watches)
    assert len(specs) == 1, "one group is read once, by one cursor"
    world = World()
    rng = random.Random(26)
    truth: Counter[tuple[str, ...]] = Counter()
    for _ in range(500):
        stage = rng.choice(["prod", "dev"])
        at_ms = START_MS + rng.randrange(600_000)
        line = {
            "requestId": f"{rng.getrandbits(32):08x}-1f6a-4c80-8d1a-000000000000",
            "apiId": "ab12cd34ef",
            "stage": stage,
            "httpMethod": "GET",
            "resourcePath": "/orders",
            "status": "403",
            "error.responseType": "MISSING_AUTHENTICATION_TOKEN",
        }
        group = LogGroup("default", "eu-west-1", "access/shared")
        world.put(group, [(at_ms, json.dumps(line))], visible_ms=at_ms + rng.randrange(300, 200_000))
        truth["ab12cd34ef", stage, "GET", "/orders", "403", "missing_authentication_token"] += 1
    source = MemorySource(world=world, now=START_MS)
    several = Several(source, ledger, specs)
    for _ in range(60):
        source.now += 20_000
        several.watches[0].poll()
    assert several.by_stage("aws_apigateway_failed_requests_total") == truth
    assert several.by_stage("aws_apigateway_requests_total") == Counter(
        {labels[:-1]: count for labels, count in truth.items()}
    )


def soak(
    ledger: SqliteLedger, *, watches: int, hours: int, a_minute: int, measure: Callable[[], int]
) -> tuple[Counter[tuple[str, ...]], list[int]]:
    """Traffic for hours with 2 % of calls throttled for good; the truth, and what `measure` says at each hour's end."""
    rng = random.Random(27)
    specs = [access_watch(number) for number in range(watches)]
    world = World()
    source = MemorySource(world=world, now=START_MS)
    source.fault = lambda group, _page: unavailable(group) if rng.random() < 0.02 else None
    several = Several(source, ledger, specs)
    truth: Counter[tuple[str, ...]] = Counter()
    memory = []
    for minute in range(hours * 60 + 15):
        begin_ms = START_MS + minute * MINUTE_MS
        for number, spec in enumerate(specs if minute < hours * 60 else []):
            for _ in range(a_minute):
                request = happen(
                    World(),
                    rng.choice(["ok", "missing_token"]),
                    request_id=f"{rng.getrandbits(32):08x}-1f6a-4c80-8d1a-000000000000",
                )
                at_ms = begin_ms + rng.randrange(MINUTE_MS)
                line = [(at_ms, request.access_line())]
                world.put(spec.groups[0].group, line, visible_ms=at_ms + rng.randrange(300, 120_000))
                truth[f"api{number}", "prod", "GET", "/orders/{id}", str(request.status)] += 1
        for _ in range(3):
            source.now += 20_000
            for watch in several.watches:
                watch.poll()
        source.windows.clear()
        # What nobody can ask for any more makes room.
        world.lines = [line for line in world.lines if line[1].at_ms > begin_ms - 1_800_000]
        if minute % 60 == 59:
            gc.collect()  # what is only waiting for it is no growth
            memory.append(measure())
    assert several.by_stage("aws_apigateway_requests_total") == truth
    failed = several.by_stage("aws_apigateway_failed_requests_total")
    assert failed == {
        (*labels, "missing_authentication_token"): n for labels, n in truth.items() if labels[-1] == "403"
    }
    return truth, memory


def test_27_soak(ledger):
    tracemalloc.start()
    _, memory = soak(ledger, watches=2, hours=2, a_minute=3, measure=lambda: tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert memory[-1] < memory[0] * 1.1 + 200_000


@pytest.mark.long
def test_27_soak_of_a_day(ledger):
    """Blocks are counted, not bytes: tracing each allocation takes four times as long as everything else."""
    gc.collect()
    before = sys.getallocatedblocks()
    _, blocks = soak(ledger, watches=2, hours=24, a_minute=6, measure=lambda: sys.getallocatedblocks() - before)
    assert blocks[-1] < blocks[1] * 1.05 + 1_000
