"""Clients that mean harm, or do not know better, over TLS with users, while a scraper scrapes.

Nothing here sleeps: what the server must do is waited for on its sockets, with a deadline.
"""

import base64
import http.client
import select
import socket
import ssl
import threading
import time
from contextlib import ExitStack, contextmanager

import bcrypt
import pytest

from exporter.metrics import requests
from exporter.metrics.self_metrics import SelfMetrics
from exporter.metrics.totals import Totals
from exporter.model import Api, Commit
from exporter.web import LiveWebConfig, Patience, WebServer, build_app
from tests.certificates import Authority

NOT_HELD_UP_S = 9
"""Less than the server waits for a head: whoever is answered behind an attacker waits longer. What a scrape takes on a
quiet machine, benchmarks tell."""
DEADLINE_S = 30
CA = Authority()
PASSWORD = "right"
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)).decode()
AUTHORIZATION = "Basic " + base64.b64encode(f"prometheus:{PASSWORD}".encode()).decode()
SERIES = 10_000
PATIENCE = Patience()


def totals():
    totals = Totals(zero_hold_ms=0, max_series=SERIES, now_ms=lambda: 0)
    api = Api(id="ab12cd34ef", name="orders", stage="prod")
    counted = {requests(api, "GET", f"/{number}", 200): 1 for number in range(SERIES)}
    totals.apply(Commit(progress={}, tallies={}, tombstones={}, increments=counted, at_ms=1_700_000_000_000))
    return totals


TOTALS = totals()


