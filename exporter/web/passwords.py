"""Whether a password is right, at a bounded price.

A bcrypt check takes a core for 60 ms or more. One runs at a time, few may wait for it, and what was checked is
remembered: a scraper whose password was right once is let in at once, whoever tries how many wrong ones. An unknown
user costs what a known one does, so that nobody learns who is known by taking the time.
"""

import asyncio
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Mapping
from enum import Enum

import bcrypt

_MOST_WAITING = 16
_WRONG_REMEMBERED = 1024
_BCRYPT_READS_BYTES = 72
"""bcrypt looks at no more; the library refuses longer passwords instead of cutting them, as others do."""


class Verdict(Enum):
    """What became of a user and a password."""

    RIGHT = "right"
    WRONG = "wrong"
    BUSY = "busy"
    """Too many checks wait already: not checked."""


class Passwords:
    """Checks and remembers. For one event loop."""

    def __init__(self) -> None:
        self._right: dict[str, bytes] = {}
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        self._turn = asyncio.Semaphore(1)
        self._waiting = 0

    async def check(self, users: Mapping[str, bytes], user: str, password: bytes) -> Verdict:
        """Whether `users` (bcrypt hashes by name, not empty) holds `user` with `password`."""
        is_known = user in users
        # Somebody's hash stands in for an unknown user's: checked at the same price, whatever comes of it.
        hashed = users[user] if is_known else max(users.values(), key=_cost)
        digest = hashlib.sha256(b"\0".join((hashed, user.encode(), password))).digest()
        remembered = self._remembered(user, digest)
        if remembered is not None:
            return remembered
        if self._waiting >= _MOST_WAITING:
            return Verdict.BUSY
        self._waiting += 1
        try:
            async with self._turn:
                remembered = self._remembered(user, digest)  # the same may just have been checked for another
                if remembered is not None:
                    return remembered
                fits = await asyncio.to_thread(bcrypt.checkpw, password[:_BCRYPT_READS_BYTES], hashed)
        finally:
            self._waiting -= 1
        if fits and is_known:
            self._right[user] = digest
            return Verdict.RIGHT
        self._wrong[digest] = None
        if len(self._wrong) > _WRONG_REMEMBERED:
            self._wrong.popitem(last=False)
        return Verdict.WRONG

    def _remembered(self, user: str, digest: bytes) -> Verdict | None:
        if hmac.compare_digest(self._right.get(user, b""), digest):
            return Verdict.RIGHT
        return Verdict.WRONG if digest in self._wrong else None


def _cost(hashed: bytes) -> bytes:
    return hashed[4:6]
