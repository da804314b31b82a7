"""Pages with parts that are made from the code: `<!-- made: NAME -->` … `<!-- end: NAME -->`."""

import re
from collections.abc import Mapping
from pathlib import Path

_PART = re.compile(
    r"(<!-- made: (?P<name>[\w ]+?)(?: by [^>]*)? -->\n)(?P<body>.*?)(<!-- end: (?P=name) -->)", re.DOTALL
)


def parts(page: Path) -> dict[str, str]:
    """The made parts of a page, by name."""
    return {found["name"]: found["body"].strip() for found in _PART.finditer(page.read_text(encoding="utf-8"))}


def rewrite(page: Path, made: Mapping[str, str]) -> None:
    """Put parts in their places; each needs one."""
    text = page.read_text(encoding="utf-8")
    assert parts(page).keys() == made.keys(), f"{page.name} has {sorted(parts(page))}, made were {sorted(made)}"
    text = _PART.sub(lambda found: f"{found[1]}\n{made[found['name']].strip()}\n\n{found[4]}", text)
    page.write_text(text, encoding="utf-8")
