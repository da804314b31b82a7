"""The ledger in one SQLite file: what a single daemon needs, with nothing to install.

A commit is one `BEGIN IMMEDIATE` transaction in WAL mode with `synchronous=FULL`: after `kill -9` or a power cut it is
there whole or not at all. The file belongs to one process (a lock file beside it says whose), on a local or block
device: WAL does not work over NFS or EFS. A file that is damaged, foreign or from a newer version is refused by name
with what to do about it; it is never replaced by an empty one. Callers' labels and ids are kept as they come; ids only
as hashes, inside packed bytes this file does not look into.
"""

import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import msgspec

from exporter.ledger import GroupState, LedgerError, OutboxStats
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

_APPLICATION_ID = 0x61706765
"""`apge`, in the file's header: tells our file from any other SQLite database."""

_MIGRATIONS = (
    """
    CREATE TABLE groups (
        id INTEGER PRIMARY KEY, account TEXT NOT NULL, region TEXT NOT NULL, name TEXT NOT NULL,
        watermark_ms INTEGER, resume_ms INTEGER,
        UNIQUE (account, region, name)
    ) STRICT;
    CREATE TABLE tallies (
        group_id INTEGER NOT NULL REFERENCES groups (id), minute INTEGER NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY (group_id, minute)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE tombstones (
        id INTEGER PRIMARY KEY, group_id INTEGER NOT NULL REFERENCES groups (id), minute INTEGER NOT NULL,
        marks BLOB NOT NULL
    ) STRICT;
    CREATE INDEX tombstones_by_minute ON tombstones (group_id, minute);
    CREATE TABLE series (
        id INTEGER PRIMARY KEY, metric TEXT NOT NULL, labels TEXT NOT NULL, value INTEGER NOT NULL,
        created_at_ms INTEGER NOT NULL, released INTEGER NOT NULL, touched_at_ms INTEGER NOT NULL,
        trace_id TEXT, span_id TEXT, exemplar_at_ms INTEGER,
        UNIQUE (metric, labels)
    ) STRICT;
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT, created_at_ms INTEGER NOT NULL, spans INTEGER NOT NULL,
        body BLOB NOT NULL
    ) STRICT;
    """,
    """
    ALTER TABLE outbox RENAME TO outbox_of_spans;
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT, created_at_ms INTEGER NOT NULL, signal TEXT NOT NULL,
        spans INTEGER NOT NULL, body BLOB NOT NULL
    ) STRICT;
    INSERT INTO outbox (id, created_at_ms, signal, spans, body)
        SELECT id, created_at_ms, 'traces', spans, body FROM outbox_of_spans;
    DROP TABLE outbox_of_spans;
    CREATE INDEX outbox_by_signal ON outbox (signal, id);
    """,
)
"""One script a schema version, each applied in a transaction together with the new `user_version`."""

_encode_labels = msgspec.json.Encoder().encode
_decode_labels = msgspec.json.Decoder(tuple[str, ...]).decode


