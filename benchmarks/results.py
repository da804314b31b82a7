"""What a part found: figures, each with the ratio that can be compared between machines, as a table and as JSON."""

import json
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from exporter.loops import COMPILED

DIRECTORY = Path(__file__).parent / "results"


class Figure(NamedTuple):
    """One measured value."""

    part: str
    case: str
    name: str
    value: float
    unit: str
    ratio: float | None = None
    """The value against something measured in the same run."""
    ratio_of: str = ""
    """What the ratio is against."""


def table(figures: Iterable[Figure]) -> str:
    """The figures as aligned lines, ratios first, and whether the loops that they are of were compiled."""
    rows = [("part", "case", "measure", "ratio", "absolute", "ratio of")]
    rows += [
        (
            figure.part,
            figure.case,
            figure.name,
            "" if figure.ratio is None else f"{figure.ratio:,.2f}",
            f"{_shown(figure.value)} {figure.unit}",
            figure.ratio_of,
        )
        for figure in figures
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = (str.ljust, str.ljust, str.ljust, str.rjust, str.rjust, str.ljust)
    lines = [
        "  ".join(align(cell, width) for align, cell, width in zip(aligned, row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "", f"inner loops: {'compiled' if COMPILED else 'not compiled'}"])


def keep(part: str, figures: Sequence[Figure], directory: Path = DIRECTORY) -> Path:
    """Write the figures of one part as JSON, with what they were measured on; returns the file."""
    directory.mkdir(exist_ok=True)
    path = directory / f"{part}.json"
    document = {
        "part": part,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "compiled": COMPILED,
        "figures": [figure._asdict() for figure in figures],
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return path


def report(part: str, figures: Sequence[Figure]) -> None:
    """What a part that is run on its own does with its figures."""
    print(table(figures))
    keep(part, figures)


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
