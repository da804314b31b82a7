"""Every part one after the other, each kept as JSON, and one table of all: `make bench` or `python -m benchmarks`."""

import sys

from benchmarks import daemon, fetching, idle, pages, scale, scrape, storm
from benchmarks.results import DIRECTORY, Figure, keep, table

PARTS = {part.PART: part.figures for part in (pages, daemon, fetching, scrape, storm, idle, scale)}


def main() -> int:
    """Run the parts that are named, or all."""
    wanted = sys.argv[1:] or list(PARTS)
    unknown = [name for name in wanted if name not in PARTS]
    if unknown:
        print(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    found: list[Figure] = []
    for name in wanted:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        figures = list(PARTS[name]())
        keep(name, figures)
        found += figures
    print(table(found))
    print(f"\nkept in {DIRECTORY}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
