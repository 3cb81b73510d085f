"""The kinds of panel that the dashboards are made of, with one look each. Sizes are cells of Grafana's 24-column grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as look
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmaps
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from slipway_monitoring.dashboards.promql import LABELS
from slipway_monitoring.rules.alert import runbook_page

DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="$datasource")
RUNBOOKS = "${runbooks}"
"""Variable with the address of docs/runbooks; the chart fills it in."""

STAT_HEIGHT = 4
GRAPH_HEIGHT = 8


@dataclass(frozen=True, slots=True)
class Query:
    """`exemplars` marks latencies whose dots lead to a trace."""

    expr: str
    legend: str
    exemplars: bool = False


@dataclass(frozen=True, slots=True)
class PanelText:
    """What every panel says of itself. `alerts` watch what it shows."""

    title: str
    description: str
    unit: str
    alerts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limit:
    """Where a value becomes a warning or an alert, in the panel's unit; None where there is no such line."""

    warning: float | None = None
    critical: float | None = None


Panel = Builder[models.Panel]
NO_LIMIT = Limit()
PALETTE: Mapping[str, str] = MappingProxyType({})
"""Grafana's own colours."""

VERDICTS: Mapping[str, str] = MappingProxyType(
    {
        "completed|ok|2..": "green",
        "interrupted|3..": "blue",
        "cancelled|client_error|4..": "yellow",
        "iteration_limit|budget|rate_limited|503": "orange",
        "failed|timeout|server_error|connection_error|auth|50[0-24]": "red",
    }
)
"""Outcomes and statuses look the same wherever they are drawn."""


def stat_panel(
    text: PanelText, query: Query, *, limit: Limit = NO_LIMIT, width: int = 3, decimals: int | None = None, good: str = "green"
) -> Panel:
    """One number and its course. Green below its limits; without limits it takes no side."""
    panel = stat.Panel().height(STAT_HEIGHT).span(width)
    panel.graph_mode(look.BigValueGraphMode.AREA).color_mode(look.BigValueColorMode.VALUE)
    panel.text_mode(look.BigValueTextMode.AUTO).mappings([_nothing_to_divide()]).no_value("no data")
    panel.reduce_options(common.ReduceDataOptions().calcs(["last"]))
    panel.thresholds(_thresholds(limit, good if limit != NO_LIMIT else "blue"))
    if decimals is not None:
        panel.decimals(decimals)
    return _finish(panel, text, [query])


def graph(
    text: PanelText,
    *queries: Query,
    limit: Limit = NO_LIMIT,
    width: int = 8,
    stacked: bool = False,
    maximum: float | None = None,
    colors: Mapping[str, str] = PALETTE,
) -> Panel:
    """Lines over time; limits are drawn as dashed lines. `colors`: what a legend ends with, as a pattern, to a colour."""
    panel = timeseries.Panel().height(GRAPH_HEIGHT).span(width).min(0).line_width(1).fill_opacity(30 if stacked else 8)
    panel.show_points(look.VisibilityMode.NEVER).thresholds(_thresholds(limit, "transparent"))
    panel.legend(_legend()).tooltip(_tooltip()).no_value("no data")
    if stacked:
        panel.stacking(common.StackingConfig().mode(look.StackingMode.NORMAL).group("A"))
    if limit != NO_LIMIT:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(look.GraphThresholdsStyleMode.DASHED))
    if maximum is not None:
        panel.max(maximum)
    for pattern, color in colors.items():
        fixed = models.FieldColor(mode=models.FieldColorModeId.FIXED, fixed_color=color)
        panel.override_by_regexp(f"/ ({pattern})$/", [models.DynamicConfigValue(id_val="color", value=fixed)])
    return _finish(panel, text, queries)


def heatmap_panel(text: PanelText, query: Query, *, width: int = 8) -> Panel:
    """Buckets of a histogram over time; the query sums their rates by `le`."""
    panel = heatmap.Panel().height(GRAPH_HEIGHT).span(width).calculate(calculate=False)
    panel.y_axis(heatmap.YAxisConfig().unit(text.unit)).cell_values(heatmap.CellValues().unit("reqps"))
    color = heatmap.HeatmapColorOptions().mode(heatmaps.HeatmapColorMode.SCHEME).scheme("Oranges").exponent(0.5).steps(64)
    panel.color(color.fill("dark-orange").reverse(reverse=False)).show_value(look.VisibilityMode.NEVER)
    panel.filter_values(heatmap.FilterValueRange().le(1e-9))
    return _finish(panel, text, [query], query_format=PromQueryFormat.HEATMAP)


