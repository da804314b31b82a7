"""As much of an OpenTelemetry Collector as `benchmarks.collector` asks of one: pages in, conditions, counters out.

Run as `python tests/fake_collector.py --config=file:collector.yaml`. It reads each group once.
"""

import json
import os
import re
import sys
import threading
import time
import urllib.request
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import yaml


def counts_of(patterns: dict[str, list[str]], groups: list[str], since_ms: int, counts: dict[str, int]) -> None:
    """List the groups and count the lines that match one of a counter's patterns."""
    for group in groups:
        asked = {"logGroupName": group, "startTime": since_ms, "endTime": int(time.time() * 1_000)}
        while True:
            with urllib.request.urlopen(
                os.environ["AWS_ENDPOINT_URL_CLOUDWATCH_LOGS"], json.dumps(asked).encode()
            ) as page:
                answer = json.load(page)
            for event in answer["events"]:
                for name, texts in patterns.items():
                    counts[name] += any(re.search(text, event["message"]) for text in texts)
            if "nextToken" not in answer:
                break
            asked["nextToken"] = answer["nextToken"]


def main() -> None:
    config = yaml.safe_load(Path(sys.argv[1].removeprefix("--config=file:")).read_text(encoding="utf-8"))
    logs = config["receivers"]["awscloudwatch"]["logs"]
    patterns = {
        name: [json.loads(text.removeprefix("IsMatch(body, ")[:-1]) for text in metric["conditions"]]
        for name, metric in config["connectors"]["count"]["logs"].items()
    }
    counts = dict.fromkeys(patterns, 0)
    since_ms = int(datetime.fromisoformat(logs["start_from"]).timestamp() * 1_000)

    class Face(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            lines = [f"{name.replace('.', '_')}_total {count}\n" for name, count in counts.items()]
            self.wfile.write("".join(lines).encode())

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    reading = (patterns, list(logs["groups"]["named"]), since_ms, counts)
    threading.Thread(target=counts_of, args=reading, daemon=True).start()
    host, port = config["exporters"]["prometheus"]["endpoint"].split(":")
    HTTPServer((host, int(port)), Face).serve_forever()


if __name__ == "__main__":
    main()
