"""Takes one rule of the protocol out at a time and shows that its tests notice: `python -m tests.mutations [word]`.

Each mutation is an exact replacement in a temporary copy of the checkout, so that it fails loudly when the code has
moved on, and names the tests that must fail for it. A mutation survives where one of them passes; the script then
ends with 1. `--search` runs everything that might notice instead, minutes for each mutation, and tells what did:
where a new mutation learns its tests. Not collected by pytest.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
NEEDED = ("exporter", "tests", "config", "pyproject.toml")
# Without compiled modules: what is mutated are their sources.
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.so")
SUITES = (
    ("tests/test_protocol.py", "tests/test_scenarios.py", "tests/test_ledger.py", "tests/test_fetching.py"),
    tuple(f"tests/test_{unit}.py" for unit in ("windows", "tally", "tombstones", "identity", "settle", "pipeline")),
)
"""What is searched, each to its first failure: worlds with a known truth; the units themselves."""


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """What is done wrong, and how."""

    name: str
    by: tuple[str, ...]
    """The tests that notice, each without `tests/test_` before it."""
    edits: tuple[tuple[str, str, str], ...]
    """(file of the package, text that stands in it exactly once, what replaces it)."""

    @property
    def tests(self) -> tuple[str, ...]:
        """The tests that notice, as pytest takes and tells them."""
        return tuple(f"tests/test_{test}" for test in self.by)


MUTATIONS = (
    Mutation(
        name="a restart resumes at the watermark, not at the earliest open request",
        by=("protocol.py::test_counts_and_labels_are_the_truth[0-extended ids only at ERROR level]",),
        edits=(
            (
                "memory.py",
                "resume_ms = _minute(min(frontier_ms, outcome.judged.first_open_ms or frontier_ms))",
                "resume_ms = _minute(frontier_ms)",
            ),
        ),
    ),
    Mutation(
        name="tombstones stand under the request id only",
        by=(
            "protocol.py::test_counts_and_labels_are_the_truth[0-extended ids only]",
            "identity.py::test_lines_of_settled_failures_are_known_and_no_others[both]",
        ),
        edits=(
            (
                "identity.py",
                "{text: mark(_ID, text) for text in {*requests, *alone, *told}}",
                "{text: mark(_ID, text) for text in requests}",
            ),
        ),
    ),
    Mutation(
        name="tombstones stand under the access event only",
        by=(
            "protocol.py::test_counts_and_labels_are_the_truth[0-plain]",
            "identity.py::test_lines_of_settled_failures_are_known_and_no_others[both]",
        ),
        edits=(
            ("identity.py", "{text: mark(_ID, text) for text in {*requests, *alone, *told}}", "dict[str, int]()"),
            ("identity.py", "stones = {} if event is None or told else {event: 0}", "stones = {event or 0: 0}"),
        ),
    ),
    Mutation(
        name="an id that no tombstone bore once is taken for unused for good",
        by=(
            "scenarios.py::test_two_requests_of_one_id_at_one_time_are_two_failures",
            "identity.py::test_whoever_remembers_that_an_id_is_unused_is_told_when_that_may_have_changed",
        ),
        edits=(("identity.py", "        self.edition += bool(stones)\n", ""),),
    ),
    Mutation(
        name="the end of a failure under a used id is not remembered",
        by=(
            "scenarios.py::test_17_successes_in_two_batches_take_no_failure_of_their_id_for_their_end[1]",
            "scenarios.py::test_17_successes_in_two_batches_take_no_failure_of_their_id_for_their_end[2]",
        ),
        edits=(("identity.py", "            found.add(mark(_ENDED, unit.end_id))\n", "            pass\n"),),
    ),
    Mutation(
        name="an id that is its own extended one is no request id",
        by=("protocol.py::test_counts_and_labels_are_the_truth[0-ids of WebSocket APIs, execution only]",),
        edits=(
            (
                "units.py",
                "        if others:\n            return others\n        told",
                "        return others\n        told",
            ),
        ),
    ),
    Mutation(
        name="tombstones of an id that was used before are inscribed over those that are there",
        by=("protocol.py::test_counts_and_labels_are_the_truth[0-reused ids, most of them]",),
        edits=(("identity.py", "if not any(one in taken or self._has(one) for one in ids.values()):", "if ids:"),),
    ),
    Mutation(
        name="tombstones are forgotten as soon as the watermark has passed",
        by=(
            "protocol.py::test_counts_and_labels_are_the_truth[0-plain]",
            "pipeline.py::test_timeouts_are_counted_within_a_minute_whatever_the_reading[one window]",
        ),
        edits=(
            (
                "memory.py",
                "last = (resume_ms - max_request_ms - OVERLAP_MS) // MINUTE_MS - 1",
                "last = resume_ms // MINUTE_MS",
            ),
        ),
    ),
    Mutation(
        name="counts and progress are committed one after the other",
        by=("scenarios.py::test_12_kill_9_at_fifty_random_points",),
        edits=(
            (
                "pipeline.py",
                "            self._ledger.commit(draft.commit)\n",
                """            from dataclasses import replace
            self._ledger.commit(replace(draft.commit, progress={}, tallies={}, tombstones={}))
            self._ledger.commit(replace(draft.commit, increments={}, exemplars={}, spans=()))
