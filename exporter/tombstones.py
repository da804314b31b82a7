"""What remains of a settled failure: enough to recognise its lines when they are read again, and no more.

Ids are set by callers and may be reused, so a failure is remembered under several *marks*: 64-bit hashes of a kind and
an id, filed by the four minutes in which its last line lies. A mark may bear an *inscription*: prints of other marks
that went with it, so that all a failure leaves is most often one mark, that of its request id. Marks cannot be turned
back into ids, and are forgotten four minutes at a time. This file keeps no other times, and does no I/O.

How sure it is: a file of few marks compares all 64 bits of one, a file of many 51. At 10,000 failures a second one
look-up in 300 million finds a mark that is not there; and of requests that share their id with a failure, one in two
million (by its event) or one in a million (by its extended id) is taken for that failure.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
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
    ENDED = "T"
    """A failure without an access line ended with this event; of ids that others had before."""


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


# ------------------------------------------------------------------------------------------------------ inscriptions

# One bit, then 21, then 20: whether the failure had no access line; a print of its access event, else of the minute
# under which its access line will be known; a print of the extended id that went with the request id.
_EXTENDED_BITS = 20
_EVENT_BITS = 21
_UNCLAIMED = 1 << _EVENT_BITS + _EXTENDED_BITS
_NO_PRINT = 0
_IS_EXTENDED_ID = (1 << _EXTENDED_BITS) - 1
"""Instead of a print of an extended id: the inscription stands on the mark of one."""


def _event_print(of: int) -> int:
    return of % ((1 << _EVENT_BITS) - 1) + 1


def _extended_print(of: int) -> int:
    return of % (_IS_EXTENDED_ID - 1) + 1


def inscription(
    *, event: int | None = None, unclaimed_at: int | None = None, extended: int | None = None, is_extended: bool = False
) -> int:
    """What a mark of kind `ID` says of the failure besides: the marks that would stand beside it, in 42 bits.

    `event`: of kind `ACCESS`. `unclaimed_at`: of kind `UNCLAIMED`, of an id and a minute. `extended`: of kind `ID`, of
    the extended id that went with this request id. `is_extended`: this mark is that of an extended id. 0: nothing.
    """
    said = _IS_EXTENDED_ID if is_extended else _NO_PRINT if extended is None else _extended_print(extended)
    if event is not None:
        said |= _event_print(event) << _EXTENDED_BITS
    elif unclaimed_at is not None:
        said |= _UNCLAIMED | _event_print(unclaimed_at) << _EXTENDED_BITS
    return said


def is_unclaimed(said: int) -> bool:
    """Whether it was settled without an access line."""
    return said & _UNCLAIMED != 0


def is_of_event(said: int, event: int) -> bool:
    """Whether this access event is its own."""
    return said >> _EXTENDED_BITS == _event_print(event)


def is_unclaimed_at(said: int, at: int) -> bool:
    """Whether it was settled without an access line, and in that minute."""
    return said >> _EXTENDED_BITS == _event_print(at) | 1 << _EVENT_BITS


def is_unclaimed_extended_id(said: int) -> bool:
    """Whether it stands on an extended id, of a failure that was settled without an access line."""
    return is_unclaimed(said) and said & _IS_EXTENDED_ID == _IS_EXTENDED_ID


def is_linked(said: int) -> bool:
    """Whether the extended id that went with this request id is known."""
    return said & _IS_EXTENDED_ID not in (_NO_PRINT, _IS_EXTENDED_ID)


def is_linked_to(said: int, extended: int) -> bool:
    """Whether it is this one."""
    return said & _IS_EXTENDED_ID == _extended_print(extended)


# ------------------------------------------------------------------------------------------------------------- files

_STRETCH = 4
"""So many minutes of marks are filed together: what is asked for is sought in each file, and nearly always in vain."""
_FEW_MARKS = 8_192
"""So many marks of a file are kept as Python keeps mappings: quicker, and ten times as large."""
_BUCKET_BITS = 13
_HEAD_BYTES = 4
_REST_BITS = 6
_SAID_BITS = _UNCLAIMED.bit_length()
_ENTRY_BYTES = _HEAD_BYTES + (_REST_BITS + _SAID_BITS) // 8


def _placed(one: int) -> tuple[int, bytes, int]:
    """In which bucket a mark of a file of many is kept, and what is kept of it: 51 bits, which are compared.

    Python salts hashes of bytes anew in each process: no caller can choose ids that fill a single bucket.
    """
    shuffled = hash(one.to_bytes(8, "little")) & (1 << 64) - 1
    head = shuffled >> 64 - _BUCKET_BITS - 8 * _HEAD_BYTES & (1 << 8 * _HEAD_BYTES) - 1
    rest = shuffled >> 64 - _BUCKET_BITS - 8 * _HEAD_BYTES - _REST_BITS & (1 << _REST_BITS) - 1
    return shuffled >> 64 - _BUCKET_BITS, head.to_bytes(_HEAD_BYTES, "little"), rest


def _said_in(bucket: bytes, head: bytes, rest: int) -> list[int]:
    """What the entries of a mark say, in one bucket."""
    found = []
    at = bucket.find(head)
    while at >= 0:
        if at % _ENTRY_BYTES == 0:
            tail = int.from_bytes(bucket[at + _HEAD_BYTES : at + _ENTRY_BYTES], "little")
            if tail >> _SAID_BITS == rest:
                found.append(tail & (1 << _SAID_BITS) - 1)
        at = bucket.find(head, at + 1)
    return found


def filed_under(at_ms: int) -> int:
    """The minute (`at_ms // 60_000`) that stands for the file of this time, its first one."""
    minute = at_ms // MINUTE_MS
    return minute - minute % _STRETCH


class Tombstones:
    """The marks of one log group, by minute of their file.

    Those of a file in which much failed are kept as ten bytes, one after the other, in buckets by 13 of their bits.
    """

    def __init__(
        self, packed: Mapping[int, bytes] | None = None, *, has_access: bool = True, has_execution: bool = True
    ) -> None:
        """`has_access`, `has_execution`: the logs of the watch.

        Marks that only lines of the other log ask for are left out. The ledger has them: that log may join.
        """
        self._has_access = has_access
        self._has_execution = has_execution
        self._few: dict[int, dict[int, int]] = {}
        self._many: dict[int, list[bytes]] = {}
        for minute, body in (packed or {}).items():
            words = array("Q")
            words.frombytes(body)
            self.add(minute, zip(words[::2], words[1::2], strict=True))

    def __contains__(self, wanted: int) -> bool:
        for few in self._few.values():
            if wanted in few:
                return True
        return bool(self._many and self.said_of(wanted))

    def said_of(self, wanted: int) -> Sequence[int]:
        """What stands on a mark, in each file that has it: 0 where it says nothing. Empty: it is nowhere."""
        found = [few[wanted] for few in self._few.values() if wanted in few]
        if self._many:
            bucket, head, rest = _placed(wanted)
            for buckets in self._many.values():
                if head in buckets[bucket]:
                    found += _said_in(buckets[bucket], head, rest)
        return found

    def __len__(self) -> int:
        many = sum(len(bucket) for buckets in self._many.values() for bucket in buckets)
        return sum(map(len, self._few.values())) + many // _ENTRY_BYTES

    def add(self, minute: int, stones: Iterable[tuple[int, int]]) -> None:
        """File marks and what stands on them under a minute, one that `filed_under` gave."""
        if not self._has_access:
            stones = [(one, said) for one, said in stones if not is_unclaimed_extended_id(said)]
        if not self._has_execution:
            stones = [(one, said) for one, said in stones if said != _IS_EXTENDED_ID]
        buckets = self._many.get(minute)
        if buckets is None:
            known = self._few.setdefault(minute, {})
            more = []
            for one, said in stones:
                there = known.setdefault(one, said)
                if there == 0:
                    known[one] = said
                elif said not in (0, there):
                    more.append((one, said))
            if len(known) <= _FEW_MARKS and not more:
                return
            buckets = self._many[minute] = [b""] * (1 << _BUCKET_BITS)
            stones = [*self._few.pop(minute).items(), *more]
        for one, said in stones:
            bucket, head, rest = _placed(one)
            entries = buckets[bucket]
            if head in entries:
                there_too = _said_in(entries, head, rest)
                if said in there_too or (there_too and said == 0):
                    continue
            tail = (rest << _SAID_BITS | said).to_bytes(_ENTRY_BYTES - _HEAD_BYTES, "little")
            buckets[bucket] = entries + (head + tail)  # in one step: pieces of other sizes leave holes in memory

    def expired(self, before_minute: int) -> list[int]:
        """The files that lie wholly before `before_minute`, by their minutes."""
        return [minute for minute in (*self._few, *self._many) if minute + _STRETCH <= before_minute]

    def drop(self, minutes: Iterable[int]) -> None:
        """Forget whole files."""
        for minute in minutes:
            self._few.pop(minute, None)
            self._many.pop(minute, None)


def pack(stones: Mapping[int, int]) -> bytes:
    """Marks and what stands on them as the ledger keeps them: 8 bytes for each."""
    return array("Q", [word for stone in sorted(stones.items()) for word in stone]).tobytes()
