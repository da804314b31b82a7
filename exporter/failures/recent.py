"""The last failures of each cause at each stage, in memory, so that a storm of one does not push out a rare one.

It is told of failures when they are durable, never before. Memory is bounded: of a cause at a stage the last 50 are
kept, and when all of them together are too big, whoever has most gives up its oldest. A restart starts empty.
"""

import heapq
import threading
from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from exporter.failures.entry import Entry, Kind, arrival_ms, entry_of, kind_of
from exporter.failures.minutes import MINUTE_MS, Minutes
from exporter.record import Told
from exporter.spans import SpanOptions

PER_CAUSE = 50
"""The most failures kept of one cause at one stage."""
MAX_BYTES = 24 * 1024 * 1024
"""The most memory that failures take; the counts for the charts come on top (at most some 10 MiB)."""

_ENTRY_BYTES = 1_024
"""What an entry takes beside what is packed, rather more than less."""

_Crowd = tuple[str, str, str]


class Holding(NamedTuple):
    """What is kept at the moment."""

    failures: int
    size_bytes: int
    learned: int
    """Failures that were told of in the life of this process, kept or not."""


class RecentFailures:
    """Safe to share between threads."""

    def __init__(self, *, since_ms: int, per_cause: int = PER_CAUSE, max_bytes: int = MAX_BYTES) -> None:
        """`since_ms`: when this process began; what was counted before is not known."""
        self.since_ms = since_ms
        self.per_cause = per_cause
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._crowds: dict[_Crowd, list[Entry]] = {}
        """By API, stage and cause; in order of time."""
        self._by_id: dict[str, Entry] = {}
        self._minutes = Minutes()
        self._size_bytes = 0
        self._learned = 0

    def add(self, failures: Sequence[Told], options: SpanOptions) -> None:
        """Take in failures that are durable; `options`: how their traces are made, and what of them may be shown."""
        if not failures:
            return
        counts: Counter[tuple[int, Kind]] = Counter()
        crowds: defaultdict[_Crowd, list[tuple[int, int]]] = defaultdict(list)
        kinds = [kind_of(told) for told in failures]
        for number, (told, kind) in enumerate(zip(failures, kinds, strict=True)):
            at_ms = arrival_ms(told)
            counts[at_ms // MINUTE_MS, kind] += 1
            crowds[_crowd_of(kind)].append((at_ms, number))
        # In a storm most are pushed out at once: only of what may stay is an entry made, and outside of the lock.
        entries = [
            entry_of(failures[number], kinds[number], options)
            for crowd, arrivals in crowds.items()
            for at_ms, number in heapq.nlargest(self.per_cause, arrivals)
            if at_ms >= self._oldest_ms(crowd)
        ]
        with self._lock:
            self._learned += len(failures)
            self._minutes.add(counts)
            for entry in entries:
                self._insert(entry)
            while self._size_bytes > self.max_bytes and self._by_id:
                self._drop_oldest(max(self._crowds, key=lambda crowd: len(self._crowds[crowd])))

    def get(self, identity: str) -> Entry | None:
        """A failure by its id, if it is still here."""
        return self._by_id.get(identity)

    def newest_first(self) -> list[Entry]:
        """Every failure that is kept."""
        with self._lock:
            entries = list(self._by_id.values())
        return sorted(entries, key=order_of, reverse=True)

    def counted(
        self, start_ms: int, end_ms: int, wanted: Callable[[Kind], bool] = lambda _: True
    ) -> list[tuple[int, Kind, int]]:
        """Beginning of a minute, kind, count; see `Minutes`. Every failure, kept or not."""
        with self._lock:
            return list(self._minutes.counted(start_ms, end_ms, wanted))

    def kinds(self) -> frozenset[Kind]:
        """Every kind of failure that is known."""
        with self._lock:
            return self._minutes.kinds() | {entry.kind for entry in self._by_id.values()}

    @property
    def first_ms(self) -> int | None:
        """From when on failures are counted for charts; None: there was none."""
        with self._lock:
            return self._minutes.first_ms

    def holding(self) -> Holding:
        """How much is kept."""
        with self._lock:
            return Holding(len(self._by_id), self._size_bytes, self._learned)

    def _oldest_ms(self, crowd: _Crowd) -> int:
        """What is older than this would be pushed out at once."""
        with self._lock:
            entries = self._crowds.get(crowd, [])
            return entries[0].at_ms if len(entries) >= self.per_cause else -1

    def _insert(self, entry: Entry) -> None:
        known = self._by_id.get(entry.id)
        if known is not None:
            # Lines without an access event may share all their ids: the page can show one of them.
            self._remove(known)
        crowd = _crowd_of(entry.kind)
        insort(self._crowds.setdefault(crowd, []), entry, key=order_of)
        self._by_id[entry.id] = entry
        self._size_bytes += _size_of(entry)
        if len(self._crowds[crowd]) > self.per_cause:
            self._drop_oldest(crowd)

    def _drop_oldest(self, crowd: _Crowd) -> None:
        self._remove(self._crowds[crowd][0])

    def _remove(self, entry: Entry) -> None:
        crowd = _crowd_of(entry.kind)
        self._crowds[crowd].remove(entry)
        if not self._crowds[crowd]:
            del self._crowds[crowd]
        del self._by_id[entry.id]
        self._size_bytes -= _size_of(entry)


def order_of(entry: Entry) -> tuple[int, str]:
    """The order in which failures are listed, the other way round."""
    return entry.at_ms, entry.id


def _crowd_of(kind: Kind) -> _Crowd:
    return kind.api_id, kind.stage, kind.cause


def _size_of(entry: Entry) -> int:
    return len(entry.packed) + _ENTRY_BYTES
