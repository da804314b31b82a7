"""The TLS part of a web configuration -> a TLS context, or what is wrong with it.

Certificates and keys are read here, whole, so that a context is made of one version of each. No passphrase is ever
asked for and no key is written to a disk.
"""

import ssl
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from exporter.web_config.sections import CIPHERS, CURVES, TlsServerConfig

if sys.platform == "linux":
    import os

_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_VERIFICATION = {
    None: ssl.CERT_NONE,
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}

Finding = tuple[str, str]
"""The key (empty for the section itself) and what is wrong with it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerTls:
    """How connections are encrypted, and whose certificates are let in."""

    context: ssl.SSLContext
    allowed_sans: frozenset[str]
    """Empty: every certificate that the client CA vouches for."""

    def admits(self, connection: ssl.SSLObject | ssl.SSLSocket) -> bool:
        """Whether the client's certificate, already verified, bears one of the allowed names."""
        if not self.allowed_sans:
            return True
        certificate = connection.getpeercert() or {}
        names = certificate.get("subjectAltName", ())
        return any(_canonical(name[1]) in self.allowed_sans for name in names if isinstance(name[1], str))


def has_tls(section: TlsServerConfig) -> bool:
    """Whether the section says anything."""
    return bool(section.model_fields_set and section != TlsServerConfig())


def files_of(section: TlsServerConfig, directory: Path) -> Sequence[Path]:
    """The files that the section names."""
    named = (section.cert_file, section.key_file, section.client_ca_file)
    return [directory / name for name in named if name is not None]


def findings_of(section: TlsServerConfig) -> Iterator[Finding]:
    """What is wrong with the section before any file is read."""
    for inline in ("cert", "key", "client_ca"):
        if getattr(section, inline) is not None and getattr(section, f"{inline}_file") is not None:
            yield inline, f"`{inline}_file` is given, too; keep one of the two"
    for needed in ("cert", "key"):
        if getattr(section, needed) is None and getattr(section, f"{needed}_file") is None:
            yield (
                "",
                f"without `{needed}_file` there is no TLS; add it, or remove the whole section to serve without TLS",
            )
    has_ca = section.client_ca is not None or section.client_ca_file is not None
    verifies = _VERIFICATION[section.client_auth_type] is not ssl.CERT_NONE
    if has_ca and not verifies:
        yield (
            "client_ca" if section.client_ca is not None else "client_ca_file",
            "nobody's certificate is asked for; add `client_auth_type: RequireAndVerifyClientCert`, or remove this key",
        )
    if verifies and not has_ca:
        yield "client_auth_type", "there is no CA to verify certificates with; add `client_ca_file`"
    if section.client_allowed_sans and section.client_auth_type != "RequireAndVerifyClientCert":
        yield "client_allowed_sans", "needs `client_auth_type: RequireAndVerifyClientCert`"
    if section.min_version > section.max_version:
        yield "min_version", "is above `max_version`; make it the lower of the two"
    if section.cipher_suites and not _ciphers(section) and section.max_version == "TLS12":
        yield "cipher_suites", "none of these belongs to TLS 1.2, the only version left; add one that does"
    if len(set(section.curve_preferences)) not in {0, 1, len(CURVES)}:
        text = "this TLS library keeps to one curve or takes all; name one (every client knows `CurveP256`), or none"
        yield "curve_preferences", text


