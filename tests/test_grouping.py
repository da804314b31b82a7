"""Commits that share a transaction: each is durable or told why not, and all is as if one had come after the other."""

import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.ledger import LedgerError
from exporter.ledger.grouping import Grouping, TransactionFailed
from exporter.ledger.sqlite import SqliteLedger
from exporter.model import Commit, CounterKey, Exemplar, GroupProgress, LogGroup, SpanBatch

ROOT = Path(__file__).parent.parent
PATIENCE_S = 30
SHARED = CounterKey("aws_apigateway_requests_total", ("ab12cd34ef", "orders", "prod", "GET", "/", "504"))


def group(watch: int) -> LogGroup:
    return LogGroup("default", "eu-west-1", f"access/{watch}")


def commit(watch: int, number: int, *, fails: bool = False) -> Commit:
    """The commit `number` of a watch: it touches every table, and a series that all watches share."""
    own = CounterKey(SHARED.metric, (str(watch), *SHARED.labels[1:]))
    return Commit(
        progress={group(watch): GroupProgress(number, number)},
        tallies={(group(watch), number): b"tally", (group(watch), number - 2): None},
        tombstones={(group(watch), number): b"12345678", (group(watch), number - 2): None},
        increments={own: number, SHARED: 1},
        exemplars={own: Exemplar("a" * 32, "b" * 16, number)},
        # What SQLite refuses comes last: everything else of the commit has been written by then.
        spans=(SpanBatch(body="no bytes" if fails else b"%d %d" % (watch, number), spans=1),),
        at_ms=number,
    )


# -------------------------------------------------------------------------------------------------- who is written when


@dataclass(eq=False)
class Disk:
    """What commits are written to: slow as long as it is `held`, and full of what it was given."""

    held: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)
    transactions: list[list[int]] = field(default_factory=list)
    refused: dict[int, type[BaseException]] = field(default_factory=dict)
    """What commits break with, by number."""

    def write(self, commits: Sequence[Commit]) -> None:
        self.reached.set()
        assert self.held.wait(PATIENCE_S)
        numbers = [one.at_ms for one in commits]
        for number in numbers:
            if number in self.refused:
                raise self.refused[number](f"commit {number}")
        self.transactions.append(numbers)


def outcomes_of_crowd(disk: Disk, count: int) -> dict[int, BaseException | None]:
    """What commits 1 to `count` are told that arrive while commit 0 is being written."""
    grouping = Grouping(disk.write)
    outcomes: dict[int, BaseException | None] = {}

    def commits(number: int) -> None:
        try:
            grouping.commit(commit(0, number))
            outcomes[number] = None
        except BaseException as error:  # noqa: BLE001 also what ends a thread
            outcomes[number] = error

    threads = [threading.Thread(target=commits, args=[number]) for number in range(count + 1)]
    threads[0].start()
    assert disk.reached.wait(PATIENCE_S)
    for number, thread in enumerate(threads[1:], start=1):
        thread.start()
        while len(grouping._queue) < number:
            assert thread.is_alive()
    disk.held.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert outcomes.pop(0) is None
    assert sorted(outcomes) == list(range(1, count + 1)), "nobody waits for ever"
    return outcomes


def test_what_waits_is_written_together_in_the_order_in_which_it_came():
    disk = Disk()
    assert set(outcomes_of_crowd(disk, 20).values()) == {None}
    assert disk.transactions == [[0], list(range(1, 21))]


def test_what_comes_alone_is_written_alone_and_at_once():
    disk = Disk()
    disk.held.set()
    grouping = Grouping(disk.write)
    for number in range(3):
        grouping.commit(commit(0, number))
    assert disk.transactions == [[0], [1], [2]]


def test_a_commit_that_breaks_is_told_and_costs_the_others_nothing():
    disk = Disk(refused={2: LedgerError, 4: TypeError})
    outcomes = outcomes_of_crowd(disk, 5)
    assert {number: type(error) for number, error in outcomes.items() if error} == {2: LedgerError, 4: TypeError}
    assert disk.transactions == [[0], [1], [3], [5]]


