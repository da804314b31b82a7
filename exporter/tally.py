"""How often each series was seen, by stretches of ten seconds: totals without remembering a single id.

Every listing of a stretch counts its lines anew; a line is never taken away from CloudWatch, so the greatest count of
any one listing is the truth so far. A tally rises to it, and the difference is what the counter gains: reading a
stretch again, in whole or in part, adds nothing. Stretches behind a group's watermark are closed and never count.
Nothing here reads lines or knows what a series means.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from exporter.model import CounterKey
from exporter.windows import BUCKET_MS, MINUTE_MS

_CELLS = MINUTE_MS // BUCKET_MS

Cells = dict[CounterKey, list[int]]
"""One minute: for each series, one count for each ten seconds."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[CounterKey, list[int]]]).decode


class Raised(NamedTuple):
    """What one or more listings added."""

    increments: dict[CounterKey, int]
    changed: dict[int, Cells]
    """The new cells of every minute that changed, to be packed, committed, then kept."""


class Seen:
    """One listing's own counts. A stretch that the listing saw in part counts in part."""

    def __init__(self) -> None:
        self.buckets: dict[int, dict[CounterKey, int]] = {}

    def bucket(self, number: int) -> dict[CounterKey, int]:
        """The counts of the ten seconds `number` (`at_ms // BUCKET_MS`), to count into."""
        return self.buckets.setdefault(number, {})

    def add(self, at_ms: int, key: CounterKey, amount: int = 1) -> None:
        """Count `amount` (at least 0) for `key` in the ten seconds of `at_ms`."""
        counts = self.bucket(at_ms // BUCKET_MS)
        counts[key] = counts.get(key, 0) + amount


class Tally:
    """The greatest counts seen, of one log group."""

    def __init__(self, packed: Mapping[int, bytes] | None = None) -> None:
        self._minutes: dict[int, Cells] = {minute: dict(_decode(body)) for minute, body in (packed or {}).items()}

    def raised_by(self, listings: Iterable[Seen], watermark_ms: int) -> Raised:
        """What `listings` add to the tally, which itself stays as it is until `keep`."""
        greatest: dict[int, dict[CounterKey, int]] = {}
        for seen in listings:
            for bucket, counts in seen.buckets.items():
                if (bucket + 1) * BUCKET_MS <= watermark_ms:
                    continue
                best = greatest.setdefault(bucket, {})
                for key, count in counts.items():
                    if count > best.get(key, 0):
                        best[key] = count
        increments: dict[CounterKey, int] = {}
        changed: dict[int, Cells] = {}
        for bucket, counts in greatest.items():
            minute, cell = divmod(bucket, _CELLS)
            known = self._minutes.get(minute, {})
            for key, count in counts.items():
                before = known[key][cell] if key in known else 0
                if count <= before:
                    continue
                if minute not in changed:
                    changed[minute] = {name: list(cells) for name, cells in known.items()}
                changed[minute].setdefault(key, [0] * _CELLS)[cell] = count
                increments[key] = increments.get(key, 0) + count - before
        return Raised(increments, changed)

    def keep(self, changed: Mapping[int, Cells]) -> None:
        """Take over minutes that have been committed."""
        self._minutes.update(changed)

    def closed(self, watermark_ms: int) -> list[int]:
        """The minutes that lie wholly behind the watermark: they can never count again."""
        return [minute for minute in self._minutes if (minute + 1) * MINUTE_MS <= watermark_ms]

    def drop(self, minutes: Iterable[int]) -> None:
        """Forget whole minutes."""
        for minute in minutes:
            self._minutes.pop(minute, None)


def pack(cells: Cells) -> bytes:
    """A minute as the ledger keeps it."""
    return _encode(list(cells.items()))
