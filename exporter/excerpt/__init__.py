"""Pasted or exported log text becomes requests: the way in of `classify` and of the tests that stand beside rules.

It joins what a person would: lines by request id, an access line by its extended id too, lines that carry no id by
standing together. It is for text at hand, whole and small; the daemon's joining (windows, lateness, reused ids over
hours) is elsewhere. Total: any text gives an answer, never an exception.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from exporter.access_log import access_parser
from exporter.excerpt.unwrapping import is_execution, unwrap
from exporter.excerpt.verdict import Verdict, render_json, render_text, verdict
from exporter.execution_log import PLACEHOLDER_IDS, parse
from exporter.model import AccessRecord, Api, ExecutionStep, RequestTimeline, Step

__all__ = ["Excerpt", "Verdict", "read_excerpt", "render_json", "render_text", "verdict"]

_ID_IN_TEXT = re.compile(
    r"(?:Execution log for request|Starting execution for request:|Verifying Usage Plan for request:"
    r"|Unauthorized request:|Starting authorizer: \S+ for request:) ([0-9A-Fa-f-]{36})(?![0-9A-Fa-f-])"
)
_BEGINS = ("Execution log for request", "Extended Request Id:", "Starting execution for request:")
"""Lines that a request has once."""
_EXTENDED_ID = "Extended Request Id:"
_NO_IDS = PLACEHOLDER_IDS | {None}
_AFTER_THE_END = frozenset({Step.TRAILER, Step.GATEWAY_RESPONSE, Step.RESPONSE_DETAIL, Step.OTHER})
"""Steps that may follow `Method completed`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Excerpt:
    """What a log text holds."""

    requests: tuple[RequestTimeline, ...]
    """Failed or not, in the order of their first lines."""
    unreadable: int
    """Lines that are none of API Gateway's, or that no parser could read."""

    def __iter__(self) -> Iterator[RequestTimeline]:
        return iter(self.requests)


def read_excerpt(text: str, *, access_format: str = "auto") -> Excerpt:
    """Read any mixture of access and execution lines, in any wrapping; `access_format` as in the configuration.

    Raises `AccessFormatError` if that format cannot be read; no text makes it raise.
    """
    access = access_parser(access_format)
    found = unwrap(text, access)
    joining = _Joining()
    unreadable = found.unreadable
    for index, event in enumerate(found.events):
        if index in found.breaks:
            joining.end_nameless()
        if is_execution(event.message):
            read = parse(event)
            if isinstance(read, tuple):
                joining.add_step(*read)
            continue
        record = access.parse(event)
        if isinstance(record, AccessRecord):
            joining.add_access(record)
        else:
            unreadable += 1
    return Excerpt(requests=tuple(joining.requests()), unreadable=unreadable)


@dataclass(slots=True)
class _Lines:
    """The execution lines of one request."""

    order: int
    request_id: str | None
    steps: list[ExecutionStep] = field(default_factory=list)

    @property
    def ended_with(self) -> int | None:
        """The status of its terminal line."""
        return next((step.status for step in self.steps if step.step is Step.COMPLETED), None)

    @property
    def extended_request_id(self) -> str | None:
        """As its own line names it."""
        return next((step.name for step in self.steps if step.text.startswith(_EXTENDED_ID) and step.name), None)

    def takes(self, step: ExecutionStep) -> bool:
        """Whether a further line may be of the same request."""
        if not any(line.step is Step.COMPLETED for line in self.steps):
            return self.request_id is not None or not self._has_begun_like(step)
        if self.request_id is None:
            return step.step in _AFTER_THE_END
        return step.step is not Step.COMPLETED and not self._has_begun_like(step)

    def _has_begun_like(self, step: ExecutionStep) -> bool:
        return any(
            step.text.startswith(begin) and any(line.text.startswith(begin) for line in self.steps) for begin in _BEGINS
        )


