"""The web face: `/metrics`, `/-/healthy`, `/-/ready` and a landing page, served from a thread of its own.

It shows what others hold and decides nothing: no request reaches AWS, waits for a poll or changes any state. Work is
done in worker threads, never in the event loop, and bodies are sent in slices as the client takes them, so that an idle
or slow client costs its connection and nobody else's scrape. `build_app` makes the routes and `WebServer` the sockets:
authentication wraps the former, TLS enters the latter.
"""

import socket
import struct
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from functools import lru_cache
from html import escape
from typing import NamedTuple, Protocol

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
)
_SLICE_BYTES = 65_536
_MAX_HEADER_BYTES = 16_384
_KEEP_ALIVE_S = 75
"""Longer than the usual scrape interval of a minute, so that scrapers keep their connection."""
_GRACE_S = 3
"""How long a stop waits for answers being sent."""


class Metrics(Protocol):
    """A part of the exposition: the product metrics (without `# EOF`), and the self-metrics that close it."""

    def render(self, *, openmetrics: bool) -> bytes:
        """All of it, in OpenMetrics 1.0 or the Prometheus text format 0.0.4."""
        ...


class NotReady(NamedTuple):
    """Something that has to happen before the exporter is ready. Both texts are shown to whoever asks."""

    name: str
    reason: str


class WatchStatus(NamedTuple):
    """A watch as the landing page shows it. All texts are shown to whoever asks."""

    name: str
    state: str
    """One or two words: `up`, `waiting`, `down`."""
    detail: str
    """Why, or when it last succeeded; may be empty."""


def build_app(
    *,
    product: Metrics,
    own: Metrics,
    alive: Callable[[], bool],
    not_ready: Callable[[], Sequence[NotReady]],
    watches: Callable[[], Sequence[WatchStatus]],
    version: str,
    telemetry_path: str = "/metrics",
) -> Starlette:
    """The routes. The callables are asked in worker threads, at each request; they must answer at once."""

    def metrics(request: Request) -> Response:
        if "name[]" in request.query_params:
            return PlainTextResponse("name[] is not supported: drop series by metric_relabel_configs.\n", 400)
        openmetrics = wants_openmetrics(request.headers.get("accept", ""))
        head, tail = product.render(openmetrics=openmetrics), own.render(openmetrics=openmetrics)
        headers = {"Vary": "Accept, Accept-Encoding", "Cache-Control": "no-store"}
        if accepts_gzip(request.headers.get("accept-encoding", "")):
            headers["Content-Encoding"] = "gzip"
            body = gzipped(head, tail)
        else:
            body = head + tail
        headers["Content-Length"] = str(len(body))
        return StreamingResponse(_slices(body), headers=headers, media_type=OPENMETRICS if openmetrics else TEXT)

    def healthy(_: Request) -> Response:
        return PlainTextResponse("Healthy.\n") if alive() else PlainTextResponse("The scheduler has stopped.\n", 503)

    def ready(_: Request) -> Response:
        missing = [f"{' '.join(name.split())}: {' '.join(reason.split())}\n" for name, reason in not_ready()]
        return PlainTextResponse("".join(missing), 503) if missing else PlainTextResponse("Ready.\n")

    def landing(_: Request) -> Response:
        return HTMLResponse(_landing_page(version, telemetry_path, watches()))

    app = Starlette(
        routes=[
            Route(telemetry_path, metrics),  # first: whoever puts it at `/` means it
            Route("/-/healthy", healthy),
            Route("/-/ready", ready),
            Route("/", landing),
        ]
    )
    app.router.redirect_slashes = False
    return app


