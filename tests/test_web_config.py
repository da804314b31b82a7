"""The web configuration file: exporter-toolkit's keys, what is refused and in which words, and live rotation."""

import base64
import http.client
import os
import socket
import ssl
import threading
from contextlib import contextmanager
from pathlib import Path

import bcrypt
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse
from structlog.testing import capture_logs

from exporter.cli import main
from exporter.config import ConfigError
from exporter.web import LiveWebConfig, WebServer
from exporter.web_config import RateLimit, load_web_config
from exporter.web_config.sections import CIPHERS
from tests.certificates import Authority

PASSWORD = "hemlig lösen"
HASH = bcrypt.hashpw(
    PASSWORD.encode(), b"$2b$04$" + b"a" * 21 + b"u"
).decode()  # a fixed salt: it is in the names of tests
HTPASSWD_HASH = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"
CA = Authority()
SERVER = CA.issue("localhost", "127.0.0.1")
TLS = "tls_server_config: {cert_file: server.crt, key_file: server.key%s}\n"


@pytest.fixture
def directory(tmp_path):
    SERVER.write(tmp_path, "server")
    (tmp_path / "ca.crt").write_text(CA.certificate)
    return tmp_path


def load(directory, text):
    path = directory / "web.yml"
    path.write_text(text)
    return load_web_config(str(path))


def refusal(directory, text):
    with pytest.raises(ConfigError) as refused:
        load(directory, text)
    return str(refused.value).replace(f"{directory}/", "")


# ------------------------------------------------------------------------------------------------------------- loading


@pytest.mark.parametrize("text", ["", "# nothing\n", "tls_server_config:\nbasic_auth_users:\nhttp_server_config:\n"])
def test_a_file_that_says_nothing_enforces_nothing(directory, text):
    config = load(directory, text)
    assert (config.tls, dict(config.users), dict(config.headers), config.rate_limit) == (None, {}, {}, None)


def test_every_key_of_the_toolkit_is_read(directory):
    inline = "".join(f"    {line}\n" for line in SERVER.certificate.splitlines())
    key = "".join(f"    {line}\n" for line in SERVER.key.splitlines())
    config = load(
        directory,
        f"""tls_server_config:
  cert: |
{inline}  key: |
{key}  client_ca_file: ca.crt
  client_auth_type: RequireAndVerifyClientCert
  client_allowed_sans: [prometheus.example, 10.0.0.1, "::1"]
  min_version: TLS12
  max_version: TLS13
  cipher_suites: [{", ".join(CIPHERS)}]
  prefer_server_cipher_suites: false
  curve_preferences: [CurveP256]
http_server_config:
  http2: true
  headers:
    Content-Security-Policy: "default-src 'self'"
    X-Frame-Options: deny
    X-Content-Type-Options: nosniff
    X-XSS-Protection: ""
    Strict-Transport-Security: max-age=31536000
basic_auth_users:
  alice: {HTPASSWD_HASH}
  "17": '{HASH}'
rate_limit: {{interval: 1.5s, burst: 20}}
""",
    )
    assert config.tls.context.verify_mode is ssl.CERT_REQUIRED
    assert config.tls.allowed_sans == {"prometheus.example", "10.0.0.1", "::1"}
    names = {cipher["name"] for cipher in config.tls.context.get_ciphers()}
    assert "ECDHE-ECDSA-CHACHA20-POLY1305" in names
    assert "DHE-RSA-AES128-GCM-SHA256" not in names
    assert not config.tls.context.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    assert config.headers == {
        "Content-Security-Policy": "default-src 'self'",
        "X-Frame-Options": "deny",
        "X-Content-Type-Options": "nosniff",
        "Strict-Transport-Security": "max-age=31536000",
    }
    assert config.users == {"alice": HTPASSWD_HASH.encode(), "17": HASH.encode()}
    assert config.rate_limit == RateLimit(1.5, 20)
    assert config.asks_for_http2
    assert HASH not in repr(config)


