"""The demo: its traffic is what API Gateway would write, and its cloud is read like the real one."""

import itertools
import socket
import sys
import time
import urllib.error
import urllib.request

import boto3
import pytest
import yaml
from moto import mock_aws

from exporter import execution_log
from exporter.access_log import access_parser
from exporter.config import load_config
from exporter.model import AccessRecord, Api, LogEvent, RequestTimeline
from exporter.rules import shipped_rules
from exporter.sources.demo import DemoCloud, DemoUnavailable, demo_config_text, demo_environ
from exporter.sources.demo.cloud import BACKLOG_MS, KEPT_MS, STREAM_MS, TrafficWriter
from exporter.sources.demo.narration import LINE_LIMIT
from exporter.sources.demo.stages import REGION, STAGES, Level, outcomes
from exporter.sources.demo.traffic import LATE_RATIO, traffic

START_MS = 1_760_000_000_000


def requests_of(seconds, seed=1):
    end_ms = START_MS + seconds * 1000
    return list(itertools.takewhile(lambda made: made.request.arrived_at_ms < end_ms, traffic(seed, START_MS)))


BACKLOG = requests_of(BACKLOG_MS // 1000)
CATALOGUE = outcomes()
FIRST_OF_EACH_FATE = {
    (made.request.stage.api_name, CATALOGUE.index(made.request.outcome)): made for made in reversed(BACKLOG)
}


def lines_of(made, group):
    return [line for batch in made.batches if batch.group == group for line in batch.lines]


def event(at_ms, text):
    return LogEvent(event_id=f"{at_ms}", at_ms=at_ms, message=text)


def timeline_of(made):
    """What the exporter's own parsers read of a request."""
    stage = made.request.stage
    (access,) = lines_of(made, stage.access_group)
    record = access_parser(stage.watch_format).parse(event(*access))
    assert isinstance(record, AccessRecord)
    steps = []
    for line in lines_of(made, stage.execution_group):
        request_id, step = execution_log.parse(event(*line))
        assert request_id == made.request.request_id
        steps.append(step)
    return RequestTimeline(
        api=Api(type=stage.type), access=record, steps=tuple(steps), request_id=made.request.request_id
    )


# ------------------------------------------------------------------------------------------------------------ traffic


def test_the_same_seed_makes_the_same_traffic_and_another_seed_other_traffic():
    assert requests_of(30) == requests_of(30)
    assert requests_of(30, seed=2) != requests_of(30)


def test_every_cause_happens_within_the_first_forty_seconds_and_every_variant_before_the_demo_begins():
    soon = {made.request.outcome.cause for made in BACKLOG if made.request.arrived_at_ms < START_MS + 40_000}
    assert soon - {None} == shipped_rules().causes.keys()
    every_fate = {(name, number) for number, outcome in enumerate(CATALOGUE) for name in outcome.stages}
    assert FIRST_OF_EACH_FATE.keys() == every_fate


def test_most_requests_succeed_and_every_cause_keeps_coming():
    later = [made for made in requests_of(1500) if made.request.arrived_at_ms > START_MS + 120_000]
    failures = [made for made in later if made.request.outcome.cause is not None]
    assert 0.1 < len(failures) / len(later) < 0.2
    assert {made.request.outcome.cause for made in failures} == shipped_rules().causes.keys()


@pytest.mark.parametrize(
    "made",
    FIRST_OF_EACH_FATE.values(),
    ids=lambda made: f"{made.request.stage.api_name}-{made.request.outcome.cause}",
)
def test_the_logs_of_a_request_prove_its_cause(made):
    timeline = timeline_of(made)
    failure = shipped_rules().classify(timeline)
    assert (failure.cause if failure else None) == made.request.outcome.cause
    assert timeline.status == made.request.outcome.status


def test_an_access_line_is_dated_with_the_arrival_and_execution_lines_spread_to_the_end():
    for made in BACKLOG:
        request = made.request
        assert [at_ms for at_ms, _ in lines_of(made, request.stage.access_group)] == [request.arrived_at_ms]
        times = [at_ms for at_ms, _ in lines_of(made, request.stage.execution_group)]
        assert times == sorted(times)
        if request.stage.level is Level.INFO and times:
            assert times[0] == request.arrived_at_ms
            assert times[-1] == request.ended_at_ms


@pytest.mark.parametrize(
    ("cause", "at_least_ms"), [("integration_timeout", 29_000), ("lambda_timeout", 10_000), ("unclassified", 0)]
)
def test_a_timeout_takes_its_time(cause, at_least_ms):
    taken = [made.request.took_ms for made in BACKLOG if made.request.outcome.cause == cause]
    assert taken
    assert all(at_least_ms <= took_ms <= at_least_ms + 100 for took_ms in taken)


def test_lines_become_visible_after_the_end_mostly_soon_and_now_and_then_a_minute_late():
    delays = [batch.due_at_ms - made.request.ended_at_ms for made in BACKLOG for batch in made.batches]
    late = [delay for delay in delays if delay >= 10_000]
    assert all(300 <= delay <= 2_500 for delay in delays if delay < 10_000)
    assert max(delays) <= 60_000
    assert LATE_RATIO / 2 < len(late) / len(delays) < LATE_RATIO * 2


def test_lines_arrive_out_of_order():
    batches = sorted((batch for made in BACKLOG for batch in made.batches), key=lambda batch: batch.due_at_ms)
    first_times = [batch.lines[0][0] for batch in batches]
    assert first_times != sorted(first_times)


def test_no_placeholder_is_left_and_no_execution_line_is_longer_than_api_gateway_writes():
    for made in BACKLOG:
        for batch in made.batches:
            for _, text in batch.lines:
                assert "<" not in text
                assert "$context" not in text
                if batch.group == made.request.stage.execution_group:
                    assert len(text) <= LINE_LIMIT
                    assert text.startswith(f"({made.request.request_id}) ")


def test_at_error_level_successes_write_no_execution_line():
    (catalog,) = (stage for stage in STAGES if stage.level is Level.ERROR)
    mine = [made for made in BACKLOG if made.request.stage == catalog]
    assert any(lines_of(made, catalog.execution_group) for made in mine if made.request.outcome.cause is not None)
    assert not any(lines_of(made, catalog.execution_group) for made in mine if made.request.outcome.cause is None)


def test_ids_are_unique_and_shaped_as_the_api_types_have_them():
    assert len({made.request.request_id for made in BACKLOG}) == len(BACKLOG)
    for made in BACKLOG:
        is_uuid = len(made.request.request_id) == 36
        assert is_uuid == (made.request.stage.type == "REST")
        assert len(made.request.extended_request_id) == 16


# ------------------------------------------------------------------------------------------------------------- writing


@pytest.fixture
def client(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws():
        yield boto3.client("logs", region_name=REGION)


def stored(client):
    """Everything that the demo's groups hold: (group, time, text)."""
    return [
        (stage_group, event["timestamp"], event["message"])
        for stage in STAGES
        for stage_group in filter(None, (stage.access_group, stage.execution_group))
        for page in client.get_paginator("filter_log_events").paginate(logGroupName=stage_group)
        for event in page["events"]
    ]


def due(start_ms, now_ms):
    """What a reader should find at `now_ms`."""
    made = itertools.takewhile(lambda made: made.request.arrived_at_ms <= now_ms, traffic(7, start_ms))
    return [
        (batch.group, *line)
        for batch in itertools.chain.from_iterable(scripted.batches for scripted in made)
        for line in batch.lines
        if batch.due_at_ms <= now_ms
    ]


def test_every_line_is_written_once_when_it_is_due(client):
    start_ms = int(time.time() * 1000) - 120_000  # moto refuses what is older than 14 days
    writer = TrafficWriter(client, traffic(7, start_ms))
    writer.create_groups()
    for now_ms in (start_ms + 60_000, start_ms + 60_500, start_ms + 100_000):
        writer.step(now_ms)
        assert sorted(stored(client)) == sorted(due(start_ms, now_ms))


def test_old_lines_go_away_so_that_hours_of_demo_stay_fast(client):
    start_ms = int(time.time() * 1000)
    writer = TrafficWriter(client, traffic(7, start_ms))
    writer.create_groups()
    end_ms = start_ms + KEPT_MS + 3 * STREAM_MS
    for now_ms in range(start_ms, end_ms + 1, STREAM_MS // 3):
        writer.step(now_ms)
    held = stored(client)
    assert min(at_ms for _, at_ms, _ in held) > end_ms - KEPT_MS - 2 * STREAM_MS
    assert {line for line in due(start_ms, end_ms) if line[1] > end_ms - KEPT_MS + 120_000} <= set(held)


# --------------------------------------------------------------------------------------------------------------- cloud


def test_the_cloud_runs_is_read_like_aws_and_leaves_nothing_behind(monkeypatch):
    with DemoCloud(seed=3) as cloud:
        environ = demo_environ(cloud)
        for name, value in environ.items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)
        config = load_config("demo", demo_config_text(cloud))
        assert [watch.api.name for watch in config.watches] == [stage.api_name for stage in STAGES]

        client = boto3.client("logs")
        for watch in config.watches:
            for group in filter(None, (watch.access_log, watch.execution_log)):
                assert client.filter_log_events(logGroupName=group.group, limit=1)["events"], group.group
        directory = cloud.state_directory
        assert directory.is_dir()
        endpoint = cloud.endpoint
    assert not directory.exists()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(endpoint, timeout=5)


def test_traffic_goes_on_after_the_start():
    clock = itertools.count(time.time(), 30)  # each look at the clock is half a minute later
    with DemoCloud(clock=lambda: next(clock)) as cloud:
        client = boto3.client(
            "logs",
            region_name=REGION,
            endpoint_url=cloud.endpoint,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )
        group = STAGES[0].access_group
        start_ms = int(time.time() * 1000)
        deadline = time.monotonic() + 20
        while not client.filter_log_events(logGroupName=group, startTime=start_ms + 15_000, limit=1)["events"]:
            assert time.monotonic() < deadline


def test_the_demo_listens_elsewhere_when_its_usual_port_is_taken():
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 10610))
            taken.listen()
        except OSError:
            pass  # somebody else has it already: as good
        with DemoCloud() as cloud:
            address = yaml.safe_load(demo_config_text(cloud))["web"]["listen_address"]
    host, port = address.split(":")
    assert host == "127.0.0.1"
    assert int(port) not in (0, 10610)


def test_without_moto_the_demo_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "moto.server", None)
    with pytest.raises(DemoUnavailable, match=r"pip install 'apigateway-exporter\[demo\]'"), DemoCloud():
        pass