def make_tls(section: TlsServerConfig, directory: Path) -> tuple[ServerTls | None, Sequence[Finding]]:
    """The context, or what is wrong with the files. The section has no findings of its own."""
    findings: list[Finding] = []

    def read(key: str, inline: str | None, file: str | None) -> bytes | None:
        if inline is not None or file is None:
            return None if inline is None else inline.encode()
        try:
            return (directory / file).read_bytes()
        except OSError as error:
            findings.append((f"{key}_file", f"`{file}` cannot be read: {error.strerror or error}"))
            return None

    certificate = read("cert", section.cert, section.cert_file)
    key = read("key", None if section.key is None else section.key.get_secret_value(), section.key_file)
    client_ca = read("client_ca", section.client_ca, section.client_ca_file)
    if findings or certificate is None or key is None:
        return None, findings

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[section.min_version]
    context.maximum_version = _VERSIONS[section.max_version]
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
    # Every connection shows its certificate anew: no session outlives a CA or a name that was taken away.
    context.num_tickets = 0
    if section.prefer_server_cipher_suites:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    findings += _restrict(context, section)
    findings += _load_pair(context, certificate, key, _key_given(section, "cert"), _key_given(section, "key"))
    if client_ca is not None:
        findings += _load_ca(context, client_ca, _key_given(section, "client_ca"))
    context.verify_mode = _VERIFICATION[section.client_auth_type]
    sans = frozenset(_canonical(name) for name in section.client_allowed_sans)
    return (None if findings else ServerTls(context=context, allowed_sans=sans)), findings


def _restrict(context: ssl.SSLContext, section: TlsServerConfig) -> Iterator[Finding]:
    """Take away ciphers and curves; a library built for FIPS may not know them all."""
    ciphers = _ciphers(section)
    if section.cipher_suites and not ciphers:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        if ciphers:
            context.set_ciphers(":".join(ciphers))
    except ssl.SSLError:
        yield "cipher_suites", "this machine's TLS library has none of these"
    try:
        if len(set(section.curve_preferences)) == 1:
            context.set_ecdh_curve(CURVES[section.curve_preferences[0]])
    except ValueError:
        yield "curve_preferences", "this machine's TLS library does not have this curve"


def _key_given(section: TlsServerConfig, name: str) -> str:
    return name if getattr(section, name) is not None else f"{name}_file"


def _load_pair(
    context: ssl.SSLContext, certificate: bytes, key: bytes, certificate_key: str, private_key: str
) -> Collection[Finding]:
    if b"ENCRYPTED" in key:
        return [(private_key, "the key is encrypted and nobody is there to type a passphrase; decrypt it")]
    try:
        with _as_file(certificate) as certificate_path, _as_file(key) as key_path:
            # The password keeps OpenSSL from asking at a terminal, should a key be encrypted in spite of all.
            context.load_cert_chain(certificate_path, key_path, password=lambda: b"")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return [(private_key, "the key does not belong to the certificate")]
        if b"-----BEGIN CERTIFICATE-----" not in certificate:
            return [
                (certificate_key, "there is no PEM certificate in it; it begins with `-----BEGIN CERTIFICATE-----`")
            ]
        if b"PRIVATE KEY-----" not in key:
            return [(private_key, "there is no PEM key in it; it begins with `-----BEGIN PRIVATE KEY-----`")]
        return [("", f"certificate and key cannot be used: {error.reason or 'they are not whole'}")]
    return ()


def _load_ca(context: ssl.SSLContext, client_ca: bytes, given_as: str) -> Collection[Finding]:
    try:
        context.load_verify_locations(cadata=client_ca.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError, ValueError):
        return [(given_as, "there is no PEM certificate in it; it begins with `-----BEGIN CERTIFICATE-----`")]
    return ()


def _ciphers(section: TlsServerConfig) -> Sequence[str]:
    return [name for go_name in section.cipher_suites if (name := CIPHERS[go_name]) is not None]


def _canonical(name: str) -> str:
    """A name to compare: addresses have many spellings, and OpenSSL's is not Go's."""
    try:
        return str(ip_address(name))
    except ValueError:
        return name


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """The path of a file that holds `content`: the `ssl` module takes keys by path only. In memory where possible."""
    if sys.platform == "linux":
        with open(os.memfd_create("pem", os.MFD_CLOEXEC), "wb", buffering=0) as file:  # noqa: PTH123 a descriptor
            file.write(content)
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            yield file.name
