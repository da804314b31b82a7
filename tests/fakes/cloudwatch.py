"""`FakeCloudWatch`: CloudWatch Logs and STS over real HTTP, for real boto3, with AWS's manners and faults."""

import contextlib
import gzip
import itertools
import json
import os
import random
import re
import socket
import ssl
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs

from tests.fakes.faults import Fault, Faults
from tests.fakes.listing import Reader, Refused, group_name
from tests.fakes.sts import Sts
from tests.fakes.world import World

_CREDENTIAL = re.compile(r"Credential=([^/]+)/")
_HTML = b"<html><body><h1>Sorry</h1></body></html>"


class Call(NamedTuple):
    """One call as it was asked and answered."""

    operation: str
    parameters: dict[str, Any]
    code: str
    """`OK`, AWS's error code, or what happened to the connection (`reset`, `cut`, …)."""
    at: float
    """By the fake's clock."""
    access_key: str


class Answer(NamedTuple):
    status: int
    body: bytes
    content_type: str = "application/x-amz-json-1.1"


class FakeCloudWatch:
    """A CloudWatch Logs of one account and region. Use it as a context manager; `url` is its endpoint.

    `clock` (seconds since the epoch) decides what is visible, how old tokens are and what the `Date` header says. With
    `tls` it speaks HTTPS, as AWS does.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        seed: int = 0,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.clock = clock
        self.world = World(clock, seed)
        self.reader = Reader(self.world)
        self.sts = Sts(clock)
        self.faults = Faults()
        self.group_faults: dict[str, Faults] = {}
        """A group's own faults, instead of `faults`."""
        self.calls_per_second: float | None = None
        """The quota on all operations together."""
        self.gzipped = False
        self.chunked = False
        self.stalled = threading.Event()
        """Set once a reader waits for the rest of a body that will not come."""
        self.calls: list[Call] = []
        self._random = random.Random(seed)
        self._turns = itertools.count()
        self._lock = threading.Lock()
        self._recent: deque[float] = deque()
        self._port = port
        self._tls = tls

    @property
    def url(self) -> str:
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._server = _Server(("127.0.0.1", self._port), _handler_for(self))
        self._server.tls = self._tls
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # ---------------------------------------------------------------------------------------------------------- world

    def put(
        self,
        group: str,
        events: Iterable[tuple[int, str]],
        *,
        ingested_at_ms: int | None = None,
        stream: str = "stream-1",
    ) -> list[str]:
        """See `World.put`; the group is made when it is not there."""
        return self.world.put(group, events, ingested_at_ms=ingested_at_ms, stream=stream)

    def create_group(self, name: str, *, retention_days: int | None = None) -> None:
        self.world.create_group(name, retention_days=retention_days)

    def delete_group(self, name: str) -> None:
        self.world.delete_group(name)

    # ---------------------------------------------------------------------------------------------------------- calls

    @property
    def codes(self) -> Counter[str]:
        """How often each code was answered."""
        with self._lock:
            return Counter(call.code for call in self.calls)

    def calls_of(self, operation: str) -> list[Call]:
        with self._lock:
            return [call for call in self.calls if call.operation == operation]

    def answer(self, operation: str, asked: dict[str, Any], access_key: str) -> tuple[Answer, Fault]:
        """What a call gets, and what happens to it on the way."""
        faults = self.group_faults.get(group_name(asked), self.faults)
        fault = self._draw(faults, has_token="nextToken" in asked)
        try:
            answer = Answer(200, self._answer(operation, asked, access_key, faults, fault))
            code = "OK" if fault in _CONTENT_FAULTS else fault.value
        except Refused as refused:
            body = json.dumps({"__type": refused.code, "message": str(refused)}).encode()
            answer, code = Answer(refused.status, body), refused.code
        if fault is Fault.HTML:
            answer = Answer(200, _HTML, "text/html")
        elif fault is Fault.HTML_ERROR:
            answer = Answer(503, _HTML, "text/html")
        self.record(operation, asked, code, access_key)
        return answer, fault

    def record(self, operation: str, asked: dict[str, Any], code: str, access_key: str) -> None:
        with self._lock:
            self.calls.append(Call(operation, asked, code, self.clock(), access_key))

    def _answer(self, operation: str, asked: dict[str, Any], access_key: str, faults: Faults, fault: Fault) -> bytes:
        if faults.expired or fault is Fault.EXPIRED or self.sts.has_expired(access_key):
            raise Refused("ExpiredTokenException", "The security token included in the request is expired")
        if self._over_quota() or fault is Fault.THROTTLE:
            raise Refused("ThrottlingException", "Rate exceeded")
        if fault is Fault.SERVER_ERROR:
            raise Refused("InternalFailure", "", 500)
        if fault is Fault.UNAVAILABLE:
            raise Refused("ServiceUnavailableException", "", 503)
        if faults.denied or fault is Fault.DENIED:
            raise Refused("AccessDeniedException", f"User: x is not authorized to perform: logs:{operation}")
        if fault is Fault.MISSING:
            raise Refused("ResourceNotFoundException", "The specified log group does not exist.")
        if fault is Fault.REFUSED_TOKEN:
            raise Refused("InvalidParameterException", "The specified nextToken is invalid.")
        perform = self.reader.operations().get(operation)
        if perform is None:
            raise Refused("UnknownOperationException", operation)
        return perform(asked, faults, fault)

    def _draw(self, faults: Faults, *, has_token: bool) -> Fault:
        with self._lock:
            if faults.script:
                return faults.script.popleft()
            for chance, kinds in faults.chances():
                if chance and self._random.random() < chance:
                    fault = kinds[next(self._turns) % len(kinds)]
                    if fault is not Fault.REFUSED_TOKEN or has_token:
                        return fault
        return Fault.NONE

    def _over_quota(self) -> bool:
        if self.calls_per_second is None:
            return False
        with self._lock:
            now = self.clock()
            while self._recent and self._recent[0] <= now - 1:
                self._recent.popleft()
            if len(self._recent) >= self.calls_per_second:
                return True
            self._recent.append(now)
        return False


