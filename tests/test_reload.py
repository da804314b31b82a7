"""A running exporter gets another configuration: a mistake changes nothing, and no line is counted twice or left out.

The real daemon in this process, on a CloudWatch over real HTTP (`tests/fakes`).
"""

import ctypes
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import bcrypt
import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.config import load_config
from exporter.daemon import Daemon
from exporter.ledger import LedgerError
from exporter.reloading import WebOptions
from tests.certificates import Authority
from tests.fakes import FakeCloudWatch

ROOT = Path(__file__).parent.parent
DEADLINE_S = 20
ORDERS, PAYMENTS = "access/orders", "access/payments"
EXECUTION = "API-Gateway-Execution-Logs_ab12cd34ef/prod"
CONFIG = """
poll_interval: 1s
state: {path: state.db}
labels: {zero_hold: 0s}
web: {listen_address: "127.0.0.1:0"}
accounts: [{name: default, calls_per_second: 25}]
"""
ORDERS_WATCH = "  - {name: orders, region: eu-west-1, api: {name: orders}, access_log: {group: access/orders}}\n"
PAYMENTS_WATCH = (
    "  - {name: payments, region: eu-west-1, api: {name: payments}, access_log: {group: access/payments}}\n"
)


def until(condition, deadline_s=DEADLINE_S):
    """Wait until `condition` holds; returns what it gave."""
    ends = time.monotonic() + deadline_s
    pause = threading.Event()
    while not (found := condition()):
        assert time.monotonic() < ends, "it never happened"
        pause.wait(0.03)
    return found


class Installation:
    """A directory with a configuration, a CloudWatch, and the daemon that reads both."""

    def __init__(self, directory, cloud):
        self.directory = directory
        self.cloud = cloud
        self.file = directory / "exporter.yaml"
        self._number = 0

    def configure(self, *watches, more=""):
        self.file.write_text(f"{CONFIG}{more}watches:\n{''.join(watches)}")

    def log(self, group, *statuses, ago_s=20):
        """Access lines of requests with these statuses."""
        now_ms = int(time.time() * 1000)
        lines = []
        for status in statuses:
            self._number += 1
            line = {
                "requestId": f"{self._number:08x}-1f6a-4c80-8d1a-000000000000",
                "httpMethod": "GET",
                "resourcePath": "/x",
                "status": str(status),
                "error.responseType": "INTEGRATION_TIMEOUT" if status == 504 else "-",
            }
            lines.append((now_ms - ago_s * 1000 + self._number, json.dumps(line)))
        self.cloud.put(group, lines)

    @contextmanager
    def running(self, **web):
        daemon = Daemon(
            load_config(str(self.file)),
            environ={},
            web=WebOptions(**web),
            load=lambda: load_config(str(self.file)),
        )
        daemon.start()
        try:
            yield Running(daemon)
        finally:
            daemon.ask_to_stop()
            daemon.stop()


class Running:
    def __init__(self, daemon):
        self.daemon = daemon
        self.reload = daemon.reload

    def ask(self, path, method="GET"):
        connection = http.client.HTTPConnection(*self.daemon.address, timeout=10)
        connection.request(method, path)
        response = connection.getresponse()
        response.body = response.read().decode()
        connection.close()
        return response

    def samples(self, name):
        families = text_string_to_metric_families(self.ask("/metrics").body)
        return [sample for family in families for sample in family.samples if sample.name == name]

    def value(self, name):
        return self.samples(f"aws_apigateway_exporter_{name}")[0].value

    def failures(self):
        """Counted failures by API."""
        counted = Counter()
        for sample in self.samples("aws_apigateway_failed_requests_total"):
            counted[sample.labels["api_name"]] += int(sample.value)
        return +counted

    def watches(self):
        return {sample.labels["watch"] for sample in self.samples("aws_apigateway_exporter_watch_up")}

    def polls(self, watch):
        return sum(
            sample.value
            for sample in self.samples("aws_apigateway_exporter_polls_total")
            if sample.labels["watch"] == watch and sample.labels["outcome"] == "ok"
        )


@pytest.fixture
def installation(tmp_path, monkeypatch):
    with FakeCloudWatch() as cloud:
        for name, value in environ(cloud).items():
            monkeypatch.setenv(name, value)
        for group in (ORDERS, PAYMENTS, EXECUTION):
            cloud.create_group(group)
        yield Installation(tmp_path, cloud)


