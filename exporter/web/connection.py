"""One client's connection, and how much patience it deserves.

uvicorn's HTTP protocol waits for ever: for a first request, for the end of a request's head, for a reader that has
stopped reading. Here each of these has a deadline, a head has a size however it is cut into packets, and what waits to
be sent is bounded.
"""

import asyncio
import time
from typing import NamedTuple, cast

import structlog
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from exporter.web_config import ServerTls

MAX_HEAD_BYTES = 16_384
"""The longest head of a request, a few KiB more or less: the parser is fed in pieces and asked after each."""

_PIECE_BYTES = 4_096
_WRITE_BUFFER_BYTES = 65_536

_log = structlog.get_logger(__name__)


class Patience(NamedTuple):
    """How long and for how many the server waits."""

    handshake_s: float = 5.0
    head_s: float = 10.0
    """From the connection, or from the first byte of a further request, to the end of the request's head."""
    answer_s: float = 60.0
    """From the end of the head until the client has taken the answer."""
    keep_alive_s: int = 75
    """Between requests: longer than the usual scrape interval of a minute, so that scrapers keep their connection."""
    connections: int = 512
    """At most so many; then the least deserving makes room for the next."""


class Connection(H11Protocol):
    """A connection from its acceptance on, TLS handshake included."""

    def __init__(
        self, config: Config, server_state: ServerState, *, host: str, tls: ServerTls | None, patience: Patience
    ) -> None:
        """`host`: where it comes from. `tls`: what its handshake is done with."""
        super().__init__(config=config, server_state=server_state, app_state={})
        self.host = host
        self.since = time.monotonic()
        self.tls = tls
        self._patience = patience
        self._deadline: asyncio.TimerHandle | None = None
        self._awaited: object = None
        """What the deadline is for: `head`, the request being answered, or None between requests."""

    @property
    def rank(self) -> int:
        """How much it deserves to stay: 0 never asked anything, 1 is between requests, 2 is being answered."""
        if self._is_answering:
            return 2
        return 0 if self.cycle is None else 1

    def abort(self) -> None:
        """End it now. What was not sent yet is not sent any more."""
        self._forget_deadline()
        transport = cast("asyncio.Transport | None", self.transport)
        if transport is not None:
            transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The handshake, if any, is done."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        encrypted = transport.get_extra_info("ssl_object")
        if self.tls is not None and not self.tls.admits(encrypted):
            _log.info("connection refused: the client certificate bears none of client_allowed_sans", host=self.host)
            self.abort()
            return
        self._expect("head", self._patience.head_s)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, which measures a head only where it ends in the middle of one."""
        for start in range(0, len(data), _PIECE_BYTES):
            if self.transport.is_closing():
                return
            super().data_received(data[start : start + _PIECE_BYTES])
        self._reckon()

    def on_response_complete(self) -> None:
        """The application has given all of its answer; perhaps another request is here already."""
        super().on_response_complete()
        self._reckon(between=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._forget_deadline()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _reckon(self, *, between: bool = False) -> None:
        """Set the deadline for what is awaited from now on; bytes that trickle in do not move it."""
        if self._is_answering:
            if self._awaited is not self.cycle:
                self._expect(self.cycle, self._patience.answer_s)
        elif between:
            # What the client has not taken yet is still under the old deadline.
            self._awaited = None
        elif self._awaited != "head":
            self._expect("head", self._patience.head_s)

    def _expect(self, awaited: object, patience_s: float) -> None:
        self._forget_deadline()
        self._awaited = awaited
        self._deadline = self.loop.call_later(patience_s, self._give_up)

    def _give_up(self) -> None:
        if self._awaited is not None or self.transport.get_write_buffer_size():
            self.abort()

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
