"""exporter-toolkit's web configuration file -> what the web server enforces, or every mistake with line and hint.

One file says TLS, client certificates, users, headers and a rate limit for all exporters of a house. Loading reads the
file and the files it names, checks that they fit together, and makes a TLS context; it serves nothing and watches
nothing. What it cannot promise it refuses: a key that is accepted is enforced.
"""

from exporter.web_config.loading import RateLimit, WebConfig, load_web_config
from exporter.web_config.tls import ServerTls

__all__ = ["RateLimit", "ServerTls", "WebConfig", "load_web_config"]