def environ(cloud):
    return {
        "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": cloud.url,
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }


# -------------------------------------------------------------------------------------------------- what must not happen


def test_a_broken_rule_keeps_the_old_configuration_and_mending_it_adds_a_group_without_counting_twice(installation):
    installation.configure(ORDERS_WATCH)
    installation.log(ORDERS, 504, 504, 200, 500)
    installation.log(PAYMENTS, 504)
    with installation.running() as exporter:
        until(lambda: exporter.failures() == {"orders": 3})
        assert exporter.value("config_last_reload_successful") == 1

        (installation.directory / "rules.yaml").write_text("rules: [{name: broken}]\n")
        installation.configure(ORDERS_WATCH, PAYMENTS_WATCH, more="rules: [rules.yaml]\n")
        mistakes = exporter.reload()
        assert "rules.yaml" in mistakes
        assert exporter.value("config_last_reload_successful") == 0
        assert exporter.watches() == {"orders"}
        assert "payments" not in exporter.ask("/config").body
        installation.log(ORDERS, 504)
        until(lambda: exporter.failures() == {"orders": 4})

        before = exporter.value("config_last_reload_success_timestamp_seconds")
        installation.configure(ORDERS_WATCH, PAYMENTS_WATCH)
        assert exporter.reload() is None
        assert exporter.value("config_last_reload_successful") == 1
        assert exporter.value("config_last_reload_success_timestamp_seconds") > before
        until(lambda: exporter.failures() == {"orders": 4, "payments": 1})
        assert "payments" in exporter.ask("/config").body
        seen = exporter.polls("orders")
        until(lambda: exporter.polls("orders") >= seen + 2)
        assert exporter.failures() == {"orders": 4, "payments": 1}


def test_a_watch_that_did_not_change_keeps_its_memory(installation):
    installation.configure(ORDERS_WATCH)
    with installation.running() as exporter:
        until(lambda: exporter.polls("orders") >= 1)
        polls = exporter.polls("orders")
        installation.configure(ORDERS_WATCH, PAYMENTS_WATCH, more="initial_lookback: 15m\n")
        assert exporter.reload() is None
        until(lambda: exporter.polls("payments") >= 1)
        assert exporter.polls("orders") >= polls, "its metrics began anew: it was made anew"


def test_a_changed_watch_goes_on_from_its_checkpoint(installation):
    installation.configure(ORDERS_WATCH)
    installation.log(ORDERS, 504, 500, 404)
    with installation.running() as exporter:
        until(lambda: exporter.failures() == {"orders": 3})
        for longest in ("45s", "1m", "31s"):
            installation.configure(ORDERS_WATCH.replace("name: orders,", f"name: orders, max_request: {longest},", 1))
            assert exporter.reload() is None
        installation.log(ORDERS, 504)
        until(lambda: exporter.failures() == {"orders": 4})
        polled = exporter.polls("orders")
        until(lambda: exporter.polls("orders") >= polled + 2)
        assert exporter.failures() == {"orders": 4}


def test_a_watch_that_is_taken_away_is_read_no_more_and_forgets_nothing(installation):
    installation.configure(ORDERS_WATCH, PAYMENTS_WATCH)
    installation.log(PAYMENTS, 504)
    with installation.running() as exporter:
        until(lambda: exporter.failures() == {"payments": 1})
        installation.configure(ORDERS_WATCH)
        assert exporter.reload() is None
        until(lambda: exporter.watches() == {"orders"})
        installation.log(PAYMENTS, 504)
        reads = len(reads_of(installation.cloud, PAYMENTS))
        polled = exporter.polls("orders")
        until(lambda: exporter.polls("orders") >= polled + 2)
        assert len(reads_of(installation.cloud, PAYMENTS)) == reads
        assert exporter.failures() == {"payments": 1}

        installation.configure(ORDERS_WATCH, PAYMENTS_WATCH)
        assert exporter.reload() is None
        until(lambda: exporter.failures() == {"payments": 2})


def test_watches_that_come_to_share_a_group_become_one_and_count_nothing_twice(installation):
    installation.configure(ORDERS_WATCH, PAYMENTS_WATCH)
    installation.log(ORDERS, 504, 500)
    installation.log(PAYMENTS, 504)
    with installation.running() as exporter:
        until(lambda: exporter.failures() == {"orders": 2, "payments": 1})
        shared = f"execution_log: {{group: {EXECUTION}}}}}\n"
        both = [watch.replace("}}\n", "}, " + shared) for watch in (ORDERS_WATCH, PAYMENTS_WATCH)]
        installation.configure(*both)
        assert exporter.reload() is None
        until(lambda: exporter.watches() == {"orders+payments"})
        until(lambda: exporter.polls("orders+payments") >= 2)
        assert sum(exporter.failures().values()) == 3
        assert exporter.ask("/-/ready").status == 200


