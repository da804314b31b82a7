"""The web face over real HTTP on loopback."""

import gzip
import http.client
import re
import socket
import threading
import zlib
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.metrics import requests
from exporter.metrics.self_metrics import SelfMetrics
from exporter.metrics.totals import Totals
from exporter.model import Api, Commit
from exporter.web import (
    NotReady,
    WatchStatus,
    WebServer,
    accepts_gzip,
    build_app,
    gzipped,
    parse_listen_address,
    wants_openmetrics,
)

PROMETHEUS_ACCEPTS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
API = Api(id="ab12cd34ef", name="orders", stage="prod")


def totals_of(series):
    totals = Totals(zero_hold_ms=0, max_series=20_000, now_ms=lambda: 0)
    counted = {requests(API, "GET", f"/{number}", 200): 1 for number in range(series)}
    totals.apply(Commit(progress={}, tallies={}, tombstones={}, increments=counted, at_ms=1_700_000_000_000))
    return totals


class Slow:
    """Metrics whose rendering takes until it is told to go on."""

    def __init__(self):
        self.began = threading.Event()
        self.may_end = threading.Event()
        self.was_told = False

    def render(self, *, openmetrics):
        self.began.set()
        self.was_told = self.may_end.wait(5)
        return b""


class Broken:
    def render(self, *, openmetrics):
        raise OSError("arn:aws:iam::123456789012:role/secret")


@contextmanager
def serving(**changes):
    parts = {
        "product": totals_of(10),
        "own": SelfMetrics(version="1.2.3", now_ms=lambda: 0),
        "alive": lambda: True,
        "not_ready": list,
        "watches": list,
        "config": lambda: "poll_interval: 20s\n",
        "reload": None,
        "version": "1.2.3",
    }
    server = WebServer(build_app(**(parts | changes)), "127.0.0.1:0")
    server.start()
    try:
        yield server.address
    finally:
        server.stop()
        assert not server.is_alive


def get(address, path, headers=None, method="GET"):
    connection = http.client.HTTPConnection(*address, timeout=10)
    connection.request(method, path, headers=headers or {})
    response = connection.getresponse()
    response.body = response.read()
    connection.close()
    return response


@pytest.fixture(scope="module")
def address():
    with serving() as bound:
        yield bound


# -------------------------------------------------------------------------------------------------------------- scrapes


def test_a_plain_scrape_is_the_text_format(address):
    response = get(address, "/metrics")
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert response.headers["Content-Encoding"] is None
    names = {family.name for family in parse_text(response.body.decode())}
    assert {"aws_apigateway_requests", "aws_apigateway_exporter_build_info", "process_cpu_seconds"} <= names
    assert b"# EOF" not in response.body


def test_prometheus_gets_openmetrics(address):
    response = get(address, "/metrics", {"Accept": PROMETHEUS_ACCEPTS})
    assert response.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    names = [family.name for family in parse_openmetrics(response.body.decode())]
    assert len(names) == len(set(names))
    assert "aws_apigateway_requests" in names


@pytest.mark.parametrize("accept", ["", PROMETHEUS_ACCEPTS])
def test_gzip_holds_the_same(address, accept):
    response = get(address, "/metrics", {"Accept-Encoding": "gzip", "Accept": accept})
    assert response.headers["Content-Encoding"] == "gzip"
    assert int(response.headers["Content-Length"]) == len(response.body)
    text = gzip.decompress(response.body).decode()
    families = {f.name: f for f in (parse_openmetrics if accept else parse_text)(text)}
    assert sum(s.value for s in families["aws_apigateway_requests"].samples if s.name.endswith("_total")) == 10


def test_a_name_filter_is_refused_clearly(address):
    response = get(address, "/metrics?name[]=up")
    assert response.status == 400
    assert b"name[] is not supported" in response.body


def test_head_says_what_get_would_without_a_body(address):
    response = get(address, "/metrics", method="HEAD")
    assert response.status == 200
    assert int(response.headers["Content-Length"]) > 0
    assert response.body == b""