class WebServer:
    """Serves an application on one address from a thread of its own.

    `listen_address` is `host:port`, `[v6]:port` or `:port` (every address); port 0 takes a free one.
    """

    def __init__(self, app: ASGIApp, listen_address: str) -> None:
        self._listen_address = listen_address
        self._socket: socket.socket | None = None
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                headers=list(_HEADERS),
                h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_GRACE_S,
                # No limit_concurrency: it counts idle connections, so that these would keep scrapes out.
            )
        )
        self._thread = threading.Thread(target=self._serve, name="web", daemon=True)

    def start(self) -> None:
        """Listen, then serve. Raises ValueError for a bad address and OSError if it cannot be had."""
        host, port = parse_listen_address(self._listen_address)
        everywhere = not host and socket.has_dualstack_ipv6()
        self._socket = socket.create_server(
            (host, port),
            family=socket.AF_INET6 if everywhere or ":" in host else socket.AF_INET,
            dualstack_ipv6=everywhere,
        )
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


def wants_openmetrics(accept: str) -> bool:
    """Whether an `Accept` header prefers OpenMetrics 1.x over the text format, by `q`, then by its order.

    Whatever cannot be read of it counts as not said: every scraper understands the text format.
    """
    preferred = (0.0, False)
    for offer in accept.split(","):
        media_type, options = _read_offer(offer)
        match media_type:
            case "application/openmetrics-text":
                openmetrics = options.get("version", "1.0.0").split(".")[0] == "1"
                if not openmetrics:
                    continue
            case "text/plain" | "text/*" | "*/*":
                openmetrics = False
            case _:
                continue
        quality = _quality(options)
        if quality > preferred[0]:
            preferred = (quality, openmetrics)
    return preferred[1]


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an `Accept-Encoding` header takes gzip."""
    for offer in accept_encoding.split(","):
        coding, options = _read_offer(offer)
        if coding == "gzip":
            return _quality(options) > 0
    return False


def _read_offer(offer: str) -> tuple[str, dict[str, str]]:
    """One of the things that an `Accept…` header lists, in small letters, and its options."""
    name, _, rest = offer.partition(";")
    return name.strip().lower(), dict(option.strip().split("=", 1) for option in rest.split(";") if "=" in option)


def _quality(options: dict[str, str]) -> float:
    try:
        return min(float(options.get("q", "1")), 1.0)
    except ValueError:
        return 0.0


def gzipped(head: bytes, tail: bytes) -> bytes:
    """`head + tail` as one gzip member; compressing `head`, the big part, is remembered until it changes."""
    opened, crc = _deflated(head)
    deflater = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    closed = deflater.compress(tail) + deflater.flush()
    trailer = struct.pack("<II", zlib.crc32(tail, crc), (len(head) + len(tail)) & 0xFFFF_FFFF)
    return _GZIP_HEADER + opened + closed + trailer


_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"


@lru_cache(maxsize=2)  # one for each format
def _deflated(head: bytes) -> tuple[bytes, int]:
    """A deflate stream that ends on a byte and goes on in any other, and the checksum so far."""
    deflater = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflater.compress(head) + deflater.flush(zlib.Z_FULL_FLUSH), zlib.crc32(head)


async def _slices(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _SLICE_BYTES):
        yield body[start : start + _SLICE_BYTES]


def _landing_page(version: str, telemetry_path: str, watches: Sequence[WatchStatus]) -> str:
    rows = "".join(
        f"<tr><td>{escape(watch.name)}</td><td>{escape(watch.state)}</td><td>{escape(watch.detail)}</td></tr>\n"
        for watch in watches
    )
    table = f"<table>\n<tr><th>Watch</th><th>State</th><th></th></tr>\n{rows}</table>" if rows else "<p>No watches.</p>"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>API Gateway exporter</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222 }}
table {{ border-collapse: collapse }}
th, td {{ text-align: left; padding: .2em 1.5em .2em 0; border-bottom: 1px solid #ccc; vertical-align: top }}
</style>
</head>
<body>
<h1>API Gateway exporter</h1>
<p>Tells why Amazon API Gateway requests fail. Version {escape(version)}.</p>
<ul>
<li><a href="{escape(telemetry_path)}">Metrics</a></li>
<li><a href="/-/healthy">Healthy?</a></li>
<li><a href="/-/ready">Ready?</a></li>
</ul>
<h2>Watches</h2>
{table}
</body>
</html>
"""
