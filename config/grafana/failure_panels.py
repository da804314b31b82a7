"""The panels about the APIs: whether anything is wrong, why requests fail and where, how near the limit latency is."""

# ruff: noqa: INP001  (next to the program that imports it, part of no package)
from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard as builders
from parts import (
    ORANGE,
    RED,
    YELLOW,
    Panel,
    data_link,
    explained,
    heatmap_panel,
    line,
    listing_panel,
    matrix_panel,
    number,
    shown,
    stat_panel,
    table_panel,
    time_panel,
    traces_url,
)
from queries import DETAIL, FAILURES, OF_STAGE, REQUESTS, STAGE, a_minute, or_zero, own, quantile, rate

STAGE_LABELS = {"api_name": "API", "stage": "Stage", "api_id": "API id"}
CAUSE_LABELS = {"api_name": "API", "stage": "Stage", "category": "Category", "cause": "Cause", "api_id": "API id"}
LIMIT_SECONDS = 29
"""API Gateway's default integration timeout."""

OF_CAUSE = f"{OF_STAGE}, category, cause"
NEW = (
    f"(sum by ({OF_CAUSE}) (increase({FAILURES}[1h]))"
    f" unless sum by ({OF_CAUSE}) (increase({FAILURES}[1d] offset 1h)) > 0)"
)

CAUSE_TRACES = [
    data_link(
        "Traces of this cause",
        traces_url(
            '{ span.apigateway.cause = "${__data.fields.cause:percentencode}"'
            ' && span.apigateway.api_id = "${__data.fields.api_id:percentencode}"'
            ' && span.apigateway.stage = "${__data.fields.stage:percentencode}" }'
        ),
    )
]


def overview() -> Sequence[Panel]:
    """The row without a title: whether anything is wrong, and whether these numbers can be trusted."""
    return [
        stat_panel(
            "Failed requests",
            "Failed requests in the time range, of the chosen APIs, stages and causes.",
            number(f"sum(increase({FAILURES}[$__range]))"),
            unit="short",
            decimals=0,
            steps={},
        ),
        stat_panel(
            "Share of requests that failed",
            "Failed requests of the chosen causes divided by all requests. Empty for stages that log neither access "
            "lines nor execution lines at INFO: nothing tells how many requests they had.",
            number(f"sum(increase({FAILURES}[$__range])) / (sum(increase({REQUESTS}[$__range])) > 0)"),
            unit="percentunit",
            steps={0.001: YELLOW, 0.01: RED},
        ),
        stat_panel(
            "Requests",
            "All requests that API Gateway logged in the time range, failed or not.",
            number(f"sum(increase({REQUESTS}[$__range]))"),
            unit="short",
            decimals=0,
            steps={},
        ),
        stat_panel(
            "New causes",
            "Causes that a stage had in the last hour of the time range and not in the day before; the table below "
            "names them. With less than a day of history, new means never before.",
            number(or_zero(f"count({NEW} > 0)")),
            unit="short",
            steps={1: ORANGE},
        ),
        explained(
            stat_panel(
                "Unclassified",
                "Share of failures whose cause no rule could prove. More than a few percent: raise the stage's logging "
                "level or log more access fields.",
                number(
                    f'sum(increase(aws_apigateway_stage_failures_total{{{STAGE}, cause="unclassified"}}[$__range]))'
                    f" / (sum(increase(aws_apigateway_stage_failures_total{{{STAGE}}}[$__range])) > 0)"
                ),
                unit="percentunit",
                steps={0.05: YELLOW, 0.2: RED},
            ),
            "ApiGatewayUnclassifiedFailures",
        ),
        stat_panel(
            "Age of these numbers",
            "Time since the watch that is furthest behind was last read in full. While this is large, a quiet "
            "dashboard means nothing.",
            number(f"max(time() - {own('last_success_timestamp_seconds')})"),
            unit="s",
            steps={120: YELLOW, 300: RED},
        ),
    ]


