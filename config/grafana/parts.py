"""What the dashboard is put together from: queries, panels and variables in the one style that all of them share.

Thin builders over grafana-foundation-sdk: a panel cannot be made without a title, a description and a unit, and no
query without the dashboard's own datasource. Nothing here knows what is shown; that is `dashboard.py`.
"""

# ruff: noqa: INP001  (next to the program that imports it, part of no package)
import json
import re
from collections.abc import Mapping, Sequence
from typing import TypeVar
from urllib.parse import quote

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import heatmap as heatmap_builders
from grafana_foundation_sdk.builders import prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import common, dashboard, heatmap
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${prometheus_datasource}")

GREEN, YELLOW, ORANGE, RED = "green", "yellow", "orange", "red"

Panel = stat.Panel | timeseries.Panel | table.Panel | heatmap_builders.Panel
_Panel = TypeVar("_Panel", stat.Panel, timeseries.Panel, table.Panel, heatmap_builders.Panel)

Override = list[dashboard.DynamicConfigValue]


# -------------------------------------------------------------------------------------------------------------- queries


def line(expr: str, legend: str, *, exemplars: bool = False) -> prometheus.Dataquery:
    """A query over the time range. `exemplars` asks for those of the counters in it: dots that open a trace."""
    return prometheus.Dataquery().expr(_tidy(expr)).range().legend_format(legend).exemplar(exemplars)


def number(expr: str, legend: str = "__auto") -> prometheus.Dataquery:
    """A query at the end of the time range."""
    return prometheus.Dataquery().expr(_tidy(expr)).instant().legend_format(legend)


def _tidy(expr: str) -> str:
    """One line, single spaces: as it is shown in the query editor."""
    return re.sub(r"\s+", " ", expr).replace("( ", "(").replace(" )", ")").strip()


# --------------------------------------------------------------------------------------------------------------- panels


def stat_panel(
    title: str,
    description: str,
    *queries: prometheus.Dataquery,
    unit: str,
    steps: Mapping[float, str],
    width: int = 4,
    decimals: int | None = None,
    mappings: Sequence[dashboard.ValueMapping] = (),
) -> stat.Panel:
    """Big numbers, coloured from the greatest bound in `steps` that they reach; below all of them they are green."""
    panel = (
        stat.Panel()
        .unit(unit)
        .height(4)
        .span(width)
        .thresholds(thresholds(steps))
        .mappings(list(mappings))
        .no_value("no data")
        .graph_mode(common.BigValueGraphMode.NONE)
        .color_mode(common.BigValueColorMode.VALUE if len(queries) == 1 else common.BigValueColorMode.BACKGROUND)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    if decimals is not None:
        panel.decimals(decimals)
    return _finished(panel, title, description, queries)


def time_panel(
    title: str,
    description: str,
    *queries: prometheus.Dataquery,
    unit: str,
    width: int = 12,
    bars: bool = False,
    limit: float | None = None,
    links: Sequence[builders.DashboardLink] = (),
) -> timeseries.Panel:
    """Values over time: lines, or with `bars` stacked bars; `limit` is a red line not to be reached, on a log scale."""
    panel = (
        timeseries.Panel()
        .unit(unit)
        .height(8)
        .span(width)
        .line_width(1)
        .fill_opacity(70 if bars else 8)
        .show_points(common.VisibilityMode.NEVER)
        .legend(
            common_builders.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.TABLE)
            .placement(common.LegendPlacement.RIGHT if width >= 12 else common.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["mean", "max"] if bars else ["lastNotNull", "max"])
        )
        .tooltip(
            common_builders.VizTooltipOptions()
            .mode(common.TooltipDisplayMode.MULTI)
            .sort(common.SortOrder.DESCENDING)
            .hide_zeros(True)
        )
        .data_links(list(links))
    )
    if bars:
        panel.draw_style(common.GraphDrawStyle.BARS).stacking(
            common_builders.StackingConfig().mode(common.StackingMode.NORMAL)
        )
    if limit is None:
        panel.min(0)
    else:
        # Logarithmic: what takes milliseconds shall be visible below a limit of many seconds.
        panel.thresholds(thresholds({limit: RED})).axis_soft_max(limit * 2).thresholds_style(
            common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        ).scale_distribution(common_builders.ScaleDistributionConfig().type(common.ScaleDistribution.LOG).log(10))
    return _finished(panel, title, description, queries)


