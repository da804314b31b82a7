"""A CloudWatch as far away as AWS: every page takes a hundred milliseconds, and none is known before the one before it.

Run as `python -m benchmarks.waiting`. One listing brings at most a page per answer's time; a busy watch lists parts of
its windows side by side. The ratio is against the call budget. The warm-up is for the first slice after a start, which
is listed in one piece, because nobody knows yet how many pages it has.
"""

import time
from collections.abc import Iterator

from benchmarks.daemon import REGIONS
from benchmarks.processes import exporting, serving, watches
from benchmarks.results import Figure, report

PART = "waiting"
DELAY_MS = 100
_CALLS_PER_SECOND = 25


def main() -> None:
    """Print the figures and keep them."""
    report(PART, list(figures()))


def figures(
    *, counts: tuple[int, ...] = (1, 2, 8), warm_up_s: float = 15, seconds: float = 15, per_second: int = 1_000
) -> Iterator[Figure]:
    """Measure watches of one region, and of one budget, that catch up with a day of full pages."""
    region = REGIONS[:1]
    config = f"accounts: [{{name: default, regions: [{region[0]}], calls_per_second: {_CALLS_PER_SECOND}}}]\n"
    config += "initial_lookback: 1d\n"
    for count in counts:
        with (
            serving("--per-second", str(per_second), "--failing", "0.01", "--delay-ms", str(DELAY_MS)) as cloudwatch,
            exporting(config + watches(count, region, access=False), cloudwatch) as exporter,
        ):
            time.sleep(warm_up_s)
            began, cpu, calls = time.monotonic(), exporter.cpu_seconds(), exporter.total("aws_requests_total")
            time.sleep(seconds)
            elapsed, cpu = time.monotonic() - began, exporter.cpu_seconds() - cpu
            calls = exporter.total("aws_requests_total") - calls
        case = f"pages after {DELAY_MS} ms, {count} watches"
        rate = calls / elapsed
        yield Figure(PART, case, "calls a second", rate, "/s", rate / _CALLS_PER_SECOND, "the budget")
        yield Figure(PART, case, "CPU a call", cpu / calls * 1e3, "ms")


if __name__ == "__main__":
    main()
