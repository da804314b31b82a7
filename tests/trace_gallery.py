"""The pictures of docs/traces.md and docs/trace-gallery.md, drawn from the spans that the demo's requests become.

`python -m tests.trace_gallery` draws them; a test of test_trace_gallery.py fails while they differ. The requests are the
demo's (the same ones for a seed), the spans what a receiver decodes.
"""

import gzip
from pathlib import Path

from exporter import execution_log
from exporter.access_log import access_parser
from exporter.model import AccessRecord, Api, LogEvent, RequestTimeline, Step
from exporter.rules import shipped_rules
from exporter.sources.demo.stages import ACCOUNT_ID, REGION, outcomes
from exporter.sources.demo.traffic import traffic
from exporter.span_batch import pack
from exporter.spans import SpanOptions, failure_spans
from tests.otlp_receiver import decode_spans

DOCS = Path(__file__).parent.parent / "docs"
PAGE, GALLERY = DOCS / "traces.md", DOCS / "trace-gallery.md"
BEGIN = "<!-- picture of {}: drawn by tests/trace_gallery.py -->\n"
END = "<!-- end of picture -->\n"
INTRODUCTION = """# A trace of every cause

Drawn by `python -m tests.trace_gallery` from the spans that the demo's requests become, one for each
[cause](causes.md). Times are milliseconds since the request's arrival; [traces](traces.md) explains what is shown. How much a
trace can tell depends on what the stage logs: `orders` logs everything, `payments` execution lines and few access
fields, `catalog` access fields and execution lines at ERROR, `notifications` (an HTTP API) access lines alone.
"""
START_MS = 1_760_000_040_000
WIDTH = 32
TOLD = frozenset(
    {Step.AUTHORIZER_START, Step.AUTHORIZER_RESULT, Step.API_KEY, Step.INTEGRATION_RESPONSE, Step.REASON}
    | {Step.GATEWAY_RESPONSE, Step.EXECUTION_COMPLETED, Step.COMPLETED}
)
"""The events that a picture has room for; and `Sending request to …`."""


def failures():
    """One failure of each cause, by cause: the demo's first, in the order of the closed set."""
    wanted = dict.fromkeys(outcome.cause for outcome in outcomes() if outcome.cause is not None)
    rules = shipped_rules()
    for scripted in traffic(seed=1, start_ms=START_MS):
        cause = scripted.request.outcome.cause
        if cause is not None and wanted[cause] is None:
            wanted[cause] = rules.classify(timeline_of(scripted))
            assert wanted[cause] is not None, f"the demo's request of {cause} is no failure"
        if None not in wanted.values():
            return wanted
    return None


def timeline_of(scripted):
    """A scripted request as the exporter reads it."""
    stage = scripted.request.stage
    parser = access_parser(stage.watch_format)
    access, steps, ids = None, [], []
    for batch in scripted.batches:
        for index, (at_ms, message) in enumerate(batch.lines):
            event = LogEvent(event_id=f"{batch.group}-{at_ms}-{index:03d}", at_ms=at_ms, message=message)
            if batch.group == stage.access_group:
                access = parser.parse(event)
                assert isinstance(access, AccessRecord)
                ids.append((access.glance.request_id, access.glance.extended_request_id))
            else:
                steps.append(execution_log.parse(event)[1])
    return RequestTimeline(
        api=Api(
            id=stage.api_id,
            name=stage.api_name,
            stage=stage.name,
            type=stage.type,
            region=REGION,
            account_id=ACCOUNT_ID,
        ),
        access=access,
        steps=tuple(sorted(steps, key=lambda step: step.at_ms)),
        request_id=ids[0][0] or ids[0][1],
        extended_request_id=ids[0][1],
    )


def spans_of(failure):
    (batch,) = pack([failure_spans(failure, SpanOptions())])
    return decode_spans(gzip.decompress(batch.body))


def picture(failure):
    """A trace as text: a bar for each span, then what the root says of the cause, then its events."""
    root, *children = spans_of(failure)
    length_ms = max(1, (root.end_ns - root.start_ns) // 1_000_000)

    def since(at_ns):
        return (at_ns - root.start_ns) // 1_000_000

    lines = []
    names = [root.name, *(f"{'└' if child is children[-1] else '├'} {child.name}" for child in children)]
    for name, span in zip(names, (root, *children), strict=True):
        start, end = since(span.start_ns), since(span.end_ns)
        left = min(WIDTH - 1, start * WIDTH // length_ms)
        bar = f"{' ' * left}{'─' * max(1, -(-end * WIDTH // length_ms) - left)}"
        status = span.attributes.get("http.response.status_code", span.attributes.get("apigateway.phase_status", ""))
        error = f"ERROR {span.attributes['error.type']}" if span.status == "ERROR" else ""
        lines.append(
            f"{name:<{max(map(len, names))}}  {span.kind:<8}  {start:>5} {bar:<{WIDTH}} {end:>5}  {status:>3}  {error}"
        )
    attributes = root.attributes
    said = ("apigateway.cause", "apigateway.evidence", "apigateway.failed_phase", "apigateway.integration_request_id")
    lines += ["", *(f"{key:<34}  {shortened(str(attributes[key]))}" for key in said if key in attributes), ""]
    shown = [event for event in root.events if is_told(event)]
    lines += [
        f"{since(event.at_ns):>5}  {event.name:<30}  {shortened(event.attributes['apigateway.text'])}"
        for event in shown
    ]
    if len(shown) < len(root.events):
        lines.append(f"       … and {len(root.events) - len(shown)} events more")
    return "\n".join(line.rstrip() for line in lines).rstrip()


def is_told(event):
    told = {f"apigateway.{step}" for step in TOLD}
    return event.name in told or event.attributes["apigateway.text"].startswith("Sending request to ")


def shortened(text):
    text = " ".join(text.split())
    return text if len(text) <= 100 else f"{text[:99]}…"


def fenced(failure):
    return f"```text\n{picture(failure)}\n```\n"


def gallery(told):
    """The gallery's page."""
    parts = [INTRODUCTION]
    for cause, failure in told.items():
        status = failure.timeline.status
        parts.append(f"## {cause}\n\n`{failure.timeline.api.name}` answers {status}.\n\n{fenced(failure)}")
    return "\n".join(parts)


def page_with(told):
    """The page of traces, with each picture in its place."""
    text = PAGE.read_text(encoding="utf-8")
    for cause, failure in told.items():
        before, mark, rest = text.partition(BEGIN.format(cause))
        if mark:
            text = f"{before}{mark}{fenced(failure)}{END}{rest.partition(END)[2]}"
    return text


if __name__ == "__main__":
    drawn = failures()
    GALLERY.write_text(gallery(drawn), encoding="utf-8")
    PAGE.write_text(page_with(drawn), encoding="utf-8")
