"""Commits that wait at the same time share a transaction: the disk is waited for once, not once for each of them.

Whoever finds nobody writing writes what waits, its own commit and all others; whoever finds somebody writing waits
to be written by the next. Nobody waits for company. Each is told its own outcome, and only once it is durable or
certain not to be. A commit that cannot be written costs the others nothing: then each is written on its own. It
knows no database.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from exporter.ledger import LedgerError
from exporter.model import Commit


class TransactionFailed(LedgerError):
    """A transaction could not begin or not become durable: the fault of file or disk, of no commit in it."""


@dataclass(slots=True, eq=False)
class _Waiting:
    commit: Commit
    is_done: bool = False
    error: Exception | None = field(default_factory=lambda: LedgerError("the commit was interrupted"))
    """Why it is not durable: unless it is known to be, it is not."""


class Grouping:
    """The queue before the one writer. `commit` may be called from any thread."""

    def __init__(self, write: Callable[[Sequence[Commit]], None]) -> None:
        """`write` makes all of the commits durable in one transaction, or nothing of them; one call at a time.

        It raises `TransactionFailed` where no commit is to blame.
        """
        self._write = write
        self._turn = threading.Condition(threading.Lock())
        self._queue: list[_Waiting] = []
        self._is_writing = False

    def commit(self, commit: Commit) -> None:
        """Return when `commit` is durable; raise what `write` raises of it when it is not."""
        own = _Waiting(commit)
        with self._turn:
            self._queue.append(own)
            while self._is_writing and not own.is_done:
                self._turn.wait()
            if own.is_done:
                batch = []
            else:
                batch, self._queue = self._queue, []
                self._is_writing = True
        if batch:
            try:
                self._settle(batch)
            finally:
                with self._turn:
                    self._is_writing = False
                    for one in batch:
                        one.is_done = True
                    self._turn.notify_all()
        if own.error is not None:
            raise own.error

    def _settle(self, batch: Sequence[_Waiting]) -> None:
        """Write a batch; what becomes of each is noted in it."""
        try:
            self._write([one.commit for one in batch])
        except Exception as error:  # noqa: BLE001 raised by the threads whose commits these are
            if len(batch) == 1:
                batch[0].error = error
            elif isinstance(error, TransactionFailed):
                # Not tried again here: each of them finds out what is durable, and begins anew from there.
                for one in batch:
                    one.error = TransactionFailed(str(error))
            else:
                for one in batch:
                    self._settle([one])
        else:
            for one in batch:
                one.error = None
