"""FilterLogEvents answers, decoded fast: a page's bytes become `LogEvent`s without botocore's parser in between.

botocore spends 13 of 16 ms of a call on walking the answer by its service model. Its event
`before-parse.cloudwatch-logs.FilterLogEvents` (a public extension point) hands over the raw body first; `attach` uses
it. Where that event does not come, botocore's own result is read instead.

A body that is no FilterLogEvents answer is `Malformed`, never an empty page. That check matters: botocore neither
compares a body with its Content-Length nor minds broken JSON in a 200, it returns a result without events and without
token, which would read as the end of the listing.
"""

import gzip
import json
import zlib
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import urllib3
from botocore.exceptions import ConnectionClosedError, HTTPClientError, ReadTimeoutError, SSLError

from exporter.model import LogEvent
from exporter.turns import TURNS

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient

OPERATION = "FilterLogEvents"
_EVENT = f"before-parse.cloudwatch-logs.{OPERATION}"
_FAST = "ApiGatewayExporterDecoded"
_GZIP = b"\x1f\x8b"


class Malformed(Exception):
    """A 200 whose body is cut off or is something else than an answer."""


class Answer(NamedTuple):
    """One FilterLogEvents answer."""

    events: list[LogEvent]
    next_token: str | None
    """None: this was the last page."""
    body_bytes: int
    """Size of the body, after decompression."""
    server_at_ms: int | None
    """The service's own clock when it answered (its `Date` header, cut to whole seconds)."""


class _Body(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    events: list[LogEvent]  # required: AWS always sends it, so its absence shows a body that is something else
    next_token: str | None = None


_decoder = msgspec.json.Decoder(_Body)


def attach(client: "CloudWatchLogsClient") -> None:
    """Make `client` take in and decode FilterLogEvents answers the fast way. Its calls may then raise `Malformed`."""
    client.meta.events.register(_EVENT, _decode_before_botocore)
    endpoint = getattr(client, "_endpoint", None)  # without it, bodies are taken in as botocore does
    if endpoint is not None:
        endpoint.http_session = _BodiesInTurn(endpoint.http_session)


class _BodiesInTurn:
    """A client's HTTP session, whose answers are taken in one at a time once their headers are there."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def send(self, request: Any) -> Any:
        """See botocore's `URLLib3Session.send`; raises what it raises."""
        request.stream_output = True  # it returns with the headers
        response = self._session.send(request)
        with TURNS.body():
            try:
                response.content  # noqa: B018 it is read now and kept
            except urllib3.exceptions.ReadTimeoutError as error:
                raise ReadTimeoutError(endpoint_url=request.url, error=error) from error
            except urllib3.exceptions.SSLError as error:
                raise SSLError(endpoint_url=request.url, error=error) from error
            except urllib3.exceptions.ProtocolError as error:
                raise ConnectionClosedError(error=error, request=request, endpoint_url=request.url) from error
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise HTTPClientError(error=error) from error
        return response

    def close(self) -> None:
        """Close its connections."""
        self._session.close()


def read_answer(result: Mapping[str, object]) -> Answer:
    """What `client.filter_log_events(…)` returned, whichever parser made it. Raises `Malformed`."""
    fast = result.get(_FAST)
    if isinstance(fast, tuple):
        body, body_bytes = fast
    else:
        body = _checked(result)
        length = _headers_of(result).get("content-length", "")
        body_bytes = int(length) if length.isdecimal() else 0
    return Answer(body.events, body.next_token or None, body_bytes, _served_at_ms(result))


def _decode_before_botocore(
    response_dict: dict[str, object], customized_response_dict: dict[str, object], **_: object
) -> None:
    """Put the decoded body where botocore merges it into its result, and leave its parser an empty object to do."""
    raw = response_dict.get("body")
    if not isinstance(raw, bytes):
        return
    raw = response_dict["body"] = _inflated(raw)
    if response_dict.get("status_code") != 200:
        return
    with TURNS.page():
        try:
            body = _decoder.decode(raw)
        except ValueError:  # msgspec's errors and UnicodeDecodeError
            body = _decode_leniently(raw)
    customized_response_dict[_FAST] = (body, len(raw))
    response_dict["body"] = b"{}"


def _inflated(raw: bytes) -> bytes:
    """`raw` without gzip: botocore asks for no compression and undoes none, but a proxy may compress."""
    if not raw.startswith(_GZIP):
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise Malformed(f"cut or broken gzip: {error}") from None


def _decode_leniently(raw: bytes) -> _Body:
    """As Python reads JSON, half surrogate pairs included; bytes that are no UTF-8 become U+FFFD."""
    try:
        document = json.loads(raw.decode("utf-8", "replace"))
    except ValueError:
        raise Malformed("no JSON, or cut off") from None
    return _checked(document)


def _checked(document: object) -> _Body:
    try:
        body = msgspec.convert(document, _Body)
    except msgspec.ValidationError as error:
        raise Malformed(str(error)) from None
    return _Body(events=[_legible(event) for event in body.events], next_token=body.next_token)


def _legible(event: LogEvent) -> LogEvent:
    """Half a surrogate pair, which nothing can encode, becomes `?`."""
    try:
        event.message.encode()
    except UnicodeEncodeError:
        return msgspec.structs.replace(event, message=event.message.encode("utf-8", "replace").decode())
    return event


def _served_at_ms(result: Mapping[str, object]) -> int | None:
    try:
        return int(parsedate_to_datetime(_headers_of(result).get("date", "")).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def _headers_of(result: Mapping[str, object]) -> Mapping[str, str]:
    metadata = result.get("ResponseMetadata")
    headers = metadata.get("HTTPHeaders") if isinstance(metadata, dict) else None
    return headers if isinstance(headers, dict) else {}
