"""Documents that stay true: links resolve, commands and options exist, blocks parse, made parts are in step.

What is checked is what a reader would type or follow; how a sentence sounds is for people.
"""

import json
import re
import sqlite3
import subprocess
from pathlib import Path
from typing import NamedTuple

import click
import pytest
import yaml
from moto.iam.policy_validation import IAMPolicyDocumentValidator, IAMTrustPolicyDocumentValidator

from exporter.cli import main
from exporter.config import load_config
from exporter.ledger.sqlite import SqliteLedger
from exporter.rules import shipped_rules
from tests import (
    command_reference,
    coverage_reference,
    module_reference,
    pages,
    policy_reference,
    sizing_reference,
)

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(DOCS.rglob("*.md")),
    *sorted((ROOT / "deploy").rglob("*.md")),
]
MADE = {
    module.PAGE: module.generated
    for module in (command_reference, coverage_reference, module_reference, policy_reference, sizing_reference)
}


def name_of(path):
    return path.relative_to(ROOT).as_posix()


class Block(NamedTuple):
    """A fenced block of a document."""

    document: Path
    line: int
    language: str
    text: str

    def __str__(self):
        return f"{name_of(self.document)}:{self.line}"


def blocks_of(document):
    found, opening = [], None
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), 1):
        fence = re.match(r"^(\s*)```(\S*)", line)
        if fence and opening is None:
            opening, body = (number, fence[2], len(fence[1])), []
        elif fence:
            found.append(Block(document, opening[0], opening[1], "\n".join(body) + "\n"))
            opening = None
        elif opening is not None:
            body.append(line[opening[2] :])
    assert opening is None, f"{name_of(document)}:{opening[0]}: a block without an end"
    return found


BLOCKS = [block for document in DOCUMENTS for block in blocks_of(document)]
SHELL = [block for block in BLOCKS if block.language in {"sh", "bash", "shell"}]


def of(*languages):
    return [block for block in BLOCKS if block.language in languages]


# ------------------------------------------------------------------------------------------------------- parts made


@pytest.mark.parametrize("page", MADE, ids=name_of)
def test_made_parts_are_in_step_with_the_code(page):
    made = {name: text.strip() for name, text in MADE[page]().items()}
    assert pages.parts(page) == made, "run the script that the page's comments name, as `python -m tests.…`"