""",
            ),
        ),
    ),
    Mutation(
        name="the ledger commits in two transactions",
        by=("ledger.py::test_a_commit_that_breaks_in_the_middle_changes_nothing[outbox]",),
        edits=(
            (
                "ledger/sqlite.py",
                '        self._db.executemany(\n            "INSERT INTO outbox (created',
                """        self._db.execute("COMMIT")
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(
            "INSERT INTO outbox (created""",
            ),
        ),
    ),
    Mutation(
        name="a fresh read moves the watermark",
        by=(
            "protocol.py::test_counts_and_labels_are_the_truth[0-reused ids]",
            "windows.py::test_a_backlog_is_swept_in_slices_and_fresh_reads_only_the_allowed_lateness",
        ),
        edits=(
            (
                "windows.py",
                "state = replace(state, fresh_ms=min(window.end_ms, now_ms), left_ms=left_ms)",
                """fresh_ms = min(window.end_ms, now_ms)
                state = replace(state, fresh_ms=fresh_ms, left_ms=left_ms, frontier_ms=_floor(fresh_ms, MINUTE_MS))""",
            ),
        ),
    ),
    Mutation(
        name="a request is settled on a generic status",
        by=(
            "protocol.py::test_counts_and_labels_are_the_truth[0-plain]",
            "settle.py::test_a_cause_that_a_line_may_refine_waits_for_the_watermark",
        ),
        edits=(
            (
                "settle.py",
                "    if failure.refinable or not own:\n        return None\n",
                "    if not own:\n        return None\n",
            ),
        ),
    ),
    Mutation(
        name="lines under an id that others used prove whose they are",
        by=("protocol.py::test_the_end_of_another_request_under_the_same_id_proves_nothing[119]",),
        edits=(
            ("correlate.py", "reason = settle_reason(unit, horizon, own=own)", "reason = settle_reason(unit, horizon)"),
        ),
    ),
    Mutation(
        name="tallies are added, not raised",
        by=(
            "protocol.py::test_counts_and_labels_are_the_truth[0-plain]",
            "tally.py::test_reading_a_stretch_again_adds_nothing_and_a_late_line_adds_itself",
        ),
        edits=(
            ("tally.py", "                if count <= before:\n                    continue\n", ""),
            ("tally.py", "[cell] = count\n", "[cell] = before + count\n"),
            ("tally.py", "increments.get(key, 0) + count - before", "increments.get(key, 0) + count"),
        ),
    ),
    Mutation(
        name="a listing begins where the last one ended",
        by=(
            "protocol.py::test_counts_and_labels_are_the_truth[0-plain]",
            "windows.py::test_one_window_reads_everything_that_is_not_read_for_good_and_one_longest_request_more",
        ),
        edits=(
            (
                "windows.py",
                "window = Window(_floor(state.frontier_ms - timing.max_request_ms, BUCKET_MS), now_ms)",
                "window = Window(state.fresh_ms + 1, now_ms)",
            ),
        ),
    ),
    Mutation(
        name="what the listing that opened a request passed over is not listed again",
        by=("protocol.py::test_counts_and_labels_are_the_truth[0-ERROR level]",),
        edits=(("pipeline.py", "if not memory.correlator.overlooked(horizon):", "if True:"),),
    ),
    Mutation(
        name="a request that ends well takes away what another left under its id",
        by=("scenarios.py::test_a_success_in_the_midst_of_a_failure_of_its_id_takes_none_of_its_lines_away",),
        edits=(("loops.py", "if status is None or request_id in shared:", "if status is None:"),),
    ),
    Mutation(
        name="fetching failures, a request is settled without being asked for a last time",
        by=("fetching.py::test_a_request_is_asked_for_in_growing_pauses_and_a_last_time_before_it_is_given_up",),
        edits=(("fetching.py", " or settle_reason(unit, horizon) is not None", ""),),
    ),
    Mutation(
        name="fetching failures, a request counts as covered by a listing that did not ask for it",
        by=("settle.py::test_where_lines_are_fetched_by_id_only_asking_for_a_request_covers_it",),
        edits=(("settle.py", "if self.asked is not None:", "if False:"),),
    ),
    Mutation(
        name="fetching failures, a pattern is never compared with what is there",
        by=("fetching.py::test_a_format_that_was_changed_without_a_word_is_noticed_before_a_failure_is_missed",),
        edits=(("filtering.py", "self._compare(source, item.group, page.events)", "pass"),),
    ),
    Mutation(
        name="fetching failures, execution lines of unknown access lines are counted on their own",
        by=("fetching.py::test_an_error_behind_a_good_status_is_not_counted_because_its_id_was_asked_for",),
        edits=(("identity.py", "not self._by_access_alone and not (", "not ("),),
    ),
)


