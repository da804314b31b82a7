"""What a web configuration file may say: exporter-toolkit's keys, each with its kind, once.

The file is shared with every other exporter of the house, so keys and values are the toolkit's, names of Go's TLS
library included. What Python's TLS library cannot do is refused here, in words; what keys mean together is judged in
the package's `loading.py`.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, SecretStr

from exporter.config.scalars import AsList, AsMapping
from exporter.config.sections import Section

Version = Literal["TLS12", "TLS13"]

CIPHERS: Mapping[str, str | None] = {
    # Go names -> OpenSSL names. None: suites of TLS 1.3, which neither library lets anyone choose among.
    "TLS_AES_128_GCM_SHA256": None,
    "TLS_AES_256_GCM_SHA384": None,
    "TLS_CHACHA20_POLY1305_SHA256": None,
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
}
CURVES: Mapping[str, str] = {
    "X25519": "X25519",
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
}

_BCRYPT = re.compile(r"\$2[aby]\$(?P<cost>\d\d)\$[./A-Za-z0-9]{53}", re.ASCII)
_DEAREST_HASH = 17
"""A check at cost 17 takes most of ten seconds, and each step doubles it."""
_GO_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_GO_DURATION = re.compile(r"(?:(?:\d{1,9}(?:\.\d{0,9})?)(?:ns|us|µs|ms|s|m|h))+", re.ASCII)
_GO_PART = re.compile(r"([\d.]+)(ns|us|µs|ms|s|m|h)")


def _blank_is_absent(value: object) -> object:
    return None if value == "" else value


def _not_verifying(value: str | None) -> str | None:
    if value in {"RequestClientCert", "RequireAnyClientCert", "RequireClientCert"}:
        raise ValueError(
            f"`{value}` takes certificates without verifying them, which this TLS library never does; write "
            "`RequireAndVerifyClientCert` with a `client_ca_file`, or `NoClientCert`"
        )
    if value not in {None, "NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"}:
        raise ValueError(
            "{value} is not known here; write `NoClientCert`, `VerifyClientCertIfGiven` or `RequireAndVerifyClientCert`"
        )
    return value


def _version(value: str) -> str:
    if value in {"TLS10", "TLS11"}:
        raise ValueError(f"`{value}` is broken and TLS libraries refuse it; write `TLS12` or `TLS13`")
    if value not in {"TLS12", "TLS13"}:
        raise ValueError("{value} is not known here; write `TLS12` or `TLS13`")
    return value


def _cipher(name: str) -> str:
    if name not in CIPHERS:
        raise ValueError(
            "{value} is not a cipher suite that is known here; write Go's name of one, like "
            "`TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`"
        )
    return name


def _curve(name: str) -> str:
    if name not in CURVES:
        known = ", ".join(f"`{curve}`" for curve in CURVES)
        raise ValueError(f"{{value}} is not a curve that is known here; write one of {known}")
    return name


def _bcrypt(value: SecretStr) -> SecretStr:
    match = _BCRYPT.fullmatch(value.get_secret_value())
    if match is None:
        raise ValueError("this is not a bcrypt hash; make one with `htpasswd -nBC 10 <user>` and put it in quotes")
    if not 4 <= int(match["cost"]) <= _DEAREST_HASH:
        raise ValueError(f"the cost of this hash is not between 4 and {_DEAREST_HASH}; make one with cost 10 or 12")
    return value


def _user(name: str) -> str:
    if not name or ":" in name:
        raise ValueError("a user's name is not empty and has no colon")
    return name


def _one_line(value: str) -> str:
    if not (value.isascii() and value.isprintable()):
        raise ValueError("a header's value must be one line of printable ASCII characters")
    return value


def _go_duration(value: object) -> float:
    """Seconds of `1s`, `1m30s`, `1.5h`, `0`, as Go reads them."""
    if value in (0, "0") and value is not False:
        return 0.0
    if not isinstance(value, str) or not _GO_DURATION.fullmatch(value):
        raise ValueError("{value} is not a duration; write one like `1s`, `100ms`, `1m30s`, or `0` for no limit")
    return sum(float(number) * _GO_UNITS_S[unit] for number, unit in _GO_PART.findall(value))


Optional = Annotated[str | None, BeforeValidator(_blank_is_absent)]
OptionalSecret = Annotated[SecretStr | None, BeforeValidator(_blank_is_absent)]
HeaderText = Annotated[str, AfterValidator(_one_line)]
UserName = Annotated[str, AfterValidator(_user)]
BcryptHash = Annotated[SecretStr, AfterValidator(_bcrypt)]


class TlsServerConfig(Section):
    """TLS: the server's certificate, and which clients may speak to it."""

    cert: Optional = None
    cert_file: Optional = None
    key: OptionalSecret = None
    key_file: Optional = None
    client_ca: Optional = None
    client_ca_file: Optional = None
    client_auth_type: Annotated[Optional, AfterValidator(_not_verifying)] = None
    client_allowed_sans: Annotated[tuple[str, ...], AsList] = ()
    min_version: Annotated[str, AfterValidator(_version)] = "TLS12"
    max_version: Annotated[str, AfterValidator(_version)] = "TLS13"
    cipher_suites: Annotated[tuple[Annotated[str, AfterValidator(_cipher)], ...], AsList] = ()
    prefer_server_cipher_suites: bool = True
    curve_preferences: Annotated[tuple[Annotated[str, AfterValidator(_curve)], ...], AsList] = ()


class Headers(Section):
    """The headers that may be set on every answer; a blank one is left as it is."""

    content_security_policy: Annotated[HeaderText | None, Field(alias="Content-Security-Policy")] = None
    x_frame_options: Annotated[Literal["deny", "sameorigin", ""] | None, Field(alias="X-Frame-Options")] = None
    x_content_type_options: Annotated[Literal["nosniff", ""] | None, Field(alias="X-Content-Type-Options")] = None
    x_xss_protection: Annotated[HeaderText | None, Field(alias="X-XSS-Protection")] = None
    strict_transport_security: Annotated[HeaderText | None, Field(alias="Strict-Transport-Security")] = None


class HttpServerConfig(Section):
    """HTTP: the protocol's version and headers."""

    http2: bool | None = None
    headers: Headers = Field(default={}, validate_default=True)


class RateLimitSection(Section):
    """A token bucket for all requests together."""

    interval_s: Annotated[float, PlainValidator(_go_duration), Field(alias="interval")] = 0.0
    burst: Annotated[int, Field(ge=0)] = 0


class WebFile(Section):
    """A web configuration file."""

    tls_server_config: TlsServerConfig = Field(default={}, validate_default=True)
    http_server_config: HttpServerConfig = Field(default={}, validate_default=True)
    basic_auth_users: Annotated[dict[UserName, BcryptHash], AsMapping] = Field(default={})
    rate_limit: RateLimitSection = Field(default={}, validate_default=True)
