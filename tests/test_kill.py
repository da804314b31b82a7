"""The real process, killed at random instants under load with faults on: in the end everything was counted once.

Four processes over loopback: the exporter as users run it, a CloudWatch that throttles, breaks and delays
(`tests/fakes`), an OTLP receiver (`otlp_receiver.py`), and this one, which kills the exporter with SIGKILL again and
again and compares what its last life serves with the truth. These are the only tests that take real time.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.worlds import FAILING, START_MS, World, make_world

pytestmark = pytest.mark.process

ROOT = Path(__file__).parent.parent
HEAD_START_S = 60
"""So much of the traffic has happened before the first life begins."""
LATENESS_MS = 55_000
FAULTS = {
    "throttled": 0.3,
    "server_errors": 0.025,
    "resets": 0.025,
    "cuts": 0.01,
    "empty_pages": 0.1,
    "repeated_pages": 0.01,
    "refused_tokens": 0.01,
}
CONFIG = """
poll_interval: 1s
allowed_lateness: 1m2s
initial_lookback: 5m
state: {{path: state.db}}
labels: {{zero_hold: 0s}}
accounts: [{{name: default, calls_per_second: 25}}]
watches:
  - name: orders-prod
    region: eu-west-1
    max_request: 2s
    fetch: {fetch}
    api: {{name: orders}}
    access_log: {{group: access/orders}}
    execution_log: {{group: API-Gateway-Execution-Logs_ab12cd34ef/prod}}
traces: {{endpoint: "{receiver}"}}
"""


@pytest.mark.parametrize("seed", [1])
def test_eight_kills_change_no_count_and_lose_no_span(tmp_path, seed):
    storm(tmp_path, seed, requests=1_500, kills=8, longest_life_s=4.0)


@pytest.mark.long
def test_sixty_kills_change_no_count_and_lose_no_span(tmp_path):
    storm(tmp_path, 2, requests=6_000, kills=60, longest_life_s=5.0)


def test_kills_change_no_count_where_failing_lines_alone_are_fetched(tmp_path):
    storm(tmp_path, 4, requests=1_000, kills=6, longest_life_s=4.0, fetch="failures")


def test_kills_change_no_count_where_parts_of_a_window_are_listed_side_by_side(tmp_path):
    storm(tmp_path, 5, requests=1_000, kills=6, longest_life_s=5.0, page_events=250)


def storm(
    directory: Path,
    seed: int,
    *,
    requests: int,
    kills: int,
    longest_life_s: float,
    fetch: str = "all",
    page_events: int | None = None,
) -> None:
    """Traffic for as long as the kills take, then a last life until all is counted.

    `page_events`: the most events of a page; None: as many as AWS's.
    """
    rng = random.Random(seed)
    live_s = kills * (0.3 + longest_life_s) / 2
    world = make_world(
        rng,
        count=requests,
        span_ms=int(HEAD_START_S + live_s) * 1000,
        two_batches=0.2,
        longest_ms=1_900,
        timeout_ms=1_900,
        lateness_ms=LATENESS_MS,
        late=0.2,
        # An error behind a status of 200 does not show in the access log.
        outcomes=None if fetch == "all" else ["ok"] * 3 + [name for name in FAILING if name != "masked"],
    )
    truth = world.failures(), world.totals() if fetch == "all" else Counter[str]()
    with ExitStack() as stack:
        start_ms = int((time.time() - HEAD_START_S) * 1000)
        last_ms = START_MS + int(HEAD_START_S + live_s + 5) * 1000
        _write(world, directory / "world.jsonl", last_ms)
        fake = stack.enter_context(_fake(directory, start_ms, seed, page_events))
        receiver = stack.enter_context(_receiver(directory))
        (directory / "exporter.yaml").write_text(CONFIG.format(receiver=receiver, fetch=fetch))
        exporter = _Exporter(directory, fake)
        arrivals = _Arrivals(directory / "spans.jsonl")
        for _ in range(kills):
            with exporter.running() as process:
                arrivals.watch(rng.uniform(0.3, longest_life_s))
                assert process.poll() is None, exporter.said()
                process.kill()
        with exporter.running() as process:
            # What the access log alone tells settles an allowed lateness after the last request; and machines are busy.
            deadline = time.monotonic() + 180
            while exporter.counts() != truth and time.monotonic() < deadline:
                arrivals.watch(0.5)
            # Whoever counts twice does it when the same lines are listed once more.
            arrivals.watch(3.0)
            assert exporter.counts() == truth, exporter.said()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0
            arrivals.watch(0.5)
    assert_every_failure_is_one_span(world, arrivals)
    delays = sorted(arrivals.delays(world, start_ms))
    print(f"\nend of request to span, {len(delays)} requests of ordinary delivery: ", end="")  # noqa: T201 for people
    print(", ".join(f"{share:.0%} {delays[int(share * (len(delays) - 1))]:.1f} s" for share in (0.5, 0.9, 0.99)))  # noqa: T201


def assert_every_failure_is_one_span(world: World, arrivals: "_Arrivals") -> None:
    spans = {span["span_id"]: span for _, span in arrivals.seen if span["kind"] == "SERVER"}
    told = Counter(
        (s["attributes"]["apigateway.request_id"], s["attributes"]["apigateway.cause"]) for s in spans.values()
    )
    assert told == Counter((r.request_id, r.cause) for r in world.requests if r.cause is not None)
    traces = {(span["span_id"], span["trace_id"]) for _, span in arrivals.seen}
    assert len(traces) == len({span_id for span_id, _ in traces}), "a span sent twice is the same span"


# ------------------------------------------------------------------------------------------------------- the processes


class _Exporter:
    """The exporter's lives, one after the other, on one state."""

    def __init__(self, directory: Path, endpoint: str) -> None:
        self._directory = directory
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._environ = {
            "PATH": os.environ["PATH"],
            "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": endpoint,
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "exporter", "run", "--config.file", str(self._directory / "exporter.yaml")]
        command += ["--web.listen-address", f"127.0.0.1:{self._port}"]
        with (self._directory / "log").open("ab") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=self._environ, stderr=log, stdout=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def said(self) -> str:
        """The end of its log."""
        return (self._directory / "log").read_text()[-3_000:]

    def counts(self) -> tuple[Counter[tuple[str, ...]], Counter[str]]:
        """Failures by (method, resource, status, cause), all requests by status; nothing while it does not serve yet."""
        failures: Counter[tuple[str, ...]] = Counter()
        totals: Counter[str] = Counter()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            return failures, totals
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = sample.labels
                if sample.name == "aws_apigateway_failed_requests_total":
                    key = (labels["method"], labels["resource"], labels["status"], labels["cause"])
                    failures[key] += int(sample.value)
                elif sample.name == "aws_apigateway_requests_total":
                    totals[labels["status"]] += int(sample.value)
        return failures, totals