def causes() -> Sequence[Panel]:
    """Why requests fail, and where."""
    now = f"sum by ({OF_CAUSE}) (increase({FAILURES}[$__range]))"
    before = f"sum by ({OF_CAUSE}) (increase({FAILURES}[$__range] offset $__range))"
    requests = f"sum by ({OF_STAGE}) (increase({REQUESTS}[$__range]))"
    by_route = f"{OF_STAGE}, method, resource"
    routes = f"sum by ({by_route}) (increase({DETAIL}[$__range]))"
    top = f"topk(20, {routes} > 0)"
    exemplars = "Dots are single requests: click one to open its trace."
    return [
        time_panel(
            "Failures by category",
            f"Failed requests a minute, by where the cause belongs. {exemplars}",
            line(f"{a_minute(FAILURES, 'category')} > 0", "{{category}}", exemplars=True),
            unit="cpm",
            bars=True,
        ),
        time_panel(
            "Failures by cause",
            f"Failed requests a minute, by cause. {exemplars}",
            line(f"{a_minute(FAILURES, 'cause')} > 0", "{{cause}}", exemplars=True),
            unit="cpm",
            bars=True,
            links=[
                builders.DashboardLink("Traces of this cause")
                .url(traces_url('{ span.apigateway.cause = "${__field.labels.cause:percentencode}" }'))
                .target_blank(True)
            ],
        ),
        table_panel(
            "Causes by stage",
            "Failures in the time range, in the equally long time before it, and what changed. Click a cause for its "
            "traces.",
            CAUSE_LABELS,
            {
                "Failures": (f"round({now}) > 0", shown(decimals=0, gauge=True)),
                "Before": (f"round({before}) > 0", shown(decimals=0)),
                "Change": (f"round({now} - ({before} or 0 * {now})) != 0", shown(decimals=0)),
                "Share of requests": (
                    f"{now} / on ({OF_STAGE}) group_left () ({requests} > 0) > 0",
                    shown(unit="percentunit", decimals=2),
                ),
            },
            unit="short",
            width=24,
            sort_by="Failures",
            links={"cause": CAUSE_TRACES},
        ),
        explained(
            table_panel(
                "New causes",
                "What failed in the last hour of the time range, on this stage, for a reason that it did not fail for "
                "in the day before. Look here first after a deployment.",
                CAUSE_LABELS,
                {
                    "Last hour": (
                        f"round({NEW}) > 0",
                        shown(decimals=0),
                    )
                },
                unit="short",
                width=12,
                sort_by="Last hour",
                links={"cause": CAUSE_TRACES},
            ),
            "ApiGatewayNewCause",
        ),
        table_panel(
            "Top resources",
            "The methods and resource templates with most failures in the time range, and what share of their "
            "requests failed.",
            {"api_name": "API", "stage": "Stage", "method": "Method", "resource": "Resource", "api_id": "API id"},
            {
                "Failures": (f"round({top})", shown(decimals=0, gauge=True)),
                "Failed": (
                    f"{routes} / (sum by ({by_route}) (increase({REQUESTS}[$__range])) > 0) and {top}",
                    shown(unit="percentunit", decimals=1),
                ),
            },
            unit="short",
            width=12,
            sort_by="Failures",
        ),
        matrix_panel(
            "Status by cause",
            "What callers got for each cause, in the time range: gateway responses may give any status to any cause.",
            f"round(sum by (cause, status) (increase({DETAIL}[$__range]))) > 0",
            row="cause",
            column="status",
            header="Cause",
            unit="short",
            width=12,
        ),
        time_panel(
            "Failures by status",
            "Failed requests a minute, by what the caller got.",
            line(f"{a_minute(DETAIL, 'status')} > 0", "{{status}}"),
            unit="cpm",
            bars=True,
        ),
    ]


