"""The sockets: one address, served from a thread of its own, with a door that cannot be blocked.

Connections are accepted here and not by uvicorn, because it would wait a minute for a TLS handshake and has no limit
that idle connections do not use up. When there are too many, the one that deserves it least is closed: first of the
host that holds the most, first those that never asked anything. So a flood displaces itself, not the scraper.
"""

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial

import structlog
import uvicorn
from starlette.types import ASGIApp

from exporter.web.connection import MAX_HEAD_BYTES, Connection, Patience
from exporter.web.guard import Guard
from exporter.web_config import WebConfig

_log = structlog.get_logger(__name__)

_GRACE_S = 3
"""How long a stop waits for answers being sent."""
_BACKLOG = 1024
_SEND_BUFFER_BYTES = 131_072
_OUT_OF_DESCRIPTORS_PAUSE_S = 0.05


class WebServer:
    """Serves an application on one address, under the web configuration in force.

    `listen_address` is `host:port`, `[v6]:port` or `:port` (every address); port 0 takes a free one. `web_config` is
    asked at each connection and request, in the event loop: it must answer at once. Whether it has TLS is asked once.
    """

    def __init__(
        self,
        app: ASGIApp,
        listen_address: str,
        web_config: Callable[[], WebConfig] = WebConfig,
        patience: Patience = Patience(),  # noqa: B008 a NamedTuple
    ) -> None:
        self._listen_address = listen_address
        self._socket: socket.socket | None = None
        config = uvicorn.Config(
            Guard(app, web_config),
            http="h11",
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            log_level="error",  # its warnings are about what clients send
            access_log=False,
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            timeout_keep_alive=patience.keep_alive_s,
            timeout_graceful_shutdown=_GRACE_S,
        )
        self._server = _Server(config, web_config, patience)
        self._thread = threading.Thread(target=self._serve, name="web", daemon=True)

    def start(self) -> None:
        """Listen, then serve. Raises ValueError for a bad address and OSError if it cannot be had."""
        host, port = parse_listen_address(self._listen_address)
        everywhere = not host and socket.has_dualstack_ipv6()
        self._socket = socket.create_server(
            (host, port),
            family=socket.AF_INET6 if everywhere or ":" in host else socket.AF_INET,
            dualstack_ipv6=everywhere,
            backlog=_BACKLOG,
        )
        # What the kernel keeps for a reader who does not read; on loopback it would be megabytes for each.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self._thread.start()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on, once started."""
        assert self._socket is not None, "not started"
        host, port = self._socket.getsockname()[:2]
        return host, port

    @property
    def is_alive(self) -> bool:
        """Whether it serves."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Take no more connections, finish the answers being sent within a few seconds, and end the thread."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(timeout=2 * _GRACE_S)

    def _serve(self) -> None:
        assert self._socket is not None
        self._server.run(sockets=[self._socket])


class _Server(uvicorn.Server):
    """uvicorn's life and shutdown, with a door of our own."""

    def __init__(self, config: uvicorn.Config, web_config: Callable[[], WebConfig], patience: Patience) -> None:
        super().__init__(config)
        self._web_config = web_config
        self._patience = patience

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open a door for each socket, instead of asyncio's servers."""
        await self.lifespan.startup()
        doors = [_Door(listener, self, self._web_config, self._patience) for listener in sockets or ()]
        self.servers = doors  # type: ignore[assignment]  # closed and waited for in the same words
        self.started = True


class _Door:
    """Accepts connections on a socket."""

    def __init__(
        self,
        listener: socket.socket,
        server: uvicorn.Server,
        web_config: Callable[[], WebConfig],
        patience: Patience,
    ) -> None:
        self._listener = listener
        self._server = server
        self._web_config = web_config
        self._patience = patience
        self._welcoming: dict[Connection, asyncio.Task[None]] = {}
        """Connections whose handshake is not done."""
        listener.setblocking(False)
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    def close(self) -> None:
        """Accept nothing more, and drop who is not in yet."""
        self._accepting.cancel()
        for task in self._welcoming.values():
            task.cancel()

    async def wait_closed(self) -> None:
        """Return when it is closed."""
        await asyncio.gather(self._accepting, *self._welcoming.values(), return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(self._listener)
            except OSError:
                # Out of file descriptors, or the client has gone again.
                self._make_room()
                await asyncio.sleep(_OUT_OF_DESCRIPTORS_PAUSE_S)
                continue
            try:
                self._admit(accepted, host=str(address[0]))
            except Exception:  # noqa: BLE001 one connection's mishap must not close the door
                _log.exception("a connection could not be accepted")
                accepted.close()
            await asyncio.sleep(0)  # a flood of connections lets answers be given in between

    def _admit(self, accepted: socket.socket, host: str) -> None:
        # asyncio does this itself only for sockets that were made with the protocol spelt out.
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(self._connections) >= self._patience.connections:
            self._make_room()
        connection = Connection(
            self._server.config,
            self._server.server_state,
            host=host,
            tls=self._web_config().tls,
            patience=self._patience,
        )
        task = asyncio.get_running_loop().create_task(self._welcome(accepted, connection))
        self._welcoming[connection] = task
        task.add_done_callback(partial(self._welcomed, connection))

    async def _welcome(self, accepted: socket.socket, connection: Connection) -> None:
        """Do the handshake; from then on the connection looks after itself."""
        tls = connection.tls
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=None if tls is None else tls.context,
                ssl_handshake_timeout=None if tls is None else self._patience.handshake_s,
                ssl_shutdown_timeout=None if tls is None else self._patience.handshake_s,
            )
        except OSError:
            # It left, took too long, spoke no TLS or showed no good certificate: nothing to do and nobody to tell.
            accepted.close()

    def _welcomed(self, connection: Connection, _: asyncio.Task[None]) -> None:
        self._welcoming.pop(connection, None)

    @property
    def _connections(self) -> set[Connection]:
        inside: Iterable[Connection] = self._server.server_state.connections  # type: ignore[assignment]
        return {*inside, *self._welcoming}

    def _make_room(self) -> None:
        """Close the least deserving connection: of the host with the most, the least busy, the oldest."""
        connections = self._connections
        if not connections:
            return
        crowd = Counter(connection.host for connection in connections)
        least = min(connections, key=lambda one: (-crowd[one.host], one.rank, one.since))
        task = self._welcoming.pop(least, None)
        if task is not None:
            task.cancel()
        self._server.server_state.connections.discard(least)
        least.abort()


def parse_listen_address(text: str) -> tuple[str, int]:
    """`0.0.0.0:10610`, `[::1]:10610` or `:10610` as host (without brackets, empty for every address) and port.

    Raises ValueError.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise ValueError(f"not a listen address: {text!r} (host:port, [v6 address]:port or :port)")
    return host, int(port)