def test_the_exporter_stays_ready_while_a_new_watch_was_not_polled_yet(installation):
    installation.configure(ORDERS_WATCH)
    with installation.running() as exporter:
        until(lambda: exporter.ask("/-/ready").status == 200)
        installation.configure(ORDERS_WATCH, PAYMENTS_WATCH)
        assert exporter.reload() is None
        assert exporter.ask("/-/ready").status == 200


def test_own_rules_count_from_the_reload_on(installation):
    installation.configure(ORDERS_WATCH)
    installation.log(ORDERS, 504)
    rules = installation.directory / "rules.yaml"
    with installation.running() as exporter:
        until(lambda: exporter.failures() == {"orders": 1})
        rules.write_text(own_rules())
        installation.configure(ORDERS_WATCH, more="rules: [rules.yaml]\n")
        assert exporter.reload() is None
        installation.log(ORDERS, 504)
        until(lambda: exporter.failures() == {"orders": 2})
        causes = {s.labels["cause"]: s.value for s in exporter.samples("aws_apigateway_failed_requests_total")}
        assert causes == {"integration_timeout": 1, "our_timeout": 1}


def own_rules():
    """A rule in front of the shipped ones that takes every 504."""
    return """
causes:
  our_timeout: {category: integration, help: A timeout that we know of.}
rules:
  - name: our-timeout
    cause: our_timeout
    when: {status: 504}
"""


def reads_of(cloud, group):
    return [call for call in cloud.calls_of("FilterLogEvents") if call.parameters.get("logGroupName") == group]


# ------------------------------------------------------------------------------------------------ what needs a restart


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("state: {path: state.db}", "state: {path: other.db}", "state.path"),
        ('"127.0.0.1:0"', '"127.0.0.1:1"', "web.listen_address"),
        ("zero_hold: 0s", "zero_hold: 1m", "labels.zero_hold"),
        ("zero_hold: 0s", "zero_hold: 0s, max_series: 17", "labels.max_series"),
        ("poll_interval: 1s", 'poll_interval: 1s\ntraces: {endpoint: "http://x:4318"}', "traces.endpoint"),
    ],
)
def test_what_cannot_change_is_refused_by_name(installation, before, after, named):
    installation.configure(ORDERS_WATCH)
    with installation.running() as exporter:
        text = installation.file.read_text()
        installation.file.write_text(text.replace(before, after))
        assert exporter.reload() == f"configuration: {named}: cannot change while running; restart the exporter"
        assert exporter.value("config_last_reload_successful") == 0
        installation.file.write_text(text)
        assert exporter.reload() is None
        assert exporter.value("config_last_reload_successful") == 1


def test_a_second_exporter_on_the_same_state_is_refused(installation):
    installation.configure(ORDERS_WATCH)
    with installation.running(), pytest.raises(LedgerError):
        Daemon(load_config(str(installation.file)), environ={})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("watches: [", "not valid YAML"),
        ("poll_interval: 1s\n", "there is nothing to watch"),
        (f"{CONFIG}rules: [none.yaml]\nwatches:\n{ORDERS_WATCH}", "none.yaml: cannot be read: No such file"),
        (
            f"{CONFIG}watches:\n{ORDERS_WATCH.replace('access/orders}', 'access/orders, format: $context.nothing}')}",
            "cont",
        ),
        (
            CONFIG.replace("web: {", "web: {config_file: none.yml, ") + f"watches:\n{ORDERS_WATCH}",
            "none.yml: cannot be",
        ),
    ],
)
def test_any_mistake_keeps_the_old_configuration(installation, text, expected):
    installation.configure(ORDERS_WATCH)
    with installation.running() as exporter:
        shown = exporter.ask("/config").body
        installation.file.write_text(text)
        assert expected in exporter.reload()
        assert exporter.value("config_last_reload_successful") == 0
        assert exporter.ask("/config").body == shown


