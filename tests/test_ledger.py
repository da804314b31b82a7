"""State that survives: what is committed is there whole or not at all, and no state file is ever silently begun anew."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from exporter.ledger import Ledger, LedgerError, OutboxStats
from exporter.ledger.sqlite import SqliteLedger
from exporter.model import Commit, CounterKey, Exemplar, GroupProgress, LogGroup, SpanBatch

ROOT = Path(__file__).parent.parent
GROUP = LogGroup("default", "eu-west-1", "access/orders")
OTHER = LogGroup("default", "us-east-1", "access/orders")
KEY = CounterKey("aws_apigateway_requests_total", ("ab12cd34ef", "orders", "prod", "GET", '/é"\\\n', "504"))
BORN = CounterKey("aws_apigateway_stage_failures_total", ("ab12cd34ef", "orders", "prod", "waf_blocked", "waf"))
NOW_MS = 1_760_000_040_000


def commit(**parts) -> Commit:
    return Commit(**{"progress": {}, "tallies": {}, "tombstones": {}, "increments": {}, "at_ms": NOW_MS} | parts)


def everything(number: int = 1) -> Commit:
    """A commit that touches every table, and from which `number` can be read again in each of them."""
    return commit(
        progress={GROUP: GroupProgress(number, number)},
        tallies={(GROUP, number): b"tally"},
        tombstones={(GROUP, number): b"12345678"},
        increments={KEY: 1},
        spans=(SpanBatch(body=b"spans", spans=1),),
    )


def numbers(ledger: Ledger) -> set[int]:
    """What each table says of how many `everything` commits there were; one number when they agree."""
    state = ledger.group_state(GROUP)
    return {
        state.progress.watermark_ms if state.progress else 0,
        len(state.tallies),
        len(state.tombstones),
        sum(row.value for row in ledger.series()),
        ledger.outbox_stats().spans,
        len(ledger.outbox_head(1 << 30)),
    }


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.db"


@pytest.fixture
def ledger(path):
    ledger = SqliteLedger(path)
    yield ledger
    ledger.close()


@pytest.fixture
def reopened(path, ledger):
    """Close the ledger; the function opens it again, as often as asked."""
    opened = [ledger]

    def reopen() -> SqliteLedger:
        opened[-1].close()
        opened.append(SqliteLedger(path))
        return opened[-1]

    yield reopen
    opened[-1].close()


# ------------------------------------------------------------------------------------------------------- the contract


def test_it_is_a_ledger(ledger):
    checked: Ledger = ledger
    assert checked is ledger


def test_a_group_that_was_never_read_has_no_progress(ledger):
    state = ledger.group_state(GROUP)
    assert (state.progress, dict(state.tallies), dict(state.tombstones)) == (None, {}, {})


def test_what_is_committed_of_a_group_comes_back_and_belongs_to_it_alone(ledger, reopened):
    marks = bytes(range(256))
    ledger.commit(
        commit(
            progress={GROUP: GroupProgress(120_000, 60_000)},
            tallies={(GROUP, 7): b"\x00tally", (GROUP, 8): b""},
            tombstones={(GROUP, 7): marks},
        )
    )
    state = reopened().group_state(GROUP)
    assert state.progress == GroupProgress(120_000, 60_000)
    assert state.tallies == {7: b"\x00tally", 8: b""}
    assert state.tombstones == {7: marks}
    assert reopened().group_state(OTHER).progress is None


def test_a_group_of_which_only_tallies_were_committed_was_never_read_for_good(ledger):
    ledger.commit(commit(tallies={(GROUP, 7): b"tally"}))
    state = ledger.group_state(GROUP)
    assert state.progress is None
    assert state.tallies == {7: b"tally"}


def test_a_tally_is_replaced_tombstones_of_a_minute_add_up_and_none_removes_both(ledger, reopened):
    ledger.commit(commit(tallies={(GROUP, 7): b"old"}, tombstones={(GROUP, 7): b"11111111", (GROUP, 8): b"33333333"}))
    ledger.commit(commit(tallies={(GROUP, 7): b"new"}, tombstones={(GROUP, 7): b"22222222"}))
    state = reopened().group_state(GROUP)
    assert state.tallies == {7: b"new"}
    assert state.tombstones == {7: b"1111111122222222", 8: b"33333333"}
    again = reopened()
    again.commit(commit(tallies={(GROUP, 7): None}, tombstones={(GROUP, 7): None}))
    assert again.group_state(GROUP).tallies == {}
    assert again.group_state(GROUP).tombstones == {8: b"33333333"}


def test_removing_what_is_not_there_removes_nothing_else(ledger):
    ledger.commit(everything())
    ledger.commit(commit(tallies={(OTHER, 1): None, (GROUP, 2): None}, tombstones={(OTHER, 1): None, (GROUP, 2): None}))
    assert numbers(ledger) == {1}


def test_increments_add_up_and_only_the_newest_exemplar_stays(ledger, reopened):
    first, second = Exemplar("a" * 32, "b" * 16, 5), Exemplar("c" * 32, "d" * 16, 6)
    ledger.commit(commit(increments={KEY: 2}, exemplars={KEY: first}, at_ms=NOW_MS))
    ledger.commit(commit(increments={KEY: 3}, at_ms=NOW_MS + 1))
    [row] = reopened().series()
    assert (row.key, row.value, row.created_at_ms, row.touched_at_ms) == (KEY, 5, NOW_MS, NOW_MS + 1)
    assert row.exemplar == first
    again = reopened()
    again.commit(commit(increments={KEY: 1}, exemplars={KEY: second}))
    [row] = again.series()
    assert (row.value, row.exemplar) == (6, second)


def test_a_count_beyond_32_bits_is_kept(ledger, reopened):
    ledger.commit(commit(increments={KEY: 1 << 40}))
    ledger.commit(commit(increments={KEY: 1}))
    assert [row.value for row in reopened().series()] == [(1 << 40) + 1]


def test_a_born_series_is_0_and_released_one_that_counts_is_held(ledger, reopened):
    ledger.commit(commit(born=frozenset({BORN}), increments={KEY: 1}))
    rows = {row.key: row for row in reopened().series()}
    assert (rows[BORN].value, rows[BORN].released) == (0, True)
    assert (rows[KEY].value, rows[KEY].released) == (1, False)


def test_being_born_again_changes_nothing(ledger):
    ledger.commit(commit(born=frozenset({BORN})))
    ledger.commit(commit(increments={BORN: 4}))
    ledger.commit(commit(born=frozenset({BORN}), at_ms=NOW_MS + 99))
    [row] = ledger.series()
    assert (row.value, row.created_at_ms, row.touched_at_ms) == (4, NOW_MS, NOW_MS)


def test_released_series_stay_released_and_forgotten_ones_gone(ledger, reopened):
    other = CounterKey(KEY.metric, (*KEY.labels[:-1], "200"))
    ledger.commit(commit(increments={KEY: 1, other: 2}))
    ledger.release([KEY])
    assert {row.key: row.released for row in reopened().series()} == {KEY: True, other: False}
    again = reopened()
    again.commit(commit(increments={KEY: 1}))
    again.forget([other])
    assert [(row.key, row.value, row.released) for row in reopened().series()] == [(KEY, 2, True)]


def test_series_keep_the_order_of_their_birth(ledger, reopened):
    keys = [CounterKey("aws_apigateway_requests_total", (str(n),)) for n in (3, 1, 2)]
    for key in keys:
        ledger.commit(commit(increments={key: 1}))
    assert [row.key for row in reopened().series()] == keys


def test_releasing_or_forgetting_nothing_or_the_unknown_is_no_error(ledger):
    ledger.release([])
    ledger.forget([])
    ledger.release([KEY])
    ledger.forget([KEY])
    assert list(ledger.series()) == []


# --------------------------------------------------------------------------------------------------------- the outbox


def fill(ledger: SqliteLedger, sizes: list[int], signal="traces") -> None:
    for number, size in enumerate(sizes):
        batch = SpanBatch(body=bytes([number]) * size, spans=number + 1, signal=signal)
        ledger.commit(commit(spans=(batch,), at_ms=NOW_MS + number))


def test_the_outbox_gives_its_head_within_the_bytes_asked_for_but_always_something(ledger, reopened):
    fill(ledger, [100, 100, 100])
    ledger = reopened()
    assert [row.spans for row in ledger.outbox_head(1)] == [1]
    assert [row.spans for row in ledger.outbox_head(199)] == [1]
    assert [row.spans for row in ledger.outbox_head(200)] == [1, 2]
    assert [(row.created_at_ms - NOW_MS, row.body[0]) for row in ledger.outbox_head(1_000)] == [(0, 0), (1, 1), (2, 2)]


def test_what_was_sent_leaves_the_outbox_and_its_number_is_never_given_again(ledger, reopened):
    fill(ledger, [10, 20, 30])
    ids = [row.id for row in ledger.outbox_head(1_000)]
    ledger.outbox_delete(ids)
    ledger.outbox_delete(ids)
    ledger.outbox_delete([])
    ledger = reopened()
    assert ledger.outbox_head(1_000) == []
    fill(ledger, [10])
    assert ledger.outbox_head(1_000)[0].id > max(ids)


def test_beyond_a_bound_the_oldest_go(ledger, reopened):
    fill(ledger, [100, 100, 100])
    assert not ledger.outbox_evict(300)
    assert ledger.outbox_evict(299) == {"traces": 1}
    assert ledger.outbox_evict(150) == {"traces": 2}
    assert [row.spans for row in reopened().outbox_head(1_000)] == [3]


def test_the_outbox_tells_how_much_waits_without_reading_it(ledger, reopened):
    assert ledger.outbox_stats() == OutboxStats(rows=0, spans=0, bytes=0, oldest_at_ms=None)
    fill(ledger, [100, 50])
    expected = OutboxStats(rows=2, spans=3, bytes=150, oldest_at_ms=NOW_MS)
    assert ledger.outbox_stats() == expected
    assert reopened().outbox_stats() == expected
    again = reopened()
    again.outbox_delete([again.outbox_head(1)[0].id])
    assert again.outbox_stats() == OutboxStats(rows=1, spans=2, bytes=50, oldest_at_ms=NOW_MS + 1)


def test_signals_wait_apart_and_are_bounded_together(ledger, reopened):
    fill(ledger, [100])
    fill(ledger, [100, 100], signal="logs")
    ledger = reopened()
    assert [row.signal for row in ledger.outbox_head(1_000)] == ["traces"]
    assert [row.spans for row in ledger.outbox_head(1_000, "logs")] == [1, 2]
    stats = ledger.outbox_stats()
    assert (stats.rows, stats.spans, stats.log_records, stats.bytes) == (3, 1, 3, 300)
    assert ledger.outbox_evict(100) == {"traces": 1, "logs": 1}


# ------------------------------------------------------------------------------------------------------ all or nothing


@pytest.mark.parametrize(
    "broken",
    [
        {"progress": {OTHER: GroupProgress(9, None)}, "tallies": {(OTHER, 1): "no bytes"}},
        {"tombstones": {(GROUP, 9): "no bytes"}},
        {"increments": {KEY: 5, BORN: None}},
        {"increments": {KEY: 5}, "spans": (SpanBatch(body="no bytes", spans=1),)},
    ],
    ids=["tallies", "tombstones", "series", "outbox"],
)
def test_a_commit_that_breaks_in_the_middle_changes_nothing(ledger, reopened, broken):
    ledger.commit(everything())
    parts = {"progress": {GROUP: GroupProgress(99, 99)}, "tallies": {(GROUP, 99): b"t"}, "increments": {KEY: 7}}
    with pytest.raises(LedgerError):
        ledger.commit(commit(**parts | {"born": frozenset({BORN})} | broken))
    assert numbers(ledger) == {1}
    assert [row.key for row in ledger.series()] == [KEY]
    ledger.commit(everything(2))
    ledger.commit(commit(tallies={(OTHER, 1): b"group ids that were rolled back are given anew"}))
    again = reopened()
    assert numbers(again) == {2}
    assert list(again.group_state(OTHER).tallies) == [1]


def test_an_interruption_in_the_middle_changes_nothing(ledger):
    class Interrupting(dict):
        def items(self):
            yield from super().items()
            raise KeyboardInterrupt

    ledger.commit(everything())
    with pytest.raises(KeyboardInterrupt):
        ledger.commit(commit(progress={GROUP: GroupProgress(9, 9)}, increments=Interrupting({KEY: 1})))
    assert numbers(ledger) == {1}
    ledger.commit(everything(2))
    assert numbers(ledger) == {2}


def test_a_full_disk_is_named_changes_nothing_and_heals(ledger):
    ledger.commit(everything())
    # The same answer of SQLite as a disk without room: no page can be added.
    (pages,) = ledger._db.execute("PRAGMA page_count").fetchone()
    ledger._db.execute(f"PRAGMA max_page_count = {pages}")
    large = commit(progress={GROUP: GroupProgress(9, 9)}, increments={KEY: 1}, tallies={(GROUP, 9): bytes(1 << 20)})
    with pytest.raises(LedgerError, match=r"state\.db.*full.*Free space") as told:
        ledger.commit(large)
    assert "on from the last commit" in str(told.value)
    assert numbers(ledger) == {1}
    ledger._db.execute("PRAGMA max_page_count = 1000000")
    ledger.commit(everything(2))
    assert numbers(ledger) == {2}


FILLS_THE_DISK = """
import resource, sys
from tests.test_ledger import everything, numbers, commit, GROUP
from exporter.ledger import LedgerError
from exporter.ledger.sqlite import SqliteLedger
ledger = SqliteLedger(sys.argv[1])
ledger.commit(everything())
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
try:
    ledger.commit(commit(tallies={(GROUP, 9): bytes(1 << 20)}))
