"""A storm: every request fails, and every failure becomes spans on disk that a receiver takes.

Run as `python -m benchmarks.storm`. Sampling is off (the budget of traces is without bound), so that each failure goes
all the way: lines, cause, spans, outbox, receiver. The ratio is against decoding the same lines with msgspec alone.
"""

import time
from collections.abc import Iterator
from functools import partial

from benchmarks import pages, prepared
from benchmarks.daemon import REGIONS
from benchmarks.processes import exporting, serving, watches
from benchmarks.results import Figure, report

PART = "storm"


def main() -> None:
    """Print the figures and keep them."""
    report(PART, list(figures()))


def figures(*, warm_up_s: float = 5, seconds: float = 15, per_second: int = 50) -> Iterator[Figure]:
    """Measure failing requests at INFO and at ERROR level."""
    regions = REGIONS[:2]
    for level in ("INFO", "ERROR"):
        lines = prepared.execution_lines(2_000, failing=1, level=level)
        decode = pages.Rounds(partial(pages.decode_seconds, prepared.pages(lines))).least()
        decode_us = decode / 2_000 * 1e6
        config = "initial_lookback: 1d\nallowed_lateness: 1m30s\n" + watches(len(regions), regions, access=False)
        config += f"\naccounts: [{{name: default, regions: [{', '.join(regions)}], calls_per_second: 25}}]"
        with serving("--per-second", str(per_second), "--failing", "1", "--level", level) as server:
            config += f'\ntraces: {{endpoint: "{server.url}", budget: {{per_minute: 1000000000}}}}'
            with exporting(config, server) as exporter:
                time.sleep(warm_up_s)
                began, cpu, settled = time.monotonic(), exporter.cpu_seconds(), exporter.total("requests_settled_total")
                sent, most, waiting = exporter.total("spans_sent_total"), 0.0, 0.0
                while (elapsed := time.monotonic() - began) < seconds:
                    time.sleep(min(0.5, seconds / 4))
                    most = max(most, exporter.resident_mib())
                    waiting = max(waiting, exporter.total("outbox_bytes"))
                cpu = exporter.cpu_seconds() - cpu
                settled = exporter.total("requests_settled_total") - settled
                sent = exporter.total("spans_sent_total") - sent
        if not settled:
            raise RuntimeError("no failure was settled; a longer run may help")
        case = f"{level}, all failing"
        each_us = cpu / settled * 1e6
        yield Figure(PART, case, "CPU a failure, to the receiver", each_us, "us", each_us / decode_us, "decode")
        yield Figure(PART, case, "failures a CPU second", settled / cpu, "/s")
        yield Figure(PART, case, "failures a second", settled / elapsed, "/s")
        yield Figure(PART, case, "spans sent a second", sent / elapsed, "/s", sent / settled, "failures")
        yield Figure(PART, case, "outbox at most", waiting / 2**20, "MiB")
        yield Figure(PART, case, "resident at most", most, "MiB")


if __name__ == "__main__":
    main()
