"""A pasted response header dump: the ids that API Gateway gave the request, however the dump was made.

People paste from curl, browsers, Postman, HAR files and programs' logs; what these have in common is the header's name
and, soon behind it, a value of known shape. Nothing else of the dump is kept or shown. Pure.
"""

import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from exporter.dumps import XRAY_ROOT
from exporter.envelope import REQUEST_ID, UUID

_BETWEEN = r"""["'\]]{0,3}\s*(?:,\s*["']?value["']?\s*)?[:=→>|\s,\[("']{1,16}"""
"""What may stand between a header's name and its value: quotes, colons, arrows, the `"value":` of a HAR file."""
_NAME = r"(?<![\w-])"  # not x-amzn-remapped-x-amzn-requestid: that is the backend's own
_FLAGS = re.IGNORECASE
_REQUEST_ID = re.compile(rf"{_NAME}x-amzn-?request-?id{_BETWEEN}({REQUEST_ID})(?![\w=-])", _FLAGS)
_EXTENDED_ID = re.compile(
    rf"{_NAME}(?:x-amz-apigw-id|apigw-requestid){_BETWEEN}([A-Za-z0-9_+/-]{{8,40}}={{0,2}})(?![\w=])", _FLAGS
)
_TRACE_ID = re.compile(rf"{_NAME}x-amzn-trace-id{_BETWEEN}(?:[\w-]+=[^;\s]*;)*?(?:Root=)?({XRAY_ROOT.pattern})", _FLAGS)
_DATE = re.compile(rf"{_NAME}date{_BETWEEN}([A-Z][a-z]{{2}}, [^\n\"']{{10,40}}?GMT)", _FLAGS)
_BARE = re.compile(rf"\s*(?:({UUID})|([A-Za-z0-9_+/-]{{14,15}}=))\s*")
_BARE_TRACE = re.compile(rf"\s*(?:Root=)?({XRAY_ROOT.pattern})\s*")


@dataclass(frozen=True, kw_only=True, slots=True)
class PastedIds:
    """What a dump tells of a request."""

    request_ids: frozenset[str]
    extended_ids: frozenset[str]
    trace_roots: frozenset[str]
    answered_at_ms: int | None
    """The `Date` of the response, else the second in which its trace began."""

    def __bool__(self) -> bool:
        return bool(self.request_ids or self.extended_ids or self.trace_roots)


def read_headers(text: str) -> PastedIds:
    """Find the ids in a header dump, or in a text that is nothing but an id. Total: any text gives an answer.

    A `…_WAS_RENAMED` id and placeholders have another shape and are not found.
    """
    request_ids = set(_REQUEST_ID.findall(text))
    extended_ids = set(_EXTENDED_ID.findall(text))
    roots = {found.lower() for found in _TRACE_ID.findall(text)}
    if (bare := _BARE.fullmatch(text)) is not None:
        request_ids |= {bare[1]} if bare[1] else set()
        extended_ids |= {bare[2]} if bare[2] else set()
    elif (bare_trace := _BARE_TRACE.fullmatch(text)) is not None:
        roots.add(bare_trace[1].lower())
    # An HTTP API's request id is its extended id.
    extended_ids |= {found for found in request_ids if "=" in found}
    return PastedIds(
        request_ids=frozenset(request_ids - extended_ids),
        extended_ids=frozenset(extended_ids),
        trace_roots=frozenset(roots),
        answered_at_ms=_date_ms(text) or min((_root_ms(root) for root in roots), default=None),
    )


def _date_ms(text: str) -> int | None:
    for found in _DATE.findall(text):
        try:
            return int(parsedate_to_datetime(found).timestamp() * 1000)
        except (ValueError, OverflowError):
            continue
    return None


def _root_ms(root: str) -> int:
    """An X-Ray root carries the second of its making, in hexadecimal."""
    return int(root.split("-")[1], 16) * 1000