except LedgerError as error:
    print(error)
assert numbers(ledger) == {1}, numbers(ledger)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
ledger.commit(everything(2))
assert numbers(ledger) == {2}, numbers(ledger)
"""


def test_a_file_that_must_not_grow_changes_nothing_and_heals(path):
    said = run(FILLS_THE_DISK, path)
    assert str(path) in said
    with SqliteLedgerOf(path) as ledger:
        assert numbers(ledger) == {2}


# --------------------------------------------------------------------------------------------------- files that are not


class SqliteLedgerOf:
    """A ledger for a `with`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> SqliteLedger:
        self._ledger = SqliteLedger(self._path)
        return self._ledger

    def __exit__(self, *_: object) -> None:
        self._ledger.close()


def refusal(path: Path) -> str:
    """What is said of a file that is refused; refusing changes nothing of it."""
    before = path.read_bytes()
    with pytest.raises(LedgerError) as told:
        SqliteLedger(path).close()
    assert path.read_bytes() == before
    assert str(path) in str(told.value)
    return str(told.value)


@pytest.fixture
def used(path):
    """The path of a state file that holds something."""
    with SqliteLedgerOf(path) as ledger:
        for number in range(1, 40):
            ledger.commit(everything(number))
    return path


def test_an_empty_file_is_refused_not_begun_anew(path):
    path.touch()
    assert "remove it to begin anew" in refusal(path)