def test_rewriting_a_page_changes_nothing_but_its_parts(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- made: one by x.py -->\nold\n<!-- end: one -->\nafter\n")
    pages.rewrite(page, {"one": "new\n"})
    pages.rewrite(page, {"one": "new\n"})
    assert page.read_text() == "before\n<!-- made: one by x.py -->\n\nnew\n\n<!-- end: one -->\nafter\n"
    with pytest.raises(AssertionError):
        pages.rewrite(page, {"another": "new\n"})


def test_coverage_says_of_every_cause_what_proves_it():
    rows = {}
    for line in pages.parts(coverage_reference.PAGE)["causes"].splitlines()[2:]:
        cause, *proofs = (cell.strip() for cell in line.replace("\\|", "").strip("|").split("|"))
        rows[cause.strip("`")] = proofs
    assert rows.keys() == shipped_rules().causes.keys() - {"unclassified"}
    assert [cause for cause, proofs in rows.items() if not any(proofs)] == []


def test_more_logging_never_costs_less_nor_reads_less():
    costs = [
        sum(len(line.message) for line in lines)
        for name, lines in coverage_reference.log_lines().items()
        if name.startswith("execution")
    ]
    assert costs == sorted(costs)
    for setup in sizing_reference.SETUPS:
        calls = [sizing_reference.calls_per_second(setup, rate, 20_000) for rate in sizing_reference.RATES]
        assert calls == sorted(calls)


# ------------------------------------------------------------------------------------------------------- what is said


def test_the_index_leads_to_every_page():
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    linked = {link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", index)}
    pages_there = {path.name for path in DOCS.glob("*.md")} - {"README.md"}
    assert pages_there <= linked


def test_every_stored_field_is_in_the_inventory(tmp_path):
    ledger = SqliteLedger(tmp_path / "state.db")
    text = (DOCS / "security.md").read_text(encoding="utf-8")
    inventory = text[text.index("## What it stores") : text.index("## What leaves it")]
    stored, table = {}, ""
    for row in re.findall(r"^\|([^|]*)\|([^|]*)\|", inventory, re.MULTILINE):
        table = row[0].strip().strip("`") or table
        stored.setdefault(table, set()).update(re.findall(r"`(\w+)`", row[1]))
    with sqlite3.connect(tmp_path / "state.db") as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        there = {
            name: {column[1] for column in database.execute(f"PRAGMA table_info({name})")}
            for name in tables
            if not name.startswith("sqlite_")
        }
    database.close()
    ledger.close()
    assert {name: fields for name, fields in stored.items() if name in there} == there


def test_every_self_metric_that_operations_explains_exists():
    text = (DOCS / "operations.md").read_text(encoding="utf-8")
    table = text[text.index("## What each self-metric means") :]
    # The names in metrics.md are compared with the code by test_self_metrics.py.
    known = set(re.findall(r"`aws_apigateway_exporter_(\w+)`", (DOCS / "metrics.md").read_text(encoding="utf-8")))
    for name in re.findall(r"^\| `(\w+?)(?:\{\w+\})?` \|", table, re.MULTILINE):
        assert name in known, name


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_no_document_tells_of_somebodys_machine(document):
    text = document.read_text(encoding="utf-8")
    assert not re.search(r"/(?:home|Users|root|work|workspace)/", text)
    assert not re.search(r"\b(?:TODO|FIXME|XXX|TBD|@@)\b", text)


# ------------------------------------------------------------------------------------------------------- what is typed


def commands_in(text):
    """Every `apigateway-exporter …` that stands where a shell takes a command, as words; continued lines are one."""
    joined = re.sub(r"\\\n\s*", " ", text)
    for part in re.split(r"\n|\||&&|;| -- |\$\(", joined):
        words = re.sub(r"^\$ ", "", part.strip()).split()
        while words and re.fullmatch(r"[A-Z_]+=.*|exec|env|sudo", words[0]):
            words = words[1:]
        if words and words[0].rpartition("/")[2] == "apigateway-exporter":
            yield [word.rstrip("),.") for word in words[1:]]


def test_every_command_and_option_in_the_documents_exists():
    wrong = []
    for document in DOCUMENTS:
        inline = "\n".join(re.findall(r"`([^`\n]*)`", document.read_text(encoding="utf-8")))
        shell = "".join(block.text for block in SHELL if block.document == document)
        for words in commands_in(f"{inline}\n{shell}"):
            if not words or words[0] in {"COMMAND", "…"}:
                continue
            command = main if words[0].startswith("-") else main.commands.get(words[0])
            known = {"--help", "-h"}
            known |= {name for parameter in command.params for name in parameter.opts} if command else set()
            wrong += [
                f"{name_of(document)}: apigateway-exporter {' '.join(words)}: {word}"
                for word in words
                if command is None or (word.startswith("-") and word != "-" and word.partition("=")[0] not in known)
            ]
    assert wrong == []


def test_commands_are_found_where_a_shell_takes_them():
    text = (
        "$ apigateway-exporter run --x \\\n  --y\naws logs | .venv/bin/apigateway-exporter classify\n"
        "A=b apigateway-exporter find\nkubectl exec -- apigateway-exporter check-config\nhelm install apigateway-exporter x\n"
    )
    assert list(commands_in(text)) == [["run", "--x", "--y"], ["classify"], ["find"], ["check-config"]]


def test_the_commands_named_in_the_readme_are_all_there_are():
    named = set(re.findall(r"`apigateway-exporter ([a-z-]+)`", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert named == main.commands.keys()
    page = (DOCS / "commands.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| (`.*?`) \|", page, re.MULTILINE))
    assert set(main.commands) <= {name for row in explained for name in re.findall(r"`([a-z-]+)`", row)}


def test_every_command_has_a_help_of_its_own():
    for name, command in main.commands.items():
        assert command.help, name
        for parameter in command.params:
            if isinstance(parameter, click.Option) and name in {"run", "iam-policy"}:
                assert parameter.help or parameter.show_default, f"{name} {parameter.name}"


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_a_shell_block_parses(block):
    text = re.sub(r"^\$ ", "", block.text, flags=re.MULTILINE)
    parsed = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert parsed.returncode == 0, parsed.stderr


@pytest.mark.parametrize("block", of("yaml"), ids=str)
def test_a_yaml_block_is_yaml(block):
    assert list(yaml.safe_load_all(re.sub(r"…", "x", block.text))) is not None


@pytest.mark.parametrize("block", of("json"), ids=str)
def test_a_json_block_is_json_and_a_policy_is_one_that_aws_takes(block):
    document = json.loads(block.text)
    if "Statement" in document:
        trusts = any("Principal" in statement for statement in document["Statement"])
        (IAMTrustPolicyDocumentValidator if trusts else IAMPolicyDocumentValidator)(json.dumps(document)).validate()


def test_the_first_configuration_that_is_shown_is_read_by_the_loader():
    examples = [block for block in of("yaml") if block.text.startswith("# exporter.yaml")]
    assert examples
    for block in examples:
        assert load_config("exporter.yaml", text=block.text).watches


def test_the_access_format_that_is_advised_is_json_and_tells_most_causes():
    (block,) = [block for block in of("json") if "$context.requestId" in block.text]
    advised = {value.removeprefix("$context.") for value in json.loads(block.text).values()}
    proofs = [line.split("|")[2] for line in pages.parts(coverage_reference.PAGE)["causes"].splitlines()[2:] if line]
    told = [
        proof
        for proof in proofs
        if any(set(re.findall(r"`([\w.]+)`", way)) <= advised for way in proof.split(" or ") if "`" in way)
    ]
    assert len(told) >= 0.85 * len(proofs)