def stages() -> Sequence[Panel]:
    """The stages side by side, and what is known of each."""
    failed = f"sum by ({OF_STAGE}) ({rate(FAILURES)})"
    return [
        time_panel(
            "Failure ratio by stage",
            "Failed requests of the chosen causes divided by all requests of the stage. Gaps: no requests.",
            line(f"{failed} / (sum by ({OF_STAGE}) ({rate(REQUESTS)}) > 0)", "{{api_name}}/{{stage}}"),
            unit="percentunit",
        ),
        time_panel(
            "Requests by status",
            "All requests that API Gateway logged, by what the caller got.",
            line(f"sum by (status) ({rate(REQUESTS)}) > 0", "{{status}}"),
            unit="reqps",
            bars=True,
        ),
        listing_panel(
            "Stages",
            "What is watched and how it logs. Causes are proven best with execution logging at INFO; data tracing "
            "writes whole requests and responses to CloudWatch and does not belong into production.",
            f"max by ({OF_STAGE}, api_type, region, account_id, deployment_id, execution_log_level, data_trace)"
            f" (aws_apigateway_stage_info{{{STAGE}}})",
            {
                **STAGE_LABELS,
                "api_type": "Type",
                "account_id": "Account",
                "region": "Region",
                "deployment_id": "Deployment",
                "execution_log_level": "Execution log",
                "data_trace": "Data tracing",
            },
            width=24,
            sort_by="API",
        ),
    ]


def latency() -> Sequence[Panel]:
    """How near the integrations come to the limit at which API Gateway gives up."""
    integration = "aws_apigateway_integration_latency_seconds"

    def bucket(bound: str) -> str:
        return f'sum by ({OF_STAGE}) (rate({integration}_bucket{{{STAGE}, le="{bound}"}}[$__rate_interval]))'

    answered = f"(sum by ({OF_STAGE}) (rate({integration}_count{{{STAGE}}}[$__rate_interval])) > 0)"
    return [
        time_panel(
            "Integration latency",
            "How long the backends took, of all chosen stages together; red is API Gateway's default limit of 29 s. "
            "A quantile is as exact as the buckets are narrow.",
            *(line(quantile(share, integration, STAGE), f"p{share * 100:g}") for share in (0.5, 0.9, 0.99)),
            unit="s",
            limit=LIMIT_SECONDS,
        ),
        heatmap_panel(
            "Integration latency, distribution",
            "How many integrations took how long. A band at the top edge is what waits for the limit.",
            f"sum by (le) (increase({integration}_bucket{{{STAGE}}}[$__rate_interval]))",
            unit="s",
            width=12,
        ),
        explained(
            time_panel(
                "Near the limit and over it",
                "Share of integrations that took 28 to 29 s, which were lucky, and more than 29 s, which were cut off "
                "by the default limit (or are allowed to take longer).",
                line(f"({bucket('29.0')} - {bucket('28.0')}) / {answered}", "{{api_name}}/{{stage}} 28-29 s"),
                line(f"({bucket('+Inf')} - {bucket('29.0')}) / {answered}", "{{api_name}}/{{stage}} over 29 s"),
                unit="percentunit",
            ),
            "ApiGatewayIntegrationTimeouts",
        ),
        time_panel(
            "Integration latency by stage, p99",
            "The slowest hundredth of each stage's integrations against the default limit.",
            line(quantile(0.99, integration, STAGE, f"{OF_STAGE}, le"), "{{api_name}}/{{stage}}"),
            unit="s",
            limit=LIMIT_SECONDS,
        ),
        time_panel(
            "Response latency",
            "From a request's arrival at API Gateway to its response: the integration, authorizers, mappings and "
            "API Gateway itself.",
            *(
                line(quantile(share, "aws_apigateway_response_latency_seconds", STAGE), f"p{share * 100:g}")
                for share in (0.5, 0.9, 0.99)
            ),
            unit="s",
        ),
        time_panel(
            "Time outside of the integration, mean",
            "Response latency less integration latency, averaged over all requests: what authorizers, mappings and "
            "API Gateway add. Only stages that log both.",
            line(
                f"(sum by ({OF_STAGE}) (rate(aws_apigateway_response_latency_seconds_sum{{{STAGE}}}[$__rate_interval]))"
                f" - sum by ({OF_STAGE}) (rate({integration}_sum{{{STAGE}}}[$__rate_interval])))"
                f" / (sum by ({OF_STAGE})"
                f" (rate(aws_apigateway_response_latency_seconds_count{{{STAGE}}}[$__rate_interval])) > 0)"
                f" and {answered}",
                "{{api_name}}/{{stage}}",
            ),
            unit="s",
        ),
    ]
