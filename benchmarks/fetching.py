"""What `fetch: failures` saves: calls, bytes and CPU of one watch that reads all lines, or those of failed requests.

The traffic is the same, by a simulated clock; the CloudWatch is the tests' fake over HTTP, in another thread, whose CPU
is not counted. How much a call of AWS's searches before it answers is not documented, so there are two assumptions:
as much as ten pages hold, and no more than one page holds. Run as `python -m benchmarks.fetching`.
"""

import json
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import boto3
from botocore.config import Config

from benchmarks import prepared
from benchmarks.pages import watch_of
from benchmarks.results import Figure, report
from exporter.access_filter import failed_access_patterns
from exporter.access_log import access_parser
from exporter.ledger.sqlite import SqliteLedger
from exporter.model import Api, LogGroup
from exporter.sources.budget import CallBudget
from exporter.sources.cloudwatch import CloudWatchSource
from exporter.watch_spec import Fetch, WatchGroup, WatchSpec
from tests.fakes import FakeCloudWatch

PART = "fetching"
ACCESS = LogGroup("default", "eu-west-1", "access/orders")
EXECUTION = LogGroup("default", "eu-west-1", "API-Gateway-Execution-Logs_ab12cd34ef/prod")
API = Api(id="ab12cd34ef", name="orders", stage="prod", region="eu-west-1")
PER_SECOND = 50
SECONDS = 340
WARM_SECONDS = 220
POLL_SECONDS = 20
LATENESS_MS = 100_000
"""Shorter than the default, so that every pass is at work before anything is measured."""
FAILING = (0.001, 0.01, 0.05, 0.2)
PAGE_EVENTS = 10_000


class Cost(NamedTuple):
    """What some minutes of one watch took."""

    calls: int
    megabytes: float
    cpu_seconds: float
    failures: int


class _Clock:
    def __init__(self) -> None:
        self.seconds = prepared.START_MS / 1_000

    def __call__(self) -> float:
        return self.seconds


def cost(fake: FakeCloudWatch, clock: _Clock, fetch: Fetch, form: str) -> Cost:
    """Poll through the traffic by simulated time; what the polls after the warm-up took."""
    counted = [0, 0]

    def on_call(_operation: str, _code: str, size: int) -> None:
        counted[0] += 1
        counted[1] += size

    clock.seconds = prepared.START_MS / 1_000 + POLL_SECONDS
    source = CloudWatchSource(
        lambda: boto3.client(
            "logs",
            region_name="eu-west-1",
            endpoint_url=fake.url,
            aws_access_key_id="AKIABENCH",
            aws_secret_access_key="bench",
            config=Config(retries={"total_max_attempts": 1}),
        ),
        budget=CallBudget(1e9, clock=clock, wait=lambda _: False),
        on_call=on_call,
        wait=lambda _: False,
        clock=clock,
        ticks=clock,
        jitter=random.Random(1),
    )
    with tempfile.TemporaryDirectory() as directory, closing(SqliteLedger(Path(directory) / "state.db")) as ledger:
        watch = watch_of(_spec(fetch, form), source, ledger, spans=True)
        cpu = 0.0
        for second in range(POLL_SECONDS, SECONDS, POLL_SECONDS):
            clock.seconds = prepared.START_MS / 1_000 + second
            if second == WARM_SECONDS:
                counted[:] = [0, 0]
                cpu = 0.0
            began = time.thread_time()
            outcome = watch.poll()
            cpu += time.thread_time() - began
            assert outcome.outcome == "ok", outcome
        failures = sum(row.value for row in ledger.series() if row.key.metric == "aws_apigateway_failed_requests_total")
    source.close()
    return Cost(counted[0], counted[1] / 1e6, cpu, failures)


def _spec(fetch: Fetch, form: str) -> WatchSpec:
    return WatchSpec(
        name="bench",
        groups=(
            WatchGroup(
                group=ACCESS,
                kind="access",
                apis=(API,),
                parser=access_parser(form),
                failure_patterns=failed_access_patterns(form),
            ),
            WatchGroup(group=EXECUTION, kind="execution", apis=(API,)),
        ),
        max_request_ms=30_000,
        allowed_lateness_ms=LATENESS_MS,
        poll_interval_ms=POLL_SECONDS * 1_000,
        initial_lookback_ms=POLL_SECONDS * 1_000,
        fetch=fetch,
    )


def _fill(fake: FakeCloudWatch, group: LogGroup, lines: list[prepared.Line]) -> None:
    """A line is there two to three seconds after its time."""
    for second, found in groupby(lines, key=lambda line: line.at_ms // 1_000):
        fake.put(group.name, [(line.at_ms, line.message) for line in found], ingested_at_ms=second * 1_000 + 3_000)


def figures() -> Iterator[Figure]:
    """Measure every share of failures, fetching all lines and failing ones."""
    requests = PER_SECOND * SECONDS
    minutes = (SECONDS - WARM_SECONDS) / 60
    for failing in FAILING:
        clock = _Clock()
        access = prepared.access_lines(requests, failing=failing, form="json", per_second=PER_SECOND)
        form = json.dumps({name: f"$context.{name}" for name in json.loads(access[0].message)})
        with FakeCloudWatch(clock=clock) as fake:
            clock.seconds += SECONDS
            _fill(fake, ACCESS, access)
            _fill(
                fake,
                EXECUTION,
                prepared.execution_lines(requests, failing=failing, level="INFO", per_second=PER_SECOND),
            )
            whole = cost(fake, clock, "all", form)
            for searched in (10 * PAGE_EVENTS, PAGE_EVENTS):
                fake.reader.scan_events = searched
                part = cost(fake, clock, "failures", form)
                assert part.failures == whole.failures, (part, whole)
                case = f"{failing:.1%} failing, {searched:,} events searched a call"
                for name, unit, one, all_of_it in (
                    ("calls a minute", "calls", part.calls, whole.calls),
                    ("bytes a minute", "MB", part.megabytes, whole.megabytes),
                    ("CPU a minute", "s", part.cpu_seconds, whole.cpu_seconds),
                ):
                    yield Figure(PART, case, name, one / minutes, unit, one / all_of_it, "all lines")
                fake.reader.scan_events = None


def main() -> None:
    """Print the figures and keep them."""
    report(PART, list(figures()))


if __name__ == "__main__":
    main()