class _Arrivals:
    """The spans that the receiver wrote down, and when they were first seen."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self.seen: list[tuple[float, dict]] = []

    def watch(self, seconds: float) -> None:
        """Let time pass, and note what arrives meanwhile."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))
            with self._path.open("rb") as lines:
                lines.seek(self._read)
                for line in lines:
                    if not line.endswith(b"\n"):
                        break  # being written: its end would seem a line of its own
                    self._read += len(line)
                    self.seen.append((time.time(), json.loads(line)))

    def delays(self, world: World, start_ms: int) -> Iterator[float]:
        """Seconds from a request's end to its first span, of those that ended in our time and were delivered at once."""
        slow = {n for _, event, visible_ms, n in world.lines if visible_ms - event.at_ms > 6_000}
        ends = {
            request.request_id: (request.arrival_ms + request.duration_ms - START_MS + start_ms) / 1000
            for request in world.requests
            if request.number not in slow and request.arrival_ms > START_MS + HEAD_START_S * 1000
        }
        for at, span in self.seen:
            ended = ends.pop(span["attributes"].get("apigateway.request_id"), None)
            if ended is not None:
                yield at - ended


def _write(world: World, path: Path, last_ms: int) -> None:
    """The world as a file for the fake; nothing becomes visible later than `last_ms`."""
    with path.open("w") as out:
        for group, event, visible_ms, number in world.lines:
            line = {
                "group": group.name,
                "stream": f"{number}/{visible_ms}",  # lines of one stream and moment become one batch
                "at_ms": event.at_ms - START_MS,
                "ingested_at_ms": min(visible_ms, last_ms) - START_MS,
                "message": event.message,
            }
            out.write(json.dumps(line) + "\n")


@contextmanager
def _fake(directory: Path, start_ms: int, seed: int, page_events: int | None) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.fakes", "--world", str(directory / "world.jsonl")]
    command += ["--start-ms", str(start_ms), "--seed", str(seed)]
    if page_events is not None:
        command += ["--scan-events", str(page_events)]
    for name, value in FAULTS.items():
        command += ["--set", f"{name}={value}"]
    with _serving(command) as line:
        yield json.loads(line)["url"]


@contextmanager
def _receiver(directory: Path) -> Iterator[str]:
    (directory / "spans.jsonl").touch()
    command = [sys.executable, "tests/otlp_receiver.py", "--port", "0", "--out", str(directory / "spans.jsonl")]
    with _serving(command) as line:
        yield line.strip()


@contextmanager
def _serving(command: list[str]) -> Iterator[str]:
    """A process that says on its first line where it is to be found."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, f"{command} did not start"
        yield line
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
