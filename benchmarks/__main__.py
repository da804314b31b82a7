"""Every part one after the other, each kept as JSON, and one table of all: `make bench` or `python -m benchmarks`."""

import sys

from benchmarks import collector, commits, daemon, fetching, idle, pages, scale, scrape, storm, tombstones, waiting
from benchmarks.otelcol import MissingError
from benchmarks.results import DIRECTORY, Figure, keep, table

PARTS = {
    part.PART: part.figures
    for part in (pages, commits, daemon, fetching, waiting, scrape, storm, tombstones, idle, scale, collector)
}


def main() -> int:
    """Run the parts that are named, or all that this machine has what they need for; what was left out is said last."""
    wanted = sys.argv[1:] or list(PARTS)
    unknown = [name for name in wanted if name not in PARTS]
    if unknown:
        print(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    found: list[Figure] = []
    left_out: dict[str, MissingError] = {}
    for name in wanted:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        try:
            figures = list(PARTS[name]())
        except MissingError as error:
            left_out[name] = error
            continue
        keep(name, figures)
        found += figures
    print(table(found))
    print(f"\nkept in {DIRECTORY}", file=sys.stderr)
    for name, error in left_out.items():
        print(f"LEFT OUT: {name}: {error}", file=sys.stderr)
    return 1 if left_out and sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
