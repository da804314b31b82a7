"""`replay`: exported logs through the real pipeline."""

import os
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import click

from exporter import logs
from exporter.access_log import AccessFormatError, AccessParser, access_parser
from exporter.commands.options import fail, load, load_all_rules
from exporter.config import Failures, Labels, Traces
from exporter.delivery import receivers
from exporter.ledger import LedgerError
from exporter.otlp_settings import OtlpError, OtlpSettings, resource_attributes
from exporter.planning import Planner
from exporter.replay import (
    RecordedLine,
    Replay,
    ReplayError,
    events_by_group,
    execution_groups,
    files_of,
    read_lines,
    spec_of,
)
from exporter.spans import SpanOptions
from exporter.version import VERSION


@click.command()
@click.option(
    "--config.file",
    "config_file",
    type=click.Path(dir_okay=False, exists=True),
    help="Count as this configuration says: its watches, labels, failures, rules and traces.",
)
@click.option(
    "--access-format",
    default="auto",
    show_default=True,
    help="How access lines are written, unless a configuration says it: auto, json, clf, csv, xml, or $context text.",
)
@click.option(
    "--group-map",
    "group_map",
    multiple=True,
    metavar="PATTERN=GROUP",
    help="Files whose path fits PATTERN (`*access*`) hold lines of the log group GROUP; may be given several times.",
)
@click.option(
    "--format",
    "output",
    type=click.Choice(["text", "openmetrics"]),
    default="text",
    show_default=True,
    help="How to print the metrics.",
)
@click.option("--otlp", is_flag=True, help="Send a trace of each failure, as configuration or OTEL_… variables say.")
@click.option("--spans", type=click.Path(dir_okay=False), help="Write the traces to this file, in OTLP's JSON lines.")
@click.option("--rules", "rules", type=click.Path(exists=True, dir_okay=False), multiple=True, help="Own rules.")
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True)
def replay(
    *,
    config_file: str | None,
    access_format: str,
    group_map: tuple[str, ...],
    output: str,
    otlp: bool,
    spans: str | None,
    rules: tuple[str, ...],
    files: tuple[Path, ...],
) -> None:
    """Count exported logs as the daemon would have, and print the metrics.

    FILES, gzipped or not, or directories of them: lines with their times, the JSON of `aws logs filter-log-events` and
    `get-log-events`, events as JSON lines, exports to S3, records of subscriptions.
    """
    logs.configure("error", "logfmt")
    config = None if config_file is None else load(config_file)
    traces = Traces() if config is None else config.traces
    rule_set = load_all_rules([*(() if config is None else config.rules), *rules])
    failures = Failures() if config is None else config.failures
    labels = Labels() if config is None else config.labels
    try:
        to = receivers(traces, os.environ) if otlp else ()
        parser = access_parser(access_format)
        specs = [] if config is None else Planner().plan(config, config.watches)
        lines = _lines(files, group_map, parser)
        events = events_by_group(lines, specs)
        with Replay(
            specs or [spec_of(events, execution_groups(lines), parser)],
            events,
            rules=rule_set,
            wants=failures.wants,
            max_series=labels.max_series,
            span_options=_span_options(traces) if otlp or spans else None,
        ) as run:
            click.echo(run.metrics(openmetrics=output == "openmetrics"), nl=False)
            if spans is not None:
                Path(spans).write_text("".join(f"{line}\n" for line in run.span_lines()), encoding="utf-8")
            if otlp:
                _send(run, to)
    except (AccessFormatError, LedgerError, OtlpError, ReplayError) as error:
        fail(str(error))


def _lines(files: tuple[Path, ...], group_map: tuple[str, ...], parser: AccessParser) -> list[RecordedLine]:
    mapped = []
    for entry in group_map:
        pattern, is_pair, group = entry.partition("=")
        if not (is_pair and pattern and group):
            fail(f"--group-map: `{entry}` is not PATTERN=GROUP, like `*access*=access/orders`")
        mapped.append((pattern, group))
    found: list[RecordedLine] = []
    for path in files_of(files):
        named = next((group for pattern, group in mapped if fnmatch(str(path), pattern)), None)
        lines = read_lines(path, parser)
        found += lines if named is None else (replace(line, group=named) for line in lines)
    return found


def _span_options(traces: Traces) -> SpanOptions:
    return SpanOptions(
        join=traces.join,
        events=traces.events,
        allowed_fields=frozenset(traces.fields),
        link_template=traces.link_template,
        resource=resource_attributes(os.environ),
        version=VERSION,
    )


def _send(run: Replay, to: Sequence[OtlpSettings]) -> None:
    if not to:
        fail("--otlp: nobody takes the traces; set `traces.endpoint`, or OTEL_EXPORTER_OTLP_ENDPOINT")
    sent = run.send(to)
    click.echo(f"{sent.taken} spans sent, {sent.lost} refused, {sent.waiting} not taken", err=True)
    if sent.lost or sent.waiting:
        raise SystemExit(1)