@dataclass(frozen=True, slots=True)
class Column:
    """A number per row of a table."""

    title: str
    expr: str
    unit: str
    limit: Limit = NO_LIMIT


def table_panel(text: PanelText, labels: Sequence[str], *columns: Column, width: int = 24) -> Panel:
    """A row per combination of `labels`, highest number of the first column on top."""
    panel = table.Panel().height(GRAPH_HEIGHT).span(width).no_value("no data").thresholds(_thresholds(NO_LIMIT, "text"))
    panel.sort_by([common.TableSortByFieldState().display_name(columns[0].title).desc(desc=True)])
    panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(models.DataTransformerConfig(id_val="organize", options=_organize(labels, columns)))
    for column in columns:
        panel.override_by_name(column.title, _cells(column))
    for number, column in enumerate(columns):
        panel.with_target(_target(Query(column.expr, column.title), number).instant().format(PromQueryFormat.TABLE))
    return _finish(panel, text, [])


def _organize(labels: Sequence[str], columns: Sequence[Column]) -> dict[str, object]:
    names = {f"Value #{_letter(number)}": column.title for number, column in enumerate(columns)}
    order = {name: place for place, name in enumerate([*labels, *names])}
    hidden = {name: True for name in ("Time", *LABELS) if name not in labels}
    return {"excludeByName": hidden, "indexByName": order, "renameByName": names}


def _cells(column: Column) -> list[models.DynamicConfigValue]:
    values = [models.DynamicConfigValue(id_val="unit", value=column.unit)]
    if column.unit == "none":
        values.append(models.DynamicConfigValue(id_val="decimals", value=0))
    if column.limit != NO_LIMIT:
        values += [
            models.DynamicConfigValue(id_val="thresholds", value=_thresholds(column.limit, "text").build()),
            models.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}),
        ]
    return values


P = TypeVar("P", stat.Panel, timeseries.Panel, heatmap.Panel, table.Panel)


def _finish(
    panel: P, text: PanelText, queries: Sequence[Query], *, query_format: PromQueryFormat = PromQueryFormat.TIME_SERIES
) -> P:
    for number, query in enumerate(queries):
        panel.with_target(_target(query, number).range().format(query_format))
    panel.title(text.title).description(_description(text)).unit(text.unit).datasource(DATASOURCE)
    return panel.links([_runbook(alert) for alert in text.alerts])


def _target(query: Query, number: int) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(_letter(number)).datasource(DATASOURCE)
    return target.exemplar(exemplar=True) if query.exemplars else target


def _letter(number: int) -> str:
    return chr(ord("A") + number)


def _description(text: PanelText) -> str:
    return f"{text.description} Alert: {', '.join(text.alerts)}." if text.alerts else text.description


def _runbook(alert: str) -> dashboard.DashboardLink:
    link = dashboard.DashboardLink(f"Runbook {alert}").type(models.DashboardLinkType.LINK).target_blank(target_blank=True)
    return link.url(f"{RUNBOOKS}/{runbook_page(alert)}")


def _thresholds(limit: Limit, base: str) -> dashboard.ThresholdsConfig:
    steps = [models.Threshold(value=None, color=base)]
    for value, color in ((limit.warning, "orange"), (limit.critical, "red")):
        if value is not None:
            steps.append(models.Threshold(value=value, color=color))
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _nothing_to_divide() -> models.ValueMapping:
    result = models.ValueMappingResult(text="no traffic", color="text")
    options = models.DashboardSpecialValueMapOptions(match=models.SpecialValueMatch.NA_N, result=result)
    return models.SpecialValueMap(options)


def _legend() -> common.VizLegendOptions:
    legend = common.VizLegendOptions().show_legend(show_legend=True).placement(look.LegendPlacement.BOTTOM)
    return (
        legend.display_mode(look.LegendDisplayMode.TABLE).calcs(["lastNotNull", "max"]).sort_by("Max").sort_desc(sort_desc=True)
    )


def _tooltip() -> common.VizTooltipOptions:
    return common.VizTooltipOptions().mode(look.TooltipDisplayMode.MULTI).sort(look.SortOrder.DESCENDING)