class SqliteLedger:
    """A `Ledger` in a file of its own."""

    def __init__(self, path: Path | str) -> None:
        """Open or create the file. Raises `LedgerError` when it cannot be used; then nothing was changed."""
        self._path = Path(path)
        self._lock = threading.RLock()
        self._group_ids: dict[LogGroup, int] = {}
        with self._explained():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._owner = _own(self._path)
            try:
                if not self._path.exists():
                    _create(self._path)
                self._db = self._connect()
                self._migrate()
            except BaseException:
                self._owner.close()
                raise
            self._outbox = self._measure_outbox()

    # --------------------------------------------------------------------------------------------------- what is kept

    def group_state(self, group: LogGroup) -> GroupState:
        """See `Ledger`."""
        with self._lock, self._explained():
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
        with self._lock, self._explained():
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
        with self._lock, self._explained():
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
        """See `Ledger`."""
        with self._transaction():
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
        if commit.spans:
            with self._lock:
                stats = self._outbox
                oldest = commit.at_ms if stats.oldest_at_ms is None else stats.oldest_at_ms
                self._outbox = OutboxStats(
                    rows=stats.rows + len(commit.spans),
                    spans=stats.spans + sum(batch.spans for batch in commit.spans if batch.signal == "traces"),
                    bytes=stats.bytes + sum(len(batch.body) for batch in commit.spans),
                    oldest_at_ms=oldest,
                    log_records=stats.log_records
                    + sum(batch.spans for batch in commit.spans if batch.signal == "logs"),
                )

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
        with self._lock, self._explained():
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

    def _connect(self) -> sqlite3.Connection:
        if self._path.stat().st_size == 0:
            raise LedgerError(
                f"{self._path}: the state file is empty (cut off?). Restore it from a backup, or remove it to begin "
                "anew: counters then start at 0 and the last minutes are counted again."
            )
        if not os.access(self._path, os.W_OK):
            # SQLite would open it and fail at the first commit.
            raise LedgerError(
                f"{self._path}: the state file is read-only. It and its directory must be writable by the user that "
                "the exporter runs as."
            )
        database = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=5)
        try:
            self._check(database)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            database.close()
            raise
        return database

    def _check(self, database: sqlite3.Connection) -> None:
        (application_id,) = database.execute("PRAGMA application_id").fetchone()
        if application_id != _APPLICATION_ID:
            raise LedgerError(
                f"{self._path}: this is not a state file of apigateway-exporter. Set state.path to another file."
            )
        (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise LedgerError(
                f"{self._path}: the state file is damaged ({verdict}). Restore it from a backup, or remove it "
                "to begin anew: counters then start at 0 and the last minutes are counted again."
            )

    def _migrate(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > len(_MIGRATIONS):
            self._db.close()
            raise LedgerError(
                f"{self._path}: the state file was written by a newer version (schema {version}, this one knows "
                f"{len(_MIGRATIONS)}). Run that version, or set state.path to another file."
            )
        for number in range(version, len(_MIGRATIONS)):
            with self._transaction():
                for statement in _MIGRATIONS[number].split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {number + 1}")

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
        with self._lock, self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # An id handed out inside the transaction is gone with it.
                self._group_ids.clear()
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise LedgerError(f"{self._path}: {error}. {_hint(error)}") from error
        except OSError as error:
            raise LedgerError(
                f"{self._path}: {error.strerror or error}. The directory must exist on a local or block device and be "
                "writable by the user that the exporter runs as."
            ) from error


def _own(path: Path) -> TextIO:
    lock = path.with_name(path.name + ".lock").open("a+", encoding="ascii")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise LedgerError(
            f"{path}: another apigateway-exporter (process {holder}) uses this state file; two would count twice. "
            "Stop it, or give this one a state.path of its own."
        ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def _create(path: Path) -> None:
    """Make the file under another name and move it: a process killed meanwhile leaves no half-made state behind."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    database = sqlite3.connect(draft, isolation_level=None)
    try:
        database.execute("BEGIN IMMEDIATE")
        for statement in _MIGRATIONS[0].split(";"):
            database.execute(statement)
        database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        database.execute("PRAGMA user_version = 1")
        database.execute("COMMIT")
    finally:
        database.close()
    for suffix in ("-wal", "-shm"):  # of a state file that was removed: SQLite would read them into the new one
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    draft.rename(path)


def _hint(error: sqlite3.Error) -> str:
    text = str(error)
    if "full" in text:
        return "Free space on the disk or enlarge the volume; nothing was lost, reading goes on from the last commit."
    if "readonly" in text or "unable to open" in text:
        return "The file and its directory must be writable by the user that the exporter runs as."
    if "not a database" in text or "malformed" in text:
        return "Restore it from a backup, or remove it to begin anew: counters then start at 0."
    if "locked" in text or "busy" in text:
        return "Another program holds the file open for writing; close it."
    return "See docs/operations.md on the state file."