def test_a_truncated_file_is_refused_wherever_it_was_cut(used):
    whole = used.read_bytes()
    for size in range(1, len(whole), 1_021):
        used.write_bytes(whole[:size])
        refusal(used)
    used.write_bytes(whole)
    with SqliteLedgerOf(used) as ledger:
        assert numbers(ledger) == {39}


@pytest.mark.parametrize("garbage", [b"hello\n", os.urandom(9_000), bytes(8_192), b"SQLite format 3\0" + bytes(5_000)])
def test_garbage_is_refused(path, garbage):
    path.write_bytes(garbage)
    refusal(path)


def test_a_page_of_garbage_in_the_middle_is_refused(used):
    whole = bytearray(used.read_bytes())
    whole[4_096:8_192] = b"\xaa" * 4_096
    used.write_bytes(whole)
    assert "damaged" in refusal(used) or "malformed" in refusal(used)


def test_another_programs_database_is_refused_and_left_as_it_is(path):
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE precious (thing TEXT)")
    database.commit()
    database.close()
    assert "not a state file" in refusal(path)


def test_a_newer_schema_is_refused_by_its_number(used):
    execute(used, "PRAGMA user_version = 77")
    assert "schema 77" in refusal(used)


def execute(path: Path, *statements: str) -> None:
    database = sqlite3.connect(path)
    for statement in statements:
        database.execute(statement)
    database.commit()
    database.close()


