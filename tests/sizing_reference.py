"""The tables of docs/sizing.md: calls, bytes and the most requests a second, by the formulas of `check-config --probe`.

Sizes are those of the benchmarks' lines. `python -m tests.sizing_reference` writes the tables; a test of
test_documents.py fails while they differ.
"""

from pathlib import Path

from benchmarks import prepared
from exporter.discovery.forecast import DEFAULT_QUOTA, FILTER_LOG_EVENTS_QUOTA, PLANNED_SHARE, pages_per_poll
from tests.coverage_reference import REQUESTS, about, log_lines

PAGE = Path(__file__).parent.parent / "docs" / "sizing.md"
PAGE_BYTES = 1_000_000
PAGE_EVENTS = 10_000
MAX_REQUEST_MS = 30_000
LATENESS_MS = 330_000
POLL_MS = 20_000
LONGEST_MS = 60_000
"""The longest interval between polls at which the first alert is still quick."""
MONTH_SECONDS = 30 * 86_400
RATES = (1, 10, 100, 1_000, 5_000)
SETUPS = {
    "access, CLF": ("access log, CLF",),
    "access, JSON": ("access log, JSON of 18 variables",),
    "access, JSON; ERROR": ("access log, JSON of 18 variables", "execution log, ERROR"),
    "access, JSON; INFO": ("access log, JSON of 18 variables", "execution log, INFO"),
    "access, JSON; INFO and data tracing": ("access log, JSON of 18 variables", "execution log, INFO and data tracing"),
}


def answers() -> dict[str, tuple[float, float]]:
    """Pages and answered bytes a request, by kind of log."""
    found = {}
    for name, lines in log_lines().items():
        size = sum(len(page) for page in prepared.pages(lines)) / REQUESTS
        found[name] = (max(size / PAGE_BYTES, len(lines) / REQUESTS / PAGE_EVENTS), size)
    return found


ANSWERS = answers()


def calls_per_second(setup: str, requests_per_second: float, poll_ms: int) -> float:
    return sum(_pages(name, requests_per_second, poll_ms) for name in SETUPS[setup]) * 1_000 / poll_ms


def _pages(name: str, requests_per_second: float, poll_ms: int) -> float:
    return pages_per_poll(
        ANSWERS[name][0] * requests_per_second / 1_000,
        max_request_ms=MAX_REQUEST_MS,
        allowed_lateness_ms=LATENESS_MS,
        poll_interval_ms=poll_ms,
    )


def bytes_per_second(setup: str, requests_per_second: float, poll_ms: int) -> float:
    """Answered bytes: of each group, what its pages hold, which are seldom full where little is logged."""
    total = 0.0
    for name in SETUPS[setup]:
        pages_a_request, bytes_a_request = ANSWERS[name]
        per_ms = pages_a_request * requests_per_second / 1_000
        # Pages without rounding up: what is read, not how often is asked.
        wide = per_ms * (LATENESS_MS + MAX_REQUEST_MS + 35_000)
        narrow = per_ms * ((poll_ms + 10_000) * 2 + 90_000 * poll_ms / 60_000)
        is_wide = max(1.0, wide) <= _pages(name, requests_per_second, poll_ms)
        total += (wide if is_wide else narrow) / pages_a_request * bytes_a_request
    return total * 1_000 / poll_ms


def most_requests(setup: str, budget: float, poll_ms: int) -> int:
    """The most requests a second of one stage that a budget of calls a second reads at that interval."""
    low, high = 0.0, 1e6
    for _ in range(60):
        middle = (low + high) / 2
        if calls_per_second(setup, middle, poll_ms) <= budget * PLANNED_SHARE:
            low = middle
        else:
            high = middle
    return int(float(f"{low:.2g}"))


def table_of_calls() -> str:
    rows = [
        f"| logs | {' | '.join(f'{rate:,} requests/s' for rate in RATES)} |",
        f"|---|{'---|' * len(RATES)}",
    ]
    for setup in SETUPS:
        cells = [
            f"{about(calls_per_second(setup, rate, POLL_MS))} calls/s, {_size(bytes_per_second(setup, rate, POLL_MS))}/s"
            for rate in RATES
        ]
        rows.append(f"| {setup} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def table_of_limits() -> str:
    budgets = [2.0, *sorted({float(DEFAULT_QUOTA), *map(float, FILTER_LOG_EVENTS_QUOTA.values())})]
    rows = [
        f"| logs | {' | '.join(f'{budget:g} calls/s' for budget in budgets)} |",
        f"|---|{'---|' * len(budgets)}",
    ]
    for setup in SETUPS:
        cells = [
            f"{most_requests(setup, budget, POLL_MS):,} ({most_requests(setup, budget, LONGEST_MS):,})"
            for budget in budgets
        ]
        rows.append(f"| {setup} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def table_of_network() -> str:
    rows = [
        "| logs, 100 requests/s | read a month | NAT gateway, $0.045/GB | interface endpoint, $0.01/GB |",
        "|---|---|---|---|",
    ]
    for setup in SETUPS:
        gigabytes = bytes_per_second(setup, 100, POLL_MS) * MONTH_SECONDS / 1e9
        rows.append(f"| {setup} | {about(gigabytes)} GB | ${about(gigabytes * 0.045)} | ${about(gigabytes * 0.01)} |")
    return "\n".join(rows) + "\n"


def _size(size: float) -> str:
    return f"{about(size / 1e6)} MB" if size >= 1e6 else f"{about(size / 1e3)} kB"


def generated() -> dict[str, str]:
    """The parts of the page, by the names in their comments."""
    return {"calls": table_of_calls(), "limits": table_of_limits(), "network": table_of_network()}


if __name__ == "__main__":
    from tests.pages import rewrite

    rewrite(PAGE, generated())
