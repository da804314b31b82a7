"""The whole daemon against a CloudWatch that serves prepared pages as fast as asked, in another process.

Run as `python -m benchmarks.daemon`. A day of backlog in eight regions keeps it busy (the call budget of one region, 25
calls a second, would leave it idle); what it reads and what it takes are measured after a warm-up. The ratio is against
decoding the same pages with msgspec alone, in this run. A bare loop that only reads and decodes the same pages is
measured beside it: what no exporter in this language can beat.
"""

import json
import time
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import msgspec
import urllib3

from benchmarks import pages, prepared
from benchmarks.processes import Process, exporting, serving, watches
from benchmarks.results import Figure, report
from exporter.model import LogEvent

PART = "daemon"
REGIONS = (
    *("eu-west-1", "eu-central-1", "us-east-1", "us-east-2"),
    *("us-west-2", "ap-southeast-1", "ap-northeast-1", "sa-east-1"),
)
_CONFIG = f"""
accounts: [{{name: default, regions: [{", ".join(REGIONS)}], calls_per_second: 25}}]
initial_lookback: 1d
"""


class _Instant(NamedTuple):
    """What was measured at one time."""

    at: float
    cpu_s: float
    events: float
    calls: float
    resident_mib: float


def main() -> None:
    """Print the figures and keep them."""
    report(PART, list(figures()))


def figures(*, warm_up_s: float = 6, seconds: float = 24, per_second: int = 250) -> Iterator[Figure]:
    """Measure the daemon with execution lines only, and with access lines beside them.

    With `per_second` requests a slice takes a few seconds, so that access and execution lines are read in turn several
    times.
    """
    lines = prepared.execution_lines(4_000, failing=0.01, level="INFO")
    decode = pages.Rounds(partial(pages.decode_seconds, prepared.pages(lines))).least()
    decode_us = decode / len(lines) * 1e6
    for case, access in (("execution INFO, 1 % failing", False), ("access JSON + execution INFO", True)):
        with (
            serving("--per-second", str(per_second), "--failing", "0.01") as cloudwatch,
            exporting(_CONFIG + watches(len(REGIONS), REGIONS, access=access), cloudwatch) as exporter,
        ):
            time.sleep(warm_up_s)
            seen = list(_watched(exporter, cloudwatch, seconds))
        yield from _told(case, seen, decode_us)
    with serving("--per-second", str(per_second), "--failing", "0.01") as cloudwatch:
        yield Figure(PART, "execution INFO, 1 % failing", "bare loop, events a CPU second", _bare(cloudwatch), "/s")


class _Answer(msgspec.Struct, rename="camel"):
    events: list[LogEvent]
    next_token: str | None = None


def _bare(cloudwatch: Process, *, pages_read: int = 200) -> float:
    """Events a CPU second of a loop that reads and decodes pages, one after the other, and does nothing with them."""
    decode = msgspec.json.Decoder(_Answer).decode
    http = urllib3.PoolManager()
    now_ms = time.time_ns() // 1_000_000
    asked = {"logGroupName": "orders", "startTime": now_ms - 86_400_000, "endTime": now_ms}
    events = 0
    began = time.process_time()
    for _ in range(pages_read):
        answer = decode(http.request("POST", cloudwatch.url, body=json.dumps(asked)).data)
        events += len(answer.events)
        asked["nextToken"] = answer.next_token or ""
    return events / (time.process_time() - began)


def _watched(exporter: Process, cloudwatch: Process, seconds: float) -> Iterator[_Instant]:
    began = time.monotonic()
    while True:
        at = time.monotonic()
        yield _Instant(
            at,
            exporter.cpu_seconds(),
            # The exporter's own count rises with each listing that is complete, which may take as long as all of this.
            json.loads(cloudwatch.get("/"))["events"],
            exporter.total("aws_requests_total"),
            exporter.resident_mib(),
        )
        if at - began >= seconds:
            return
        time.sleep(min(1.0, seconds / 4))


def _told(case: str, seen: list[_Instant], decode_us: float) -> Iterator[Figure]:
    first, last = seen[0], seen[-1]
    elapsed, cpu_s, events = last.at - first.at, last.cpu_s - first.cpu_s, last.events - first.events
    if not events:
        raise RuntimeError("nothing was read; a longer run may help")
    yield Figure(
        PART, case, "CPU a million events", cpu_s / events * 1e6, "s", cpu_s / events * 1e6 / decode_us, "decode"
    )
    yield Figure(PART, case, "events a CPU second", events / cpu_s, "/s")
    yield Figure(PART, case, "events a second", events / elapsed, "/s")
    yield Figure(PART, case, "cores used", cpu_s / elapsed, "")
    yield Figure(PART, case, "calls a second", (last.calls - first.calls) / elapsed, "/s")
    most = max(instant.resident_mib for instant in seen)
    yield Figure(PART, case, "resident at most", most, "MiB")
    for when, instant in (("first", first), ("half way", seen[len(seen) // 2]), ("last", last)):
        yield Figure(PART, case, f"resident {when}", instant.resident_mib, "MiB", instant.resident_mib / most, "most")


if __name__ == "__main__":
    main()
