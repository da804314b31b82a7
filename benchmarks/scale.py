"""Cost against scale: one to a thousand watches of quiet groups in one process.

Run as `python -m benchmarks.scale`. Regions are added with watches as in a large account, so that polls need not be
stretched for minutes; each region keeps to its budget of calls. Ratios are against the run with the fewest watches.
"""

import json
import time
from collections.abc import Iterator, Sequence

from benchmarks.daemon import REGIONS
from benchmarks.processes import Process, exporting, serving, watches
from benchmarks.results import Figure, report

PART = "scale"
_CALLS_PER_SECOND = 25
_LOOKBACK = "10m"
"""At most twice the lateness: a new watch then has read everything after two listings a group instead of six."""
_BURST_S = 2
"""What an idle budget lets through at once: so many seconds' worth."""


def main() -> None:
    """Print the figures and keep them."""
    report(PART, list(figures()))


def figures(*, counts: Sequence[int] = (1, 10, 100, 1_000), seconds: float = 8) -> Iterator[Figure]:
    """Measure a daemon at each number of watches, over at most eight regions."""
    smallest_mib: float | None = None
    for count in counts:
        regions = REGIONS[: max(1, min(len(REGIONS), count // 100))]
        config = (
            f"accounts: [{{name: default, regions: [{', '.join(regions)}], calls_per_second: {_CALLS_PER_SECOND}}}]\n"
            f"initial_lookback: {_LOOKBACK}\n"
        )
        case = f"{count} watches"
        with serving() as cloudwatch, exporting(config + watches(count, regions), cloudwatch) as exporter:
            started = time.monotonic() - exporter.began
            polled = exporter.wait_for("/-/ready")
            began, cpu = time.monotonic(), exporter.cpu_seconds()
            time.sleep(seconds)
            elapsed, cpu = time.monotonic() - began, exporter.cpu_seconds() - cpu
            resident = exporter.resident_mib()
            calls = _calls(cloudwatch)
        yield Figure(PART, case, "start to first answer", started, "s")
        yield Figure(PART, case, "start to all polled", polled, "s")
        yield Figure(PART, case, "CPU", cpu / elapsed * 100, "% of a core")
        if smallest_mib is None:
            smallest_mib = resident
            yield Figure(PART, case, "resident", resident, "MiB")
        else:
            ratio = resident / smallest_mib
            yield Figure(PART, case, "resident", resident, "MiB", ratio, f"{counts[0]} watches")
            each = (resident - smallest_mib) * 1024 / (count - counts[0])
            yield Figure(PART, case, "resident a further watch", each, "KiB")
        budget = _CALLS_PER_SECOND * len(regions) * (1 + _BURST_S)
        yield Figure(
            PART, case, "most calls in a second", max(calls), "/s", max(calls) / budget, "budget with its burst"
        )


def _calls(cloudwatch: Process) -> list[int]:
    """Calls in each second since the first."""
    return list(json.loads(cloudwatch.get("/"))["calls"].values())


if __name__ == "__main__":
    main()
