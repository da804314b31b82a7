"""A CloudWatch with prepared pages for ever, and a receiver of spans, in a process of their own: no world, no thinking.

Run as `python -m benchmarks.server --per-second 1000 --failing 0.01`; prints `{"url": …}` and serves until it is ended.
Every ten seconds of event time are the same prepared pages but for their timestamps, event ids and request ids, so that
a backlog of any length costs its reader what real lines cost, and the server next to nothing. Groups whose name begins
with `access/` have access lines, all others execution lines of the same requests. What is posted to `/v1/traces` is
taken and thrown away, and whoever asks STS who he is gets an answer. `GET /` tells what was served (`Served.told`).
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
from typing import NamedTuple

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
_FAILED = re.compile(rb'"message":"[^"]*Method completed with status: [45]')
_IDENTITY = (
    b'<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
    b"<Arn>arn:aws:iam::123456789012:user/benchmark</Arn><UserId>AIDAEXAMPLE</UserId><Account>123456789012</Account>"
    b"</GetCallerIdentityResult></GetCallerIdentityResponse>"
)


class Template:
    """The pages of one stretch of ten seconds, to be stamped for any stretch."""

    def __init__(self, lines: Sequence[prepared.Line]) -> None:
        bodies = prepared.pages([line for line in lines if line.at_ms < prepared.START_MS + STRETCH_MS])
        marked = [_ID_HEAD.sub(_ID, body) for body in bodies if lines]
        self._event_ids = [[int(found) for found in _EVENT_ID.findall(body)] for body in marked]
        self._bodies = [_EVENT_ID.sub(b"%056d", body.replace(b"%", b"%%")) for body in marked]
        self._failures = [len(_FAILED.findall(body)) for body in marked]
        self._last_ms = max(
            (event_id >> _EVENT_TIME_BITS for page in self._event_ids for event_id in page), default=prepared.START_MS
        )

    def __len__(self) -> int:
        return len(self._bodies)

    def holds(self, index: int) -> tuple[int, int]:
        """How many events a page has, and how many of them end a failed request (execution lines at INFO)."""
        return len(self._event_ids[index]), self._failures[index]

    def begins_ms(self, stretch: int, index: int) -> int:
        """When the first event of a page is."""
        return (self._event_ids[index][0] >> _EVENT_TIME_BITS) + stretch * STRETCH_MS - prepared.START_MS

    def first_stretch(self, start_ms: int) -> int:
        """The first stretch with an event at that time or later."""
        return (start_ms - (self._last_ms - prepared.START_MS) + STRETCH_MS - 1) // STRETCH_MS

    def page(self, stretch: int, index: int) -> bytes:
        """A page of a stretch, without token."""
        later = (stretch * STRETCH_MS - prepared.START_MS) << _EVENT_TIME_BITS
        body = self._bodies[index].replace(_PREFIX, b"%d" % stretch).replace(_ID, b"%08x" % (stretch & 0xFFFFFFFF))
        return body % tuple(event_id + later for event_id in self._event_ids[index])


@dataclass(kw_only=True, slots=True)
class Served:
    """What was asked for and given."""

    calls: Counter[int] = field(default_factory=Counter)
    """Calls by second since the first."""
    first_at: float | None = None
    events: int = 0
    pages: dict[tuple[str, int, int], tuple[int, int]] = field(default_factory=dict)
    """What pages hold that were given at least once, by group, stretch and index."""
    missing: dict[str, int] = field(default_factory=dict)
    """How many pages of a group were never given, where they have an end."""
    span_bytes: int = 0

    def call(self) -> None:
        now = time.monotonic()
        if self.first_at is None:
            self.first_at = now
        self.calls[int(now - self.first_at)] += 1

    def page(self, group: str, place: "Place", holds: tuple[int, int], of: int | None) -> None:
        """A page was given that holds so many events and failures, one of so many that its group has."""
        self.events += holds[0]
        if of is not None and (group, *place) not in self.pages:
            self.missing[group] = self.missing.get(group, of) - 1
        self.pages[(group, *place)] = holds

    def told(self) -> bytes:
        """As JSON: `calls` by second, `events` given, how many of them `distinct`, the `failures` in those,
        `whole_groups` of which every page was given, and `span_bytes`.
        """
        return json.dumps(
            {
                "calls": self.calls,
                "events": self.events,
                "distinct": sum(events for events, _ in self.pages.values()),
                "failures": sum(failures for _, failures in self.pages.values()),
                "whole_groups": sum(not missing for missing in self.missing.values()),
                "span_bytes": self.span_bytes,
            }
        ).encode()


class Place(NamedTuple):
    """Where a page stands."""

    stretch: int
    index: int


class Backlog:
    """The traffic that groups have: for ever up to now, or of some stretches only."""

    def __init__(self, templates: dict[str, Template], stretches: range | None = None) -> None:
        self._templates = templates
        self._stretches = stretches

    def page(self, request: dict[str, object], served: Served) -> bytes:
        """The answer to one FilterLogEvents request: whole pages only; the reader cuts to its window."""
        group = str(request["logGroupName"])
        template = self._templates["access" if group.startswith("access/") else "execution"]
        first = template.first_stretch(int(str(request["startTime"])))
        end_ms = int(str(request["endTime"]))
        beyond = min(-(-end_ms // STRETCH_MS), int(time.time() * 1000) // STRETCH_MS)
        if self._stretches is not None:
            first, beyond = max(first, self._stretches.start), min(beyond, self._stretches.stop)
        place = Place(*(int(part) for part in str(request.get("nextToken", f"{first}:0")).split(":")))
        if place.stretch >= beyond or not len(template):
            return _EMPTY
        body = template.page(*place)
        pages = None if self._stretches is None else len(self._stretches) * len(template)
        served.page(group, place, template.holds(place.index), pages)
        after = Place(place.stretch, place.index + 1)
        if after.index == len(template):
            after = Place(place.stretch + 1, 0)
        if after.stretch >= beyond or template.begins_ms(*after) >= end_ms:
            return body
        return body[:-1] + b',"nextToken":"%d:%d"}' % after


async def serve(backlog: Backlog, delay_s: float) -> None:
    """Serve until cancelled."""
    served = Served()

    def answer(path: bytes, body: bytes) -> tuple[bytes, bytes]:
        if path.startswith(b"/v1/"):
            served.span_bytes += len(body)
            return b"application/x-protobuf", b""
        if not body:
            return b"application/json", served.told()
        if body.startswith(b"Action=GetCallerIdentity&"):
            return b"text/xml", _IDENTITY
        served.call()
        return b"application/x-amz-json-1.1", backlog.page(json.loads(body), served)

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                if delay_s:
                    await asyncio.sleep(delay_s)
                kind, content = answer(head.split(b" ", 2)[1], body)
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
    parser.add_argument(
        "--stretches",
        type=int,
        nargs=2,
        metavar=("FIRST", "BEYOND"),
        help="traffic only then, in ten seconds of Unix time",
    )
    parser.add_argument("--delay-ms", type=float, default=0, help="how long an answer takes at least")
    options = parser.parse_args()
    templates = templates_of(options.per_second, options.failing, options.level, options.resources)
    try:
        stretches = range(*options.stretches) if options.stretches else None
        asyncio.run(serve(Backlog(templates, stretches), options.delay_ms / 1_000))
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