def test_a_file_that_was_removed_under_its_log_is_not_filled_from_it(path):
    """Whoever removes the state to begin anew forgets the -wal beside it: it must not come back to life."""
    with SqliteLedgerOf(path) as ledger:
        ledger.commit(everything())
        copies = {name: name.read_bytes() for name in (path, path.with_name("state.db-wal"))}
    for name, content in copies.items():
        name.write_bytes(content)
    path.unlink()
    with SqliteLedgerOf(path) as ledger:
        assert numbers(ledger) == {0}
        ledger.commit(everything())
        assert numbers(ledger) == {1}


def test_a_draft_that_a_killed_process_left_is_no_obstacle(path):
    path.with_name("state.db.new").write_bytes(b"half made")
    with SqliteLedgerOf(path) as ledger:
        ledger.commit(everything())
        assert numbers(ledger) == {1}


@pytest.mark.parametrize("place", ["a file/state.db", "a directory", "/proc/state.db"])
def test_a_place_where_no_file_can_be_is_refused(tmp_path, place):
    (tmp_path / "a file").write_text("a file")
    (tmp_path / "a directory").mkdir()
    with pytest.raises(LedgerError, match="writable by the user"):
        SqliteLedger(tmp_path / place)


OPENS_WITHOUT_RIGHTS = """
import encodings.ascii, os, sys  # all that is imported must be here before the rights go
from exporter.ledger import LedgerError
from exporter.ledger.sqlite import SqliteLedger
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    SqliteLedger(sys.argv[1])
except LedgerError as error:
    print(error)
"""


