"""The ledger in one SQLite file: what a single daemon needs, with nothing to install.

Commits that wait at the same time share one `BEGIN IMMEDIATE` transaction, in WAL mode with `synchronous=FULL`: after
`kill -9` or a power cut each is there whole or not at all. The file belongs to one process (a lock file beside it says
whose), on a local or block device: WAL does not work over NFS or EFS. Callers' labels and ids are kept as they come;
ids only as hashes, inside packed bytes this file does not look into.
"""

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from exporter.ledger import GroupState, OutboxStats
from exporter.ledger.grouping import Grouping, TransactionFailed
from exporter.ledger.state_file import explained, open_database, own
from exporter.model import (
    Commit,
    CounterKey,
    Exemplar,
    GroupProgress,
    LogGroup,
    OutboxRow,
    SeriesState,
    Signal,
)

_encode_labels = msgspec.json.Encoder().encode
_decode_labels = msgspec.json.Decoder(tuple[str, ...]).decode


class SqliteLedger:
    """A `Ledger` in a file of its own."""

    def __init__(self, path: Path | str) -> None:
        """Open or create the file. Raises `LedgerError` when it cannot be used; then nothing was changed."""
        self._path = Path(path)
        self._lock = threading.RLock()
        self._group_ids: dict[LogGroup, int] = {}
        self._grouping = Grouping(self._write)
        with explained(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._owner = own(self._path)
            try:
                self._db = open_database(self._path)
            except BaseException:
                self._owner.close()
                raise
            self._outbox = self._measure_outbox()

    # --------------------------------------------------------------------------------------------------- what is kept

    def group_state(self, group: LogGroup) -> GroupState:
        """See `Ledger`."""
        with self._lock, explained(self._path):
            row = self._db.execute(
                "SELECT id, watermark_ms, resume_ms FROM groups WHERE account = ? AND region = ? AND name = ?", group
            ).fetchone()
            if row is None:
                return GroupState()
            number, watermark_ms, resume_ms = row
            tallies = self._db.execute("SELECT minute, body FROM tallies WHERE group_id = ?", (number,))
            marks: dict[int, bytes] = {}
            for minute, body in self._db.execute(
                "SELECT minute, marks FROM tombstones WHERE group_id = ? ORDER BY id", (number,)
            ):
                marks[minute] = marks.get(minute, b"") + body
            return GroupState(
                progress=None if watermark_ms is None else GroupProgress(watermark_ms, resume_ms),
                tallies=dict(tallies.fetchall()),
                tombstones=marks,
            )

    def rename(self, old: LogGroup, new: LogGroup) -> None:
        """See `Ledger`."""
        found = "SELECT id FROM groups WHERE account = ? AND region = ? AND name = ?"
        with self._lock, explained(self._path):
            if self._db.execute(found, old).fetchone() is None or self._db.execute(found, new).fetchone() is not None:
                return
        with self._transaction():
            self._db.execute(
                "UPDATE groups SET account = ?, region = ?, name = ? WHERE account = ? AND region = ? AND name = ?",
                (*new, *old),
            )
            self._group_ids.pop(old, None)

    def series(self) -> Iterable[SeriesState]:
        """See `Ledger`."""
        with self._lock, explained(self._path):
            rows = self._db.execute(
                "SELECT metric, labels, value, created_at_ms, released, touched_at_ms, trace_id, span_id, "
                "exemplar_at_ms FROM series ORDER BY id"
            ).fetchall()
        return [
            SeriesState(
                key=CounterKey(metric, _decode_labels(labels)),
                value=value,
                created_at_ms=created,
                released=bool(released),
                touched_at_ms=touched,
                exemplar=None if trace_id is None else Exemplar(trace_id, span_id, at_ms),
            )
            for metric, labels, value, created, released, touched, trace_id, span_id, at_ms in rows
        ]

    def commit(self, commit: Commit) -> None:
        """See `Ledger`. What other threads commit at the same time may become durable with it."""
        self._grouping.commit(commit)

    def release(self, keys: Sequence[CounterKey]) -> None:
        """See `Ledger`."""
        if keys:
            with self._transaction():
                self._db.executemany(
                    "UPDATE series SET released = 1 WHERE metric = ? AND labels = ?",
                    [(key.metric, _encode_labels(key.labels).decode()) for key in keys],
                )

    def forget(self, keys: Sequence[CounterKey]) -> None:
        """See `Ledger`."""
        if keys:
            with self._transaction():
                self._db.executemany(
                    "DELETE FROM series WHERE metric = ? AND labels = ?",
                    [(key.metric, _encode_labels(key.labels).decode()) for key in keys],
                )

    # ----------------------------------------------------------------------------------------------------- the outbox

    def outbox_head(self, max_bytes: int, signal: Signal = "traces") -> Sequence[OutboxRow]:
        """See `Ledger`."""
        rows: list[OutboxRow] = []
        total = 0
        with self._lock, explained(self._path):
            for row in self._db.execute(
                "SELECT id, created_at_ms, spans, body, signal FROM outbox WHERE signal = ? ORDER BY id", (signal,)
            ):
                total += len(row[3])
                if rows and total > max_bytes:
                    break
                rows.append(OutboxRow(*row))
        return rows

    def outbox_delete(self, ids: Sequence[int]) -> None:
        """See `Ledger`."""
        if ids:
            with self._transaction():
                self._db.executemany("DELETE FROM outbox WHERE id = ?", [(number,) for number in ids])
                self._outbox = self._measure_outbox()

    def outbox_evict(self, max_bytes: int) -> Mapping[Signal, int]:
        """See `Ledger`."""
        with self._lock:
            gone: dict[Signal, int] = {}
            if self._outbox.bytes <= max_bytes:
                return gone
            with self._transaction():
                surplus = self._outbox.bytes - max_bytes
                ids: list[tuple[int]] = []
                for number, count, size, signal in self._db.execute(
                    "SELECT id, spans, length(body), signal FROM outbox ORDER BY id"
                ):
                    if surplus <= 0:
                        break
                    ids.append((number,))
                    gone[signal] = gone.get(signal, 0) + count
                    surplus -= size
                self._db.executemany("DELETE FROM outbox WHERE id = ?", ids)
                self._outbox = self._measure_outbox()
            return gone

    def outbox_stats(self) -> OutboxStats:
        """See `Ledger`. Answered from memory: a scrape does not wait for a commit."""
        return self._outbox

    def close(self) -> None:
        """See `Ledger`."""
        with self._lock:
            self._db.close()
            self._owner.close()

    # ------------------------------------------------------------------------------------------------------- the file

    def _write(self, commits: Sequence[Commit]) -> None:
        """Make all of `commits` durable, or nothing of any."""
        with self._lock:
            with self._transaction():
                for commit in commits:
                    self._apply(commit)
            for commit in commits:
                self._outbox = _grown(self._outbox, commit)

    def _apply(self, commit: Commit) -> None:
        for group, progress in commit.progress.items():
            self._db.execute(
                "UPDATE groups SET watermark_ms = ?, resume_ms = ? WHERE id = ?",
                (progress.watermark_ms, progress.resume_ms, self._group_id(group)),
            )
        self._db.executemany(
            "INSERT OR REPLACE INTO tallies (group_id, minute, body) VALUES (?, ?, ?)",
            [(self._group_id(g), minute, body) for (g, minute), body in commit.tallies.items() if body is not None],
        )
        self._db.executemany(
            "DELETE FROM tallies WHERE group_id = ? AND minute = ?",
            [(self._group_id(g), minute) for (g, minute), body in commit.tallies.items() if body is None],
        )
        self._db.executemany(
            "INSERT INTO tombstones (group_id, minute, marks) VALUES (?, ?, ?)",
            [(self._group_id(g), minute, b) for (g, minute), b in commit.tombstones.items() if b is not None],
        )
        self._db.executemany(
            "DELETE FROM tombstones WHERE group_id = ? AND minute = ?",
            [(self._group_id(g), minute) for (g, minute), b in commit.tombstones.items() if b is None],
        )
        self._db.executemany(
            "INSERT INTO series (metric, labels, value, created_at_ms, released, touched_at_ms) "
            "VALUES (?, ?, 0, ?, 1, ?) ON CONFLICT DO NOTHING",
            [
                (key.metric, _encode_labels(key.labels).decode(), commit.at_ms, commit.at_ms)
                for key in commit.born
                if key not in commit.increments
            ],
        )
        self._db.executemany(
            "INSERT INTO series (metric, labels, value, created_at_ms, released, touched_at_ms, trace_id, span_id, "
            "exemplar_at_ms) VALUES (?, ?, ?, ?, 0, ?, ?, ?, ?) ON CONFLICT (metric, labels) DO UPDATE SET "
            "value = value + excluded.value, touched_at_ms = excluded.touched_at_ms, "
            "trace_id = coalesce(excluded.trace_id, trace_id), span_id = coalesce(excluded.span_id, span_id), "
            "exemplar_at_ms = coalesce(excluded.exemplar_at_ms, exemplar_at_ms)",
            [
                (
                    key.metric,
                    _encode_labels(key.labels).decode(),
                    amount,
                    commit.at_ms,
                    commit.at_ms,
                    *(commit.exemplars.get(key) or (None, None, None)),
                )
                for key, amount in commit.increments.items()
            ],
        )
        self._db.executemany(
            "INSERT INTO outbox (created_at_ms, spans, body, signal) VALUES (?, ?, ?, ?)",
            [(commit.at_ms, batch.spans, batch.body, batch.signal) for batch in commit.spans],
        )

    def _group_id(self, group: LogGroup) -> int:
        number = self._group_ids.get(group)
        if number is None:
            row = self._db.execute(
                "INSERT INTO groups (account, region, name) VALUES (?, ?, ?) "
                "ON CONFLICT (account, region, name) DO UPDATE SET name = excluded.name RETURNING id",
                group,
            ).fetchone()
            number = self._group_ids[group] = int(row[0])
        return number

    def _measure_outbox(self) -> OutboxStats:
        row = self._db.execute(
            "SELECT count(*), coalesce(sum(spans) FILTER (WHERE signal = 'traces'), 0), "
            "coalesce(sum(length(body)), 0), (SELECT created_at_ms FROM outbox ORDER BY id LIMIT 1), "
            "coalesce(sum(spans) FILTER (WHERE signal = 'logs'), 0) FROM outbox"
        ).fetchone()
        return OutboxStats(*row)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, explained(self._path):
            with explained(self._path, TransactionFailed):
                self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                with explained(self._path, TransactionFailed):
                    self._db.execute("COMMIT")
            except BaseException:
                # An id handed out inside the transaction is gone with it.
                self._group_ids.clear()
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


def _grown(waiting: OutboxStats, commit: Commit) -> OutboxStats:
    """What waits once the batches of `commit` do, too."""
    if not commit.spans:
        return waiting

    def items(signal: Signal) -> int:
        return sum(batch.spans for batch in commit.spans if batch.signal == signal)

    return OutboxStats(
        rows=waiting.rows + len(commit.spans),
        spans=waiting.spans + items("traces"),
        bytes=waiting.bytes + sum(len(batch.body) for batch in commit.spans),
        oldest_at_ms=commit.at_ms if waiting.oldest_at_ms is None else waiting.oldest_at_ms,
        log_records=waiting.log_records + items("logs"),
    )
