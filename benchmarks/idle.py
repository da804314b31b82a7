"""What the exporter costs where nothing happens: start-up, then ten watches of quiet groups.

Run as `python -m benchmarks.idle`. The ratio of memory is against a Python that has only imported what the exporter
cannot do without (boto3's client of CloudWatch Logs), in the same run.
"""

import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.daemon import REGIONS
from benchmarks.processes import exporting, serving, watches
from benchmarks.results import Figure, report

PART = "idle"
_BARE = """
import boto3
client = boto3.client("logs", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")
print(open("/proc/self/statm").read().split()[1])
"""


def main() -> None:
    """Print the figures and keep them."""
    report(PART, list(figures()))


def figures(*, count: int = 10, seconds: float = 40) -> Iterator[Figure]:
    """Measure a daemon with default settings but for its look back, nothing to read and no receiver."""
    bare = subprocess.run([sys.executable, "-c", _BARE], check=True, capture_output=True, text=True)
    bare_mib = int(bare.stdout) * 4096 / 2**20
    case = f"{count} watches"
    # A longer look back makes first polls of many calls, and the budget then stretches the polls that follow.
    config = "initial_lookback: 10m\n" + watches(count, REGIONS[:1])
    with serving() as cloudwatch, exporting(config, cloudwatch) as exporter:
        # The port answers once everything is loaded.
        yield Figure(PART, case, "start to first answer", time.monotonic() - exporter.began, "s")
        yield Figure(PART, case, "CPU to start", exporter.cpu_seconds(), "s")
        yield Figure(PART, case, "start to ready", exporter.wait_for("/-/ready"), "s")
        began, cpu = time.monotonic(), exporter.cpu_seconds()
        calls = exporter.total("aws_requests_total")
        time.sleep(seconds)
        elapsed, cpu = time.monotonic() - began, exporter.cpu_seconds() - cpu
        calls = exporter.total("aws_requests_total") - calls
        resident = exporter.resident_mib()
        yield Figure(PART, case, "CPU", cpu / elapsed * 100, "% of a core")
        yield Figure(PART, case, "calls a second", calls / elapsed, "/s")
        yield Figure(PART, case, "resident", resident, "MiB", resident / bare_mib, "Python with boto3's client")


if __name__ == "__main__":
    main()
