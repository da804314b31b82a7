"""The fake as a process of its own: `python -m tests.fakes --port 9000 --world world.jsonl --set throttled=0.3`.

It runs on the real clock, prints its URL and serves until it is killed, so that the daemon can be killed and started
again against it. POST /fakes with a JSON object of fault names changes faults while it runs; GET /fakes gives the
number of calls by code. A restarted fake with the same --world, --start-ms and --seed gives the same event ids and honours
the tokens of the former one.
"""

import argparse
import dataclasses
import json
import sys
import threading
import time
from pathlib import Path

from tests.fakes.cloudwatch import FakeCloudWatch
from tests.fakes.faults import Faults


def main() -> None:
    options = _options()
    fake = FakeCloudWatch(seed=options.seed, port=options.port)
    fake.calls_per_second = options.calls_per_second
    fake.reader.visibility_delay_ms = options.visibility_delay_ms
    fake.reader.scan_events = options.scan_events
    fake.reader.end_included = not options.end_excluded
    for name in options.denied_group:
        fake.group_faults[name] = Faults(denied=True)
    for setting in options.set:
        name, _, value = setting.partition("=")
        fake.faults.set(name, json.loads(value))
    start_ms = int(time.time() * 1000) if options.start_ms is None else options.start_ms
    for world in options.world:
        with world.open(encoding="utf-8") as lines:
            fake.world.load(lines, start_ms)
    with fake:
        sys.stdout.write(json.dumps({"url": fake.url, "start_ms": start_ms}) + "\n")
        sys.stdout.flush()
        threading.Event().wait()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fakes", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument(
        "--world", type=Path, action="append", default=[], help="JSONL, see World.load; may be repeated"
    )
    parser.add_argument("--start-ms", type=int, help="what the world's times count from (default: now)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--calls-per-second", type=float, help="the quota")
    parser.add_argument("--visibility-delay-ms", type=int, default=0)
    parser.add_argument("--scan-events", type=int, help="events that one call looks at")
    parser.add_argument("--end-excluded", action="store_true", help="read endTime as excluded")
    parser.add_argument("--denied-group", action="append", default=[])
    names = ", ".join(field.name for field in dataclasses.fields(Faults) if field.name != "script")
    parser.add_argument("--set", action="append", default=[], metavar="FAULT=VALUE", help=f"one of {names}")
    return parser.parse_args()


if __name__ == "__main__":
    main()
