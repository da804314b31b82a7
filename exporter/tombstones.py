"""What remains of a settled failure: enough to recognise its lines when they are read again, and no more.

Ids are set by callers and may be reused, so a tombstone stands under several *marks*: 64-bit hashes of a kind and an
id, filed by the four minutes in which the failure's last line lies. Marks are exact for every practical purpose (one
look-up in 10^12 errs at a million marks, one in 10^10 at twenty million), cannot be turned back into ids, and are
forgotten four minutes at a time. This file keeps no other times, and does no I/O.
"""

from array import array
from collections.abc import Iterable, Mapping
from enum import StrEnum
from hashlib import blake2b

from exporter.envelope import PLACEHOLDER_IDS
from exporter.model import AccessGlance
from exporter.windows import MINUTE_MS


class Mark(StrEnum):
    """What a mark stands for."""

    ACCESS = "A"
    """This access event is settled: the unit that is counted."""
    ID = "I"
    """A settled failure had this request id or extended request id."""
    LINKED = "E"
    """…and the extended ids that went with this request id are known: another one is another request."""
    NAMELESS = "N"
    """A settled failure's request id is not known: execution lines that tell that one alone may be its own."""
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


_STRETCH = 4
"""So many minutes of marks are filed together: what is asked for is sought in each file, and nearly always in vain."""
_FEW_MARKS = 65_536
"""So many marks of a file are kept as Python keeps sets: quicker, and six times as large."""
_BUCKET_BITS = 14
_BUCKETS = 1 << _BUCKET_BITS
_BODY_BYTES = 6


def _placed(one: int) -> tuple[bytes, int]:
    """What is kept of a mark in a file of many, and in which bucket: 62 of its bits."""
    body = one >> _BUCKET_BITS & (1 << 8 * _BODY_BYTES) - 1
    return body.to_bytes(_BODY_BYTES, "little"), one % _BUCKETS


def filed_under(at_ms: int) -> int:
    """The minute (`at_ms // 60_000`) that stands for the file of this time, its first one."""
    minute = at_ms // MINUTE_MS
    return minute - minute % _STRETCH


class Tombstones:
    """The marks of one log group, by minute of their file.

    Those of a file in which much failed are kept as six bytes, one after the other, in buckets by their last 14 bits:
    seven to eleven bytes a mark. Where two marks meet, a third may seem to stand across them.
    """

    def __init__(self, packed: Mapping[int, bytes] | None = None) -> None:
        self._few: dict[int, set[int]] = {}
        self._many: dict[int, list[bytes]] = {}
        for minute, body in (packed or {}).items():
            marks = array("Q")
            marks.frombytes(body)
            self.add(minute, marks)

    def __contains__(self, wanted: int) -> bool:
        for marks in self._few.values():
            if wanted in marks:
                return True
        if self._many:
            body, bucket = _placed(wanted)
            for buckets in self._many.values():
                if body in buckets[bucket]:
                    return True
        return False

    def __len__(self) -> int:
        many = sum(len(bucket) for buckets in self._many.values() for bucket in buckets)
        return sum(map(len, self._few.values())) + many // _BODY_BYTES

    def add(self, minute: int, marks: Iterable[int]) -> None:
        """File marks under a minute, one that `filed_under` gave."""
        buckets = self._many.get(minute)
        if buckets is None:
            known = self._few.setdefault(minute, set())
            known.update(marks)
            if len(known) <= _FEW_MARKS:
                return
            buckets = self._many[minute] = [b""] * _BUCKETS
            marks = self._few.pop(minute)
        for one in marks:
            body, bucket = _placed(one)
            if body not in buckets[bucket]:
                buckets[bucket] += body

    def expired(self, before_minute: int) -> list[int]:
        """The files that lie wholly before `before_minute`, by their minutes."""
        return [minute for minute in (*self._few, *self._many) if minute + _STRETCH <= before_minute]

    def drop(self, minutes: Iterable[int]) -> None:
        """Forget whole files."""
        for minute in minutes:
            self._few.pop(minute, None)
            self._many.pop(minute, None)


def pack(marks: Iterable[int]) -> bytes:
    """Marks as the ledger keeps them: 8 bytes each."""
    return array("Q", sorted(marks)).tobytes()
