"""How many failures there were in each minute, of what kind: what the charts show.

Every failure is counted here, also those that are not kept. What is older than a day, or more than memory is meant for,
is forgotten minute by minute, the oldest first. It knows no clock.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from exporter.failures.entry import Kind

MINUTE_MS = 60_000
KEPT_MINUTES = 24 * 60
MOST_CELLS = 50_000
"""Counts kept, each of one kind in one minute."""


class Minutes:
    """Not safe to share between threads by itself."""

    def __init__(self) -> None:
        self._counts: dict[int, Counter[Kind]] = {}
        self._cells = 0

    def add(self, failures: Mapping[tuple[int, Kind], int]) -> None:
        """Count failures, by minute (since the epoch) and kind. What is too old for every chart is not counted."""
        for (minute, kind), count in failures.items():
            counts = self._counts.setdefault(minute, Counter())
            self._cells += kind not in counts
            counts[kind] += count
        if failures:
            self._forget()

    @property
    def first_ms(self) -> int | None:
        """The beginning of the first minute that is known."""
        return min(self._counts) * MINUTE_MS if self._counts else None

    def kinds(self) -> frozenset[Kind]:
        """Every kind that was counted."""
        return frozenset().union(*self._counts.values()) if self._counts else frozenset()

    def counted(self, start_ms: int, end_ms: int, wanted: Callable[[Kind], bool]) -> Iterable[tuple[int, Kind, int]]:
        """Beginning of a minute, kind, count: of each minute that begins within the stretch, end excluded."""
        chosen: dict[Kind, bool] = {}
        for minute, counts in self._counts.items():
            if start_ms <= minute * MINUTE_MS < end_ms:
                for kind, count in counts.items():
                    if kind not in chosen:
                        chosen[kind] = wanted(kind)
                    if chosen[kind]:
                        yield minute * MINUTE_MS, kind, count

    def _forget(self) -> None:
        newest = max(self._counts)
        for minute in sorted(self._counts)[:-1]:
            if self._cells <= MOST_CELLS and minute > newest - KEPT_MINUTES:
                break
            self._cells -= len(self._counts.pop(minute))