def test_files_are_relative_to_the_file_that_names_them(directory, monkeypatch):
    (directory / "pki").mkdir()
    SERVER.write(directory / "pki", "x")
    monkeypatch.chdir("/")
    config = load(directory, "tls_server_config: {cert_file: pki/x.crt, key_file: pki/x.key}\n")
    assert config.files == (directory / "web.yml", directory / "pki/x.crt", directory / "pki/x.key")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tls_server_conf: {}\n", "1: tls_server_conf: unknown key; did you mean `tls_server_config`?"),
        ("basic_auth_users: {a: x}\n", "1: basic_auth_users.a: this is not a bcrypt hash; make one with"),
        (f"basic_auth_users:\n  'a:b': '{HASH}'\n", "2: basic_auth_users.a:b: a user's name is not empty"),
        (f"basic_auth_users: {{a: '$2b$31$' , b: '{HASH}'}}\n", "1: basic_auth_users.a: this is not a bcrypt hash"),
        (f"basic_auth_users: {{a: '{HASH.replace('$04$', '$31$')}'}}\n", "the cost of this hash is not between 4 and"),
        ("http_server_config: {headers: {X-Evil: a}}\n", "unknown key; known here are `Content-Security-Policy`"),
        ("http_server_config: {headers: {X-Frame-Options: allow}}\n", "`allow` is not known here"),
        (
            'http_server_config: {headers: {X-XSS-Protection: "a\\r\\nSet-Cookie: b"}}\n',
            "must be one line of printable",
        ),
        ("rate_limit: {interval: 1s}\n", "1: rate_limit: without `burst` no request would ever be let through"),
        ("rate_limit: {interval: 1 second, burst: 2}\n", "`1 second` is not a duration; write one like `1s`"),
        ("rate_limit: {interval: [], burst: 2}\n", "is not a duration"),
        ("rate_limit: {interval: 1s, burst: -1}\n", "must be at least 0"),
        ("tls_server_config: {min_version: TLS13}\n", "1: tls_server_config: without `cert_file` there is no TLS"),
        ("tls_server_config: {cert_file: no.crt, key_file: server.key}\n", "`no.crt` cannot be read: No such file"),
        ("tls_server_config: {cert_file: server.crt}\n", "without `key_file` there is no TLS"),
        ("tls_server_config: {cert_file: server.key, key_file: server.key}\n", "there is no PEM certificate in it"),
        ("tls_server_config: {cert_file: server.crt, key_file: ca.crt}\n", "there is no PEM key in it"),
        (TLS % ", cert: x", "1: tls_server_config.cert: `cert_file` is given, too; keep one of the two"),
        (TLS % ", min_version: TLS10", "`TLS10` is broken and TLS libraries refuse it"),
        (TLS % ", min_version: SSL3", "`SSL3` is not known here; write `TLS12` or `TLS13`"),
        (TLS % ", min_version: TLS13, max_version: TLS12", "is above `max_version`"),
        (TLS % ", cipher_suites: [RC4]", "cipher_suites[0]: `RC4` is not a cipher suite that is known here"),
        (TLS % ", cipher_suites: [TLS_AES_128_GCM_SHA256], max_version: TLS12", "none of these belongs to TLS 1.2"),
        (TLS % ", curve_preferences: [P-256]", "`P-256` is not a curve that is known here"),
        (TLS % ", curve_preferences: [X25519, CurveP256]", "this TLS library keeps to one curve or takes all"),
        (TLS % ", client_ca_file: ca.crt", "client_ca_file: nobody's certificate is asked for; add"),
        (TLS % ", client_auth_type: RequireAndVerifyClientCert", "there is no CA to verify certificates with"),
        (TLS % ", client_auth_type: RequireAnyClientCert", "takes certificates without verifying them"),
        (TLS % ", client_auth_type: Always", "`Always` is not known here; write `NoClientCert`"),
        (TLS % ", client_allowed_sans: [a]", "client_allowed_sans: needs `client_auth_type: RequireAndVerify"),
        (
            TLS % ", client_ca_file: server.key, client_auth_type: VerifyClientCertIfGiven",
            "client_ca_file: there is no PEM certificate in it",
        ),
        ("- a\n", "1: the file must be made of `key: value` lines"),
        ("tls_server_config: {\n", "not valid YAML"),
    ],
)
def test_what_cannot_be_enforced_is_refused_with_line_and_hint(directory, text, expected):
    message = refusal(directory, text)
    assert message.startswith("web.yml:")
    assert expected in message


def test_all_mistakes_are_told_at_once(directory):
    message = refusal(directory, "rate_limit: {burst: x}\nhttp2: true\nbasic_auth_users: {a: b}\n")
    assert [line.split(":")[1] for line in message.splitlines()] == ["1", "2", "3"]


def test_a_key_of_another_certificate_is_refused(directory):
    CA.issue("other").write(directory, "other")
    message = refusal(directory, "tls_server_config: {cert_file: server.crt, key_file: other.key}\n")
    assert "tls_server_config.key_file: the key does not belong to the certificate" in message


