"""From a counter to the pager: the shipped rules in real Prometheus servers, the shipped routes in a real Alertmanager.

Two Prometheus servers scrape at different intervals, as two replicas or a central and a local one do. Every duration of
the rules is a fiftieth of the shipped one, so that an evening passes in seconds; the expressions are the shipped ones.
"""

import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from exporter.ledger.sqlite import SqliteLedger
from exporter.metrics import StageInfo, stage_failures
from exporter.metrics.self_metrics import SelfMetrics
from exporter.metrics.totals import Totals
from exporter.model import Api, Commit
from exporter.rules import shipped_rules
from exporter.web import WebServer, build_app

pytestmark = [pytest.mark.process, pytest.mark.servers]

CONFIG = Path(__file__).parent.parent / "config" / "prometheus"
FASTER = 50
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
SCRAPE_INTERVALS = {"fast": "300ms", "slow": "1200ms"}
DEADLINE_S = 30
TIMEOUT = ("integration_timeout", "integration")


def program(*names: str, package: str) -> str:
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        pytest.fail(f"{names[0]} is not installed: apt-get install --no-install-recommends {package}")
    return found


def wait_for(what, happened, deadline_s=DEADLINE_S):
    """Ask until it happened; what it returned."""
    deadline = time.monotonic() + deadline_s
    pause = threading.Event()
    while not (result := happened()):
        assert time.monotonic() < deadline, f"did not happen within {deadline_s} s: {what}"
        pause.wait(0.05)
    return result


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


# ---------------------------------------------------------------------------------------------------------- the evening


def shrunk(duration: str) -> str:
    return f"{int(duration[:-1]) * SECONDS[duration[-1]] * 1000 // FASTER}ms"


def sped_up(rules: str) -> str:
    """A rules file in which every duration is shorter, and nothing else is different."""
    document = yaml.safe_load(rules)
    for group in document["groups"]:
        group["interval"] = shrunk(group["interval"])
        for rule in group["rules"]:
            expression = re.sub(r"(?<=\[)\d+[smhd](?=\])|(?<=offset )\d+[smhd]\b", lambda m: shrunk(m[0]), rule["expr"])
            rule["expr"] = re.sub(r"(?<=seconds \+ )60\b", str(60 / FASTER), expression)
            for field in {"for", "keep_firing_for"} & rule.keys():
                rule[field] = shrunk(rule[field])
    return yaml.safe_dump(document)


class Exporter:
    """The exporter as scrapers see it: the real ledger, totals and web server; what it counts is told by the test."""

    def __init__(self, state: Path, ports: tuple[int, int]) -> None:
        self._state = state
        self._ports = ports
        self._apis: list[Api] = []
        self._server: WebServer | None = None

    def start(self, *, moved: bool = False) -> None:
        """Begin a process on the same state, at its address or (a pod rescheduled) at another."""
        self._ledger = SqliteLedger(self._state)
        self._totals = Totals(zero_hold_ms=120_000, max_series=20_000, now_ms=lambda: int(time.monotonic() * 1000))
        self._totals.load(self._ledger.series())
        own = SelfMetrics(version="test", now_ms=lambda: int(time.time() * 1000))
        own.add_watch("orders", ["access/orders"])
        own.last_success.labels("orders").set_function(time.time)
        own.effective_poll_interval.labels("orders").set(20 / FASTER)
        self._totals.set_stages([StageInfo(api=api, access_log_group="access/orders") for api in self._apis])
        app = build_app(
            product=self._totals,
            own=own,
            alive=lambda: True,
            not_ready=list,
            watches=list,
            config=str,
            reload=None,
            version="test",
        )
        self._server = WebServer(app, f"127.0.0.1:{self._ports[moved]}")
        self._server.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._ledger.close()
            self._server = None

    def learn(self, api: Api) -> None:
        """A stage becomes known: every cause of it is seeded at 0."""
        self._apis.append(api)
        causes = shipped_rules().causes.values()
        self._commit(born=frozenset(stage_failures(api, cause.name, cause.category) for cause in causes))
        self._totals.set_stages([StageInfo(api=known, access_log_group="access/orders") for known in self._apis])

    def count(self, api: Api) -> None:
        """One timeout."""
        self._commit(increments={stage_failures(api, *TIMEOUT): 1})

    def _commit(self, *, increments=None, born=frozenset()) -> None:
        commit = Commit(
            progress={},
            tallies={},
            tombstones={},
            increments=increments or {},
            born=born,
            at_ms=int(time.time() * 1000),
        )
        self._ledger.commit(commit)
        self._totals.apply(commit)


