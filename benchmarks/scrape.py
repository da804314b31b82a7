"""Scrape latency at ten thousand series, while the daemon polls and commits.

Run as `python -m benchmarks.scrape`. The same page is asked for again and again over one connection, plain and as
OpenMetrics; the ratio is against `/-/healthy` in the same run, which renders nothing.
"""

import http.client
import statistics
import time
from collections.abc import Iterator

from benchmarks.daemon import REGIONS
from benchmarks.processes import Process, exporting, serving, watches
from benchmarks.results import Figure, report

PART = "scrape"
_PROMETHEUS = "text/plain;version=0.0.4"
_OPENMETRICS = "application/openmetrics-text;version=1.0.0"


def main() -> None:
    """Print the figures and keep them."""
    report(PART, list(figures()))


def figures(*, series: int = 10_000, scrapes: int = 200, pause_s: float = 0.05) -> Iterator[Figure]:
    """Measure scrapes while new access lines of so many resources keep coming."""
    region = REGIONS[:1]
    config = f"accounts: [{{name: default, regions: [{region[0]}], calls_per_second: 25}}]\ninitial_lookback: 1d\n"
    # A stretch of the server lasts 9.5 s of event time: every resource is asked for at least once in it.
    per_second = max(1, series // 9)
    with (
        serving("--per-second", str(per_second), "--resources", str(series), "--failing", "0") as cloudwatch,
        exporting(config + "labels: {zero_hold: 0s}\n" + watches(1, region), cloudwatch) as exporter,
    ):
        shown = _series_once_all_are_shown(exporter, series)
        events = exporter.total("log_events_total")
        healthy = _latencies(exporter, "/-/healthy", _PROMETHEUS, scrapes, pause_s)
        base_ms = statistics.median(healthy)
        yield Figure(PART, "while polling", "series", shown, "")
        for case, accept in (("Prometheus text", _PROMETHEUS), ("OpenMetrics", _OPENMETRICS)):
            took = _latencies(exporter, "/metrics", accept, scrapes, pause_s)
            yield Figure(
                PART, case, "p50", _quantile(took, 0.5), "ms", _quantile(took, 0.5) / base_ms, "/-/healthy p50"
            )
            yield Figure(
                PART, case, "p99", _quantile(took, 0.99), "ms", _quantile(took, 0.99) / base_ms, "/-/healthy p50"
            )
        yield Figure(PART, "/-/healthy", "p50", base_ms, "ms")
        yield Figure(PART, "/-/healthy", "p99", _quantile(healthy, 0.99), "ms")
        yield Figure(PART, "while polling", "events read meanwhile", exporter.total("log_events_total") - events, "")


def _series_once_all_are_shown(exporter: Process, series: int) -> int:
    deadline = time.monotonic() + 30
    while True:
        lines = exporter.get("/metrics").splitlines()
        shown = sum(line.startswith(b"aws_apigateway_requests_total{") for line in lines)
        if shown >= series:
            return shown
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {shown} of {series} series came")
        time.sleep(0.2)


def _latencies(exporter: Process, path: str, accept: str, count: int, pause_s: float) -> list[float]:
    """Milliseconds of each request, body included."""
    connection = http.client.HTTPConnection(exporter.url.removeprefix("http://"), timeout=30)
    took = []
    for _ in range(count):
        began = time.perf_counter()
        connection.request("GET", path, headers={"Accept": accept})
        connection.getresponse().read()
        took.append((time.perf_counter() - began) * 1e3)
        time.sleep(pause_s)
    connection.close()
    return took


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


if __name__ == "__main__":
    main()
