"""One OTLP request out, one outcome back: over HTTP with urllib3, over gRPC where grpcio is installed.

Settings come from the configuration and, where it is silent, from the standard `OTEL_EXPORTER_OTLP_…` variables, handed
in as a mapping. The stock exporter is not used: it hides partial success and gives up after ten seconds. Nothing is
retried, kept or counted here; what an outcome means for the spans is decided by who sends them.
"""

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Protocol
from urllib.parse import unquote, urlsplit

import urllib3
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from exporter.redaction import redact

HTTP_RETRYABLE = frozenset({429, 502, 503, 504})
"""The statuses that the OTLP specification tells a client to try again after."""
_GRPC_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_GRPC_RETRYABLE = frozenset(
    {"ABORTED", "CANCELLED", "DATA_LOSS", "DEADLINE_EXCEEDED", "OUT_OF_RANGE", "RESOURCE_EXHAUSTED", "UNAVAILABLE"}
)
_PREFIX = "OTEL_EXPORTER_OTLP_"
_PROTOCOLS = {"http": "http", "http/protobuf": "http", "grpc": "grpc"}
_MAX_MESSAGE = 300


class OtlpError(Exception):
    """The settings cannot be used. The message says which one and why; it shows no header and no key."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivered:
    """The receiver took the request, all of it or (`rejected`) all but so many spans, for good."""

    rejected: int = 0
    message: str = ""
    """What the receiver said about them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Retry:
    """Not now: the same request may be taken later."""

    reason: str
    after_s: float | None = None
    """How long to wait, where the receiver said so."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """Not this: the receiver will not take this request as it is."""

    status: str
    """An HTTP status or the name of a gRPC one."""
    message: str


Outcome = Delivered | Retry | Refused


class TraceSender(Protocol):
    """A way to one OTLP receiver."""

    def send(self, body: bytes, timeout_s: float | None = None) -> Outcome:
        """Send a serialized, uncompressed `ExportTraceServiceRequest`; never raises for what the receiver does.

        `timeout_s` shortens the configured time limit, for a last attempt before a deadline.
        """
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class OtlpSettings:
    """Where and how to send; None in what is asked for (see `read_settings`) means: as the environment says."""

    endpoint: str | None = None
    """HTTP: a full URL once read. gRPC: `http(s)://host:port`."""
    protocol: str | None = None
    """`http` or `grpc`."""
    headers: Mapping[str, str] | None = None
    timeout_s: float | None = None
    compression: str | None = None
    """`gzip` or `none`."""
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None


def read_settings(asked: OtlpSettings, environ: Mapping[str, str]) -> OtlpSettings | None:
    """Complete what the configuration asks for with the environment and the defaults of the OTLP specification.

    `…_TRACES_X` goes before `…_X`; an endpoint of the configuration gets `/v1/traces` if it has no path, the general
    variable's always, the one for traces never. Time limits in variables are milliseconds, as specified. Returns None
    where nobody names an endpoint; raises `OtlpError` for a value that cannot be used.
    """

    def variable(name: str) -> str | None:
        return environ.get(f"{_PREFIX}TRACES_{name}") or environ.get(f"{_PREFIX}{name}") or None

    protocol = _PROTOCOLS.get(asked.protocol or variable("PROTOCOL") or "http")
    if protocol is None:
        raise OtlpError(f"{_PREFIX}PROTOCOL: use `http/protobuf` or `grpc`, not `{variable('PROTOCOL')}`")
    endpoint = _endpoint(asked.endpoint, environ, protocol)
    if endpoint is None:
        return None
    compression = asked.compression or variable("COMPRESSION") or "gzip"
    if compression not in {"gzip", "none"}:
        raise OtlpError(f"{_PREFIX}COMPRESSION: use `gzip` or `none`, not `{compression}`")
    settings = OtlpSettings(
        endpoint=endpoint,
        protocol=protocol,
        headers=_pairs(variable("HEADERS") or "", f"{_PREFIX}HEADERS") if asked.headers is None else asked.headers,
        timeout_s=_timeout_s(variable("TIMEOUT")) if asked.timeout_s is None else asked.timeout_s,
        compression=compression,
        ca_file=asked.ca_file or variable("CERTIFICATE"),
        cert_file=asked.cert_file or variable("CLIENT_CERTIFICATE"),
        key_file=asked.key_file or variable("CLIENT_KEY"),
    )
    if (settings.cert_file is None) != (settings.key_file is None):
        raise OtlpError(f"{_PREFIX}CLIENT_CERTIFICATE and {_PREFIX}CLIENT_KEY need each other")
    return settings


def resource_attributes(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Read `OTEL_RESOURCE_ATTRIBUTES`: pairs `key=value`, separated by commas, percent-encoded."""
    return tuple(_pairs(environ.get("OTEL_RESOURCE_ATTRIBUTES", ""), "OTEL_RESOURCE_ATTRIBUTES").items())


def connect(settings: OtlpSettings) -> TraceSender:
    """Open the way that `settings` (as `read_settings` gives them) describe; nothing is sent yet."""
    return GrpcSender(settings) if settings.protocol == "grpc" else HttpSender(settings)


# ----------------------------------------------------------------------------------------------------------------- HTTP


