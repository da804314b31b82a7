"""The web face: what scrapers, probes and people see, and what keeps hostile clients from being in their way.

`app` makes the routes, `guard` stands before them (users, rate limit, headers), `server` and `connection` are the
sockets with their deadlines, `live` keeps the web configuration file in force.
"""

from exporter.web.app import Metrics, NotReady, WatchStatus, build_app
from exporter.web.connection import Patience
from exporter.web.live import LiveWebConfig, WebVersion
from exporter.web.negotiation import accepts_gzip, gzipped, wants_openmetrics
from exporter.web.server import WebServer, parse_listen_address

__all__ = [
    "LiveWebConfig",
    "Metrics",
    "NotReady",
    "Patience",
    "WatchStatus",
    "WebServer",
    "WebVersion",
    "accepts_gzip",
    "build_app",
    "gzipped",
    "parse_listen_address",
    "wants_openmetrics",
]
