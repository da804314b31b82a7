"""The list of failures: filters, how many over time by category and cause, and the newest of them.

It is told what to show and writes it down; nothing here looks for anything.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from exporter.failures.charts import Axis, chart, length_of_a_bar
from exporter.failures.entry import Entry, Kind
from exporter.failures.layout import PATH, address, cell, link, page, row, severity, table
from exporter.failures.markup import NOTHING, Markup, joined, tag
from exporter.failures.recent import Holding
from exporter.failures.selection import Selection
from exporter.failures.wording import clock_time, counted, mebibytes, milliseconds, route_of, status_of, time
from exporter.model import UNKNOWN

_TIMES = {"15m": "last 15 minutes", "1h": "last hour", "6h": "last 6 hours", "24h": "last 24 hours"}
_STATUSES = ("4xx", "5xx")
_CAUSE_HEADS = ("Cause", "Category", "Failures", "Over time")
_CAUSES_AT_ONCE = 8
"""The others are behind a click."""

_Counts = list[tuple[int, int]]
"""Moments, and how many failures then."""
_Of = TypeVar("_Of")


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """What the list shows."""

    selection: Selection
    kinds: frozenset[Kind]
    """All that is known, whatever is asked for: what filters offer."""
    axis: Axis
    counts: Sequence[tuple[int, Kind, int]]
    """Of what is asked for, within the axis."""
    entries: Sequence[Entry]
    """One page of them."""
    first: int
    """How many are newer than these."""
    matching: int
    newer: str | None
    """The `before` of the page before this one; empty: the first page. None: this is the first."""
    older: str | None
    since_ms: int
    holding: Holding
    per_cause: int
    max_bytes: int


def list_page(overview: Overview) -> str:
    """The whole page."""
    return page(
        "Failures",
        _standing(overview),
        _mistakes(overview.selection),
        _filters(overview),
        _over_time(overview),
        _newest(overview),
    )


def _standing(overview: Overview) -> Markup:
    held = overview.holding
    return tag(
        "p",
        {},
        "This process started at ",
        time(overview.since_ms),
        f" and knows what it has counted since: {counted(held.learned, 'failure')}, of which {held.failures:,} are "
        f"kept, the last {overview.per_cause} of each cause at each stage ({mebibytes(held.size_bytes)} of at most "
        f"{mebibytes(overview.max_bytes)}). A restart starts empty; the counters of the metrics go on.",
    )


def _mistakes(selection: Selection) -> Markup:
    if not selection.mistakes:
        return NOTHING
    items = (tag("li", {}, f"{name}: {said}") for name, said in selection.mistakes.items())
    return tag("div", {"role": "alert", "class": "panel bad"}, "Not all filters can be read.", tag("ul", {}, *items))


# ------------------------------------------------------------------------------------------------------------- filters


def _filters(overview: Overview) -> Markup:
    kinds, selection = overview.kinds, overview.selection
    apis = {kind.api_name if kind.api_name != UNKNOWN else kind.api_id for kind in kinds}
    statuses = [*_STATUSES, *sorted({str(kind.status) for kind in kinds if kind.status is not None})]
    return tag(
        "search",
        {},
        tag("h2", {}, "Filter"),
        tag(
            "form",
            {"action": PATH, "method": "get"},
            _choice(selection, "api", "API", {name: name for name in sorted(apis)}),
            _choice(selection, "stage", "Stage", {name: name for name in sorted({kind.stage for kind in kinds})}),
            _choice(selection, "category", "Category", {name: name for name in sorted({k.category for k in kinds})}),
            _choice(selection, "cause", "Cause", {name: name for name in sorted({kind.cause for kind in kinds})}),
            _choice(selection, "status", "Status", {name: name for name in statuses}),
            _choice(selection, "since", "Time", _TIMES),
            _kept_filter(selection),
            tag("div", {}, tag("button", {"type": "submit"}, "Show")),
            tag("div", {}, link(PATH, "No filters")) if selection.written else NOTHING,
        ),
    )


def _choice(selection: Selection, name: str, label: str, offered: dict[str, str]) -> Markup:
    chosen = selection.written.get(name)
    if chosen is not None and chosen not in offered:
        offered = {**offered, chosen: chosen}
    options = (
        tag("option", {"value": value, "selected": "" if value == chosen else None}, words)
        for value, words in {"": "any", **offered}.items()
    )
    invalid = "true" if name in selection.mistakes else None
    select = tag("select", {"name": name, "id": name, "aria-invalid": invalid}, *options)
    return tag("div", {}, tag("label", {"for": name}, label), select)


def _kept_filter(selection: Selection) -> Markup:
    """What the form has no control for stays as it is."""
    until = selection.written.get("until")
    return NOTHING if until is None else tag("input", {"type": "hidden", "name": "until", "value": until})


# ----------------------------------------------------------------------------------------------------------- over time


def _over_time(overview: Overview) -> Markup:
    axis, selection = overview.axis, overview.selection
    by_category: defaultdict[str, _Counts] = defaultdict(list)
    by_cause: defaultdict[tuple[str, str], _Counts] = defaultdict(list)
    for at_ms, kind, count in overview.counts:
        by_category[kind.category].append((at_ms, count))
        by_cause[kind.cause, kind.category].append((at_ms, count))
    if not by_cause:
        return joined([tag("h2", {}, "Over time"), tag("p", {}, "No failure is counted in this time.")])
    cards = (_card(axis, selection, category, counts) for category, counts in _most_first(by_category))
    rows = [_cause_row(axis, selection, *of, counts) for of, counts in _most_first(by_cause)]
    return joined(
        [
            tag("h2", {}, "Over time"),
            tag("p", {"class": "soft"}, f"Every failure counts here, kept or not. A bar is {length_of_a_bar(axis)}."),
            tag("ul", {"class": "cards"}, *cards),
            table("Causes, the most frequent first", _CAUSE_HEADS, rows[:_CAUSES_AT_ONCE]),
            _more_causes(rows[_CAUSES_AT_ONCE:]),
        ]
    )


def _more_causes(rows: list[Markup]) -> Markup:
    if not rows:
        return NOTHING
    summary = tag("summary", {}, counted(len(rows), "more cause"))
    return tag("details", {}, summary, table("The other causes", _CAUSE_HEADS, rows))


def _most_first(counts: Mapping[_Of, _Counts]) -> list[tuple[_Of, _Counts]]:
    return sorted(counts.items(), key=lambda item: -sum(count for _, count in item[1]))


def _card(axis: Axis, selection: Selection, category: str, counts: _Counts) -> Markup:
    heights = axis.heights(counts)
    return tag(
        "li",
        {"class": "panel"},
        tag("h3", {}, link(address(selection.query({"category": category})), category)),
        tag(
            "div",
            {"class": "soft"},
            counted(sum(heights), "failure"),
        ),
        chart(axis, heights, category),
        tag(
            "div",
            {"class": "ends", "aria-hidden": "true"},
            tag("span", {}, clock_time(axis.start_ms)),
            tag("span", {}, f"peak {max(heights):,}"),
            tag("span", {}, clock_time(axis.end_ms)),
        ),
    )


def _cause_row(axis: Axis, selection: Selection, cause: str, category: str, counts: _Counts) -> Markup:
    heights = axis.heights(counts)
    return row(
        link(address(selection.query({"cause": cause})), cause),
        cell(category),
        cell(f"{sum(heights):,}", classes="number", name="failures"),
        cell(chart(axis, heights, cause), classes="spark"),
    )


# -------------------------------------------------------------------------------------------------------------- newest


def _newest(overview: Overview) -> Markup:
    heading = tag("h2", {"id": "newest"}, "The newest")
    if not overview.entries:
        words = "No failure is kept that fits." if overview.holding.learned else "There was no failure so far."
        return joined([heading, tag("p", {}, words)])
    last = overview.first + len(overview.entries)
    caption = f"{overview.first + 1:,} to {last:,} of {overview.matching:,} that are kept and fit, the newest first"
    rows = [_entry_row(entry) for entry in overview.entries]
    heads = ("Time (UTC)", "Status", "Cause", "Request", "API", "Took")
    return joined([heading, table(caption, heads, rows), _places(overview)])


def _entry_row(entry: Entry) -> Markup:
    kind = entry.kind
    route = route_of(entry.method, entry.resource)
    api = kind.api_name if kind.api_name != UNKNOWN else kind.api_id
    return row(
        link(f"{PATH}/{entry.id}", time(entry.at_ms)),
        cell(status_of(kind.status), classes=severity(kind.status), name="status"),
        cell(tag("strong", {}, kind.cause), tag("div", {"class": "soft line"}, entry.evidence)),
        cell(route, classes="route"),
        cell(f"{api}/{kind.stage}", name="API"),
        cell(milliseconds(entry.duration_ms), classes="number", name="took"),
    )


def _places(overview: Overview) -> Markup:
    links = []
    if overview.newer is not None:
        query = overview.selection.query({"before": overview.newer or None})
        links.append(tag("a", {"href": f"{address(query)}#newest", "rel": "prev"}, "Newer"))
    if overview.older is not None:
        query = overview.selection.query({"before": overview.older})
        links.append(tag("a", {"href": f"{address(query)}#newest", "rel": "next"}, "Older"))
    links.append(tag("a", {"href": address(overview.selection.query({"format": "json"}))}, "As JSON"))
    return tag("nav", {"aria-label": "Pages", "class": "places"}, *links)
