"""What settled failures leave behind: marks by which their lines are known when they are read again.

Run as `python -m benchmarks.tombstones`. How many marks of a failure stay in memory is counted in what a poll commits,
of a watch on both logs, on access lines alone and on execution lines alone; what a mark takes, with what stands on it,
in a process of its own that files as many as twelve minutes of ten thousand failures a second leave. The ratio of the
memory is against the budget.
"""

import os
import random
import tempfile
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from benchmarks import pages, prepared
from benchmarks.processes import Process
from benchmarks.results import Figure, report
from exporter.ledger.sqlite import SqliteLedger
from exporter.metrics import STAGE_FAILURES
from exporter.model import Commit, LogGroup, Page, Window
from exporter.tombstones import Tombstones, filed_under, inscription
from exporter.windows import MINUTE_MS

PART = "tombstones"
MINUTES = 12
PER_SECOND = 10_000
BUDGET_MIB = 80
_AT_ONCE = 20_000
_FAILURES = 500
_NOW_MS = prepared.START_MS + 120_000


class _Told(SqliteLedger):
    """Counts what commits leave, and leaves it at that."""

    has_access = has_execution = True
    marks = failures = 0

    def commit(self, commit: Commit) -> None:
        for (_, minute), packed in commit.tombstones.items():
            if packed is not None:
                self.marks += len(
                    Tombstones({minute: packed}, has_access=self.has_access, has_execution=self.has_execution)
                )
        self.failures += sum(count for key, count in commit.increments.items() if key.metric == STAGE_FAILURES.name)


class _Sources:
    """A source for each group, by its name."""

    def __init__(self, sources: Mapping[str, pages.PreparedSource]) -> None:
        self._sources = sources

    def now_ms(self) -> int:
        return _NOW_MS

    def selected(self, pattern: str, messages: Sequence[str]) -> frozenset[str] | None:
        del pattern, messages
        return None

    def pages(self, group: LogGroup, window: Window, pattern: str | None = None, parts: int = 1) -> Iterator[Page]:
        return self._sources[group.name].pages(group, window, pattern, parts)


class _Filed(NamedTuple):
    """What filing marks took."""

    mib: float
    add_us: float
    miss_us: float
    """To look for a mark that is not there, in all files."""


def main() -> None:
    """Print the figures and keep them."""
    report(PART, list(figures()))


def figures(*, minutes: int = MINUTES, per_second: int = PER_SECOND) -> Iterator[Figure]:
    """Measure a storm of `minutes` with so many failures `per_second`."""
    files: dict[float, _Filed] = {}
    for case, access, execution in (
        ("both logs", True, True),
        ("access log only", True, False),
        ("execution log only", False, True),
    ):
        marks = marks_of_a_failure(access=access, execution=execution)
        if marks not in files:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                files[marks] = process.submit(_file, round(marks * minutes * 60 * per_second), minutes).result()
        filed = files[marks]
        told = f"{case}, {minutes} min at {per_second:,}/s"
        yield Figure(PART, told, "marks a failure", marks, "")
        yield Figure(PART, told, "memory", filed.mib, "MiB", filed.mib / BUDGET_MIB, f"{BUDGET_MIB} MiB")
        yield Figure(PART, told, "to file a mark", filed.add_us, "us")
        yield Figure(PART, told, "to look for one in vain", filed.miss_us, "us")


def marks_of_a_failure(*, access: bool, execution: bool) -> float:
    """How many marks each failure of a watch on these logs leaves."""
    sources, groups = {}, []
    if access:
        lines = prepared.access_lines(_FAILURES, failing=1, form="json")
        sources["access"] = pages.PreparedSource(prepared.pages(lines), _NOW_MS)
        groups.append(replace(pages.spec_of("json").groups[0], group=pages.GROUP._replace(name="access")))
    if execution:
        lines = prepared.execution_lines(_FAILURES, failing=1, level="INFO")
        sources["execution"] = pages.PreparedSource(prepared.pages(lines), _NOW_MS)
        groups.append(replace(pages.spec_of(None).groups[0], group=pages.GROUP._replace(name="execution")))
    with tempfile.TemporaryDirectory() as directory, closing(_Told(Path(directory) / "state.db")) as ledger:
        spec = replace(pages.spec_of(None), groups=tuple(groups))
        ledger.has_access, ledger.has_execution = access, execution
        pages.watch_of(spec, _Sources(sources), ledger, spans=False).poll()
        assert ledger.failures == _FAILURES
        return ledger.marks / _FAILURES


def _file(marks: int, minutes: int) -> _Filed:
    """File random marks over so many minutes, in a process that does nothing else."""
    own = Process(os.getpid(), "", time.monotonic())
    rng, stones = random.Random(5), Tombstones()
    some, said = _random(rng, _AT_ONCE)  # what these take is no tombstone's
    before, spent = own.resident_mib(), 0.0
    for filed in range(0, marks, _AT_ONCE):
        some, said = _random(rng, min(_AT_ONCE, marks - filed))
        began = time.process_time()
        stones.add(filed_under(filed * minutes // marks * MINUTE_MS), zip(some, said, strict=True))
        spent += time.process_time() - began
    others, _ = _random(rng, _AT_ONCE)
    began = time.process_time()
    found = sum(one in stones for one in others)
    missed = time.process_time() - began
    assert not found
    return _Filed(own.resident_mib() - before, spent / marks * 1e6, missed / len(others) * 1e6)


def _random(rng: random.Random, count: int) -> tuple[Sequence[int], Sequence[int]]:
    """So many marks, and what they say: the marks that stand on a mark are as random as itself."""
    some = array("Q", rng.randbytes(8 * count))
    return some, [inscription(event=one >> 8, extended=one >> 16) for one in some]


if __name__ == "__main__":
    main()