class Pager:
    """A webhook receiver: every notification of Alertmanager, as it came."""

    def __init__(self) -> None:
        self.notified: list[dict] = []
        pager = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                pager.notified.extend(body["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def got(self, api: Api, status: str) -> dict[str, dict]:
        """Notifications about a stage's timeouts, by the Prometheus they come from."""
        return {
            alert["labels"]["prometheus"]: alert
            for alert in list(self.notified)
            if alert["status"] == status
            and alert["labels"]["alertname"] == "ApiGatewayIntegrationTimeouts"
            and alert["labels"]["api_id"] == api.id
        }

    def names(self) -> set[str]:
        return {alert["labels"]["alertname"] for alert in list(self.notified) if alert["status"] == "firing"}


class Evening:
    """Everything that runs, and questions to it."""

    def __init__(self, exporter: Exporter, pager: Pager, prometheus: dict[str, int]) -> None:
        self.exporter = exporter
        self.pager = pager
        self._prometheus = prometheus

    def ask(self, name: str, query: str) -> list[dict]:
        url = f"http://127.0.0.1:{self._prometheus[name]}/api/v1/query?query={urllib.parse.quote(query)}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return json.load(answer)["data"]["result"]
        except OSError:
            return []  # not started yet

    def everybody_sees(self, query: str) -> None:
        for name in self._prometheus:
            wait_for(f"{name}: {query}", lambda name=name: self.ask(name, query))

    def know(self, api_id: str) -> Api:
        """A stage that both servers have seen and recorded at 0."""
        api = Api(id=api_id, name=f"api-{api_id}", stage="prod")
        self.exporter.learn(api)
        # Recorded: the alert compares what the recording rule saw, and rules wait their turn on a busy machine.
        self.everybody_sees(
            f'stage_cause:aws_apigateway_stage_failures:max{{api_id="{api_id}",cause="{TIMEOUT[0]}"}} == 0'
        )
        return api

    def both_page(self, api: Api, status: str = "firing") -> dict[str, dict]:
        return wait_for(
            f"both pages about {api.name} are {status}",
            lambda: (got := self.pager.got(api, status)).keys() == self._prometheus.keys() and got,
        )


@contextmanager
def running(directory: Path, name: str, *arguments: str):
    with (directory / f"{name}.log").open("w") as log:
        process = subprocess.Popen(arguments, cwd=directory, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield
            assert process.poll() is None, (directory / f"{name}.log").read_text()[-2_000:]
        finally:
            process.terminate()
            process.wait(10)


def alertmanager_config(pager: Pager) -> str:
    """The shipped one, with every receiver at the test's pager and no waiting."""
    document = yaml.safe_load((CONFIG / "alertmanager.yml").read_text())
    webhook = {"url": pager.url, "send_resolved": True}
    document["receivers"] = [
        {"name": receiver["name"], "webhook_configs": [webhook]} for receiver in document["receivers"]
    ]
    document["route"] |= {"group_wait": "0s", "group_interval": "300ms"}
    for route in document["route"]["routes"]:
        route |= {"group_wait": "0s", "group_interval": "300ms"}
    return yaml.safe_dump(document)


def prometheus_config(name: str, exporter_ports: tuple[int, int], alertmanager_port: int) -> str:
    exporters = [f"127.0.0.1:{port}" for port in exporter_ports]
    return yaml.safe_dump(
        {
            "global": {"scrape_interval": SCRAPE_INTERVALS[name], "scrape_timeout": SCRAPE_INTERVALS[name]}
            | {"external_labels": {"prometheus": name, "grafana_url": "https://grafana.test"}},
            "rule_files": ["alerts.yml", "recording-rules.yml"],
            "scrape_configs": [{"job_name": "apigateway-exporter", "static_configs": [{"targets": exporters}]}],
            "alerting": {
                "alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager_port}"]}]}],
            },
        }
    )


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    prometheus = program("prometheus", package="prometheus")
    alertmanager = program("prometheus-alertmanager", "alertmanager", package="prometheus-alertmanager")
    directory = tmp_path_factory.mktemp("pager")
    exporter_ports = (free_port(), free_port())
    alertmanager_port = free_port()
    ports = {name: free_port() for name in SCRAPE_INTERVALS}
    pager = Pager()
    exporter = Exporter(directory / "state.db", exporter_ports)
    for file in ("alerts.yml", "recording-rules.yml"):
        (directory / file).write_text(sped_up((CONFIG / file).read_text()))
    (directory / "alertmanager.yml").write_text(alertmanager_config(pager))
    with ExitStack() as stack:
        stack.callback(pager.close)
        stack.callback(exporter.stop)
        listen = f"--web.listen-address=127.0.0.1:{alertmanager_port}"
        flags = ("--config.file=alertmanager.yml", "--storage.path=alertmanager", "--cluster.listen-address=", listen)
        stack.enter_context(running(directory, "alertmanager", alertmanager, *flags))
        for name, port in ports.items():
            text = prometheus_config(name, exporter_ports, alertmanager_port)
            (directory / f"{name}.yml").write_text(text)
            listen = f"--web.listen-address=127.0.0.1:{port}"
            flags = (f"--config.file={name}.yml", f"--storage.tsdb.path={name}", listen)
            stack.enter_context(running(directory, name, prometheus, *flags))
        yield Evening(exporter, pager, ports)


