"""What remains of a settled failure: enough to recognise its lines when they are read again, and no more.

Ids are set by callers and may be reused, so a tombstone stands under several *marks*: 64-bit hashes of a kind and an
id, filed by the minute of the failure's last line. Marks are exact for every practical purpose (one in 10^12 at a
million marks), cannot be turned back into ids, and are forgotten a minute at a time. This file keeps no times but
minutes, and does no I/O.
"""

from array import array
from collections.abc import Iterable, Mapping
from enum import StrEnum
from hashlib import blake2b

from exporter.envelope import PLACEHOLDER_IDS
from exporter.model import AccessGlance


class Mark(StrEnum):
    """What a mark stands for."""

    ACCESS = "A"
    """This access event is settled: the unit that is counted."""
    ID = "I"
    """A settled failure had this request id or extended request id."""
    LINKED = "E"
    """…and the extended ids that went with this request id are known: another one is another request."""
    UNCLAIMED = "X"
    """A failure under this id was settled without an access line: the first one to come belongs to it."""
    CLAIMED = "Z"
    """…and has come."""


def mark(kind: Mark, text: str) -> int:
    """The 64-bit hash of an id for one purpose, the same in every process."""
    return int.from_bytes(blake2b((kind + text).encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def joinable_ids(glance: AccessGlance) -> list[str]:
    """The ids of an access line that may join it to other lines, placeholders left out."""
    return [
        text
        for text in (glance.request_id, glance.extended_request_id)
        if text is not None and text not in PLACEHOLDER_IDS
    ]


_FEW_MARKS = 32_768
"""So many marks of a minute are kept as Python keeps sets: quicker, and five times as large."""
_BUCKETS = 16_384


class Tombstones:
    """The marks of one log group, by minute.

    Those of a minute in which much failed are kept as their bytes, one after the other, in buckets by their last bits:
    some twelve bytes a mark. Where two marks meet, a third may seem to stand across them; that is rarer than two ids
    of the same hash.
    """

    def __init__(self, packed: Mapping[int, bytes] | None = None) -> None:
        self._few: dict[int, set[int]] = {}
        self._many: dict[int, list[bytearray]] = {}
        for minute, body in (packed or {}).items():
            marks = array("Q")
            marks.frombytes(body)
            self.add(minute, marks)

    def __contains__(self, wanted: int) -> bool:
        for marks in self._few.values():
            if wanted in marks:
                return True
        if not self._many:
            return False
        body, bucket = wanted.to_bytes(8, "little"), wanted % _BUCKETS
        return any(body in buckets[bucket] for buckets in self._many.values())

    def __len__(self) -> int:
        many = sum(len(bucket) for buckets in self._many.values() for bucket in buckets)
        return sum(map(len, self._few.values())) + many // 8

    def add(self, minute: int, marks: Iterable[int]) -> None:
        """File marks under a minute (`at_ms // 60_000`)."""
        buckets = self._many.get(minute)
        if buckets is None:
            known = self._few.setdefault(minute, set())
            known.update(marks)
            if len(known) <= _FEW_MARKS:
                return
            buckets = self._many[minute] = [bytearray() for _ in range(_BUCKETS)]
            marks = self._few.pop(minute)
        for one in marks:
            body, bucket = one.to_bytes(8, "little"), buckets[one % _BUCKETS]
            if body not in bucket:
                bucket += body

    def expired(self, before_minute: int) -> list[int]:
        """The minutes that lie before `before_minute`."""
        return [minute for minute in (*self._few, *self._many) if minute < before_minute]

    def drop(self, minutes: Iterable[int]) -> None:
        """Forget whole minutes."""
        for minute in minutes:
            self._few.pop(minute, None)
            self._many.pop(minute, None)


def pack(marks: Iterable[int]) -> bytes:
    """Marks as the ledger keeps them: 8 bytes each."""
    return array("Q", sorted(marks)).tobytes()
