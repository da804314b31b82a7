"""One failure: why, what to do, where the time went, what the gateway logged, and where to go from here.

It is told what to show and writes it down; nothing here looks for anything.
"""

from exporter.failures.entry import Entry, Shown
from exporter.failures.layout import PATH, address, cell, link, page, row, severity, table
from exporter.failures.markup import NOTHING, Markup, joined, tag
from exporter.failures.wording import counted, milliseconds, route_of, status_of, time
from exporter.find.picture import PicturePhase

_LIST = link(PATH, "Failures")
_TRACE_WIDTH = 1000


def detail_page(entry: Entry, shown: Shown) -> str:
    """The whole page."""
    status = status_of(shown.status)
    return page(
        f"{status} {route_of(shown.method, shown.resource)}",
        _summary(entry, shown),
        _why(entry, shown),
        _where_the_time_went(shown),
        _execution_log(shown),
        _access_record(shown),
        _from_here(entry, shown),
        path=_LIST,
    )


def unknown_page(identity: str, since_ms: int) -> str:
    """What is answered where no failure has this id."""
    return page(
        "This failure is not here",
        tag("p", {}, "No failure has the id ", tag("code", {}, identity), "."),
        tag(
            "p",
            {},
            "It may have been pushed out by newer ones, or have been counted before ",
            time(since_ms),
            ", when this process started: the page keeps failures in memory only. ",
            tag("code", {}, "apigateway-exporter find"),
            " looks for requests in the logs themselves.",
        ),
        path=_LIST,
    )


def _summary(entry: Entry, shown: Shown) -> Markup:
    api = "/".join(part for part in (shown.api.name or shown.api.id, shown.api.stage) if part) or "unknown API"
    details = ", ".join(part for part in (shown.api.type, shown.api.region, shown.api.id) if part)
    return tag(
        "p",
        {},
        tag("span", {"class": severity(shown.status)}, status_of(shown.status)),
        f" from {api} ({details}) at ",
        tag("time", {"datetime": shown.at}, shown.at),
        "" if entry.duration_ms is None else f", after {milliseconds(entry.duration_ms)}",
    )


def _why(entry: Entry, shown: Shown) -> Markup:
    kind = entry.kind
    return _section(
        "Why",
        _listed(
            {
                "Cause": link(address({"cause": kind.cause}), kind.cause, name=f"{kind.cause}: all failures of it"),
                "Category": link(address({"category": kind.category}), kind.category),
                "It means": shown.meaning,
                "What to do": shown.advice,
                "Evidence": tag("span", {"class": "line"}, shown.evidence) if shown.evidence else None,
                "Proven by": f"rule {shown.rule}",
            }
        ),
    )


def _where_the_time_went(shown: Shown) -> Markup:
    if not shown.phases:
        return _section("Where the time went", tag("p", {}, "The logs time no phase of this request."))
    end_ms = max([shown.duration_ms or 0, *(phase.offset_ms + phase.duration_ms for phase in shown.phases)])
    rows = [
        row(
            phase.name,
            cell(_bar(phase, end_ms), classes="phase"),
            cell(f"{phase.offset_ms:+,} ms", classes="number", name="begins"),
            cell(milliseconds(phase.duration_ms), classes="number", name="takes"),
            cell(_outcome(phase)),
        )
        for phase in shown.phases
    ]
    return _section(
        "Where the time went",
        table(
            f"Phases within {milliseconds(end_ms)} since the arrival",
            ("Phase", "", "Begins", "Takes", "Outcome"),
            rows,
        ),
    )


def _bar(phase: PicturePhase, end_ms: int) -> Markup:
    scale = _TRACE_WIDTH / max(end_ms, 1)
    left = round(phase.offset_ms * scale)
    # What took no time that the scale could show is still somewhere.
    width = max(round(phase.duration_ms * scale), 3)
    left = min(max(left, 0), _TRACE_WIDTH - width)
    return tag(
        "svg",
        {
            "viewBox": f"0 0 {_TRACE_WIDTH} 20",
            "preserveAspectRatio": "none",
            "role": "img",
            "aria-label": f"{phase.name}: from {phase.offset_ms:,} to {phase.offset_ms + phase.duration_ms:,} ms",
        },
        tag("path", {"class": "ground", "d": f"M0 19.5h{_TRACE_WIDTH}"}),
        tag("path", {"class": "bars", "d": f"M{left} 3h{width}v14h-{width}z"}),
    )


def _outcome(phase: PicturePhase) -> str:
    parts = ["" if phase.status is None else f"status {phase.status}", phase.error or "", f"(times: {phase.source})"]
    return " ".join(part for part in parts if part)


def _execution_log(shown: Shown) -> Markup:
    if not shown.timeline:
        return _section("Execution log", tag("p", {}, "There is none: only the access line tells of this request."))
    evidence = shown.evidence or ""
    rows = [
        row(
            f"{offset:+,} ms",
            cell(tag("mark", {}, line) if len(line) > 3 and line in evidence else line, classes="line"),
            classes="number",
        )
        for offset, line in zip(shown.offsets_ms, shown.timeline, strict=True)
    ]
    left_out = f"; {counted(shown.lines_left_out, 'line')} left out" if shown.lines_left_out else ""
    caption = f"{counted(len(rows), 'line')} with the time since the arrival{left_out}; the evidence is marked"
    return _section("Execution log", table(caption, ("Offset", "Line"), rows))


def _access_record(shown: Shown) -> Markup:
    if not shown.fields:
        return _section("Access record", tag("p", {}, "There is no access line of this request, or none that tells."))
    return _section(
        "Access record",
        _listed({name: tag("span", {"class": "line"}, value) for name, value in shown.fields.items()}),
        tag("p", {"class": "soft"}, "Variables that tell of the caller are left out, unless traces.fields names them."),
    )


def _from_here(entry: Entry, shown: Shown) -> Markup:
    trace: Markup | str | None = shown.trace_id and tag("code", {}, shown.trace_id)
    if shown.trace_url is not None and shown.trace_id is not None:
        trace = tag("a", {"href": shown.trace_url, "rel": "noreferrer"}, shown.trace_id)
    return _section(
        "Look further",
        _listed(
            {
                "Request id": _code(shown.request_id),
                "Extended request id": _code(shown.extended_request_id),
                "Trace": trace or "none: traces are off, or this cause had its budget of them",
                "Log groups": ", ".join(shown.log_groups),
            }
        ),
        tag("p", {"id": "find"}, "All lines of this request, from the logs themselves:"),
        tag("pre", {"tabindex": "0", "role": "region", "aria-labelledby": "find"}, tag("code", {}, shown.find)),
        tag("p", {}, link(f"{PATH}/{entry.id}?format=json", "As JSON")),
    )


def _section(title: str, *content: Markup) -> Markup:
    identity = title.lower().replace(" ", "-")
    return tag("section", {"aria-labelledby": identity}, tag("h2", {"id": identity}, title), *content)


def _listed(terms: dict[str, str | None]) -> Markup:
    return tag(
        "dl",
        {},
        *(joined([tag("dt", {}, name), tag("dd", {}, value)]) for name, value in terms.items() if value),
    )


def _code(value: str | None) -> Markup:
    return NOTHING if value is None else tag("code", {}, value)
