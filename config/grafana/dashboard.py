"""The dashboard `apigateway-exporter.json`: what can be chosen, which rows there are, and the program that writes it.

`make dashboard` writes the JSON anew; tests/test_dashboard.py fails while the two differ, and runs every query against
a Prometheus that scraped the demo. It needs nothing but the exporter's own metrics, and names no datasource, address or
threshold that only one installation has.
"""

# ruff: noqa: INP001  (a program, part of no package)
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from failure_panels import causes, latency, overview, stages
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard
from health_panels import health
from parts import DATASOURCE, choice, datasource, traces_url
from queries import OF_STAGE, SCRAPED, STAGE

TARGET = Path(__file__).with_name("apigateway-exporter.json")
RUNBOOKS = "https://runbooks.example.com/apigateway-exporter"
"""The same placeholder as in the alerts: replace it everywhere."""


def variables() -> Sequence[builders.DatasourceVariable | builders.QueryVariable | builders.ConstantVariable]:
    """What can be chosen at the head of the dashboard."""
    build_info, failures = "aws_apigateway_exporter_build_info", "aws_apigateway_stage_failures_total"
    return [
        datasource(
            "prometheus_datasource",
            "Prometheus data source",
            "The Prometheus that scrapes the exporter.",
            "prometheus",
        ),
        choice("job", "Job", "Scrape job.", f"label_values({build_info}, job)", all_value=".+"),
        choice(
            "instance",
            "Instance",
            "Exporter.",
            f'label_values({build_info}{{job=~"$job"}}, instance)',
            all_value=".+",
        ),
        choice("api_name", "API", "API.", f"label_values({failures}{{{SCRAPED}}}, api_name)", all_value=".+"),
        choice(
            "stage",
            "Stage",
            "Stage of the API.",
            f'label_values({failures}{{{SCRAPED}, api_name=~"$api_name"}}, stage)',
            all_value=".+",
        ),
        choice(
            "category",
            "Category",
            "Where a cause belongs: narrows the causes.",
            f"label_values({failures}{{{STAGE}}}, category)",
            all_value=".+",
        ),
        # No value of its own for All: it then stands for the causes of the chosen categories, also where a metric has
        # no label `category`.
        choice(
            "cause",
            "Cause",
            "Why requests failed.",
            f'label_values({failures}{{{STAGE}, category=~"$category"}}, cause)',
            all_value=None,
        ),
        datasource("tempo_datasource", "Tempo data source", "Where links to traces lead.", "tempo"),
        builders.ConstantVariable("runbooks").label("Runbooks").value(RUNBOOKS),
    ]


def deployments() -> builders.AnnotationQuery:
    """A mark where a stage began to serve another deployment; not for stages that the exporter only just found."""
    info = f'aws_apigateway_stage_info{{{STAGE}, deployment_id!="unknown"}}'
    return (
        builders.AnnotationQuery()
        .name("Deployments")
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color("blue")
        .expr(
            f"max by ({OF_STAGE}, deployment_id) ({info})"
            f" unless max by ({OF_STAGE}, deployment_id) ({info} offset 2m)"
            f" and on (api_id, stage) group by (api_id, stage) ({info} offset 2m)"
        )
    )


def link(title: str, url: str, tooltip: str) -> builders.DashboardLink:
    """A link at the head of the dashboard."""
    return (
        builders.DashboardLink(title)
        .type(dashboard.DashboardLinkType.LINK)
        .url(url)
        .tooltip(tooltip)
        .icon("external link")
        .target_blank(True)
    )


def build() -> dashboard.Dashboard:
    """The whole dashboard."""
    board = (
        builders.Dashboard("API Gateway failures")
        .uid("apigateway-exporter")
        .description("Why requests to Amazon API Gateway fail, as told by apigateway-exporter from the gateway's logs.")
        .tags(["aws", "api-gateway", "apigateway-exporter"])
        .readonly()
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .timezone("browser")
        .time("now-3h", "now")
        .refresh("1m")
        .variables(list(variables()))
        .annotation(deployments())
        .link(
            link(
                "Traces",
                traces_url('{ span.apigateway.cause != "" }'),
                "All failed requests of the time range, as traces",
            )
        )
        .link(link("Runbooks", "${runbooks}", "What each alert means and how to mend it"))
    )
    rows = {
        None: overview(),
        "Why requests fail": causes(),
        "Stages": stages(),
        "Latency against the limit": latency(),
        "Is the exporter well?": health(),
    }
    number_of_panel = 0
    for title, panels in rows.items():
        if title is not None:
            number_of_panel += 1
            board.with_row(builders.Row(title).id(number_of_panel))
        for panel in panels:
            number_of_panel += 1
            board.with_panel(panel.id(number_of_panel))
    return board.build()


def main(target: Path) -> None:
    """Write the JSON."""
    text = json.dumps(build(), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False)
    target.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET)