@pytest.mark.parametrize(("mode", "directory_mode"), [(0o444, 0o777), (0o444, 0o555), (0o000, 0o777), (0o666, 0o555)])
def test_a_file_or_directory_without_the_right_to_write_is_refused(mode, directory_mode):
    # Outside of pytest's own directories, which nobody else may enter.
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "state.db"
        with SqliteLedgerOf(path) as ledger:
            ledger.commit(everything())
        path.with_name("state.db.lock").chmod(0o666)
        path.chmod(mode)
        Path(name).chmod(directory_mode)
        try:
            said = run(OPENS_WITHOUT_RIGHTS, path)
        finally:
            Path(name).chmod(0o755)
        assert "writable by the user" in said


# ---------------------------------------------------------------------------------------------------- older versions

SCHEMA_1 = """
CREATE TABLE groups (
    id INTEGER PRIMARY KEY, account TEXT NOT NULL, region TEXT NOT NULL, name TEXT NOT NULL,
    watermark_ms INTEGER, resume_ms INTEGER, UNIQUE (account, region, name)) STRICT;
CREATE TABLE tallies (
    group_id INTEGER NOT NULL REFERENCES groups (id), minute INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (group_id, minute)) STRICT, WITHOUT ROWID;
CREATE TABLE tombstones (
    id INTEGER PRIMARY KEY, group_id INTEGER NOT NULL REFERENCES groups (id), minute INTEGER NOT NULL,
    marks BLOB NOT NULL) STRICT;
CREATE INDEX tombstones_by_minute ON tombstones (group_id, minute);
CREATE TABLE series (
    id INTEGER PRIMARY KEY, metric TEXT NOT NULL, labels TEXT NOT NULL, value INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL, released INTEGER NOT NULL, touched_at_ms INTEGER NOT NULL,
    trace_id TEXT, span_id TEXT, exemplar_at_ms INTEGER, UNIQUE (metric, labels)) STRICT;
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT, created_at_ms INTEGER NOT NULL, spans INTEGER NOT NULL,
    body BLOB NOT NULL) STRICT;
INSERT INTO groups VALUES (1, 'default', 'eu-west-1', 'access/orders', 1, 1);
INSERT INTO tallies VALUES (1, 1, x'01');
INSERT INTO tombstones VALUES (1, 1, 1, x'0000000000000001');
INSERT INTO series VALUES (1, 'aws_apigateway_requests_total', '["a","b","c","GET","/","504"]', 1, 5, 1, 5, NULL, NULL, NULL);
INSERT INTO outbox VALUES (41, 5, 1, x'02');
PRAGMA application_id = 0x61706765;
PRAGMA user_version = 1
"""
"""A file of the first version, as it was: this text never changes."""


