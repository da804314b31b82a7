"""The state file: how it is owned, made, opened, checked and brought up to date, and what is said where that fails.

A file that is damaged, foreign or from a newer version is refused by name with what to do about it; it is never
replaced by an empty one. What stands in its tables is no business of this module.
"""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from exporter.ledger import LedgerError

_WAL_PAGES = 1_000
"""After so many pages of 4 KiB the write-ahead log is copied into the file, by the commit that reaches them."""
_WAL_KEPT_BYTES = 8 << 20
"""What the log may keep of the disk after a commit that was larger: it is cut when it is begun anew."""

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
    "UPDATE tombstones SET marks = with_inscriptions(marks)",
)
"""One script a schema version, each applied in a transaction together with the new `user_version`."""


def own(path: Path) -> TextIO:
    """The lock file beside the state file, locked until it is closed. Raises `LedgerError` or OSError."""
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


def open_database(path: Path) -> sqlite3.Connection:
    """The database in the file, made if there is none, checked and brought up to date.

    Raises `LedgerError`, sqlite3.Error or OSError; then nothing was changed.
    """
    if not path.exists():
        _create(path)
    if path.stat().st_size == 0:
        raise LedgerError(
            f"{path}: the state file is empty (cut off?). Restore it from a backup, or remove it to begin "
            "anew: counters then start at 0 and the last minutes are counted again."
        )
    if not os.access(path, os.W_OK):
        # SQLite would open it and fail at the first commit.
        raise LedgerError(
            f"{path}: the state file is read-only. It and its directory must be writable by the user that "
            "the exporter runs as."
        )
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    try:
        _check(database, path)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
        database.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT_BYTES}")
        database.execute("PRAGMA foreign_keys = ON")
        _migrate(database, path)
    except BaseException:
        database.close()
        raise
    return database


@contextlib.contextmanager
def explained(path: Path, kind: type[LedgerError] = LedgerError) -> Iterator[None]:
    """Errors of SQLite and of the operating system as a `LedgerError` that says which file, why, and what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise kind(f"{path}: {error}. {_hint(error)}") from error
    except OSError as error:
        raise kind(
            f"{path}: {error.strerror or error}. The directory must exist on a local or block device and be "
            "writable by the user that the exporter runs as."
        ) from error


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


def _check(database: sqlite3.Connection, path: Path) -> None:
    (application_id,) = database.execute("PRAGMA application_id").fetchone()
    if application_id != _APPLICATION_ID:
        raise LedgerError(f"{path}: this is not a state file of apigateway-exporter. Set state.path to another file.")
    (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise LedgerError(
            f"{path}: the state file is damaged ({verdict}). Restore it from a backup, or remove it "
            "to begin anew: counters then start at 0 and the last minutes are counted again."
        )


def _migrate(database: sqlite3.Connection, path: Path) -> None:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > len(_MIGRATIONS):
        raise LedgerError(
            f"{path}: the state file was written by a newer version (schema {version}, this one knows "
            f"{len(_MIGRATIONS)}). Run that version, or set state.path to another file."
        )
    database.create_function("with_inscriptions", 1, _with_inscriptions, deterministic=True)
    for number in range(version, len(_MIGRATIONS)):
        database.execute("BEGIN IMMEDIATE")
        try:
            for statement in _MIGRATIONS[number].split(";"):
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {number + 1}")
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise


def _with_inscriptions(marks: bytes) -> bytes:
    """Marks of 8 bytes each, as versions 1 and 2 kept them, with 8 bytes that say nothing behind each."""
    return b"".join(marks[at : at + 8] + bytes(8) for at in range(0, len(marks), 8))


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
