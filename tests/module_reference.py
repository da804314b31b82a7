"""The tables of docs/architecture.md: rooms and floors as tests/test_house.py holds them, and every module by its docstring.

`python -m tests.module_reference` writes them; a test of test_documents.py fails while they differ.
"""

import ast
from pathlib import Path

from tests.test_house import FLOORS, PURE, ROOMS, ROOT, SOURCES, name_of

PAGE = ROOT / "docs" / "architecture.md"


def first_sentence(path: Path) -> str:
    """Up to the first full stop or paragraph of a module's docstring, in one line."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    line = " ".join(text.split("\n\n")[0].split())
    end = line.find(". ")
    return (line if end < 0 else line[:end]).rstrip(".").replace("|", "\\|")


def table_of_rooms() -> str:
    rows = ["| floor | room | pure | modules |", "|---|---|---|---|"]
    for number, rooms in enumerate(FLOORS, 1):
        for room in sorted(rooms):
            modules = ", ".join(f"`{name}`" for name in sorted(ROOMS[room]))
            rows.append(f"| {number} | {room} | {'yes' if room in PURE else ''} | {modules} |")
    return "\n".join(rows) + "\n"


def table_of_modules() -> str:
    rows = ["| module | what it is for |", "|---|---|"]
    rows += [f"| `{name_of(path).removeprefix('exporter/')}` | {first_sentence(path)} |" for path in SOURCES]
    return "\n".join(rows) + "\n"


def generated() -> dict[str, str]:
    """The parts of the page, by the names in their comments."""
    return {"rooms": table_of_rooms(), "modules": table_of_modules()}


if __name__ == "__main__":
    from tests.pages import rewrite

    rewrite(PAGE, generated())