class _Joining:
    """Lines in, requests out."""

    def __init__(self) -> None:
        self._accesses: list[tuple[int, AccessRecord]] = []
        self._executions: list[_Lines] = []
        self._latest: dict[str | None, _Lines] = {}
        self._order = 0

    def end_nameless(self) -> None:
        """The next line without an id belongs to another request."""
        self._latest.pop(None, None)

    def add_access(self, record: AccessRecord) -> None:
        """An access line is a request, whatever its ids."""
        self._order += 1
        self._accesses.append((self._order, record))

    def add_step(self, request_id: str | None, step: ExecutionStep) -> None:
        """An execution line goes to the request of its id, one without an id to the one before it."""
        self._order += 1
        lines = self._latest.get(request_id)
        if lines is not None and lines.steps and lines.steps[-1].text == step.text:
            return  # consoles show a line folded and unfolded
        if lines is None or not lines.takes(step):
            lines = self._latest[request_id] = _Lines(self._order, request_id)
            self._executions.append(lines)
        lines.steps.append(step)

    def _name_the_nameless(self) -> None:
        """One access line and one run of lines without any id that ended alike were pasted as one request."""
        if len(self._accesses) != 1 or len(self._executions) != 1 or _named_by(self._executions[0]):
            return
        lines, glance = self._executions[0], self._accesses[0][1].glance
        ended, status = lines.ended_with, glance.status
        if status is not None and (status == ended or (ended is None and status >= 400)):
            lines.request_id = glance.request_id or glance.extended_request_id

    def requests(self) -> Iterator[RequestTimeline]:
        """Every request, in the order of their first lines."""
        self._name_the_nameless()
        named: dict[str | None, list[_Lines]] = defaultdict(list)
        for lines in self._executions:
            for name in _named_by(lines):
                named[name].append(lines)
        lines_of: dict[int, _Lines] = {}
        taken: set[int] = set()
        for wanted in (_same_end, _any_end):  # several requests may have one id: the status tells them apart
            for order, record in self._accesses:
                candidates = (
                    lines
                    for name in _ids_of(record)
                    for lines in named.get(name, ())
                    if lines.order not in taken and wanted(record, lines)
                )
                if order not in lines_of and (found := next(candidates, None)) is not None:
                    lines_of[order] = found
                    taken.add(found.order)
        joined = [(lines.order, _timeline(None, lines)) for lines in self._executions if lines.order not in taken]
        for order, record in self._accesses:
            joined_lines = lines_of.get(order)
            first = order if joined_lines is None else min(order, joined_lines.order)
            joined.append((first, _timeline(record, joined_lines)))
        return (timeline for _, timeline in sorted(joined, key=lambda item: item[0]))


def _ids_of(record: AccessRecord) -> list[str | None]:
    """The ids by which execution lines may be an access line's: the request's, then the extended one."""
    return [name for name in (record.glance.request_id, record.glance.extended_request_id) if name not in _NO_IDS]


def _same_end(record: AccessRecord, lines: _Lines) -> bool:
    return record.glance.status == lines.ended_with


def _any_end(_record: AccessRecord, _lines: _Lines) -> bool:
    return True


def _named_by(lines: _Lines) -> set[str | None]:
    return {lines.request_id, lines.extended_request_id, _id_in_text(lines)} - _NO_IDS


def _id_in_text(lines: _Lines) -> str | None:
    return next((found[1] for step in lines.steps if (found := _ID_IN_TEXT.match(step.text))), None)


def _timeline(record: AccessRecord | None, lines: _Lines | None) -> RequestTimeline:
    glance = record.glance if record is not None else None
    logged_id = glance.request_id if glance is not None else None
    extended_id = glance.extended_request_id if glance is not None else None
    return RequestTimeline(
        api=_api(record),
        access=record,
        steps=tuple(lines.steps) if lines is not None else (),
        request_id=logged_id or (lines and (lines.request_id or _id_in_text(lines))) or None,
        extended_request_id=extended_id or (lines and lines.extended_request_id) or None,
    )


def _api(record: AccessRecord | None) -> Api:
    """What an access line tells of its API; an execution line tells nothing."""
    if record is None:
        return Api()
    known = {name: value for name, value in (("id", record.glance.api_id), ("stage", record.glance.stage)) if value}
    if "connectionId" in record.fields or "eventType" in record.fields:
        return Api(type="WEBSOCKET", **known)
    return Api(type="HTTP" if "routeKey" in record.fields else "REST", **known)
