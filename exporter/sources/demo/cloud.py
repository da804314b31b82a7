"""The demo's cloud: moto's CloudWatch Logs inside this process, with log groups that fill up by themselves.

It stands in for an AWS account and nothing else: the daemon reads it over HTTP with boto3, as it reads the real one.
It needs the `demo` extra (moto), keeps everything in memory, and listens on the loopback interface only.
"""

import hashlib
import heapq
import itertools
import logging
import os
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

import boto3
import structlog
import yaml
from botocore.config import Config

from exporter.sources.demo.stages import REGION, STAGES
from exporter.sources.demo.traffic import Batch, ScriptedRequest, traffic

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_logs.type_defs import InputLogEventTypeDef

BACKLOG_MS = 5 * 60_000
"""How much traffic has already happened when the demo starts: enough for everything in it to be settled at once."""
KEPT_MS = 15 * 60_000
"""How long lines stay: moto looks at every line it holds on every read."""
STREAM_MS = 3 * 60_000
STEP_SECONDS = 0.5
LINES_PER_PUT = 5_000
PREFERRED_ADDRESS = ("127.0.0.1", 10610)

_ANY_CREDENTIAL = "demo"  # moto asks for none and boto3 wants some

log = structlog.get_logger()


class DemoUnavailable(Exception):
    """The demo cannot run here; the message says what to install."""


class TrafficWriter:
    """Puts scripted requests into CloudWatch Logs when their time has come, and takes old streams away."""

    def __init__(self, client: "CloudWatchLogsClient", requests: Iterator[ScriptedRequest]) -> None:
        self._client = client
        self._requests = requests
        self._next = next(requests)
        self._order = itertools.count()
        self._waiting: list[tuple[int, int, Batch]] = []
        self._streams: deque[tuple[int, str, str]] = deque()

    def create_groups(self) -> None:
        """Create the log groups of every stage, empty."""
        for group in _groups():
            self._client.create_log_group(logGroupName=group)

    def delete_groups(self) -> None:
        """Take everything away again: moto's memory is the process's, not the server's."""
        for group in _groups():
            self._client.delete_log_group(logGroupName=group)

    def step(self, now_ms: int) -> int:
        """Write every batch that is due at `now_ms`; returns the number of lines written."""
        while self._next.request.arrived_at_ms <= now_ms:
            for batch in self._next.batches:
                heapq.heappush(self._waiting, (batch.due_at_ms, next(self._order), batch))
            self._next = next(self._requests)
        due: dict[str, list[InputLogEventTypeDef]] = {}
        while self._waiting and self._waiting[0][0] <= now_ms:
            batch = heapq.heappop(self._waiting)[2]
            due.setdefault(batch.group, []).extend({"timestamp": at_ms, "message": text} for at_ms, text in batch.lines)
        for group, events in due.items():
            # PutLogEvents wants them in order of time; lines of a request stay in theirs.
            events.sort(key=lambda event: event["timestamp"])
            for first in range(0, len(events), LINES_PER_PUT):
                self._client.put_log_events(
                    logGroupName=group,
                    logStreamName=self._stream(group, now_ms),
                    logEvents=events[first : first + LINES_PER_PUT],
                )
        self._drop_old_streams(now_ms)
        return sum(map(len, due.values()))

    def _stream(self, group: str, now_ms: int) -> str:
        """The stream that takes lines now: its name, 32 hex digits, carries no time."""
        began_at_ms = now_ms - now_ms % STREAM_MS
        name = hashlib.md5(f"{group} {began_at_ms}".encode(), usedforsecurity=False).hexdigest()
        if (began_at_ms, group, name) not in self._streams:
            self._client.create_log_stream(logGroupName=group, logStreamName=name)
            self._streams.append((began_at_ms, group, name))
        return name

    def _drop_old_streams(self, now_ms: int) -> None:
        while self._streams and self._streams[0][0] + STREAM_MS + KEPT_MS <= now_ms:
            _, group, name = self._streams.popleft()
            self._client.delete_log_stream(logGroupName=group, logStreamName=name)


