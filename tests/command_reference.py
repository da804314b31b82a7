"""The reference of docs/commands.md, made from what `--help` prints.

`python -m tests.command_reference` writes it; a test of test_documents.py fails while it differs.
"""

from pathlib import Path

import click
from click.testing import CliRunner

from exporter.cli import main

PAGE = Path(__file__).parent.parent / "docs" / "commands.md"
PROGRAM = "apigateway-exporter"


def help_of(*command: str) -> str:
    result = CliRunner().invoke(
        main, [*command, "--help"], prog_name=PROGRAM, terminal_width=100, max_content_width=100
    )
    assert result.exit_code == 0, result.output
    return result.output.strip()


def reference() -> str:
    """The program and each of its commands, as they describe themselves."""
    assert isinstance(main, click.Group)
    entries = [("", ()), *((name, (name,)) for name in sorted(main.commands))]
    return "\n\n".join(
        f"### {f'{PROGRAM} {name}'.strip()}\n\n```text\n{help_of(*command)}\n```" for name, command in entries
    )


def generated() -> dict[str, str]:
    """The parts of the page, by the names in their comments."""
    return {"commands": reference()}


if __name__ == "__main__":
    from tests.pages import rewrite

    rewrite(PAGE, generated())
