"""Takes one rule of the protocol out at a time and shows which tests notice: `python -m tests.mutations [word]`.

Each mutation is an exact replacement in a temporary copy of the checkout, so that it fails loudly when the code has
moved on. A mutation that no test notices survives; the script then ends with 1. Not collected by pytest.
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
"""Run one after the other, each to its first failure: worlds with a known truth; the units themselves."""


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """What is done wrong, and how."""

    name: str
    edits: tuple[tuple[str, str, str], ...]
    """(file of the package, text that stands in it exactly once, what replaces it)."""


MUTATIONS = (
    Mutation(
        name="a restart resumes at the watermark, not at the earliest open request",
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
        edits=(
            ("identity.py", "{text: mark(_ID, text) for text in {*requests, *alone, *told}}", "dict[str, int]()"),
            ("identity.py", "stones = {} if event is None or told else {event: 0}", "stones = {event or 0: 0}"),
        ),
    ),
    Mutation(
        name="an id that no tombstone bore once is taken for unused for good",
        edits=(("identity.py", "        self.edition += 1\n", ""),),
    ),
    Mutation(
        name="tombstones of an id that was used before are inscribed over those that are there",
        edits=(("identity.py", "if not any(one in taken or self._has(one) for one in ids.values()):", "if ids:"),),
    ),
    Mutation(
        name="tombstones are forgotten as soon as the watermark has passed",
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
        edits=(
            ("correlate.py", "reason = settle_reason(unit, horizon, own=own)", "reason = settle_reason(unit, horizon)"),
        ),
    ),
    Mutation(
        name="tallies are added, not raised",
        edits=(
            ("tally.py", "                if count <= before:\n                    continue\n", ""),
            ("tally.py", "[cell] = count\n", "[cell] = before + count\n"),
            ("tally.py", "increments.get(key, 0) + count - before", "increments.get(key, 0) + count"),
        ),
    ),
    Mutation(
        name="a listing begins where the last one ended",
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
        edits=(("pipeline.py", "if not memory.correlator.overlooked(horizon):", "if True:"),),
    ),
    Mutation(
        name="a request that ends well takes away what another left under its id",
        edits=(("loops.py", "if status is None or request_id in shared:", "if status is None:"),),
    ),
    Mutation(
        name="fetching failures, a request is settled without being asked for a last time",
        edits=(("fetching.py", " or settle_reason(unit, horizon) is not None", ""),),
    ),
    Mutation(
        name="fetching failures, a request counts as covered by a listing that did not ask for it",
        edits=(("settle.py", "if self.asked is not None:", "if False:"),),
    ),
    Mutation(
        name="fetching failures, a pattern is never compared with what is there",
        edits=(("filtering.py", "self._compare(source, item.group, page.events)", "pass"),),
    ),
    Mutation(
        name="fetching failures, execution lines of unknown access lines are counted on their own",
        edits=(("identity.py", "not self._by_access_alone and not (", "not ("),),
    ),
)


def main() -> int:
    """Try every mutation, or those whose name holds the word given."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("word", nargs="?", default="", help="only mutations whose name holds it")
    word = parser.parse_args().word
    survivors = 0
    wanted = [mutation for mutation in MUTATIONS if word in mutation.name]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as runs:
        unharmed = runs.submit(tests_that_notice, Mutation(name="nothing", edits=()))
        for mutation, failed in zip(wanted, runs.map(tests_that_notice, wanted), strict=True):
            survivors += not failed
            print("SURVIVED" if not failed else "noticed ", mutation.name, flush=True)  # noqa: T201 told to people
            for test in failed:
                print(f"         by {test}", flush=True)  # noqa: T201
        if broken := unharmed.result():
            raise SystemExit(f"the tests fail without any mutation: {broken}")
    return 1 if survivors else 0


def tests_that_notice(mutation: Mutation) -> list[str]:
    """The first test of each suite that fails for a mutation."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        for needed in NEEDED:
            if (ROOT / needed).is_dir():
                shutil.copytree(ROOT / needed, copy / needed, ignore=_LEFT_OUT)
            else:
                shutil.copy(ROOT / needed, copy / needed)
        for file, old, new in mutation.edits:
            path = copy / "exporter" / file
            text = path.read_text(encoding="utf-8")
            if text.count(old) != 1:
                raise SystemExit(f"{file} does not hold this text once any more; bring the mutation up to date:\n{old}")
            path.write_text(text.replace(old, new), encoding="utf-8")
        return [test for suite in SUITES for test in _failed(suite, copy)]


def _failed(suite: tuple[str, ...], copy: Path) -> list[str]:
    command = [sys.executable, "-m", "pytest", "-x", "-rf", "-m", "not long and not process", "--tb=no", *suite]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider"], cwd=copy, capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode not in {0, 1}:
        raise SystemExit(f"pytest could not run:\n{done.stdout}{done.stderr}")
    return [
        line.split(" - ")[0].removeprefix("FAILED ") for line in done.stdout.splitlines() if line.startswith("FAILED ")
    ]


if __name__ == "__main__":
    sys.exit(main())
