"""What is remembered: the protocol of the one place where progress, counts and unsent spans are kept together.

A ledger makes a `Commit` durable in one transaction or not at all. It never interprets what it keeps: tallies and
tombstones are packed bytes to it, series are names and integers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from exporter.model import Commit, CounterKey, GroupProgress, LogGroup, OutboxRow, SeriesState, Signal


class LedgerError(Exception):
    """The state cannot be read or written. The message says which file, why, and what to do about it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupState:
    """Everything kept of one log group."""

    progress: GroupProgress | None = None
    """None: this group was never read."""
    tallies: Mapping[int, bytes] = field(default_factory=dict)
    """Packed tallies by minute (`at_ms // 60_000`)."""
    tombstones: Mapping[int, bytes] = field(default_factory=dict)


class OutboxStats(NamedTuple):
    """How much waits to be sent."""

    rows: int
    spans: int
    bytes: int
    """Of all rows."""
    oldest_at_ms: int | None
    log_records: int = 0


class Ledger(Protocol):
    """Durable state. Methods may be called from any thread; each is one transaction; each raises `LedgerError`."""

    def group_state(self, group: LogGroup) -> GroupState:
        """What is kept of `group`."""
        ...

    def rename(self, old: LogGroup, new: LogGroup) -> None:
        """Keep what is kept of `old` as that of `new` from now on, unless something is kept of `new` already."""
        ...

    def series(self) -> Iterable[SeriesState]:
        """Every counter series."""
        ...

    def commit(self, commit: Commit) -> None:
        """Make all of `commit` durable, or nothing of it."""
        ...

    def release(self, keys: Sequence[CounterKey]) -> None:
        """Note that these series have been served as 0 long enough: their values may be shown from now on."""
        ...

    def forget(self, keys: Sequence[CounterKey]) -> None:
        """Delete these series."""
        ...

    def outbox_head(self, max_bytes: int, signal: Signal = "traces") -> Sequence[OutboxRow]:
        """The oldest rows of a signal, at least one if there is one, else at most `max_bytes` of bodies together."""
        ...

    def outbox_delete(self, ids: Sequence[int]) -> None:
        """Remove rows that were sent or given up."""
        ...

    def outbox_evict(self, max_bytes: int) -> Mapping[Signal, int]:
        """Remove the oldest rows until at most `max_bytes` of bodies are left; returns what was removed, by signal."""
        ...

    def outbox_stats(self) -> OutboxStats:
        """How much waits."""
        ...

    def close(self) -> None:
        """Release the file and its lock."""
        ...