class DemoCloud:
    """A running cloud, as a context manager: `with DemoCloud() as cloud:`; `DemoUnavailable` without moto."""

    def __init__(self, *, seed: int = 1, clock: Callable[[], float] = time.time) -> None:
        self._seed = seed
        self._clock = clock
        self._stopping = threading.Event()
        self._open = ExitStack()
        self.endpoint = ""
        """`http://127.0.0.1:<port>` of the CloudWatch that moto plays, while it runs."""
        self.state_directory = Path()
        """A temporary directory that lives as long as the cloud."""

    def __enter__(self) -> Self:
        """Start the server, write what has already happened, and go on writing in the background."""
        with self._open:
            self.endpoint = self._start_server()
            self.state_directory = Path(
                self._open.enter_context(tempfile.TemporaryDirectory(prefix="apigateway-demo-"))
            )
            now_ms = self._now_ms()
            writer = TrafficWriter(self._client(), traffic(self._seed, now_ms - BACKLOG_MS))
            writer.create_groups()
            self._open.callback(writer.delete_groups)
            writer.step(now_ms)
            self._start_writing(writer)
            self._open = self._open.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop writing, then the server; what it held is gone."""
        self._open.close()

    def _start_server(self) -> str:
        try:
            from moto.server import ThreadedMotoServer  # noqa: PLC0415 - an optional extra
        except ImportError as error:
            raise DemoUnavailable("the demo needs moto: pip install 'apigateway-exporter[demo]'") from error
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request otherwise
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        self._open.callback(server.stop)
        host, port = server.get_host_and_port()
        return f"http://{host}:{port}"

    def _client(self) -> "CloudWatchLogsClient":
        config = Config(proxies={}, retries={"mode": "standard", "total_max_attempts": 5})
        session = boto3.session.Session(_ANY_CREDENTIAL, _ANY_CREDENTIAL, region_name=REGION)
        return session.client("logs", endpoint_url=self.endpoint, config=config)

    def _start_writing(self, writer: TrafficWriter) -> None:
        def write() -> None:
            while not self._stopping.wait(STEP_SECONDS):
                writer.step(self._now_ms())

        thread = threading.Thread(target=write, name="demo-traffic", daemon=True)
        thread.start()
        self._open.callback(thread.join, timeout=5)
        self._open.callback(self._stopping.set)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def demo_config_text(cloud: DemoCloud) -> str:
    """The demo's configuration: YAML that the daemon loads like any other."""
    watches = []
    for stage in STAGES:
        watch: dict[str, object] = {
            "name": f"{stage.api_name}-{stage.name.removeprefix('$')}",
            "account": "demo",
            "region": REGION,
            "api": {"id": stage.api_id, "name": stage.api_name, "stage": stage.name, "type": stage.type},
            "access_log": {"group": stage.access_group, "format": stage.watch_format},
        }
        if stage.execution_group is not None:
            watch["execution_log"] = {"group": stage.execution_group}
        watches.append(watch)
    config = {
        "poll_interval": "5s",
        # Lines come up to a minute late here: no need to wait minutes for what is only proven by a status.
        "allowed_lateness": "2m",
        "state": {"path": str(cloud.state_directory / "state.db")},
        "web": {"listen_address": _listen_address(), "failures_page": True},
        "accounts": [{"name": "demo", "regions": [REGION], "calls_per_second": 20}],
        "watches": watches,
        "labels": {"zero_hold": "5s"},
    }
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100_000)


def demo_environ(cloud: DemoCloud) -> Mapping[str, str | None]:
    """The environment in which boto3 finds the demo's cloud, and no account of the user's; None means: unset it."""
    # An HTTP proxy knows nothing of our loopback interface.
    no_proxy = ",".join(filter(None, (os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), "127.0.0.1")))
    return {
        "AWS_ENDPOINT_URL": cloud.endpoint,
        "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": cloud.endpoint,
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": None,
        "AWS_ACCESS_KEY_ID": _ANY_CREDENTIAL,
        "AWS_SECRET_ACCESS_KEY": _ANY_CREDENTIAL,
        "AWS_SESSION_TOKEN": None,
        "AWS_PROFILE": None,
        "AWS_DEFAULT_PROFILE": None,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
    }


def _groups() -> Iterator[str]:
    """The log groups of every stage."""
    for stage in STAGES:
        yield from filter(None, (stage.access_group, stage.execution_group))


def _listen_address() -> str:
    """Where the daemon shall listen: the usual port, or a free one when that is taken."""
    host, port = PREFERRED_ADDRESS
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            probe.bind((host, 0))
            port = probe.getsockname()[1]
            log.warning("the demo's usual port is taken", usual_port=PREFERRED_ADDRESS[1], port=port)
    return f"{host}:{port}"
