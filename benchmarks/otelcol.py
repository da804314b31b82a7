"""An OpenTelemetry Collector that counts causes of failures in CloudWatch Logs: binary, configuration and metrics.

`OTELCOL` names the binary of a distribution with `awscloudwatchreceiver`, `countconnector`, `prometheusexporter` and
`deltatocumulativeprocessor`, such as contrib's. Without it one of just these modules, as they are published, is built
with Go, once, into the user's cache (`collector-distribution/`). The configuration is for either.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import yaml

from benchmarks.processes import Process, ending, environment, free_address
from exporter.rules import shipped_text

SOURCES = Path(__file__).parent / "collector-distribution"
VERSION = "0.145.0"
"""Of the collector's modules, as `collector-distribution/go.mod` names them: the newest of which all could be had."""
_OPERATORS = re.compile(r"[\\.+*?()|\[\]{}^$]")
_COUNTED = re.compile(r"^failures_(\w+?)(?:_total)?(?:\{[^}]*\})? (\S+)", re.MULTILINE)


class MissingError(Exception):
    """There is no collector to measure, and why."""


@dataclass(frozen=True, slots=True)
class Binary:
    """A collector that can be run."""

    path: Path
    name: str
    """What figures say was measured."""


def binary() -> Binary:
    """The collector that `OTELCOL` names, else one of our own making, built now if it is not in the cache.

    Raises `MissingError`.
    """
    if (named := os.environ.get("OTELCOL")) is not None:
        if (found := shutil.which(named)) is None:
            raise MissingError(f"OTELCOL={named} is no program")
        return Binary(Path(found).resolve(), "collector of OTELCOL")
    return Binary(_built(), f"collector {VERSION}")


def _cached() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "apigateway-exporter-ci"
    sources = sha256(b"".join(path.read_bytes() for path in sorted(SOURCES.iterdir()))).hexdigest()
    return cache / f"otelcol-{VERSION}" / sources[:12]


def _built() -> Path:
    path = _cached()
    if path.exists():
        return path
    if (go := shutil.which("go")) is None:
        raise MissingError("it needs the collector that OTELCOL names, or Go to build one; neither is there")
    print(f"building {path} from Go modules, once: some minutes …", file=sys.stderr, flush=True)
    began = time.monotonic()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as directory:
        made = Path(directory) / path.name
        command = [go, "build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-o", str(made), "."]
        done = subprocess.run(command, cwd=SOURCES, capture_output=True, text=True, check=False)
        if done.returncode:
            raise MissingError(f"Go does not build {SOURCES}: {done.stderr.strip()[-1_000:]}")
        made.replace(path)
    print(f"built in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return path


def phrases() -> dict[str, tuple[str, ...]]:
    """What the shipped rules know causes by, where a phrase at a line's beginning is all they ask for: cause, phrases.

    A collector judges one line at a time, so that what rules learn from several lines of a request is not among them.
    Phrases are looked for anywhere in a line, so that one which has another of the same cause in it is left out.
    """
    found: dict[str, dict[str, None]] = {}
    for rule in yaml.safe_load(shipped_text())["rules"]:
        for condition in rule["when"].get("any", [rule["when"]]):
            reason = condition.get("reason")
            if set(condition) == {"reason"} and isinstance(reason, dict) and set(reason) == {"prefix"}:
                found.setdefault(rule["cause"], {}).update(dict.fromkeys(_texts(reason["prefix"])))
    return {
        cause: tuple(text for text in texts if not any(other in text for other in texts if other != text))
        for cause, texts in found.items()
    }


def _texts(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def configuration(
    groups: Iterable[str], causes: Mapping[str, Sequence[str]], *, start_from_ms: int, address: str
) -> dict[str, object]:
    """The collector's configuration: one counter for each cause, of lines with one of its phrases.

    A phrase is a regular expression without any operator, which Go looks for as plain text; several phrases are several
    conditions, because alternatives are not. Pages are as large as AWS gives them, not contrib's 1,000 events.
    """
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start_from_ms / 1_000))
    return {
        "receivers": {
            "awscloudwatch": {
                "region": "eu-west-1",
                "logs": {
                    "poll_interval": "1s",
                    "max_events_per_request": 10_000,
                    "start_from": started,
                    "groups": {"named": {group: {} for group in groups}},
                },
            }
        },
        "connectors": {
            "count": {
                "logs": {
                    f"failures.{cause}": {"conditions": [_condition(text) for text in texts]}
                    for cause, texts in causes.items()
                }
            }
        },
        "processors": {"deltatocumulative": {}},
        "exporters": {"prometheus": {"endpoint": address, "resource_to_telemetry_conversion": {"enabled": True}}},
        "service": {
            "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "warn"}},
            "pipelines": {
                "logs": {"receivers": ["awscloudwatch"], "exporters": ["count"]},
                "metrics": {"receivers": ["count"], "processors": ["deltatocumulative"], "exporters": ["prometheus"]},
            },
        },
    }


def _condition(phrase: str) -> str:
    return f"IsMatch(body, {json.dumps(_OPERATORS.sub(lambda found: chr(92) + found[0], phrase))})"


def counted(metrics: str) -> Counter[str]:
    """The failures by cause that a collector's exposition shows, over all groups and streams."""
    causes: Counter[str] = Counter()
    for cause, value in _COUNTED.findall(metrics):
        causes[cause] += int(float(value))
    return causes


@contextmanager
def collecting(
    collector: Binary,
    groups: Iterable[str],
    causes: Mapping[str, Sequence[str]],
    *,
    start_from_ms: int,
    cloudwatch: Process,
) -> Iterator[Process]:
    """A collector on the groups of a CloudWatch that ends with the block; its face is `/metrics`."""
    address = free_address()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        config = configuration(groups, causes, start_from_ms=start_from_ms, address=address)
        (directory / "collector.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        # Contrib's receiver ends with a panic where STS does not say who it is.
        environ = {**environment(cloudwatch), "AWS_ENDPOINT_URL_STS": cloudwatch.url}
        command = [str(collector.path), "--config=file:collector.yaml"]
        with (directory / "log").open("wb") as log:
            began = time.monotonic()
            with ending(subprocess.Popen(command, cwd=directory, env=environ, stdout=log, stderr=log)) as process:
                running = Process(process.pid, f"http://{address}", began)
                try:
                    running.wait_for("/metrics")
                    yield running
                except (TimeoutError, urllib.error.URLError):
                    print((directory / "log").read_text(encoding="utf-8")[-2_000:], file=sys.stderr)
                    raise