@pytest.fixture
def first_version(path):
    execute(path, *SCHEMA_1.split(";"))
    return path


def test_a_file_of_the_first_version_is_brought_up_to_date_with_all_it_holds(first_version):
    with SqliteLedgerOf(first_version) as ledger:
        assert numbers(ledger) == {1}
        assert ledger.group_state(GROUP).tombstones == {1: bytes(7) + b"\x01" + bytes(8)}
        assert [(row.id, row.body) for row in ledger.outbox_head(100)] == [(41, b"\x02")]
        fill(ledger, [10])
        assert [row.id for row in ledger.outbox_head(100)] == [41, 42]
    with SqliteLedgerOf(first_version) as ledger:
        assert [row.id for row in ledger.outbox_head(100)] == [41, 42]


def test_a_migration_that_breaks_leaves_the_old_version_whole(first_version):
    # What stands in the way of its last statement.
    execute(first_version, "CREATE INDEX outbox_by_signal ON series (value)")
    refusal_text = _refused_whole(first_version)
    assert "outbox_by_signal" in refusal_text
    execute(first_version, "DROP INDEX outbox_by_signal")
    with SqliteLedgerOf(first_version) as ledger:
        assert numbers(ledger) == {1}


def _refused_whole(path: Path) -> str:
    with pytest.raises(LedgerError) as told:
        SqliteLedger(path).close()
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA user_version").fetchone() == (1,)
    assert database.execute("SELECT id, spans, body FROM outbox").fetchall() == [(41, 1, b"\x02")]
    database.close()
    return str(told.value)


# ------------------------------------------------------------------------------------------------- one owner, and death

HOLDS = """
import sys
from exporter.ledger.sqlite import SqliteLedger
ledger = SqliteLedger(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""

COMMITS = """
import sys
from tests.test_ledger import everything, numbers
from exporter.ledger.sqlite import SqliteLedger
ledger = SqliteLedger(sys.argv[1])
(number,) = numbers(ledger)
while True:
    number += 1
    ledger.commit(everything(number))
    print(number, flush=True)
"""


def run(script: str, path: Path) -> str:
    command = [sys.executable, "-c", script, str(path)]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60).stdout


def start(script: str, path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, str(path)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_second_process_is_refused_and_told_who_is_first_until_that_one_is_gone(path):
    with start(HOLDS, path) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LedgerError, match=rf"process {holder.pid}\b.*count twice"):
            SqliteLedger(path)
        holder.kill()
    with SqliteLedgerOf(path) as ledger:
        ledger.commit(everything())


def test_a_second_ledger_of_the_same_process_is_refused_too(path, ledger):
    with pytest.raises(LedgerError, match="another apigateway-exporter"):
        SqliteLedger(path)
    ledger.commit(everything())


def test_kill_9_in_the_middle_of_commits_leaves_the_last_good_state(path):
    rng = random.Random(9)
    last = 0
    for _ in range(8):
        with start(COMMITS, path) as process:
            for _ in range(rng.randrange(1, 60)):
                last = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            told = process.stdout.read().splitlines()
            last = int(told[-1]) if told and told[-1] else last
        with SqliteLedgerOf(path) as ledger:
            (found,) = numbers(ledger)
        assert found in {last, last + 1}


def test_a_power_cut_anywhere_in_a_commit_leaves_a_whole_number_of_commits(tmp_path):
    path = tmp_path / "before" / "state.db"
    with SqliteLedgerOf(path) as ledger:
        for number in range(1, 6):
            ledger.commit(everything(number))
        content = {name: path.with_name(name).read_bytes() for name in ("state.db", "state.db-wal")}
    log = content["state.db-wal"]
    assert len(log) > 32
    found = set()
    for cut in [*range(0, len(log), 3_989), len(log)]:
        directory = tmp_path / "after"
        directory.mkdir()
        (directory / "state.db").write_bytes(content["state.db"])
        (directory / "state.db-wal").write_bytes(log[:cut])
        with SqliteLedgerOf(directory / "state.db") as ledger:
            (number,) = numbers(ledger)
        found.add(number)
        shutil.rmtree(directory)
    assert found == set(range(6))