def test_the_path_of_metrics_can_be_chosen():
    with serving(telemetry_path="/telemetry") as bound:
        assert get(bound, "/telemetry").status == 200
        assert get(bound, "/metrics").status == 404
        assert b'href="/telemetry"' in get(bound, "/").body
    with serving(telemetry_path="/") as bound:
        assert b"# TYPE" in get(bound, "/").body


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (PROMETHEUS_ACCEPTS, True),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text; version=1.0.0", True),
        ("Application/OpenMetrics-Text;version=1.0.0;q=0.1,*/*;q=0.05", True),
        ("application/openmetrics-text;version=2.0.0,application/openmetrics-text;version=1.0.0", True),
        ("application/openmetrics-text;version=2.0.0,text/plain;version=0.0.4", False),
        ("application/openmetrics-text;version=0.0.1,text/plain;version=0.0.4;q=0.5", False),
        ("text/plain;version=0.0.4;q=0.9,application/openmetrics-text;version=1.0.0;q=0.5", False),
        ("application/openmetrics-text;version=1.0.0;q=0", False),
        ("application/openmetrics-text;version=abc", False),
        ("application/openmetrics-text;version=", False),
        ("application/openmetrics-text;version=1.0.0;q=nan", False),
        ("application/openmetrics-text;version=1.0.0;q=lots", False),
        ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited", False),
        ("text/html,*/*", False),
        ("", False),
        (";;;,,,=,;=", False),
    ],
)
def test_the_format_that_a_scraper_prefers(accept, expected):
    assert wants_openmetrics(accept) is expected


@given(st.text())
def test_no_header_breaks_the_negotiation(text):
    assert wants_openmetrics(text) in (True, False)
    assert accepts_gzip(text) in (True, False)


@pytest.mark.parametrize(
    ("accept_encoding", "expected"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("", False),
        ("br", False),
        ("gzip;q=x", False),
    ],
)
def test_gzip_is_used_if_accepted(accept_encoding, expected):
    assert accepts_gzip(accept_encoding) is expected


@given(head=st.binary(max_size=5000), tail=st.binary(max_size=5000))
def test_two_parts_become_one_gzip_member(head, tail):
    for _ in range(2):
        packed = b"".join(gzipped(head, tail))
        assert gzip.decompress(packed) == head + tail
        decompressor = zlib.decompressobj(31)
        assert decompressor.decompress(packed) == head + tail
        assert decompressor.eof
        assert decompressor.unused_data == b""


# ------------------------------------------------------------------------------------------------------- health, landing


def test_healthy_while_alive():
    alive = [True]
    with serving(alive=lambda: alive[0]) as bound:
        assert get(bound, "/-/healthy").status == 200
        alive[0] = False
        assert get(bound, "/-/healthy").status == 503


def test_ready_names_what_is_missing_and_why():
    missing = [NotReady("orders-prod", "group access/orders: denied\nsecond line"), NotReady("ledger", "not open")]
    with serving(not_ready=lambda: missing) as bound:
        response = get(bound, "/-/ready")
        assert response.status == 503
        assert response.headers["Content-Type"].startswith("text/plain")
        assert response.body == b"orders-prod: group access/orders: denied second line\nledger: not open\n"
        missing.clear()
        assert get(bound, "/-/ready").status == 200


def test_ready_names_what_is_not_read_in_full_while_the_others_run():
    troubles = [NotReady("carts-prod", "API-Gateway-Execution-Logs_x/prod: denied")]
    with serving(troubles=lambda: troubles) as bound:
        response = get(bound, "/-/ready")
    assert response.status == 200
    assert response.body == b"Ready.\ncarts-prod: API-Gateway-Execution-Logs_x/prod: denied\n"


def test_the_landing_page_shows_watches_escaped_and_needs_nothing_else():
    watches = [WatchStatus("<script>alert(1)</script>", "up & running", 'since "now"')]
    with serving(watches=lambda: watches, version="1.2.3<") as bound:
        response = get(bound, "/")
    page = response.body.decode()
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page
    assert "up &amp; running" in page
    assert "1.2.3&lt;" in page
    assert {"/metrics", "/config", "/-/healthy", "/-/ready"} == set(re.findall(r'href="([^"]*)"', page))
    assert "src=" not in page


