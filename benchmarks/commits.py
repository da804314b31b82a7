"""Commits of many watches at once, on the disk at hand and on one whose syncs take ten milliseconds.

Run as `python -m benchmarks.commits`. Each measurement is a process of its own whose threads, one a watch, commit as
fast as they can what a poll with a few failures commits. *Grouped* is the ledger as it is; *singly*, threads take
turns, so that each commit is a transaction of its own. The slow disk is the same one behind a small library that
delays `fsync` and `fdatasync`, made with `cc` and preloaded; without a compiler it is left out, which the table says.
The ratio is against one commit a transaction by the same number of watches.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import NamedTuple

from benchmarks import prepared
from benchmarks.processes import ROOT
from benchmarks.results import Figure, report
from exporter.ledger.sqlite import SqliteLedger
from exporter.metrics import COUNTED
from exporter.model import Commit, CounterKey, GroupProgress, LogGroup, SpanBatch

PART = "commits"
SYNC_MS = 10
_DELAY = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
static int delayed(const char *name, int file) {
    struct timespec pause = {0, MILLISECONDS * 1000000L};
    nanosleep(&pause, 0);
    return ((int (*)(int))dlsym(RTLD_NEXT, name))(file);
}
int fsync(int file) { return delayed("fsync", file); }
int fdatasync(int file) { return delayed("fdatasync", file); }
"""


class Measured(NamedTuple):
    """What committing came to."""

    commits: int
    seconds: float
    p50_ms: float
    p99_ms: float
    written_bytes: int
    log_bytes: int
    """The write-ahead log's size at the end, which it never shrinks below."""


def main() -> None:
    """Print the figures and keep them."""
    if len(sys.argv) > 1:
        watches, seconds, singly = sys.argv[1:]
        print(json.dumps(measure(int(watches), float(seconds), singly=singly == "singly")))
    else:
        report(PART, list(figures()))


def figures(*, counts: tuple[int, ...] = (1, 10, 100), seconds: float = 3) -> Iterator[Figure]:
    """Measure both disks with each number of watches."""
    with tempfile.TemporaryDirectory() as name:
        delay = _delaying_library(Path(name))
        for disk, library in (("disk at hand", None), (f"syncs of {SYNC_MS} ms", delay)):
            if library is None and disk != "disk at hand":
                yield Figure(PART, f"{disk}: left out, there is no cc", "", 0, "")
                continue
            for watches in counts:
                single = _measured(watches, seconds, library, singly=True)
                grouped = _measured(watches, seconds, library, singly=False)
                yield from _told(f"{disk}, {watches} watches", single, grouped)


def measure(watches: int, seconds: float, *, singly: bool) -> Measured:
    """Commit from as many threads as there are watches."""
    took: list[list[float]] = [[] for _ in range(watches)]
    turn = threading.Lock() if singly else nullcontext()
    with tempfile.TemporaryDirectory() as name, closing(SqliteLedger(Path(name) / "state.db")) as ledger:
        for watch in range(watches):
            ledger.commit(commit_of(watch, 0))
        begun = threading.Barrier(watches + 1)
        ends = 0.0

        def polls(watch: int) -> None:
            number = 0
            begun.wait()
            while (began := time.perf_counter()) < ends:
                number += 1
                with turn:
                    ledger.commit(commit_of(watch, number))
                took[watch].append(time.perf_counter() - began)

        threads = [threading.Thread(target=polls, args=[watch]) for watch in range(watches)]
        for thread in threads:
            thread.start()
        written, began = _written_bytes(), time.perf_counter()
        ends = began + seconds
        begun.wait()
        for thread in threads:
            thread.join()
        elapsed, written = time.perf_counter() - began, _written_bytes() - written
        log_bytes = (Path(name) / "state.db-wal").stat().st_size
    all_ms = sorted(one * 1e3 for found in took for one in found)
    return Measured(len(all_ms), elapsed, all_ms[len(all_ms) // 2], all_ms[len(all_ms) * 99 // 100], written, log_bytes)


def commit_of(watch: int, number: int) -> Commit:
    """What a poll commits that found three failures among requests of five kinds, each with its histograms."""
    group = LogGroup("default", "eu-west-1", f"access/api{watch}")
    minute = prepared.START_MS // 60_000 + number // 3
    increments = {}
    for metric in COUNTED:
        name = metric.name + ("_bucket" if metric.kind.value == "histogram" else "")
        for kind in range(5):
            labels = (f"api{watch}", *(f"{label}{kind}" for label in metric.labels[1:]))
            increments[CounterKey(name, (*labels, "1") if metric.kind.value == "histogram" else labels)] = 1
    return Commit(
        progress={group: GroupProgress(number, number)},
        tallies={(group, minute): bytes(1_500), (group, minute - 8): None},
        tombstones={(group, minute): bytes(8 * 9), (group, minute - 14): None},
        increments=increments,
        spans=(SpanBatch(body=bytes(2_500), spans=6),),
        at_ms=prepared.START_MS + number * 20_000,
    )


def _measured(watches: int, seconds: float, library: Path | None, *, singly: bool) -> Measured:
    command = [
        sys.executable,
        "-m",
        "benchmarks.commits",
        str(watches),
        str(seconds),
        "singly" if singly else "grouped",
    ]
    environ = dict(os.environ) if library is None else {**os.environ, "LD_PRELOAD": str(library)}
    done = subprocess.run(command, cwd=ROOT, env=environ, check=True, capture_output=True, text=True)
    return Measured(*json.loads(done.stdout))


def _told(case: str, single: Measured, grouped: Measured) -> Iterator[Figure]:
    for name, one in (("singly", single), ("grouped", grouped)):
        rate, base = one.commits / one.seconds, single.commits / single.seconds
        yield Figure(PART, case, f"{name}: commits a second", rate, "/s", rate / base, "singly")
        yield Figure(PART, case, f"{name}: p50", one.p50_ms, "ms", one.p50_ms / single.p50_ms, "singly")
        yield Figure(PART, case, f"{name}: p99", one.p99_ms, "ms", one.p99_ms / single.p99_ms, "singly")
        each = one.written_bytes / one.commits / 1024
        yield Figure(PART, case, f"{name}: written a commit", each, "KiB")
    yield Figure(PART, case, "write-ahead log", grouped.log_bytes / 2**20, "MiB")


def _written_bytes() -> int:
    """What this process has given to `write` so far."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar"))


def _delaying_library(directory: Path) -> Path | None:
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    source, library = directory / "delay.c", directory / "delay.so"
    source.write_text(_DELAY, encoding="ascii")
    subprocess.run(
        [compiler, "-shared", "-fPIC", f"-DMILLISECONDS={SYNC_MS}", "-o", library, source, "-ldl"], check=True
    )
    return library


if __name__ == "__main__":
    main()