def table_panel(
    title: str,
    description: str,
    labels: Mapping[str, str],
    values: Mapping[str, tuple[str, Override]],
    *,
    unit: str,
    width: int,
    sort_by: str,
    links: Mapping[str, Sequence[Mapping[str, object]]] | None = None,
) -> table.Panel:
    """Rows that have the same `labels` (name: header), with a column for each of `values` (header: query, display).

    Fields keep their own names and only get a header, so that links can say `${__data.fields.cause}`. `links` are
    data links by label.
    """
    panel = _plain_table(unit, width)
    order = {name: position for position, name in enumerate(labels)}
    for letter, (header, (_, display)) in zip("ABCDEFGH", values.items(), strict=False):
        # A lone query's column is called Value, otherwise it is Value and the query's letter.
        panel.override_by_regexp(f"/^Value( #{letter})?$/", [_property("displayName", header), *display])
        order |= {f"Value #{letter}": len(order)}
    for name, header in labels.items():
        linked = [] if links is None or name not in links else [_property("links", list(links[name]))]
        panel.override_by_name(name, [_property("displayName", header), *linked])
    excluded = {"Time": True} if values else {"Time": True, "Value": True}
    panel.with_transformation(dashboard.DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(
        dashboard.DataTransformerConfig(
            id_val="organize", options={"excludeByName": excluded, "indexByName": order, "renameByName": {}}
        )
    )
    panel.sort_by([common_builders.TableSortByFieldState().display_name(sort_by).desc(bool(values))])
    return _finished(panel, title, description, [_rows(expr) for expr, _ in values.values()])


def listing_panel(
    title: str, description: str, expr: str, labels: Mapping[str, str], *, width: int, sort_by: str
) -> table.Panel:
    """The labels of an info metric: a table without numbers."""
    panel = table_panel(title, description, labels, {}, unit="none", width=width, sort_by=sort_by)
    return panel.with_target(_rows(expr).ref_id("A"))


def matrix_panel(
    title: str, description: str, expr: str, *, row: str, column: str, header: str, unit: str, width: int
) -> table.Panel:
    """A row for each value of one label, a column for each of another."""
    panel = _plain_table(unit, width)
    panel.with_transformation(
        dashboard.DataTransformerConfig(
            id_val="groupingToMatrix",
            options={"rowField": row, "columnField": column, "valueField": "Value", "emptyValue": "empty"},
        )
    )
    panel.override_by_name(f"{row}\\{column}", [_property("displayName", header)])
    return _finished(panel, title, description, [_rows(expr)])


def heatmap_panel(title: str, description: str, expr: str, *, unit: str, width: int) -> heatmap_builders.Panel:
    """The buckets of a histogram (`sum by (le)`) over time."""
    query = line(expr, "{{le}}").format(PromQueryFormat.HEATMAP)
    panel = (
        heatmap_builders.Panel()
        .unit(unit)
        .height(8)
        .span(width)
        .calculate(False)
        .cell_gap(1)
        .color(
            heatmap_builders.HeatmapColorOptions()
            .mode(heatmap.HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .scale(heatmap.HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
            .steps(64)
        )
        .y_axis(heatmap_builders.YAxisConfig().unit(unit))
        .cell_values(heatmap_builders.CellValues().unit("short"))
    )
    return _finished(panel, title, description, [query])


def explained(panel: _Panel, alert: str) -> _Panel:
    """The panel with a link to the runbook of the alert that watches the same."""
    runbook = builders.DashboardLink("Runbook").url(f"${{runbooks}}/{alert}.md").target_blank(True)
    panel.links([runbook.type(dashboard.DashboardLinkType.LINK)])
    return panel


def shown(*, unit: str | None = None, decimals: int | None = None, gauge: bool = False) -> Override:
    """How a table's column is displayed; `gauge` draws a bar behind the number."""
    properties = {"unit": unit, "decimals": decimals}
    if gauge:
        properties["custom.cellOptions"] = {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}
    return [_property(name, value) for name, value in properties.items() if value is not None]


def thresholds(steps: Mapping[float, str]) -> builders.ThresholdsConfig:
    """Green, and from each bound on its colour."""
    first = dashboard.Threshold(value=None, color=GREEN)
    rest = [dashboard.Threshold(value=bound, color=color) for bound, color in steps.items()]
    return builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps([first, *rest])


def _plain_table(unit: str, width: int) -> table.Panel:
    return table.Panel().unit(unit).height(9).span(width).cell_height(common.TableCellHeight.SM).filterable(True)


def _rows(expr: str) -> prometheus.Dataquery:
    return number(expr).format(PromQueryFormat.TABLE)


def _property(name: str, value: object) -> dashboard.DynamicConfigValue:
    return dashboard.DynamicConfigValue(id_val=name, value=value)


def _finished(panel: _Panel, title: str, description: str, queries: Sequence[prometheus.Dataquery]) -> _Panel:
    panel.title(title).description(description).datasource(DATASOURCE)
    for letter, query in zip("ABCDEFGHIJKL", queries, strict=False):
        panel.with_target(query.ref_id(letter))
    return panel


# ---------------------------------------------------------------------------------------------------- variables, links


def datasource(name: str, label: str, description: str, plugin: str) -> builders.DatasourceVariable:
    """A variable to choose a datasource by."""
    return builders.DatasourceVariable(name).label(label).description(description).type(plugin)


def choice(name: str, label: str, description: str, query: str, *, all_value: str | None) -> builders.QueryVariable:
    """A variable with values of a label. Without `all_value`, All means all that are listed and no others."""
    variable = (
        builders.QueryVariable(name)
        .label(label)
        .description(description)
        .datasource(DATASOURCE)
        .query(query)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .current(dashboard.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )
    return variable if all_value is None else variable.all_value(all_value)


def traces_url(traceql: str) -> str:
    """Grafana's Explore with a TraceQL query, on the Tempo that is chosen and in the same time range.

    `${…}` in the query is left for Grafana to fill in.
    """
    pane = {
        "datasource": "${tempo_datasource}",
        "queries": [
            {
                "refId": "A",
                "datasource": {"type": "tempo", "uid": "${tempo_datasource}"},
                "queryType": "traceql",
                "query": traceql,
                "limit": 20,
            }
        ],
        "range": {"from": "${__from}", "to": "${__to}"},
    }
    text = quote(json.dumps({"t": pane}, separators=(",", ":")))
    placeholders = re.sub(r"%24%7B([\w.%A-F]+?)%7D", lambda found: f"${{{found[1].replace('%3A', ':')}}}", text)
    return f"/explore?schemaVersion=1&panes={placeholders}"


def data_link(title: str, url: str) -> dict[str, object]:
    """A link of a table's cell."""
    return {"title": title, "url": url, "targetBlank": True}