@pytest.mark.parametrize("path", ["/nothing", "/metrics/", "/-/", "/../etc/passwd", "/-/quit"])
def test_an_unknown_path_is_a_plain_404(address, path):
    response = get(address, path)
    assert response.status == 404
    assert response.headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize("path", ["/metrics", "/-/healthy", "/-/ready", "/"])
def test_nothing_can_be_posted(address, path):
    response = get(address, path, method="POST")
    assert response.status == 405
    assert "GET" in response.headers["Allow"]


@pytest.mark.parametrize("path", ["/metrics", "/-/healthy", "/-/ready", "/", "/nothing"])
def test_every_answer_forbids_what_browsers_might_do_with_it(address, path):
    headers = get(address, path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert headers["Server"] is None


def test_a_mistake_of_ours_tells_the_client_nothing():
    with serving(product=Broken()) as bound:
        response = get(bound, "/metrics")
        assert response.status == 500
        assert b"secret" not in response.body
        assert get(bound, "/-/healthy").status == 200


# ------------------------------------------------------------------------------------------------------- hostile clients


def test_idle_connections_and_slow_readers_keep_no_scrape_out():
    with serving(product=totals_of(10_000)) as bound:
        idle = [socket.create_connection(bound) for _ in range(50)]
        half = socket.create_connection(bound)
        half.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")
        slow = [socket.create_connection(bound) for _ in range(10)]
        for client in slow:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(3):
            response = get(bound, "/metrics")
            assert response.status == 200
            assert response.body.count(b"aws_apigateway_requests_total{") == 10_000
        for client in [*idle, half, *slow]:
            client.close()


def test_rendering_keeps_no_other_request_waiting():
    slow = Slow()
    with serving(product=slow) as bound:
        scrape = threading.Thread(target=get, args=[bound, "/metrics"])
        scrape.start()
        assert slow.began.wait(10)
        assert get(bound, "/-/healthy").status == 200
        slow.may_end.set()
        scrape.join()
    assert slow.was_told


def test_a_header_that_does_not_end_is_refused(address):
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 20_000)
        answer = client.recv(100)
    assert re.match(rb"HTTP/1\.1 4\d\d ", answer)
    assert get(address, "/-/healthy").status == 200


def test_one_connection_serves_many_scrapes(address):
    connection = http.client.HTTPConnection(*address, timeout=10)
    connection.connect()
    port = connection.sock.getsockname()
    for _ in range(3):
        connection.request("GET", "/metrics")
        assert connection.getresponse().read()
        assert connection.sock.getsockname() == port
    connection.close()


# ------------------------------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.0.0.0:10610", ("0.0.0.0", 10610)),
        ("localhost:0", ("localhost", 0)),
        (":10610", ("", 10610)),
        ("[::1]:10610", ("::1", 10610)),
        ("[::]:65535", ("::", 65535)),
    ],
)
def test_listen_addresses(text, expected):
    assert parse_listen_address(text) == expected


@pytest.mark.parametrize(
    "text", ["", "10610", "host", "host:", "host:x", "host:-1", "host:65536", "::1", "::1:10610", "a:٣"]
)
def test_what_is_no_listen_address_is_refused(text):
    with pytest.raises(ValueError, match="not a listen address"):
        parse_listen_address(text)


def test_every_address_is_listened_on_by_default():
    server = WebServer(build_app_of_nothing(), ":0")
    server.start()
    assert get(("127.0.0.1", server.address[1]), "/-/healthy").status == 200
    server.stop()


def build_app_of_nothing():
    return build_app(
        product=totals_of(0),
        own=SelfMetrics(version="1", now_ms=lambda: 0),
        alive=lambda: True,
        not_ready=list,
        watches=list,
        config=str,
        reload=None,
        version="1",
    )


def test_a_taken_port_is_told_at_once():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = WebServer(build_app_of_nothing(), f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(OSError, match="in use"):
            server.start()
    server.stop()


def test_a_stopped_server_leaves_its_port():
    with serving() as bound:
        assert get(bound, "/-/healthy").status == 200
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(bound)
    again = WebServer(build_app_of_nothing(), f"{bound[0]}:{bound[1]}")
    again.start()
    again.stop()