def main() -> int:
    """Try every mutation, or those whose name holds the word given."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("word", nargs="?", default="", help="only mutations whose name holds it")
    parser.add_argument("--search", action="store_true", help="run all that might notice, not only the tests named")
    arguments = parser.parse_args()
    wanted = [mutation for mutation in MUTATIONS if arguments.word in mutation.name]
    find = _search if arguments.search else _run_named
    survivors = 0
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as runs:
        every = tuple({test: None for mutation in wanted for test in mutation.tests})
        unharmed = runs.submit(_failing, (), every)
        for mutation, failing in zip(wanted, runs.map(find, wanted), strict=True):
            passing = [] if arguments.search else [test for test in mutation.tests if test not in failing]
            survived = not failing or bool(passing)
            survivors += survived
            print("SURVIVED" if survived else "noticed ", mutation.name, flush=True)  # noqa: T201 told to people
            for test in failing:
                print(f"         by {test}", flush=True)  # noqa: T201
            for test in passing:
                print(f"         not by {test}", flush=True)  # noqa: T201
        if broken := unharmed.result():
            raise SystemExit(f"the tests fail without any mutation: {broken}")
    return 1 if survivors else 0


def _run_named(mutation: Mutation) -> list[str]:
    return _failing(mutation.edits, mutation.tests)


def _search(mutation: Mutation) -> list[str]:
    return [test for suite in SUITES for test in _failing(mutation.edits, suite, "-x")]


def _failing(edits: tuple[tuple[str, str, str], ...], tests: tuple[str, ...], *options: str) -> list[str]:
    """Those of the tests that fail for the edits; a test that there is none of ends everything."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        for needed in NEEDED:
            if (ROOT / needed).is_dir():
                shutil.copytree(ROOT / needed, copy / needed, ignore=_LEFT_OUT)
            else:
                shutil.copy(ROOT / needed, copy / needed)
        for file, old, new in edits:
            path = copy / "exporter" / file
            text = path.read_text(encoding="utf-8")
            if text.count(old) != 1:
                raise SystemExit(f"{file} does not hold this text once any more; bring the mutation up to date:\n{old}")
            path.write_text(text.replace(old, new), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-rf", "-m", "not long and not process", "--tb=no", *options, *tests]
        done = subprocess.run(
            [*command, "-p", "no:cacheprovider"], cwd=copy, capture_output=True, text=True, timeout=900, check=False
        )
    if done.returncode not in {0, 1}:
        raise SystemExit(f"pytest could not run:\n{done.stdout}{done.stderr}")
    return [
        line.split(" - ")[0].removeprefix("FAILED ") for line in done.stdout.splitlines() if line.startswith("FAILED ")
    ]


if __name__ == "__main__":
    sys.exit(main())