def test_an_encrypted_key_is_refused_and_no_passphrase_asked_for(directory):
    (directory / "server.key").write_text(SERVER.encrypted_key)
    assert "the key is encrypted and nobody is there" in refusal(directory, TLS % "")


def test_no_secret_is_in_a_message(directory):
    message = refusal(
        directory, "basic_auth_users: {a: topsecret, b: [topsecret]}\ntls_server_config: {key: topsecret}\n"
    )
    assert "topsecret" not in message


def test_a_file_that_is_not_there_or_not_text_is_said(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_web_config(str(tmp_path / "none.yml"))
    (tmp_path / "web.yml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_web_config(str(tmp_path / "web.yml"))


@pytest.mark.parametrize(
    ("text", "expected_s"), [("0", None), ("0s", None), ("'0'", None), ("100ms", 0.1), ("1m30s", 90), ("1.5h", 5400)]
)
def test_durations_are_gos(directory, text, expected_s):
    limit = load(directory, f"rate_limit: {{interval: {text}, burst: 1}}\n").rate_limit
    assert (limit and limit.interval_s) == expected_s


def test_only_tls_1_3_is_left_when_no_other_cipher_is_named(directory):
    config = load(directory, TLS % ", cipher_suites: [TLS_AES_128_GCM_SHA256]")
    assert config.tls.context.minimum_version is ssl.TLSVersion.TLSv1_3


@given(text=st.text())
def test_any_text_is_a_configuration_or_a_mistake(tmp_path_factory, text):
    path = Path(os.fspath(tmp_path_factory.getbasetemp())) / "any.yml"
    path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    try:
        load_web_config(str(path))
    except ConfigError as error:
        told = str(error)
    else:
        told = "nothing wrong"
    assert told


@pytest.mark.parametrize(("text", "exit_code"), [("", 0), ("basic_auth_users: {a: plain}\n", 2)])
def test_check_config_checks_it_too(directory, text, exit_code):
    (directory / "web.yml").write_text(text)
    config = directory / "exporter.yaml"
    config.write_text("web: {config_file: web.yml}\nwatches: [{name: a, region: eu-west-1, access_log: {group: a}}]\n")
    result = CliRunner().invoke(main, ["check-config", "--config.file", str(config)])
    assert result.exit_code == exit_code
    assert ("web.yml:1: basic_auth_users.a: this is not a bcrypt hash" in result.output) is (exit_code == 2)


# -------------------------------------------------------------------------------------------------------------- serving


class Clock:
    """Seconds that pass when told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


async def hello(scope, receive, send):
    await PlainTextResponse("hello")(scope, receive, send)


@contextmanager
def serving(directory, text):
    """A server under a web configuration: its address, the clock that its files are looked at by, and the file."""
    path = directory / "web.yml"
    path.write_text(text)
    clock = Clock()
    live = LiveWebConfig(str(path), clock=clock)
    server = WebServer(hello, "127.0.0.1:0", live.current)
    server.start()
    try:
        yield server.address, clock, path
    finally:
        server.stop()


def get(address, context=None, headers=None):
    if context is None:
        connection = http.client.HTTPConnection(*address, timeout=10)
    else:
        connection = http.client.HTTPSConnection(*address, timeout=10, context=context)
    try:
        connection.request("GET", "/", headers=headers or {})
        response = connection.getresponse()
        response.body = response.read()
        return response
    finally:
        connection.close()


def basic(user, password):
    return {"Authorization": authorization_of(user, password)}


def authorization_of(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def serial_of(address, context):
    with socket.create_connection(address, timeout=10) as plain, context.wrap_socket(plain) as encrypted:
        return int(encrypted.getpeercert()["serialNumber"], 16)


def rewrite(path, text):
    """A new version, with a time of change that is another even on coarse file systems."""
    changed_ns = path.stat().st_mtime_ns + 1_000_000_000
    path.write_text(text)
    os.utime(path, ns=(changed_ns, changed_ns))


def test_a_new_certificate_is_shown_to_the_next_client(directory):
    with serving(directory, TLS % "") as (address, clock, _):
        assert serial_of(address, CA.client_context()) == SERVER.serial
        renewed = CA.issue("localhost")
        rewrite(directory / "server.crt", renewed.certificate)
        clock.now += 2
        assert serial_of(address, CA.client_context()) == SERVER.serial, "half of a rotation"
        rewrite(directory / "server.key", renewed.key)
        clock.now += 2
        assert serial_of(address, CA.client_context()) == renewed.serial


def test_a_secret_swapped_behind_a_symbolic_link_is_noticed(directory):
    renewed = CA.issue("localhost")
    for version, pair in (("v1", SERVER), ("v2", renewed)):
        (directory / version).mkdir()
        pair.write(directory / version, "tls")
    (directory / "current").symlink_to("v1")
    text = "tls_server_config: {cert_file: current/tls.crt, key_file: current/tls.key}\n"
    with serving(directory, text) as (address, clock, _):
        assert serial_of(address, CA.client_context()) == SERVER.serial
        (directory / "new").symlink_to("v2")
        (directory / "new").rename(directory / "current")
        clock.now += 2
        assert serial_of(address, CA.client_context()) == renewed.serial


def test_files_are_not_looked_at_more_than_once_a_second(directory):
    with serving(directory, f"basic_auth_users: {{a: '{HASH}'}}\n") as (address, clock, path):
        assert get(address).status == 401
        rewrite(path, "")
        clock.now += 0.5
        assert get(address).status == 401
        clock.now += 0.5
        assert get(address).status == 200


def test_a_broken_version_changes_nothing_and_is_said_once(directory):
    with (
        capture_logs() as logged,
        serving(directory, f"basic_auth_users: {{a: '{HASH}'}}\n") as (address, clock, path),
    ):
        rewrite(path, "basic_auth_users: {a: plain}\n")
        for _ in range(3):
            clock.now += 2
            assert get(address).status == 401
            assert get(address, headers=basic("a", PASSWORD)).status == 200
        (complaint,) = [line for line in logged if line["log_level"] == "error"]
        assert "basic_auth_users.a: this is not a bcrypt hash" in complaint["mistakes"]
        rewrite(path, "")
        clock.now += 2
        assert get(address).status == 200


def test_tls_is_not_switched_off_by_a_change_of_the_file(directory):
    with serving(directory, TLS % "") as (address, clock, path):
        rewrite(path, "")
        clock.now += 2
        assert get(address, CA.client_context()).status == 200


def test_reading_anew_by_hand_refuses_to_switch_tls(directory):
    path = directory / "web.yml"
    path.write_text("")
    live = LiveWebConfig(str(path))
    path.write_text(TLS % "")
    with pytest.raises(ConfigError, match="TLS cannot be switched on or off while running; restart"):
        live.read(str(path))
    with pytest.raises(ConfigError, match="restart"):
        LiveWebConfig(str(path)).read(None)


# -------------------------------------------------------------------------------------------------- client certificates


CLIENTS_ONLY = TLS % ", client_ca_file: ca.crt, client_auth_type: RequireAndVerifyClientCert%s"


def is_let_in(address, context):
    try:
        return get(address, context).status == 200
    except (ssl.SSLError, ConnectionError, http.client.RemoteDisconnected):
        return False


def client(directory, authority, *sans):
    paths = authority.issue(*sans).write(directory, f"client-{len(list(directory.iterdir()))}")
    return CA.client_context(paths)


def test_only_clients_that_the_ca_vouches_for_are_let_in(directory):
    with serving(directory, CLIENTS_ONLY % "") as (address, _, _path):
        assert is_let_in(address, client(directory, CA, "prometheus"))
        assert not is_let_in(address, CA.client_context())
        assert not is_let_in(address, client(directory, Authority("another"), "prometheus"))


@pytest.mark.parametrize(
    ("sans", "expected"),
    [
        (["prometheus.example"], True),
        (["else.example", "prometheus.example"], True),
        (["10.0.0.1"], True),
        (["fd00::1"], True),
        (["ops@example.com"], True),
        (["spiffe://cluster/prometheus"], True),
        (["prometheus.example.evil"], False),
        (["10.0.0.2"], False),
        ([], False),
    ],
)
def test_only_allowed_names_are_let_in(directory, sans, expected):
    allowed = '["prometheus.example", "10.0.0.1", "fd00:0::1", "ops@example.com", "spiffe://cluster/prometheus"]'
    with serving(directory, CLIENTS_ONLY % f", client_allowed_sans: {allowed}") as (address, _, _path):
        assert is_let_in(address, client(directory, CA, *sans)) is expected


def test_a_client_ca_that_is_taken_away_lets_nobody_in_any_more(directory):
    old, new = Authority("old"), Authority("new")
    (directory / "ca.crt").write_text(old.certificate + new.certificate)
    with serving(directory, CLIENTS_ONLY % "") as (address, clock, _):
        old_client, new_client = client(directory, old, "a"), client(directory, new, "a")
        assert is_let_in(address, old_client)
        assert is_let_in(address, new_client)
        rewrite(directory / "ca.crt", new.certificate)
        clock.now += 2
        assert not is_let_in(address, old_client)
        assert is_let_in(address, new_client)


def test_a_certificate_is_optional_if_so_configured_but_not_a_wrong_one(directory):
    text = TLS % ", client_ca_file: ca.crt, client_auth_type: VerifyClientCertIfGiven"
    with serving(directory, text) as (address, _, _path):
        assert is_let_in(address, CA.client_context())
        assert is_let_in(address, client(directory, CA, "a"))
        assert not is_let_in(address, client(directory, Authority("another"), "a"))


def test_an_old_protocol_version_is_refused(directory):
    with serving(directory, TLS % ", min_version: TLS13") as (address, _, _path):
        context = CA.client_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        assert not is_let_in(address, context)


# ---------------------------------------------------------------------------------------------------------------- users


USERS = f"basic_auth_users:\n  prometheus: '{HASH}'\n  'ann': '{HTPASSWD_HASH.replace('$10$', '$04$')}'\n"


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        authorization_of("prometheus", "wrong"),
        authorization_of("prometheus", ""),
        authorization_of("nobody", PASSWORD),
        authorization_of("", ""),
        authorization_of("ann", PASSWORD),
        authorization_of("prometheus", "x" * 200),
        authorization_of("prometheus", "nul\0nul"),
        "Basic",
        "Basic !!!",
        "Basic aGVq",
        "Basic //8=",
        "Bearer abc",
    ],
)
def test_who_is_not_known_gets_a_challenge(directory, authorization):
    with serving(directory, USERS) as (address, _, _path):
        response = get(address, headers={} if authorization is None else {"Authorization": authorization})
    assert response.status == 401
    assert response.headers["WWW-Authenticate"].startswith('Basic realm="')
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert b"hello" not in response.body


def test_a_user_with_the_right_password_is_let_in_again_and_again(directory):
    with serving(directory, USERS) as (address, _, _path):
        for _ in range(3):
            assert get(address, headers=basic("prometheus", PASSWORD)).status == 200
            assert get(address, headers=basic("prometheus", "wrong")).status == 401


def test_a_long_password_is_compared_as_bcrypt_does(directory):
    long = "x" * 72
    hashed = bcrypt.hashpw(long.encode(), bcrypt.gensalt(4)).decode()
    with serving(directory, f"basic_auth_users: {{a: '{hashed}'}}\n") as (address, _, _path):
        assert get(address, headers=basic("a", long + "more")).status == 200
        assert get(address, headers=basic("a", long[:-1])).status == 401


def test_a_password_that_was_changed_is_wrong_at_once(directory):
    with serving(directory, f"basic_auth_users: {{a: '{HASH}'}}\n") as (address, clock, path):
        assert get(address, headers=basic("a", PASSWORD)).status == 200
        assert get(address, headers=basic("a", "new")).status == 401
        rewrite(path, f"basic_auth_users: {{a: '{bcrypt.hashpw(b'new', bcrypt.gensalt(4)).decode()}'}}\n")
        clock.now += 2
        assert get(address, headers=basic("a", PASSWORD)).status == 401
        assert get(address, headers=basic("a", "new")).status == 200


# -------------------------------------------------------------------------------------------------- headers, rate limit


def test_configured_headers_are_on_every_answer_and_win(directory):
    text = f"http_server_config: {{headers: {{Strict-Transport-Security: max-age=1, Content-Security-Policy: x}}}}\n{USERS}"
    with serving(directory, text) as (address, _, _path):
        for response in (get(address), get(address, headers=basic("prometheus", PASSWORD))):
            assert response.headers["Strict-Transport-Security"] == "max-age=1"
            assert response.headers.get_all("Content-Security-Policy") == ["x"]


def test_a_rate_limit_lets_a_burst_through_and_then_refuses(directory):
    with serving(directory, "rate_limit: {interval: 1h, burst: 3}\n") as (address, _, _path):
        assert [get(address).status for _ in range(5)] == [200, 200, 200, 429, 429]


def test_many_threads_may_ask_for_the_configuration_in_force(directory):
    path = directory / "web.yml"
    path.write_text(USERS)
    clock = Clock()
    live = LiveWebConfig(str(path), clock=clock)
    rewrite(path, TLS % "" + USERS)  # cannot be taken over
    clock.now += 2
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(live.current())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert all(config.tls is None and set(config.users) == {"prometheus", "ann"} for config in seen)