def test_many_reloads_at_once_follow_each_other(installation):
    installation.configure(ORDERS_WATCH)
    installation.log(ORDERS, 504, 504)
    with installation.running() as exporter:
        until(lambda: exporter.failures() == {"orders": 2})
        outcomes = []
        threads = [threading.Thread(target=lambda: outcomes.append(exporter.reload())) for _ in range(8)]
        for number, thread in enumerate(threads):
            installation.configure(ORDERS_WATCH, *([PAYMENTS_WATCH] if number % 2 else []))
            thread.start()
        for thread in threads:
            thread.join()
        installation.configure(ORDERS_WATCH, PAYMENTS_WATCH)
        exporter.reload()
        until(lambda: exporter.watches() == {"orders", "payments"})
        assert exporter.failures() == {"orders": 2}


# ------------------------------------------------------------------------------------------------------------ over HTTP


def test_reloading_over_http_must_be_enabled(installation):
    installation.configure(ORDERS_WATCH)
    with installation.running() as exporter:
        for method in ("POST", "PUT"):
            response = exporter.ask("/-/reload", method)
            assert response.status == 403
            assert "--web.enable-lifecycle" in response.body
        assert exporter.ask("/-/reload").status == 405
        assert exporter.ask("/-/quit", "POST").status == 404


def test_reloading_over_http(installation):
    installation.configure(ORDERS_WATCH)
    with installation.running(enable_lifecycle=True) as exporter:
        assert exporter.ask("/-/reload").status == 405
        installation.configure(ORDERS_WATCH, PAYMENTS_WATCH)
        assert exporter.ask("/-/reload", "POST").status == 200
        until(lambda: exporter.watches() == {"orders", "payments"})
        installation.file.write_text("poll: 1\n")
        response = exporter.ask("/-/reload", "PUT")
        assert response.status == 500
        assert "exporter.yaml:1: poll: unknown key" in response.body


def test_the_configuration_in_force_is_shown_without_its_secrets(installation):
    installation.configure(
        ORDERS_WATCH, more='traces: {endpoint: "http://user:hemlig@127.0.0.1:9", headers: {x-key: hemlig}}\n'
    )
    with installation.running() as exporter:
        response = exporter.ask("/config")
        assert response.headers["Content-Type"].startswith("text/plain")
        assert "name: orders" in response.body
        assert "hemlig" not in response.body
        assert "x-key: '**********'" in response.body


def test_the_web_configuration_is_part_of_a_reload(installation):
    Authority().issue("localhost").write(installation.directory, "server")
    web = installation.directory / "web.yml"
    web.write_text("")
    installation.configure(ORDERS_WATCH)
    with installation.running(config_file=str(web)) as exporter:
        assert exporter.ask("/config").status == 200
        web.write_text("tls_server_config: {cert_file: server.crt, key_file: server.key}\n")
        assert "TLS cannot be switched on or off while running" in exporter.reload()
        web.write_text(f"basic_auth_users: {{a: '{bcrypt.hashpw(b'x', bcrypt.gensalt(4)).decode()}'}}\n")
        assert exporter.reload() is None
        assert exporter.ask("/config").status == 401


# ------------------------------------------------------------------------------------------------------------- SIGHUP