@pytest.fixture
def evening(servers):
    """The servers with the exporter running at its own address, whatever the story before did to it."""
    servers.exporter.start()
    yield servers
    servers.exporter.stop()


# -------------------------------------------------------------------------------------------------------------- stories


def test_the_first_timeout_ever_on_a_stage_pages(evening):
    api = evening.know("first")
    evening.exporter.count(api)
    for alert in evening.both_page(api).values():
        assert {"stage": "prod", "severity": "critical", "cause": TIMEOUT[0], "category": TIMEOUT[1]}.items() <= alert[
            "labels"
        ].items()
        notes = alert["annotations"]
        assert notes["description"].startswith("1 requests to api-first, stage prod, ")
        assert notes["find_command"] == (
            "apigateway-exporter find --api 'first' --stage 'prod' --cause integration_timeout --since 30m"
        )
        assert notes["dashboard_url"].startswith("https://grafana.test/d/apigateway-exporter?var-api_name=api-first&")
        assert "<error" not in str(notes)


def test_a_timeout_counted_right_before_a_restart_pages(evening):
    api = evening.know("before")
    evening.exporter.count(api)
    evening.exporter.stop()
    evening.exporter.start()
    evening.both_page(api)


def test_a_timeout_counted_right_after_a_restart_pages(evening):
    api = evening.know("after")
    evening.exporter.stop()
    evening.exporter.start()
    evening.exporter.count(api)
    evening.both_page(api)


def test_a_timeout_counted_while_the_exporter_moves_to_another_address_pages(evening):
    api = evening.know("moved")
    evening.exporter.stop()
    evening.exporter.start(moved=True)
    evening.exporter.count(api)
    evening.both_page(api)


def test_while_the_exporter_cannot_be_scraped_nothing_resolves(evening):
    api = evening.know("silence")
    evening.exporter.count(api)
    evening.both_page(api)
    evening.exporter.stop()
    # Longer than what the alert looks back and is kept for anyway has passed without an increase.
    increase = f'stage_cause:aws_apigateway_stage_failures:increase5m{{api_id="silence",cause="{TIMEOUT[0]}"}}'
    evening.everybody_sees(f"max_over_time({increase}[{shrunk('8m')}]) == 0")
    wait_for("somebody is told that the exporter is down", lambda: "ApiGatewayExporterDown" in evening.pager.names())
    evening.everybody_sees('ALERTS{alertname="ApiGatewayIntegrationTimeouts",alertstate="firing",api_id="silence"}')
    assert not evening.pager.got(api, "resolved")
    evening.exporter.start()
    evening.both_page(api, "resolved")
