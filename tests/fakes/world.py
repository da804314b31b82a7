"""What is logged, in the order and with the visibility CloudWatch Logs gives it; no HTTP, no faults.

Event ids are built as AWS builds them, so that their order is the listing's order:
`event time << 144 | ingestion time << 80 | id of the put request << 16 | index in the batch`, 56 decimal digits.
"""

import random
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import NamedTuple

import msgspec

DAY_MS = 86_400_000
FUTURE_MS = 2 * 3_600_000
OLDEST_MS = 14 * DAY_MS
BATCH_EVENTS = 10_000


class Stored(NamedTuple):
    """One event and its part of an answer, encoded once."""

    number: int
    event_id: str
    at_ms: int
    ingested_at_ms: int
    message: str
    stream: str
    encoded: bytes


class Group:
    """A log group: events in order of id."""

    def __init__(self, name: str, created_at_ms: int, retention_days: int | None) -> None:
        self.name = name
        self.created_at_ms = created_at_ms
        self.retention_days = retention_days
        self.events: list[Stored] = []

    def visible(self, now_ms: int, delay_ms: int, start_ms: int, after: int) -> Iterator[Stored]:
        """Events from `start_ms` on, behind the id `after`, that a reader could see at `now_ms`."""
        if self.retention_days is not None:
            start_ms = max(start_ms, now_ms - self.retention_days * DAY_MS)
        first = max(start_ms << 144, after + 1)
        ingested_until_ms = now_ms - delay_ms
        events = self.events
        for index in range(bisect_left(events, first, key=attrgetter("number")), len(events)):
            if events[index].ingested_at_ms <= ingested_until_ms:
                yield events[index]


class World:
    """All log groups. Every method may be called while listings go on."""

    def __init__(self, clock: Callable[[], float], seed: int) -> None:
        self.clock = clock
        self.groups: dict[str, Group] = {}
        self.lock = threading.RLock()
        self._random = random.Random(seed)

    def now_ms(self) -> int:
        return int(self.clock() * 1000)

    def create_group(self, name: str, *, retention_days: int | None = None) -> None:
        with self.lock:
            if name in self.groups:
                raise ValueError(f"{name} exists")
            self.groups[name] = Group(name, self.now_ms(), retention_days)

    def delete_group(self, name: str) -> None:
        with self.lock:
            del self.groups[name]

    def put(
        self,
        group: str,
        events: Iterable[tuple[int, str]],
        *,
        ingested_at_ms: int | None = None,
        stream: str = "stream-1",
    ) -> list[str]:
        """One PutLogEvents batch of (event time in ms, message), ingested now unless told; the ids, in its order."""
        batch = list(events)
        ingested = self.now_ms() if ingested_at_ms is None else ingested_at_ms
        if len(batch) > BATCH_EVENTS:
            raise ValueError("AWS takes no batch of more than 10,000 events")
        if any(not ingested - OLDEST_MS <= at_ms <= ingested + FUTURE_MS for at_ms, _ in batch):
            raise ValueError("AWS takes no event older than 14 days or more than 2 hours ahead")
        stored = self._batch(batch, ingested, stream)
        self._store(group, stored)
        return [event.event_id for event in stored]

    def load(self, lines: Iterable[str], start_ms: int) -> int:
        """Put a world file's events, its times counted from `start_ms`; returns how many.

        One JSON object a line: `{"group", "at_ms", "ingested_at_ms", "message"}`, perhaps `"stream"`. Those of equal
        group, stream and ingestion time are one batch (cut at 10,000 events).
        """
        batches: dict[tuple[str, str, int], list[tuple[int, str]]] = {}
        for line in lines:
            event = msgspec.json.decode(line)
            key = (event["group"], event.get("stream", "stream-1"), start_ms + event["ingested_at_ms"])
            batches.setdefault(key, []).append((start_ms + event["at_ms"], event["message"]))
        new: dict[str, list[Stored]] = {}
        for (group, stream, ingested), events in batches.items():
            for first in range(0, len(events), BATCH_EVENTS):
                batch = events[first : first + BATCH_EVENTS]
                new.setdefault(group, []).extend(self._batch(batch, ingested, stream))
        for group, stored in new.items():
            self._store(group, stored)
        return sum(map(len, new.values()))

    def _batch(self, batch: list[tuple[int, str]], ingested: int, stream: str) -> list[Stored]:
        put_id = self._random.getrandbits(64)
        return [
            _stored(at_ms << 144 | ingested << 80 | put_id << 16 | index, at_ms, ingested, message, stream)
            for index, (at_ms, message) in enumerate(batch)
        ]

    def _store(self, group: str, stored: list[Stored]) -> None:
        with self.lock:
            if group not in self.groups:
                self.create_group(group)
            kept = self.groups[group]
            # A new list, so that a listing under way in another thread keeps reading the old one.
            kept.events = sorted([*kept.events, *stored])


def _stored(number: int, at_ms: int, ingested: int, message: str, stream: str) -> Stored:
    event_id = f"{number:056d}"
    event = {
        "logStreamName": stream,
        "timestamp": at_ms,
        "message": message,
        "ingestionTime": ingested,
        "eventId": event_id,
    }
    return Stored(number, event_id, at_ms, ingested, message, stream, msgspec.json.encode(event))
