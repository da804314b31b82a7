"""The routes: `/metrics`, `/config`, `/-/healthy`, `/-/ready`, `/-/reload`, a landing page, and those of `/failures`.

It shows what others hold and decides nothing: no request reaches AWS or waits for a poll, and only `/-/reload` changes
anything, by asking. Work is done in worker threads, never in the event loop, and bodies are sent in slices as the
client takes them, so that a slow client costs its connection and nobody else's scrape.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from html import escape
from typing import NamedTuple, Protocol

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from exporter.turns import TURNS
from exporter.web.negotiation import accepts_gzip, gzipped, wants_openmetrics

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_SLICE_BYTES = 65_536


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
    config: Callable[[], str],
    reload: Callable[[], str | None] | None,
    version: str,
    telemetry_path: str = "/metrics",
    troubles: Callable[[], Sequence[NotReady]] = list,
    failures: Sequence[Route] = (),
) -> Starlette:
    """The routes. The callables are asked in worker threads, at each request; they must answer at once.

    `config` gives the configuration in force without its secrets. `reload` loads it anew and returns what is wrong
    with it, or None; None instead of it: reloading over HTTP is not enabled. `failures`: the routes of `/failures`,
    where that page is enabled.
    """

    def metrics(request: Request) -> Response:
        if "name[]" in request.query_params:
            return PlainTextResponse("name[] is not supported: drop series by metric_relabel_configs.\n", 400)
        openmetrics = wants_openmetrics(request.headers.get("accept", ""))
        head, tail = product.render(openmetrics=openmetrics), own.render(openmetrics=openmetrics)
        headers = {"Vary": "Accept, Accept-Encoding", "Cache-Control": "no-store"}
        parts: tuple[bytes, ...] = (head, tail)
        if accepts_gzip(request.headers.get("accept-encoding", "")):
            headers["Content-Encoding"] = "gzip"
            parts = gzipped(head, tail)
        headers["Content-Length"] = str(sum(map(len, parts)))
        return StreamingResponse(_slices(parts), headers=headers, media_type=OPENMETRICS if openmetrics else TEXT)

    def configuration(_: Request) -> Response:
        return PlainTextResponse(config(), headers={"Cache-Control": "no-store"})

    def healthy(_: Request) -> Response:
        return PlainTextResponse("Healthy.\n") if alive() else PlainTextResponse("The scheduler has stopped.\n", 503)

    def ready(_: Request) -> Response:
        missing = _lines(not_ready())
        return PlainTextResponse(missing, 503) if missing else PlainTextResponse("Ready.\n" + _lines(troubles()))

    def reload_now(_: Request) -> Response:
        if reload is None:
            return PlainTextResponse("Lifecycle API is not enabled: start with --web.enable-lifecycle.\n", 403)
        mistakes = reload()
        if mistakes is not None:
            return PlainTextResponse(f"The configuration in force stays: failed to reload.\n{mistakes}\n", 500)
        return PlainTextResponse("Reloaded.\n")

    def landing(_: Request) -> Response:
        return HTMLResponse(_landing_page(version, telemetry_path, watches(), has_failures=bool(failures)))

    app = Starlette(
        middleware=[Middleware(_PagesWait, path=telemetry_path)],
        routes=[
            Route(telemetry_path, metrics),  # first: whoever puts it at `/` means it
            Route("/config", configuration),
            Route("/-/healthy", healthy),
            Route("/-/ready", ready),
            Route("/-/reload", reload_now, methods=["POST", "PUT"]),
            *failures,
            Route("/", landing),
        ],
    )
    app.router.redirect_slashes = False
    return app


class _PagesWait:
    """Lets pages of log lines wait while a scrape is answered."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self._app = app
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != self._path:
            await self._app(scope, receive, send)
            return
        with TURNS.scrape():
            await self._app(scope, receive, send)


async def _slices(parts: Sequence[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        for start in range(0, len(part), _SLICE_BYTES):
            yield part[start : start + _SLICE_BYTES]


def _landing_page(version: str, telemetry_path: str, watches: Sequence[WatchStatus], *, has_failures: bool) -> str:
    failures = '<li><a href="/failures">Failures</a></li>\n' if has_failures else ""
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
{failures}<li><a href="{escape(telemetry_path)}">Metrics</a></li>
<li><a href="/config">Configuration</a></li>
<li><a href="/-/healthy">Healthy?</a></li>
<li><a href="/-/ready">Ready?</a></li>
</ul>
<h2>Watches</h2>
{table}
</body>
</html>
"""


def _lines(found: Sequence[NotReady]) -> str:
    return "".join(f"{' '.join(name.split())}: {' '.join(reason.split())}\n" for name, reason in found)