class Site:
    """A server under attack, and the ways to reach it."""

    def __init__(self, address, context):
        self.address = address
        self._context = context
        self._open = ExitStack()

    def plain(self):
        return self._open.enter_context(socket.create_connection(self.address, timeout=DEADLINE_S))

    def encrypted(self):
        return self._open.enter_context(self._context.wrap_socket(self.plain()))

    def small_window(self):
        """Encrypted, with little room for what is sent to it."""
        client = self._open.enter_context(socket.socket())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        client.settimeout(DEADLINE_S)
        client.connect(self.address)
        return self._open.enter_context(self._context.wrap_socket(client))

    def half_a_handshake(self):
        """A ClientHello but for its last byte."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        handshake = self._context.wrap_bio(incoming, outgoing)
        with pytest.raises(ssl.SSLWantReadError):
            handshake.do_handshake()
        client = self.plain()
        client.sendall(outgoing.read()[:-1])
        return client

    def scraper(self):
        connection = http.client.HTTPSConnection(*self.address, timeout=DEADLINE_S, context=self._context)
        return self._open.enter_context(closing(connection))

    def close(self):
        self._open.close()


@contextmanager
def closing(connection):
    yield connection
    connection.close()


@contextmanager
def under_attack(directory, patience=PATIENCE):
    CA.issue("localhost").write(directory, "server")
    path = directory / "web.yml"
    path.write_text(
        "tls_server_config: {cert_file: server.crt, key_file: server.key}\n"
        f"basic_auth_users: {{prometheus: '{HASH}'}}\n"
    )
    app = build_app(
        product=TOTALS,
        own=SelfMetrics(version="1", now_ms=lambda: 0),
        alive=lambda: True,
        not_ready=list,
        watches=list,
        config=str,
        reload=None,
        version="1",
    )
    server = WebServer(app, "127.0.0.1:0", LiveWebConfig(str(path)).current, patience)
    server.start()
    site = Site(server.address, CA.client_context())
    try:
        yield site
    finally:
        site.close()
        server.stop()


def scrape(connection):
    """The seconds that a scrape took."""
    began = time.monotonic()
    connection.request("GET", "/metrics", headers={"Authorization": AUTHORIZATION, "Accept-Encoding": "gzip"})
    response = connection.getresponse()
    assert response.read()
    assert response.status == 200
    return time.monotonic() - began


def is_dropped(client):
    """Whether the server ends the connection, within the deadline, with or without an answer."""
    client.settimeout(DEADLINE_S)
    try:
        while client.recv(65_536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def rest_of(client):
    """All that still comes until the connection ends."""
    received = bytearray()
    try:
        while data := client.recv(65_536):
            received += data
    except OSError:
        pass
    return received


REQUEST = f"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: {AUTHORIZATION}\r\n".encode()


# ---------------------------------------------------------------------------------------------------- idle connections


def test_two_hundred_idle_connections_keep_no_scrape_out(tmp_path):
    with under_attack(tmp_path) as site:
        scrape(site.scraper())  # its password is known from here on
        for _ in range(100):
            site.plain()
        for _ in range(50):
            site.half_a_handshake()
        for _ in range(50):
            site.encrypted()
        kept = site.scraper()
        for connection in (site.scraper(), kept, kept, site.scraper()):
            assert scrape(connection) < NOT_HELD_UP_S


@pytest.mark.parametrize("kind", ["plain", "half_a_handshake", "encrypted"])
def test_who_never_asks_anything_is_dropped(tmp_path, kind):
    with under_attack(tmp_path, Patience(handshake_s=0.2, head_s=0.2)) as site:
        assert is_dropped(getattr(site, kind)())


def test_an_idle_plain_connection_is_dropped_without_tls_too(tmp_path):
    server = WebServer(lambda *_: None, "127.0.0.1:0", patience=Patience(head_s=0.2))
    server.start()
    with socket.create_connection(server.address) as client:
        assert is_dropped(client)
    server.stop()


def test_a_scraper_keeps_its_connection_between_scrapes(tmp_path):
    with under_attack(tmp_path, Patience(head_s=1, answer_s=1)) as site:
        connection = site.scraper()
        scrape(connection)
        port = connection.sock.getsockname()
        readable, _, _ = select.select([connection.sock], [], [], 1.3)  # it would become readable by being closed
        assert not readable
        scrape(connection)
        assert connection.sock.getsockname() == port


def test_a_kept_connection_does_not_live_for_ever(tmp_path):
    with under_attack(tmp_path, Patience(keep_alive_s=1)) as site:
        connection = site.scraper()
        scrape(connection)
        assert is_dropped(connection.sock)


# -------------------------------------------------------------------------------------------------- too many of them


def test_a_flood_displaces_itself_and_not_the_scraper(tmp_path):
    with under_attack(tmp_path, Patience(connections=20)) as site:
        kept = site.scraper()
        scrape(kept)
        port = kept.sock.getsockname()
        flood = [site.plain() for _ in range(60)]
        assert is_dropped(flood[0])
        assert scrape(kept) < NOT_HELD_UP_S
        assert kept.sock.getsockname() == port, "the connection that had asked something was the first to go"
        assert scrape(site.scraper()) < NOT_HELD_UP_S


def test_slow_readers_beyond_the_limit_do_not_keep_a_scrape_out(tmp_path):
    with under_attack(tmp_path, Patience(connections=10)) as site:
        scrape(site.scraper())
        for _ in range(15):
            site.encrypted().sendall(REQUEST + b"\r\n")
        assert scrape(site.scraper()) < NOT_HELD_UP_S


# ------------------------------------------------------------------------------------------------------- slow clients


def test_slow_readers_keep_no_scrape_out_and_are_dropped(tmp_path):
    with under_attack(tmp_path, Patience(answer_s=1.0, head_s=1.5)) as site:
        scrape(site.scraper())
        readers = [site.small_window() for _ in range(30)]
        for reader in readers:
            reader.sendall(REQUEST + b"\r\n")
        assert scrape(site.scraper()) < NOT_HELD_UP_S
        # Who came last and never asked is dropped after the readers were.
        assert is_dropped(site.plain())
        whole = len(TOTALS.render(openmetrics=False))
        assert all(len(rest_of(reader)) < whole for reader in readers[:3])


def test_a_head_that_trickles_in_is_cut_off_in_time(tmp_path):
    with under_attack(tmp_path, Patience(head_s=0.5)) as site:
        client = site.encrypted()
        client.setblocking(False)
        ended_by = time.monotonic() + DEADLINE_S
        for byte in REQUEST * 1000:
            try:
                client.send(bytes([byte]))
            except ssl.SSLWantWriteError:
                continue
            except OSError:
                break
            readable, _, _ = select.select([client], [], [], 0.05)
            if readable:
                break
            assert time.monotonic() < ended_by, "every byte bought more time"
        client.setblocking(True)
        assert is_dropped(client)


def test_a_second_head_that_trickles_in_is_cut_off_too(tmp_path):
    with under_attack(tmp_path, Patience(head_s=0.3)) as site:
        connection = site.scraper()
        scrape(connection)
        connection.sock.sendall(b"GET /")
        assert is_dropped(connection.sock)


def test_a_body_that_never_ends_is_cut_off(tmp_path):
    with under_attack(tmp_path, Patience(head_s=1, answer_s=3)) as site:
        client = site.encrypted()
        client.sendall(b"POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 100)
        client.settimeout(DEADLINE_S)
        try:
            while True:
                client.sendall(b"x" * 10_000)
        except TimeoutError:
            pytest.fail("it was read for ever")
        except OSError:
            pass
        assert scrape(site.scraper()) < NOT_HELD_UP_S


# ------------------------------------------------------------------------------------------------------ what is too big


@pytest.mark.parametrize("size", [20_500, 65_536, 256 * 1024, 1 << 20])
@pytest.mark.parametrize("complete", [True, False])
def test_a_head_that_is_too_big_is_refused_however_it_comes(tmp_path, size, complete):
    with under_attack(tmp_path) as site:
        client = site.encrypted()
        head = REQUEST + b"X-Long: " + b"a" * size + (b"\r\n\r\n" if complete else b"")
        answer = b""
        try:
            client.sendall(head)
            answer = client.recv(100)
        except OSError:
            pass  # refused before it was sent whole
        assert b"200" not in answer
        assert answer[:10] in {b"", b"HTTP/1.1 4"}
        assert scrape(site.scraper()) < NOT_HELD_UP_S


def test_a_thousand_headers_and_odd_requests_do_no_harm(tmp_path):
    oddities = [
        b"\x00" * 300,
        b"\x16\x03\x01" * 100,
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
        b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /%ff%00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Basic \xff\xfe\r\n\r\n",
        (REQUEST + b"\r\n") * 200,
    ]
    with under_attack(tmp_path) as site:
        scrape(site.scraper())
        for oddity in oddities:
            client = site.encrypted()
            client.sendall(oddity)
        assert scrape(site.scraper()) < NOT_HELD_UP_S


# ------------------------------------------------------------------------------------------------------------ passwords


def test_a_storm_of_wrong_passwords_keeps_no_known_scraper_out(tmp_path):
    with under_attack(tmp_path) as site:
        known = site.scraper()
        scrape(known)
        done = threading.Event()
        statuses = set()

        def guess(number):
            connection = http.client.HTTPSConnection(*site.address, timeout=DEADLINE_S, context=CA.client_context())
            tries = 0
            while not done.is_set():
                guessed = base64.b64encode(f"prometheus:{number}-{tries}".encode()).decode()
                connection.request("GET", "/metrics", headers={"Authorization": f"Basic {guessed}"})
                response = connection.getresponse()
                response.read()
                statuses.add(response.status)
                tries += 1
            connection.close()

        guessers = [threading.Thread(target=guess, args=[number]) for number in range(12)]
        for guesser in guessers:
            guesser.start()
        took = [scrape(known) for _ in range(5)] + [scrape(site.scraper()) for _ in range(2)]
        done.set()
        for guesser in guessers:
            guesser.join()
        assert sorted(took)[len(took) // 2] < NOT_HELD_UP_S
        assert statuses <= {401, 429}
        assert 401 in statuses


def test_the_same_wrong_password_again_costs_no_check(tmp_path):
    with under_attack(tmp_path) as site:
        connection = site.scraper()
        wrong = "Basic " + base64.b64encode(b"prometheus:wrong").decode()
        began = time.monotonic()
        for _ in range(200):
            connection.request("GET", "/metrics", headers={"Authorization": wrong})
            response = connection.getresponse()
            response.read()
            assert response.status == 401
        assert time.monotonic() - began < 200 * 0.02, "a check at cost 10 takes 0.04 s and more"
