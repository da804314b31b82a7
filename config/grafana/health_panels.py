"""The panels about the exporter itself: whether it reads everything, in time, and gets rid of its spans."""

# ruff: noqa: INP001  (next to the program that imports it, part of no package)
from collections.abc import Callable, Sequence

from grafana_foundation_sdk.models import dashboard
from parts import GREEN, ORANGE, RED, Panel, explained, line, listing_panel, number, stat_panel, time_panel
from queries import OF_STAGE, SCRAPED, a_minute, or_zero, own, quantile, rate, rise


def summed_rate(counter: str) -> str:
    """How fast a counter rises, a second, everything together."""
    return or_zero(f"sum({rate(counter)})")


def both(total: Callable[[str], str], counter: str) -> str:
    """Spans and log records together."""
    return f"({total(own(f'spans_{counter}'))}) + ({total(own(f'log_records_{counter}'))})"


def health() -> Sequence[Panel]:
    """Whether the exporter reads everything, in time, and gets rid of its spans."""
    throttles = summed_rate(own("aws_throttles_total"))
    return [
        stat_panel(
            "Signs of trouble",
            "All should be 0. Watches down: their last poll did not read all it meant to. Late: lines that came after "
            "allowed_lateness and were not counted. Late proof: lines that came after their request was counted. "
            "Unreadable: lines that could not be parsed. Restarts: a watch began anew from its last commit. Refused, "
            "dropped: spans and log records that nobody has. Overflow: series folded into __other__. All but the "
            "first since the time range began.",
            number(or_zero(f"sum({own('watch_up')} == bool 0)"), "Watches down"),
            number(rise(own("late_events_total")), "Late"),
            number(rise(own("late_evidence_total")), "Late proof"),
            number(rise(own("unreadable_lines_total")), "Unreadable"),
            number(rise(own("aws_throttles_total")), "Throttles"),
            number(rise(own("watch_restarts_total")), "Restarts"),
            number(both(rise, "rejected_total"), "Refused"),
            number(both(rise, "dropped_total"), "Dropped"),
            number(rise(own("series_overflow_total")), "Overflow"),
            unit="short",
            decimals=0,
            steps={0.5: ORANGE},
            width=20,
        ),
        explained(
            stat_panel(
                "Configuration",
                "Whether the configuration in force is the last one that the exporter was told to load.",
                number(f"min({own('config_last_reload_successful')})"),
                unit="bool",
                steps={},
                mappings=[
                    dashboard.ValueMap(
                        options={
                            "0": dashboard.ValueMappingResult(text="reload failed", color=RED),
                            "1": dashboard.ValueMappingResult(text="in force", color=GREEN),
                        }
                    )
                ],
            ),
            "ApiGatewayExporterReloadFailed",
        ),
        explained(
            time_panel(
                "Time since the last full read",
                "By watch. It saws between 0 and the poll interval; a ramp is a watch that does not get through, and "
                "its stages' numbers are old.",
                line(f"max by (watch) (time() - {own('last_success_timestamp_seconds')})", "{{watch}}"),
                unit="s",
            ),
            "ApiGatewayExporterStale",
        ),
        explained(
            time_panel(
                "Watermark lag",
                "Age of the instant up to which a log group has been read for good. It rests a little above "
                "allowed_lateness; after an outage it comes down as the backlog is read.",
                line(f"max by (group) ({own('watermark_lag_seconds')})", "{{group}}"),
                unit="s",
            ),
            "ApiGatewayExporterLagging",
        ),
        time_panel(
            "Polls by outcome",
            "Polls a minute. left_out: an execution log group could not be read, causes are less exact; all others "
            "but ok mean that the watch was not read in full.",
            line(a_minute(own("polls_total"), "outcome"), "{{outcome}}"),
            unit="cpm",
            bars=True,
        ),
        time_panel(
            "Poll duration and interval",
            "How long polls take, and the interval between them: one that grows means that the call budget "
            "(calls_per_second) does not suffice for all watches.",
            line(quantile(0.5, "aws_apigateway_exporter_poll_duration_seconds", SCRAPED), "duration p50"),
            line(quantile(0.99, "aws_apigateway_exporter_poll_duration_seconds", SCRAPED), "duration p99"),
            line(f"max({own('effective_poll_interval_seconds')})", "longest interval"),
            unit="s",
        ),
        time_panel(
            "Calls to AWS",
            "Calls a second by account, region and outcome, retries included. All of an account and region together "
            "stay below its calls_per_second.",
            line(
                f"sum by (account, region, operation, code) ({rate(own('aws_requests_total'))})",
                "{{account}}/{{region}} {{operation}} {{code}}",
            ),
            unit="cps",
            bars=True,
        ),
        explained(
            time_panel(
                "Share of calls throttled",
                "What AWS refused because the account's quota was used up, by us or by others.",
                line(
                    f"({throttles}) / (sum({rate(own('aws_requests_total'))}) > 0)",
                    "throttled",
                ),
                unit="percentunit",
            ),
            "ApiGatewayExporterThrottled",
        ),
        time_panel(
            "Ingestion delay",
            "From a log line's own time to its ingestion by CloudWatch, the greatest of a poll and group. Nobody can "
            "count what is not there yet.",
            line(quantile(0.5, "aws_apigateway_exporter_ingestion_delay_seconds", SCRAPED), "p50"),
            line(quantile(0.99, "aws_apigateway_exporter_ingestion_delay_seconds", SCRAPED), "p99"),
            unit="s",
        ),
        time_panel(
            "Log data read",
            "Bytes that AWS answered with. Calls are free; a NAT gateway on the way is not.",
            line(
                f"sum by (account, region) ({rate(own('aws_response_bytes_total'))})",
                "{{account}}/{{region}}",
            ),
            unit="Bps",
        ),
        time_panel(
            "Log events read",
            "By log group, those read again included.",
            line(f"sum by (group) ({rate(own('log_events_total'))})", "{{group}}"),
            unit="cps",
        ),
        time_panel(
            "Failures settled, by why",
            "Failed requests whose cause was decided, by why no more lines were awaited.",
            line(a_minute(own("requests_settled_total"), "reason"), "{{reason}}"),
            unit="cpm",
            bars=True,
        ),
        time_panel(
            "Waiting to be sent",
            "Spans and log records in the outbox, stored until the OTLP receiver has them.",
            line(f"sum({own('outbox_spans')})", "spans"),
            line(f"sum({own('outbox_log_records')})", "log records"),
            unit="short",
            width=8,
        ),
        explained(
            time_panel(
                "Age of the oldest that waits",
                "Grows while the OTLP receiver takes nothing; 0 while none waits.",
                line(or_zero(f"max(time() - {own('outbox_oldest_timestamp_seconds')})"), "oldest"),
                unit="s",
                width=8,
            ),
            "ApiGatewayExporterOutboxGrowing",
        ),
        time_panel(
            "Sent and lost",
            "Spans and log records. Refused: the receiver will never take them. Dropped: given up without an answer. "
            "Not traced: failures that were counted, but whose cause was over its budget of traces.",
            line(both(summed_rate, "sent_total"), "sent"),
            line(both(summed_rate, "rejected_total"), "refused"),
            line(both(summed_rate, "dropped_total"), "dropped"),
            line(summed_rate(own("spans_sampled_total")), "not traced"),
            unit="cps",
            width=8,
        ),
        listing_panel(
            "Found wanting",
            "What discovery found missing for a stage's failures to be seen or explained: docs/discovery.md says how "
            "to mend each. Empty is good; without discovery nothing is looked for.",
            f"max by ({OF_STAGE}, kind) ({own('stage_findings')})",
            {"api_name": "API", "stage": "Stage", "kind": "Finding", "api_id": "API id"},
            width=12,
            sort_by="API",
        ),
        explained(
            time_panel(
                "Series by metric",
                "What a scrape carries; at labels.max_series a metric takes no more and counts the rest as __other__.",
                line(f"sum by (metric) ({own('series')})", "{{metric}}"),
                unit="short",
            ),
            "ApiGatewayExporterSeriesOverflow",
        ),
        time_panel(
            "Memory",
            "Resident memory of the process.",
            line(f"process_resident_memory_bytes{{{SCRAPED}}}", "{{instance}}"),
            unit="bytes",
            width=12,
        ),
        time_panel(
            "CPU",
            "Share of one core.",
            line(f"rate(process_cpu_seconds_total{{{SCRAPED}}}[$__rate_interval])", "{{instance}}"),
            unit="percentunit",
            width=12,
        ),
    ]