def test_a_disk_that_fails_is_told_to_all_and_nothing_is_tried_again():
    disk = Disk(refused={3: TransactionFailed})
    outcomes = outcomes_of_crowd(disk, 4)
    assert {type(error) for error in outcomes.values()} == {TransactionFailed}
    assert len(set(map(id, outcomes.values()))) == 4, "each thread raises an error of its own"
    assert disk.transactions == [[0]]


def test_an_interruption_lets_nobody_believe_to_be_durable():
    disk = Disk(refused={1: LedgerError, 2: KeyboardInterrupt})
    outcomes = outcomes_of_crowd(disk, 3)
    kinds = [type(outcomes[number]) for number in (1, 2, 3)]
    assert KeyboardInterrupt in kinds
    assert None not in kinds
    assert disk.transactions == [[0]]


# ------------------------------------------------------------------------------------------------------ on a real file


def content(path: Path) -> dict[str, set[tuple[object, ...]]]:
    """All that a state file says, whatever the order in which it was written."""
    queries = {
        "groups": "SELECT name, watermark_ms, resume_ms FROM groups",
        "tallies": "SELECT name, minute, body FROM tallies JOIN groups ON groups.id = group_id",
        "tombstones": "SELECT name, minute, marks FROM tombstones JOIN groups ON groups.id = group_id",
        "series": "SELECT metric, labels, value, trace_id, exemplar_at_ms FROM series",
        "outbox": "SELECT spans, body FROM outbox",
    }
    with closing(sqlite3.connect(path)) as database:
        return {table: set(database.execute(query).fetchall()) for table, query in queries.items()}


def commit_all(path: Path, watches: Sequence[Sequence[bool]], *, at_once: bool) -> tuple[list[list[bool]], int]:
    """Commit each watch's commits (True: one that fails), all watches at once or one after the other.

    Returns which of them succeeded, and how many waited together at most.
    """
    succeeded: list[list[bool]] = [[] for _ in watches]
    with closing(SqliteLedger(path)) as ledger:

        def poll(watch: int) -> None:
            for number, fails in enumerate(watches[watch], start=1):
                try:
                    ledger.commit(commit(watch, number, fails=fails))
                except LedgerError:
                    succeeded[watch].append(False)
                else:
                    succeeded[watch].append(True)

        threads = [threading.Thread(target=poll, args=[watch]) for watch in range(len(watches))]
        waiting = 0
        if at_once:
            # Until everybody waits for it, the file belongs to somebody else: what is committed then is one group.
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                for thread in threads:
                    thread.start()
                while (waiting := len(ledger._grouping._queue)) < len(threads) - 1:
                    assert threads[0].is_alive()
                other.execute("ROLLBACK")
        else:
            for thread in threads:
                thread.start()
                thread.join(PATIENCE_S)
        for thread in threads:
            thread.join(PATIENCE_S)
    return succeeded, waiting


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=6), min_size=2, max_size=8))
def test_grouped_is_the_same_as_one_by_one(watches):
    with tempfile.TemporaryDirectory() as name:
        grouped, single = Path(name) / "grouped.db", Path(name) / "single.db"
        outcomes, waiting = commit_all(grouped, watches, at_once=True)
        assert waiting >= len(watches) - 1
        assert outcomes == commit_all(single, watches, at_once=False)[0] == [[not f for f in w] for w in watches]
        assert content(grouped) == content(single)


def test_the_outbox_is_told_right_whatever_is_committed_and_sent_at_the_same_time(tmp_path):
    with closing(SqliteLedger(tmp_path / "state.db")) as ledger:

        def send() -> None:
            sent = 0
            while sent < 300:
                rows = ledger.outbox_head(40)
                ledger.outbox_delete([row.id for row in rows])
                sent += len(rows)

        def poll(watch: int) -> None:
            for number in range(1, 101):
                ledger.commit(commit(watch, number))

        threads = [threading.Thread(target=poll, args=[watch]) for watch in range(4)]
        threads.append(threading.Thread(target=send))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        told, left = ledger.outbox_stats(), ledger.outbox_head(1 << 30)
        assert (told.rows, told.spans, told.bytes) == (len(left), len(left), sum(len(row.body) for row in left))