_CONTENT_FAULTS = frozenset({Fault.NONE, Fault.SLOW, Fault.EMPTY, Fault.SAME_TOKEN, Fault.REPEATED_PAGE})
_UNFINISHED = frozenset({Fault.CUT, Fault.RESET_MIDWAY, Fault.STALL, Fault.GARBLED})
"""Less of the body than was announced."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    tls: ssl.SSLContext | None = None

    def get_request(self) -> tuple[socket.socket, Any]:
        """The handshake is left to the connection's own thread."""
        connection, address = super().get_request()
        if self.tls is not None:
            connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, request: object, client_address: object) -> None:
        """A reader that went away is no news."""

    def shutdown_request(self, request: Any) -> None:
        """Close only: the shutdown that goes before it otherwise ends a stream in order, even before a reset."""
        self.close_request(request)


def _handler_for(fake: FakeCloudWatch) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_GET(self) -> None:
            """For those who run the fake as a process: how often each code was answered."""
            self._send(Answer(200, json.dumps(fake.codes).encode(), "application/json"), Fault.NONE)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path == "/fakes":
                for name, value in json.loads(body).items():
                    fake.faults.set(name, value)
                self.do_GET()
                return
            found = _CREDENTIAL.search(self.headers.get("Authorization", ""))
            access_key = found[1] if found else ""
            target = self.headers.get("X-Amz-Target", "")
            if target:
                answer, fault = fake.answer(target.rpartition(".")[2], json.loads(body), access_key)
                faults = fake.faults
                if fault is Fault.SLOW:
                    threading.Event().wait(faults.slow_seconds)
            else:
                asked = {name: values[0] for name, values in parse_qs(body.decode()).items()}
                status, code, text = fake.sts.answer(asked, access_key, down=fake.faults.sts_down)
                fake.record(asked.get("Action", ""), asked, code, access_key)
                answer, fault = Answer(status, text, "text/xml"), Fault.NONE
            self._send(answer, fault)

        def _send(self, answer: Answer, fault: Fault) -> None:
            if fault is Fault.RESET:
                self._reset()
                return
            body = gzip.compress(answer.body, 1) if fake.gzipped else answer.body
            cut = body[: len(body) // 2] if fault in _UNFINISHED or fault is Fault.CUT_CLEAN else body
            self.send_response_only(answer.status)
            self.send_header("Date", formatdate(int(fake.clock()), usegmt=True))
            self.send_header("Content-Type", answer.content_type)
            self.send_header("x-amzn-RequestId", "00000000-0000-0000-0000-000000000000")
            if fake.gzipped:
                self.send_header("Content-Encoding", "gzip")
            if fake.chunked:
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Content-Length", str(len(body if fault in _UNFINISHED else cut)))
            self.end_headers()
            if fake.chunked:
                for chunk in (cut[at : at + 65_536] for at in range(0, len(cut), 65_536)):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                if fault not in _UNFINISHED:
                    self.wfile.write(b"0\r\n\r\n")
            else:
                self.wfile.write(cut)
            self.wfile.flush()
            if fault in _UNFINISHED:
                self._break_off(fault)

        def _break_off(self, fault: Fault) -> None:
            """What follows half a body."""
            self.close_connection = True
            if fault is Fault.RESET_MIDWAY:
                self._reset()
            elif fault is Fault.STALL:
                fake.stalled.set()
                with contextlib.suppress(OSError):
                    self.connection.recv(1)  # nothing comes, so it returns when the reader has closed
            elif fault is Fault.GARBLED:
                os.write(self.connection.fileno(), b"no TLS")

        def _reset(self) -> None:
            """Lingering for 0 seconds turns the close into a reset."""
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Tests are quiet."""

    return Handler
