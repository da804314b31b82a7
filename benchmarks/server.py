"""A CloudWatch with prepared pages for ever, and a receiver of spans, in a process of their own: no world, no thinking.

Run as `python -m benchmarks.server --per-second 1000 --failing 0.01`; prints `{"url": …}` and serves until it is ended.
Every ten seconds of event time are the same prepared pages but for their timestamps, event ids and request ids, so that
a backlog of any length costs its reader what real lines cost, and the server next to nothing. Groups whose name begins
with `access/` have access lines, all others execution lines of the same requests. What is posted to `/v1/traces` is
taken and thrown away. `GET /` tells the calls by second since the first and the bytes of spans.
"""

import argparse
import asyncio
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.utils import formatdate

from benchmarks import prepared

STRETCH_MS = 10_000
_PREFIX = str(prepared.START_MS // STRETCH_MS).encode()
"""What the timestamps of a stretch have in common: all but their last four digits."""
_ID = b"5eed5eed"
_EVENT_ID = re.compile(rb'(?<="eventId":")\d+(?=")')
_EVENT_TIME_BITS = 144
"""Below the event time in an event id: ingestion, batch, and position in it."""
_ID_HEAD = re.compile(rb"[0-9a-f]{8}(?=-[0-9a-f]{4}-4[0-9a-f]{3}-8|[0-9a-f]{7}=|-[0-9a-f]{24})")
"""Of request ids, extended request ids and X-Ray roots: none of them is ever used again."""
_EMPTY = b'{"events":[],"searchedLogStreams":[]}'


class Template:
    """The pages of one stretch of ten seconds, to be stamped for any stretch."""

    def __init__(self, lines: Sequence[prepared.Line]) -> None:
        bodies = prepared.pages([line for line in lines if line.at_ms < prepared.START_MS + STRETCH_MS])
        marked = [_ID_HEAD.sub(_ID, body) for body in bodies if lines]
        self._event_ids = [[int(found) for found in _EVENT_ID.findall(body)] for body in marked]
        self._bodies = [_EVENT_ID.sub(b"%056d", body.replace(b"%", b"%%")) for body in marked]

    def __len__(self) -> int:
        return len(self._bodies)

    def page(self, stretch: int, index: int) -> bytes:
        """A page of a stretch, without token."""
        later = (stretch * STRETCH_MS - prepared.START_MS) << _EVENT_TIME_BITS
        body = self._bodies[index].replace(_PREFIX, b"%d" % stretch).replace(_ID, b"%08x" % (stretch & 0xFFFFFFFF))
        return body % tuple(event_id + later for event_id in self._event_ids[index])


@dataclass(kw_only=True, slots=True)
class Served:
    """What was asked for."""

    calls: Counter[int] = field(default_factory=Counter)
    """Calls by second since the first."""
    first_at: float | None = None
    span_bytes: int = 0

    def call(self) -> None:
        now = time.monotonic()
        if self.first_at is None:
            self.first_at = now
        self.calls[int(now - self.first_at)] += 1


def page_of(templates: dict[str, Template], request: dict[str, object]) -> bytes:
    """The answer to one FilterLogEvents request: whole stretches only; the reader cuts to its window."""
    template = templates["access" if str(request["logGroupName"]).startswith("access/") else "execution"]
    now_ms = time.time() * 1000
    first = int(str(request["startTime"])) // STRETCH_MS
    beyond = min(-(-int(str(request["endTime"])) // STRETCH_MS), int(now_ms) // STRETCH_MS)
    stretch, index = (int(part) for part in str(request.get("nextToken", f"{first}:0")).split(":"))
    if stretch >= beyond or not len(template):
        return _EMPTY
    body = template.page(stretch, index)
    index += 1
    if index == len(template):
        stretch, index = stretch + 1, 0
    return body if stretch >= beyond else body[:-1] + b',"nextToken":"%d:%d"}' % (stretch, index)


async def serve(templates: dict[str, Template]) -> None:
    """Serve until cancelled."""
    served = Served()

    def answer(path: bytes, body: bytes) -> bytes:
        if path.startswith(b"/v1/"):
            served.span_bytes += len(body)
            return b""
        if not body:
            return json.dumps({"calls": served.calls, "span_bytes": served.span_bytes}).encode()
        served.call()
        return page_of(templates, json.loads(body))

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                path = head.split(b" ", 2)[1]
                content = answer(path, body)
                kind = b"application/x-protobuf" if path.startswith(b"/v1/") else b"application/x-amz-json-1.1"
                writer.write(
                    b"HTTP/1.1 200 OK\r\nDate: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
                    % (formatdate(usegmt=True).encode(), kind, len(content))
                )
                writer.write(content)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0, limit=1 << 20)
    host, port = server.sockets[0].getsockname()[:2]
    print(json.dumps({"url": f"http://{host}:{port}"}), flush=True)
    await server.serve_forever()


def templates_of(per_second: int, failing: float, level: prepared.Level, resources: int) -> dict[str, Template]:
    """The traffic of one stretch, as access and as execution lines of the same requests."""
    requests = per_second * (STRETCH_MS - 500) // 1_000  # a request's last line is in the stretch of its first
    return {
        "access": Template(
            prepared.access_lines(requests, failing=failing, form="json", per_second=per_second, resources=resources)
        ),
        "execution": Template(prepared.execution_lines(requests, failing=failing, level=level, per_second=per_second)),
    }


def main() -> None:
    """Prepare and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-second", type=int, default=0, help="requests a second and group; 0: no lines at all")
    parser.add_argument("--failing", type=float, default=0.01)
    parser.add_argument("--level", choices=("INFO", "TRACE", "ERROR"), default="INFO")
    parser.add_argument("--resources", type=int, default=40)
    options = parser.parse_args()
    templates = templates_of(options.per_second, options.failing, options.level, options.resources)
    try:
        asyncio.run(serve(templates))
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
