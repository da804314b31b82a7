"""One OTLP request out, one outcome back: over HTTP with urllib3, over gRPC where grpcio is installed.

A sender is of one signal, traces or logs: each has its own address and its own answers. The stock exporter is not used:
it hides partial success and gives up after ten seconds. Nothing is retried, kept or counted here; what an outcome means
for the spans is decided by who sends them.
"""

import gzip
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Protocol
from urllib.parse import unquote, urlsplit

import urllib3
from google.protobuf.duration_pb2 import Duration  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from exporter.model import Signal
from exporter.otlp_settings import OtlpError, OtlpSettings
from exporter.redaction import redact

HTTP_RETRYABLE = frozenset({429, 502, 503, 504})
"""The statuses that the OTLP specification tells a client to try again after."""
_GRPC_METHODS: Mapping[Signal, str] = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
_GRPC_RETRYABLE = frozenset(
    {"ABORTED", "CANCELLED", "DATA_LOSS", "DEADLINE_EXCEEDED", "OUT_OF_RANGE", "RESOURCE_EXHAUSTED", "UNAVAILABLE"}
)
_RETRY_INFO = b"type.googleapis.com/google.rpc.RetryInfo\x12"
_MAX_MESSAGE = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivered:
    """The receiver took the request, all of it or (`rejected`) all but so many spans or log records, for good."""

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


class Sender(Protocol):
    """A way for one signal to one OTLP receiver."""

    def send(self, body: bytes, timeout_s: float | None = None) -> Outcome:
        """Send a serialized, uncompressed request of the signal; never raises for what the receiver does.

        `timeout_s` shortens the configured time limit, for a last attempt before a deadline.
        """
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


def connect(settings: OtlpSettings) -> Sender:
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
        self._signal = settings.signal
        self._pool = _pool(settings)

    def send(self, body: bytes, timeout_s: float | None = None) -> Outcome:
        """See `Sender`."""
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
            return _delivered(response.data, self._signal)
        return Refused(status=str(response.status), message=_said(response.data.decode("utf-8", "replace")))

    def close(self) -> None:
        """See `Sender`."""
        self._pool.clear()


def _pool(settings: OtlpSettings) -> urllib3.PoolManager:
    if settings.proxy is None:
        return urllib3.PoolManager(
            num_pools=1,
            maxsize=1,
            cert_reqs="CERT_REQUIRED",
            ca_certs=settings.ca_file,
            cert_file=settings.cert_file,
            key_file=settings.key_file,
        )
    proxy = urlsplit(settings.proxy)
    user = None if proxy.username is None else f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return urllib3.ProxyManager(
        proxy._replace(netloc=proxy.netloc.rpartition("@")[2]).geturl(),
        num_pools=1,
        maxsize=1,
        proxy_headers=urllib3.make_headers(proxy_basic_auth=user),
        cert_reqs="CERT_REQUIRED",
        ca_certs=settings.ca_file,
        cert_file=settings.cert_file,
        key_file=settings.key_file,
    )


def _delivered(data: bytes, signal: Signal) -> Delivered:
    """Read a partial success; a receiver that answers a 2xx with something else has taken everything."""
    try:
        if signal == "logs":
            of_logs = ExportLogsServiceResponse.FromString(data).partial_success
            return Delivered(rejected=max(0, of_logs.rejected_log_records), message=_said(of_logs.error_message))
        of_traces = ExportTraceServiceResponse.FromString(data).partial_success
    except DecodeError:
        return Delivered()
    return Delivered(rejected=max(0, of_traces.rejected_spans), message=_said(of_traces.error_message))


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
        self._export: Callable[..., bytes] = self._channel.unary_unary(_GRPC_METHODS[settings.signal])
        self._signal = settings.signal
        self._metadata = tuple((name.lower(), value) for name, value in (settings.headers or {}).items())
        self._timeout_s = settings.timeout_s

    def send(self, body: bytes, timeout_s: float | None = None) -> Outcome:
        """See `Sender`."""
        limits = [limit for limit in (self._timeout_s, timeout_s) if limit is not None]
        try:
            answer = self._export(body, timeout=min(limits, default=None), metadata=self._metadata)
        except self._grpc.RpcError as error:
            status, said = error.code().name, _said(error.details() or "")
            # Some receivers answer RESOURCE_EXHAUSTED for a message that is too large: waiting would not help.
            if status in _GRPC_RETRYABLE and not (status == "RESOURCE_EXHAUSTED" and "larger than max" in said):
                return Retry(reason=f"{status}: {said}", after_s=_retry_info_s(error.trailing_metadata()))
            return Refused(status=status, message=said)
        return _delivered(answer, self._signal)

    def close(self) -> None:
        """See `Sender`."""
        self._channel.close()


def _retry_info_s(metadata: Iterable[tuple[str, str | bytes]] | None) -> float | None:
    """Read how long a gRPC receiver asks to wait: a `RetryInfo` among the details of its `google.rpc.Status`.

    The classes of these messages come with a package that nothing else here needs. A `RetryInfo` is one `Duration`,
    so that each of the two lengths before it is one byte: detail, field tag, `Duration`.
    """
    details = dict(metadata or ()).get("grpc-status-details-bin", b"")
    _, _, found = (details if isinstance(details, bytes) else b"").partition(_RETRY_INFO)
    if len(found) < 3:
        return None
    try:
        delay = Duration.FromString(found[3 : 3 + found[2]])
    except DecodeError:
        return None
    return max(0.0, float(delay.seconds + delay.nanos / 1e9))


def _file(path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - one read
            return file.read()
    except OSError as error:
        raise OtlpError(f"{path}: {error.strerror}") from None


def _said(text: str) -> str:
    """What a receiver said, fit for a log line: it may quote what it was sent."""
    return redact(" ".join(text[: 4 * _MAX_MESSAGE].split()))[:_MAX_MESSAGE]