class HttpSender:
    """OTLP over HTTP with protobuf bodies. Connections are kept open and renewed; TLS files are read at each one."""

    def __init__(self, settings: OtlpSettings) -> None:
        assert settings.endpoint is not None
        self._url = settings.endpoint
        self._timeout_s = settings.timeout_s
        self._compresses = settings.compression != "none"
        self._headers = {**(settings.headers or {}), "content-type": "application/x-protobuf"}
        if self._compresses:
            self._headers["content-encoding"] = "gzip"
        self._pool = urllib3.PoolManager(
            num_pools=1,
            maxsize=1,
            cert_reqs="CERT_REQUIRED",
            ca_certs=settings.ca_file,
            cert_file=settings.cert_file,
            key_file=settings.key_file,
        )

    def send(self, body: bytes, timeout_s: float | None = None) -> Outcome:
        """See `TraceSender`."""
        limits = [limit for limit in (self._timeout_s, timeout_s) if limit is not None]
        try:
            response = self._pool.request(
                "POST",
                self._url,
                body=gzip.compress(body, compresslevel=1, mtime=0) if self._compresses else body,
                headers=self._headers,
                timeout=urllib3.Timeout(total=min(limits, default=None)),
                retries=False,
                redirect=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:  # OSError: a TLS file that is not there (yet)
            return Retry(reason=_said(str(error)) or type(error).__name__)
        if response.status in HTTP_RETRYABLE:
            return Retry(reason=f"status {response.status}", after_s=_retry_after_s(response.headers))
        if 200 <= response.status < 300:
            return _delivered(response.data)
        return Refused(status=str(response.status), message=_said(response.data.decode("utf-8", "replace")))

    def close(self) -> None:
        """See `TraceSender`."""
        self._pool.clear()


def _delivered(data: bytes) -> Delivered:
    """Read a partial success; a receiver that answers a 2xx with something else has taken everything."""
    try:
        partial = ExportTraceServiceResponse.FromString(data).partial_success
    except DecodeError:
        return Delivered()
    return Delivered(rejected=max(0, partial.rejected_spans), message=_said(partial.error_message))


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read `Retry-After`: seconds, or a date, which is compared with the receiver's own clock."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        until, now = (parsedate_to_datetime(headers.get(name, "")) for name in ("retry-after", "date"))
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError):
        return None


# ----------------------------------------------------------------------------------------------------------------- gRPC


class GrpcSender:
    """OTLP over gRPC; needs grpcio, the `grpc` extra."""

    def __init__(self, settings: OtlpSettings) -> None:
        try:
            import grpc  # noqa: PLC0415 - an extra that most installations do without
        except ImportError:
            raise OtlpError(
                "OTLP over gRPC needs grpcio: install `apigateway-exporter[grpc]`, or use `protocol: http`"
            ) from None
        assert settings.endpoint is not None
        self._grpc = grpc
        parts = urlsplit(settings.endpoint)
        options = [("grpc.max_receive_message_length", 1 << 20)]
        compression = grpc.Compression.NoCompression if settings.compression == "none" else grpc.Compression.Gzip
        if parts.scheme == "http":
            self._channel = grpc.insecure_channel(parts.netloc, options=options, compression=compression)
        else:
            credentials = grpc.ssl_channel_credentials(
                _file(settings.ca_file), _file(settings.key_file), _file(settings.cert_file)
            )
            self._channel = grpc.secure_channel(parts.netloc, credentials, options=options, compression=compression)
        self._export: Callable[..., bytes] = self._channel.unary_unary(_GRPC_METHOD)
        self._metadata = tuple((name.lower(), value) for name, value in (settings.headers or {}).items())
        self._timeout_s = settings.timeout_s

    def send(self, body: bytes, timeout_s: float | None = None) -> Outcome:
        """See `TraceSender`."""
        limits = [limit for limit in (self._timeout_s, timeout_s) if limit is not None]
        try:
            return _delivered(self._export(body, timeout=min(limits, default=None), metadata=self._metadata))
        except self._grpc.RpcError as error:
            status, said = error.code().name, _said(error.details() or "")
            # Some receivers answer RESOURCE_EXHAUSTED for a message that is too large: waiting would not help.
            if status in _GRPC_RETRYABLE and not (status == "RESOURCE_EXHAUSTED" and "larger than max" in said):
                return Retry(reason=f"{status}: {said}")
            return Refused(status=status, message=said)

    def close(self) -> None:
        """See `TraceSender`."""
        self._channel.close()


def _file(path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - one read
            return file.read()
    except OSError as error:
        raise OtlpError(f"{path}: {error.strerror}") from None


# ------------------------------------------------------------------------------------------------------------- settings


def _endpoint(asked: str | None, environ: Mapping[str, str], protocol: str) -> str | None:
    of_traces, general = environ.get(f"{_PREFIX}TRACES_ENDPOINT"), environ.get(f"{_PREFIX}ENDPOINT")
    text = asked or of_traces or general
    if not text:
        return None
    try:
        if "://" not in text and protocol == "grpc":
            insecure = environ.get(f"{_PREFIX}TRACES_INSECURE") or environ.get(f"{_PREFIX}INSECURE") or ""
            text = f"{'http' if insecure.lower() == 'true' else 'https'}://{text}"
        parts = urlsplit(text)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
            raise ValueError  # noqa: TRY301 - one message for both
    except ValueError:
        raise OtlpError("the OTLP endpoint is no address: write one like `http://otel-collector:4318`") from None
    if protocol == "grpc":
        return f"{parts.scheme}://{parts.netloc if parts.port else f'{parts.netloc}:4317'}"
    path = parts.path
    if asked:
        path = "/v1/traces" if path in {"", "/"} else path
    elif not of_traces:
        path = f"{path.rstrip('/')}/v1/traces"
    return parts._replace(path=path or "/").geturl()


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


def _said(text: str) -> str:
    """What a receiver said, fit for a log line: it may quote what it was sent."""
    return redact(" ".join(text[: 4 * _MAX_MESSAGE].split()))[:_MAX_MESSAGE]
