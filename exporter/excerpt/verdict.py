"""What `classify` says of a request: one object per request for machines, a few lines for people.

Nothing leaves without redaction: the fields of an access line are logged as they are and cut here, execution lines were
cut when they were read.
"""

from collections.abc import Mapping

import msgspec

from exporter.model import Failure, RequestTimeline
from exporter.redaction import redact


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One request, judged. `cause`, `category`, `rule` and `evidence` are None where it did not fail."""

    request_id: str | None
    status: int | None
    failure: bool
    cause: str | None
    category: str | None
    rule: str | None
    evidence: str | None
    fields: Mapping[str, str]
    """Every access variable read, by its `$context` name without the prefix; redacted."""
    timeline: tuple[str, ...]
    """The execution lines in order, without the request id; redacted."""


def verdict(timeline: RequestTimeline, failure: Failure | None) -> Verdict:
    """The verdict on a request, as the rules found it."""
    return Verdict(
        request_id=timeline.request_id or timeline.extended_request_id,
        status=timeline.status,
        failure=failure is not None,
        cause=failure.cause if failure is not None else None,
        category=failure.category if failure is not None else None,
        rule=failure.rule if failure is not None else None,
        evidence=failure.evidence if failure is not None else None,
        fields=_redacted_fields(timeline),
        timeline=tuple(step.text for step in timeline.steps),
    )


def render_json(timeline: RequestTimeline, failure: Failure | None) -> str:
    """The verdict as one line of JSON."""
    return msgspec.json.encode(verdict(timeline, failure)).decode()


def render_text(timeline: RequestTimeline, failure: Failure | None) -> str:
    """The verdict in a few lines for people; no line break at its end."""
    judged = verdict(timeline, failure)
    status = judged.status if judged.status is not None else "no status"
    head = f"{judged.request_id or '(no request id)'}  {status}"
    route = " ".join(
        judged.fields[name] for name in ("httpMethod", "resourcePath", "routeKey") if name in judged.fields
    )
    lines = [f"{head}  {route}" if route else head]
    if judged.failure:
        lines.append(f"  cause     {judged.cause} ({judged.category})")
        lines.append(f"  rule      {judged.rule}")
        if judged.evidence:
            lines.append(f"  evidence  {_one_line(judged.evidence)}")
    else:
        lines.append("  no failure")
    lines += [f"  | {_one_line(line)}" for line in judged.timeline]
    return "\n".join(lines)


def _redacted_fields(timeline: RequestTimeline) -> dict[str, str]:
    access = timeline.access
    return {name: redact(value) for name, value in access.fields.items()} if access is not None else {}


def _one_line(text: str) -> str:
    return " ".join(text.split())