@pytest.mark.process
def test_a_hangup_reloads_the_real_process_and_a_second_one_is_survived(installation):
    installation.configure(ORDERS_WATCH)
    installation.log(ORDERS, 504)
    with subprocess.Popen(
        [sys.executable, "-m", "exporter", "run", "--config.file", str(installation.file)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environ(installation.cloud)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        lines = iter(process.stderr)
        overdue = threading.Timer(DEADLINE_S, process.kill)  # ends the lines, and with them whoever waits for one
        overdue.start()
        try:
            started = next(line for line in lines if "event=started" in line)
            address = re.search(r"address=127\.0\.0\.1:(\d+)", started)
            assert address
            process.send_signal(signal.SIGHUP)
            assert next(line for line in lines if "configuration reloaded" in line)
            installation.file.write_text("nonsense: 1\n")
            process.send_signal(signal.SIGHUP)
            assert "nonsense" in next(line for line in lines if "configuration not reloaded" in line)
            # One that another thread receives, as one that comes just before the main thread falls asleep, wakes nobody.
            installation.configure(ORDERS_WATCH)
            tasks = [int(task.name) for task in Path(f"/proc/{process.pid}/task").iterdir()]
            other = next(tid for tid in tasks if tid != process.pid)
            assert ctypes.CDLL(None).tgkill(process.pid, other, int(signal.SIGHUP)) == 0
            assert next(line for line in lines if "configuration reloaded" in line)
            process.terminate()
            assert process.wait(timeout=DEADLINE_S) == 0
        finally:
            overdue.cancel()
            process.kill()


# ------------------------------------------------------------------------------------------------- whose a log group is

SOURCE = "111122223333"
EXECUTION_ARN = f"arn:aws:logs:eu-west-1:{SOURCE}:log-group:{EXECUTION}"


def known_as(account):
    return CONFIG.replace("name: default,", account)


def by_arn(watch):
    return watch.replace(f"group: {ORDERS}", f'group: "arn:aws:logs:eu-west-1:{SOURCE}:log-group:{ORDERS}:*"')


def link(cloud, group):
    """Let a monitoring account see a group of the source account: the same events, by another way."""
    cloud.reader.linked.add(SOURCE)
    cloud.world.groups[f"arn:aws:logs:eu-west-1:{SOURCE}:log-group:{group}"] = cloud.world.groups[group]


@pytest.mark.parametrize("says_its_id", [True, False], ids=["its id was known", "its id is said first"])
def test_an_account_that_is_read_through_another_one_from_now_on_counts_nothing_twice(installation, says_its_id):
    """From its own credentials to a monitoring account, and back."""
    cloud, file = installation.cloud, installation.file
    own = known_as(f'name: own, account_id: "{SOURCE}",')
    file.write_text(f"{own if says_its_id else known_as('name: own,')}watches:\n{ORDERS_WATCH}")
    installation.log(ORDERS, 504, 500)
    with installation.running() as exporter:
        until(lambda: exporter.failures() == {"orders": 2})
        for number, text in enumerate(
            (
                f"{own}watches:\n{ORDERS_WATCH}",
                f"{known_as('name: hub,')}watches:\n{by_arn(ORDERS_WATCH)}",
                f"{own}watches:\n{ORDERS_WATCH}",
            )
        ):
            file.write_text(text)
            assert exporter.reload() is None
            installation.log(ORDERS, 504)
            link(cloud, ORDERS)
            until(lambda: exporter.failures()["orders"] >= 3 + number)  # noqa: B023 it is over within the turn
            polled = exporter.polls("orders")
            until(lambda: exporter.polls("orders") >= polled + 2)  # noqa: B023
            assert exporter.failures() == {"orders": 3 + number}
    asked = [call.parameters for call in cloud.calls_of("FilterLogEvents")]
    assert any("logGroupIdentifier" in parameters for parameters in asked)


def test_what_is_linked_comes_and_goes_without_a_restart_and_counts_once(installation, monkeypatch):
    """Discovery of linked accounts: found by name, counted for the source account, let go, taken up again."""
    cloud, file = installation.cloud, installation.file
    for service in ("API_GATEWAY", "APIGATEWAYV2"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", cloud.url)  # where there is no API
    more = 'discover: {websocket: false, linked_accounts: {access_logs: [{group: "access/{api_id}"}]}'
    group = "access/ab12cd34ef"
    key = f"arn:aws:logs:eu-west-1:{SOURCE}:log-group:{group}"
    cloud.create_group(key)
    hub = known_as("name: hub, regions: [eu-west-1],")

    def look_again(refresh):
        file.write_text(f"{hub}{more}, refresh: {refresh}}}\n")
        assert exporter.reload() is None

    file.write_text(f"{hub}{more}}}\n")
    installation.log(key, 504, 500)
    with installation.running() as exporter:
        until(lambda: exporter.ask("/-/ready").status == 200)
        assert exporter.watches() == set()
        cloud.reader.linked.add(SOURCE)
        look_again("9m")
        until(lambda: exporter.failures() == {"ab12cd34ef": 2})
        (info,) = exporter.samples("aws_apigateway_stage_info")
        assert (info.labels["account_id"], info.labels["access_log_group"]) == (SOURCE, group)

        cloud.reader.linked.clear()
        look_again("8m")
        until(lambda: exporter.watches() == set())
        assert exporter.failures() == {"ab12cd34ef": 2}

        installation.log(key, 504)
        cloud.reader.linked.add(SOURCE)
        look_again("7m")
        until(lambda: exporter.failures() == {"ab12cd34ef": 3})
        polled = exporter.polls("ab12cd34ef-unknown")
        until(lambda: exporter.polls("ab12cd34ef-unknown") >= polled + 2)
        assert exporter.failures() == {"ab12cd34ef": 3}