def test_the_log_beside_the_file_is_bounded_over_many_commits_and_after_a_large_one(tmp_path):
    path = tmp_path / "state.db"
    log = path.with_name("state.db-wal")
    largest = 0
    with closing(SqliteLedger(path)) as ledger:
        for number in range(1, 1_500):
            ledger.commit(commit(number % 7, number))
            largest = max(largest, log.stat().st_size)
        assert largest < 6 << 20
        body = random.Random(1).randbytes(1 << 20)
        ledger.commit(
            Commit(
                progress={},
                tallies={},
                tombstones={},
                increments={},
                spans=tuple(SpanBatch(body=body, spans=1) for _ in range(30)),
            )
        )
        assert log.stat().st_size > 30 << 20, "or this tests nothing"
        for number in range(1_500, 1_600):
            ledger.commit(commit(1, number))
        assert log.stat().st_size < 10 << 20


# ------------------------------------------------------------------------------------------------------------- and death

WATCHES = 12

COMMITS = """
import sys, threading
from tests.test_grouping import WATCHES, commit, group
from exporter.ledger import LedgerError
from exporter.ledger.sqlite import SqliteLedger
ledger = SqliteLedger(sys.argv[1])
told = threading.Lock()
def poll(watch):
    progress = ledger.group_state(group(watch)).progress
    number = progress.watermark_ms if progress else 0
    while True:
        number += 1
        if number % 5 == 0:
            try:
                ledger.commit(commit(watch, number + 1_000, fails=True))
            except LedgerError:
                pass
        ledger.commit(commit(watch, number))
        with told:
            print(watch, number, flush=True)
for watch in range(WATCHES):
    threading.Thread(target=poll, args=[watch]).start()
"""
"""Each watch's numbers go up one by one; in between it tries what cannot be committed."""


def test_kill_9_among_grouped_commits_leaves_each_watch_a_whole_number_of_its_own(tmp_path):
    path = tmp_path / "state.db"
    rng = random.Random(10)
    told = [0] * WATCHES
    for _ in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", COMMITS, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(rng.randrange(1, 200))]
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.read().splitlines(keepends=True)
        for line in lines:
            if line.endswith("\n"):
                watch, number = map(int, line.split())
                told[watch] = number
        found = content(path)
        marks = {name: number for name, number, _ in found["groups"]}
        numbers = [marks.get(group(watch).name, 0) or 0 for watch in range(WATCHES)]
        for watch, number in enumerate(numbers):
            assert number in {told[watch], told[watch] + 1}, "what was told is there, and at most one more"
        expected = {(name, number) for name, last in marks.items() for number in (last - 1, last) if number > 0}
        assert {(name, minute) for name, minute, _ in found["tallies"]} == expected
        assert {(name, minute) for name, minute, _ in found["tombstones"]} == expected
        shared = {value for _, labels, value, *_ in found["series"] if "ab12cd34ef" in str(labels)}
        assert shared == {sum(numbers)}
        assert len(found["outbox"]) == sum(numbers)
        told = numbers


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_a_file_that_somebody_else_holds_is_named_and_heals(tmp_path, statement):
    path = tmp_path / "state.db"
    with closing(SqliteLedger(path)) as ledger:
        ledger._db.execute("PRAGMA busy_timeout = 0")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute(statement)
            with pytest.raises(TransactionFailed, match=r"locked.*Another program"):
                ledger.commit(commit(1, 1))
            other.execute("ROLLBACK")
        ledger.commit(commit(1, 1))
        assert len(ledger.outbox_head(1 << 30)) == 1
