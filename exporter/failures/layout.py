"""The frame of every page: head, style, landmarks. Without scripts, images, fonts or anything else to be fetched.

Colours come in a light and a dark set, as the visitor's system prefers; every text has a contrast of 4.5 to 1 or more
on its ground, every bar and control 3 to 1.
"""

from collections.abc import Mapping
from urllib.parse import urlencode

from exporter.failures.markup import Markup, tag

PATH = "/failures"

_NUMBER = "number"
_NUMBERS = frozenset({"Failures", "Took", "Begins", "Takes"})
"""Columns of numbers, by their heads."""

_STYLE = Markup("""
:root { color-scheme: light dark; --page: #fff; --panel: #f6f8fa; --text: #1b1f24; --soft: #57606a; --line: #d0d7de;
  --control: #6e7781; --link: #0b57d0; --bar: #0b57d0; --bad: #b3261e; --warn: #8a4b00; --mark: #fff0b3 }
@media (prefers-color-scheme: dark) { :root { --page: #10151b; --panel: #1a2129; --text: #e6e9ed; --soft: #a3adb8;
  --line: #3a434d; --control: #8b949e; --link: #8ab4f8; --bar: #8ab4f8; --bad: #ff9a91; --warn: #f2b866;
  --mark: #4a3c00 } }
* { box-sizing: border-box }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; background: var(--page); color: var(--text);
  overflow-wrap: break-word }
header, main, footer { max-width: 84rem; margin: 0 auto; padding: 0 1rem }
header { padding-top: 1rem } footer { padding: 2rem 1rem; color: var(--soft) }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .5rem 0 } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem }
h3 { font-size: 1rem; margin: 0 }
p { margin: .5rem 0; max-width: 60rem }
a { color: var(--link) }
a:focus-visible, button:focus-visible, input:focus-visible, select:focus-visible, summary:focus-visible,
[tabindex]:focus-visible { outline: 3px solid var(--link); outline-offset: 2px }
.skip { position: absolute; left: -999rem } .skip:focus { left: 1rem; background: var(--page) }
.soft { color: var(--soft) } .bad { color: var(--bad) } .warn { color: var(--warn) } .number { text-align: right }
time, .number, .status, thead th { white-space: nowrap } th.number { text-align: right }
.number, time, .status { font-variant-numeric: tabular-nums } .status { font-weight: 600 }
code, pre, .line { font: .875rem/1.5 ui-monospace, monospace }
.line, .route, dd, pre, code { overflow-wrap: anywhere }
pre, .panel { background: var(--panel); border: 1px solid var(--line); border-radius: .4rem; padding: .75rem }
pre { white-space: pre-wrap; margin: .5rem 0; user-select: all } .line { white-space: pre-wrap }
mark { background: var(--mark); color: inherit }
table { border-collapse: collapse; width: 100% } caption { text-align: left; color: var(--soft); padding: .25rem 0 }
th, td { text-align: left; vertical-align: top; padding: .35rem 1rem .35rem 0; border-bottom: 1px solid var(--line) }
th { font-weight: 600 } thead th { color: var(--soft) } td:last-child, th:last-child { padding-right: 0 }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .25rem 1.5rem; margin: .5rem 0 }
dt { color: var(--soft) } dd { margin: 0 }
form { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .75rem; align-items: end }
label { display: block; color: var(--soft); font-size: .875rem }
input, select, button { font: inherit; width: 100%; min-height: 2.5rem; padding: .25rem .5rem; border-radius: .3rem;
  border: 1px solid var(--control); background: var(--page); color: var(--text) }
button { background: var(--link); color: var(--page); border-color: var(--link); cursor: pointer }
[aria-invalid] { border: 2px solid var(--bad) }
svg { display: block; width: 100%; height: 2.5rem } .bars { fill: var(--bar) } .ground { stroke: var(--control) }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)); gap: .75rem; padding: 0;
  margin: .5rem 0; list-style: none }
.ends { display: flex; justify-content: space-between; font-size: .8rem; color: var(--soft) }
.spark { width: 16rem } .spark svg { height: 1.5rem } .phase { width: 50% } .phase svg { height: 1.25rem }
summary { padding: .5rem 0; cursor: pointer; color: var(--link) }
.places { display: flex; gap: 1.5rem; flex-wrap: wrap; margin: 1rem 0 }
@media (min-width: 44rem) { .route { min-width: 13rem } }
@media (max-width: 44rem) {
  .stacked caption { display: block } .stacked thead { position: absolute; left: -999rem }
  .stacked, .stacked tbody, .stacked tr, .stacked td, .stacked th { display: block }
  .stacked tr { border-bottom: 1px solid var(--line); padding: .5rem 0 }
  .stacked td, .stacked tbody th { border: 0; padding: 0; text-align: left; width: auto }
  .stacked [data-name]::before { content: attr(data-name) " "; color: var(--soft) }
  dl { grid-template-columns: 1fr; gap: 0 } dd { margin-bottom: .5rem }
}
""")


def page(title: str, *main: str, path: Markup | None = None) -> str:
    """A whole page. `path`: what stands between the landing page and this one, as links."""
    trail = tag("a", {"href": "/"}, "API Gateway exporter")
    return "<!DOCTYPE html>\n" + tag(
        "html",
        {"lang": "en"},
        tag(
            "head",
            {},
            tag("meta", {"charset": "utf-8"}),
            tag("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
            tag("title", {}, f"{title} - API Gateway exporter"),
            tag("style", {}, _STYLE),
        ),
        tag(
            "body",
            {},
            tag("a", {"class": "skip", "href": "#main"}, "Skip to content"),
            tag("header", {}, tag("nav", {"aria-label": "Path"}, trail, *((" / ", path) if path is not None else ()))),
            tag("main", {"id": "main", "tabindex": "-1"}, tag("h1", {}, title), *main),
            tag("footer", {}, "All times are UTC. What is shown here is redacted; it is kept in memory only."),
        ),
    )


def link(href: str, words: str, *, name: str | None = None) -> Markup:
    """A link. `name`: what it is called where its words alone do not say."""
    return tag("a", {"href": href, "aria-label": name}, words)


def address(query: Mapping[str, str]) -> str:
    """The list with these parameters."""
    return f"{PATH}?{urlencode(query, errors='replace')}" if query else PATH


def severity(status: int | None) -> str:
    """The class of a status."""
    if status is None or status < 400:
        return "status"
    return "status bad" if status >= 500 else "status warn"


# Roles are written out: what a narrow screen shows stacked is still a table to those who listen.


def table(caption: str, heads: tuple[str, ...], rows: list[Markup], *, classes: str = "stacked") -> Markup:
    """A table of `row`s."""
    return tag(
        "table",
        {"class": classes, "role": "table"},
        tag("caption", {}, caption),
        tag(
            "thead",
            {"role": "rowgroup"},
            tag(
                "tr",
                {"role": "row"},
                *(
                    tag(
                        "th",
                        {"scope": "col", "role": "columnheader", "class": _NUMBER if head in _NUMBERS else None},
                        head,
                    )
                    for head in heads
                ),
            ),
        ),
        tag("tbody", {"role": "rowgroup"}, *rows),
    )


def row(head: str, *cells: Markup, classes: str | None = None) -> Markup:
    """A row, its first cell the head of it."""
    return tag("tr", {"role": "row"}, tag("th", {"scope": "row", "role": "rowheader", "class": classes}, head), *cells)


def cell(*children: str, classes: str | None = None, name: str | None = None) -> Markup:
    """A cell. `name`: what stands before it where there is no head above it."""
    return tag("td", {"role": "cell", "class": classes, "data-name": name}, *children)
