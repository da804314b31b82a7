"""What is looked for: ids, statuses, words, a cause, an API; and whether a request is it.

The service filters by text and only roughly (`patterns`); what counts is decided here, on the lines as they are. Pure:
no I/O, no clock.
"""

import re
import string
from dataclasses import dataclass

from exporter import execution_log
from exporter.envelope import split
from exporter.model import GATEWAY_ERRORS, AccessGlance, AccessRecord, Api, Failure, LogEvent, RequestTimeline
from exporter.units import Unit

FIRST_FAILED_STATUS = 400
_WRITTEN_ALIKE = re.compile(r"""[^\x00-\x1f\x7f-\U0010ffff"'\\<>&]+""")
"""Without characters that JSON or XML escape, or CSV doubles."""
_WORD = "_" + string.ascii_letters + string.digits
_PARTS_WORDS = frozenset("\"'\\<>&")


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """All that is asked for must hold; of the ids, one must."""

    request_ids: frozenset[str] = frozenset()
    extended_ids: frozenset[str] = frozenset()
    trace_roots: frozenset[str] = frozenset()
    """X-Ray roots (`1-5759e988-bd862e3fe1be46a994272793`)."""
    statuses: frozenset[int] = frozenset()
    """Empty: any."""
    message: str | None = None
    """Words of the access line or of an execution line, in this order and case; runs of white space are one space."""
    cause: str | None = None
    api: str | None = None
    """An API's id or name."""
    stage: str | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """Every id asked for, the surest first; a UUID typed in capitals also as API Gateway writes its own."""
        request_ids = dict.fromkeys(form for text in sorted(self.request_ids) for form in (text, text.lower()))
        return (*sorted(self.extended_ids), *request_ids, *sorted(self.trace_roots))

    @property
    def words(self) -> str:
        """The longest part of the message, in whole words, that every format writes alike."""
        message = self.message or ""
        runs = (
            _whole_words(run[0], before=message[: run.start()][-1:], after=message[run.end() :][:1])
            for run in _WRITTEN_ALIKE.finditer(message)
        )
        return max(runs, key=len, default="")

    def may_be(self, event: LogEvent, glance: AccessGlance) -> bool:
        """Whether an access line, by a look, may be of a request that is looked for."""
        if self.ids:
            return self._has_id(event.message, glance.request_id, glance.extended_request_id)
        if self.statuses and glance.status not in self.statuses:
            return False
        if self.cause is not None and not has_failed(glance):
            return False
        # An API may be asked for by its name, which no line tells.
        return (self.stage is None or glance.stage in {None, self.stage}) and self.words in event.message

    def is_named_by(self, event: LogEvent) -> bool:
        """Whether an execution line tells, by an id, the message or how it ended, of a request that is looked for."""
        request_id, text = split(event.message)
        if self.ids:
            return self._has_id(event.message, request_id, None)
        if self.words:
            return self.words in event.message
        status = execution_log.completed_status(text)
        if status is None:
            return self.cause is not None and text.startswith(GATEWAY_ERRORS)
        return status in self.statuses if self.statuses else status >= FIRST_FAILED_STATUS

    def is_met_by(self, unit: Unit, timeline: RequestTimeline, failure: Failure | None) -> bool:
        """Whether a request, described and judged, is one that is looked for."""
        if self.statuses and timeline.status not in self.statuses:
            return False
        if self.cause is not None and (failure is None or failure.cause != self.cause):
            return False
        if not self._is_of(timeline.api):
            return False
        return self.message is None or self._says(unit, timeline.access, folded(self.message))

    def is_surely_met_by(self, unit: Unit) -> bool:
        """Whether an id that only API Gateway makes is among those asked for."""
        return bool(self.extended_ids & unit.extended_ids)

    def _has_id(self, message: str, request_id: str | None, extended_id: str | None) -> bool:
        if request_id is not None and request_id.lower() in {text.lower() for text in self.request_ids}:
            return True
        if not self.extended_ids.isdisjoint((extended_id, request_id)):
            return True
        return any(text in message for text in (*self.extended_ids, *self.trace_roots))

    def _is_of(self, api: Api) -> bool:
        return (self.api is None or self.api in {api.id, api.name}) and (self.stage is None or self.stage == api.stage)

    def _says(self, unit: Unit, access: AccessRecord | None, words: str) -> bool:
        if access is not None and any(words in folded(value) for value in access.fields.values()):
            return True
        if unit.access is not None and words in folded(unit.access.event.message):
            return True
        return any(words in folded(line.text) for line in unit.execution)


def has_failed(glance: AccessGlance) -> bool:
    """Whether an access line, by a look, tells of a failure."""
    failed = glance.status is not None and glance.status >= FIRST_FAILED_STATUS
    return failed or glance.response_type is not None or glance.gateway_error


def _whole_words(text: str, *, before: str, after: str) -> str:
    r"""Drop the part of a word at either end that goes on behind a letter, or behind what is escaped by one (`\n`)."""
    if before and before not in _PARTS_WORDS:
        text = text.lstrip(_WORD)
    if after and after not in _PARTS_WORDS:
        text = text.rstrip(_WORD)
    return text.strip()


def folded(text: str) -> str:
    """Make every run of white space one space."""
    return " ".join(text.split())
