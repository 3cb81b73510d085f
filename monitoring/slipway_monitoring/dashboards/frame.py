"""What all dashboards share: variables, marks of rollouts, links to each other, the time range."""

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from slipway_monitoring.dashboards.panels import DATASOURCE, Panel
from slipway_monitoring.dashboards.promql import RELEASE, aggregate, series

RUNBOOKS_PLACEHOLDER = "__RUNBOOKS__"
"""The charts put their value of the runbooks' address here."""

TAG = "slipway"
REFRESH = "30s"
"""The usual scrape interval: reading more often shows nothing new."""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading, left to right."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class DashboardSpec:
    """What one dashboard holds. `anchor` is a metric that every pod it shows exports: the variables list what has it."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    anchor: str = "agent_build_info"
    objects: str = ""
    """A metric of objects that live in other namespaces than the pods; adds a choice of these."""
    rollout_marks: bool = True

    def render(self) -> str:
        """Grafana's JSON with sorted keys, the same bytes each time."""
        return json.dumps(self.as_json(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    def as_json(self) -> dict[str, Any]:
        """What Grafana imports."""
        plain: dict[str, Any] = json.loads(json.dumps(_build(self), cls=JSONEncoder))
        for mark in plain["annotations"]["list"]:
            # The SDK has no field for what Grafana's Prometheus marks are called.
            mark["titleFormat"], mark["textFormat"], mark["step"] = (
                mark["name"],
                "{{namespace}}/{{job}} {{version}}{{pod}}",
                "30s",
            )
        return plain


def _build(spec: DashboardSpec) -> models.Dashboard:
    frame = dashboard.Dashboard(spec.title).uid(spec.uid).description(spec.description).tags([TAG]).readonly()
    frame.time("now-1h", "now").refresh(REFRESH).timezone("browser").tooltip(models.DashboardCursorSync.CROSSHAIR)
    frame.variables(_variables(spec)).annotations(_marks() if spec.rollout_marks else []).link(_siblings())
    for row in spec.rows:
        frame.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            frame.with_panel(panel)
    built = frame.build()
    for number, panel_or_row in enumerate(built.panels or ()):
        panel_or_row.id_val = (
            panel_id(spec.uid, panel_or_row.title or "") if isinstance(panel_or_row, models.Panel) else number + 1
        )
    return built


def panel_id(uid: str, title: str) -> int:
    """Stays when other panels come and go, so that links from alerts and bookmarks keep leading to the panel."""
    return 1000 + zlib.crc32(f"{uid}/{title}".encode()) % 1_000_000


def _variables(spec: DashboardSpec) -> list[Builder[models.VariableModel]]:
    return [
        dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"),
        *(_choice(*each) for each in _choices(spec)),
        dashboard.ConstantVariable("runbooks").value(RUNBOOKS_PLACEHOLDER),
    ]


def _choices(spec: DashboardSpec) -> Iterator[tuple[str, str, str]]:
    """Variable, its name to people, and the series that it lists the values of."""
    yield "namespace", "Namespace", spec.anchor
    yield "job", "Release", f'{spec.anchor}{{namespace=~"$namespace"}}'
    yield "pod", "Pod", f"{spec.anchor}{{{RELEASE}}}"
    if spec.objects:
        yield "object_namespace", "Objects in", f'{spec.objects}{{job=~"$job", pod=~"$pod"}}'


def _choice(name: str, label: str, of: str) -> dashboard.QueryVariable:
    query: dict[str, object] = {
        "query": f"label_values({of}, {'namespace' if name == 'object_namespace' else name})",
        "refId": f"variable-{name}",
    }
    choice = (
        dashboard.QueryVariable(name).label(label).query(query).datasource(DATASOURCE).sort(models.VariableSort.ALPHABETICAL_ASC)
    )
    choice.multi(multi=True).include_all(include_all=True).all_value(".+")
    return choice.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).current(
        models.VariableOption(selected=True, text=["All"], value=["$__all"])
    )


def _marks() -> list[Builder[models.AnnotationQuery]]:
    builds = aggregate("group", series("agent_build_info"), "version")
    before = aggregate("group", f"{series('agent_build_info')} offset 5m", "version")
    return [
        _mark("New version", f"{builds} unless {before}", "blue"),
        _mark("Draining", f"{series('agent_draining')} == 1", "orange"),
    ]


def _mark(name: str, expr: str, color: str) -> dashboard.AnnotationQuery:
    return dashboard.AnnotationQuery().name(name).datasource(DATASOURCE).enable(enable=True).expr(expr).icon_color(color)


def _siblings() -> dashboard.DashboardLink:
    link = dashboard.DashboardLink("Slipway").type(models.DashboardLinkType.DASHBOARDS).tags([TAG]).as_dropdown(as_dropdown=False)
    return link.include_vars(include_vars=True).keep_time(keep_time=True)
