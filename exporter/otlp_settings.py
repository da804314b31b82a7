"""Where to send and how: what the configuration asks for, completed by the standard `OTEL_…` variables.

The environment is handed in as a mapping; nothing here reads it, opens a file or connects. The names, defaults and
precedence are those of the OTLP exporter specification; a value that cannot be used is refused by name, headers and
keys are never shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from exporter.model import Signal

_PREFIX = "OTEL_EXPORTER_OTLP_"
_PROTOCOLS = {"http": "http", "http/protobuf": "http", "grpc": "grpc"}


class OtlpError(Exception):
    """The settings cannot be used. The message says which one and why; it shows no header and no key."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OtlpSettings:
    """Where and how to send; None in what is asked for (see `read_settings`) means: as the environment says."""

    endpoint: str | None = None
    """HTTP: a full URL once read. gRPC: `http(s)://host:port`."""
    signal: Signal = "traces"
    protocol: str | None = None
    """`http` or `grpc`."""
    headers: Mapping[str, str] | None = None
    timeout_s: float | None = None
    compression: str | None = None
    """`gzip` or `none`."""
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    proxy: str | None = None
    """The HTTP proxy on the way, from `https_proxy` and the like; gRPC finds it by itself."""


def read_settings(asked: OtlpSettings, environ: Mapping[str, str]) -> OtlpSettings | None:
    """Complete what the configuration asks for with the environment and the defaults of the OTLP specification.

    `…_TRACES_X` (`…_LOGS_X`) goes before `…_X`. An endpoint of the configuration gets `/v1/traces` (`/v1/logs`) if it
    has no path, the general variable's always, the signal's own never. Time limits in variables are milliseconds, as
    specified. Returns None where nobody names an endpoint or the environment switches the signal off
    (`OTEL_SDK_DISABLED`, `OTEL_TRACES_EXPORTER=none`); raises `OtlpError` for a value that cannot be used.
    """
    signal = asked.signal

    def variable(name: str) -> str | None:
        return environ.get(f"{_PREFIX}{signal.upper()}_{name}") or environ.get(f"{_PREFIX}{name}") or None

    if (
        environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
        or environ.get(f"OTEL_{signal.upper()}_EXPORTER") == "none"
    ):
        return None
    protocol = _PROTOCOLS.get(asked.protocol or variable("PROTOCOL") or "http")
    if protocol is None:
        raise OtlpError(f"{_PREFIX}PROTOCOL: use `http/protobuf` or `grpc`, not `{variable('PROTOCOL')}`")
    endpoint = _endpoint(asked, environ, protocol)
    if endpoint is None:
        return None
    compression = asked.compression or variable("COMPRESSION") or "gzip"
    if compression not in {"gzip", "none"}:
        raise OtlpError(f"{_PREFIX}COMPRESSION: use `gzip` or `none`, not `{compression}`")
    settings = OtlpSettings(
        endpoint=endpoint,
        signal=signal,
        protocol=protocol,
        headers=_pairs(variable("HEADERS") or "", f"{_PREFIX}HEADERS") if asked.headers is None else asked.headers,
        timeout_s=_timeout_s(variable("TIMEOUT")) if asked.timeout_s is None else asked.timeout_s,
        compression=compression,
        ca_file=asked.ca_file or variable("CERTIFICATE"),
        cert_file=asked.cert_file or variable("CLIENT_CERTIFICATE"),
        key_file=asked.key_file or variable("CLIENT_KEY"),
        proxy=asked.proxy or (_proxy(endpoint, environ) if protocol == "http" else None),
    )
    if (settings.cert_file is None) != (settings.key_file is None):
        raise OtlpError(f"{_PREFIX}CLIENT_CERTIFICATE and {_PREFIX}CLIENT_KEY need each other")
    return settings


def resource_attributes(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Read `OTEL_RESOURCE_ATTRIBUTES`: pairs `key=value`, separated by commas, percent-encoded."""
    return tuple(_pairs(environ.get("OTEL_RESOURCE_ATTRIBUTES", ""), "OTEL_RESOURCE_ATTRIBUTES").items())


def _endpoint(asked: OtlpSettings, environ: Mapping[str, str], protocol: str) -> str | None:
    signal = asked.signal
    own, general = environ.get(f"{_PREFIX}{signal.upper()}_ENDPOINT"), environ.get(f"{_PREFIX}ENDPOINT")
    text = asked.endpoint or own or general
    if not text:
        return None
    try:
        if "://" not in text and protocol == "grpc":
            insecure = environ.get(f"{_PREFIX}{signal.upper()}_INSECURE") or environ.get(f"{_PREFIX}INSECURE") or ""
            text = f"{'http' if insecure.lower() == 'true' else 'https'}://{text}"
        parts = urlsplit(text)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
            raise ValueError  # noqa: TRY301 - one message for both
    except ValueError:
        raise OtlpError("the OTLP endpoint is no address: write one like `http://otel-collector:4318`") from None
    if protocol == "grpc":
        return f"{parts.scheme}://{parts.netloc if parts.port else f'{parts.netloc}:4317'}"
    path = parts.path
    if asked.endpoint:
        path = f"/v1/{signal}" if path in {"", "/"} else path
        if signal == "logs" and not path.endswith("/v1/logs"):
            # The configuration's address is that of traces.
            if not path.endswith("/v1/traces"):
                if own:
                    return _endpoint(OtlpSettings(signal=signal), environ, protocol)
                raise OtlpError(
                    "`traces.events: logs` needs an address for logs: end `traces.endpoint` with `/v1/traces` or leave "
                    f"its path out, or set {_PREFIX}LOGS_ENDPOINT"
                )
            path = f"{path.removesuffix('/v1/traces')}/v1/logs"
    elif not own:
        path = f"{path.rstrip('/')}/v1/{signal}"
    return parts._replace(path=path or "/").geturl()


def _proxy(endpoint: str, environ: Mapping[str, str]) -> str | None:
    """Find the proxy for an address as other programs do; `no_proxy` lists names and suffixes that go without."""

    def variable(name: str) -> str:
        return environ.get(name) or environ.get(name.upper()) or ""

    parts = urlsplit(endpoint)
    proxy = variable(f"{parts.scheme}_proxy") or variable("all_proxy")
    without = [name.strip().lower().lstrip(".") for name in variable("no_proxy").split(",")]
    host = f".{parts.hostname}"
    if not proxy or "*" in without or any(name and host.endswith(f".{name.split(':')[0]}") for name in without):
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    if not proxy.startswith(("http://", "https://")):
        raise OtlpError(f"{parts.scheme}_proxy: write the proxy's address like `http://proxy:3128`")
    return proxy


def _timeout_s(text: str | None) -> float:
    if text is None:
        return 10.0
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise OtlpError(f"{_PREFIX}TIMEOUT: use milliseconds, not `{text}`")
    return int(text) / 1000


def _pairs(text: str, name: str) -> dict[str, str]:
    """Read `key=value,key=value`; raises without showing any of it, because it may hold a key."""
    pairs: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, is_pair, value = part.partition("=")
        if not is_pair or not key.strip():
            raise OtlpError(f"{name}: use `key=value` pairs, separated by commas and percent-encoded")
        pairs[unquote(key.strip())] = unquote(value.strip())
    return pairs
