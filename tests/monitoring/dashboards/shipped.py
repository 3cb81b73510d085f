"""The dashboards as the charts carry them."""

import json

from slipway_monitoring.dashboards.reading import Json, PanelQuery, mark_queries, panel_queries, panels
from slipway_monitoring.rules.thresholds import Thresholds
from tools.dashboards import specs

PATHS = sorted(specs(Thresholds()))
DASHBOARDS: dict[str, Json] = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in PATHS}
PANELS: dict[str, Json] = {f"{uid}: {panel['title']}": panel for uid, each in DASHBOARDS.items() for panel in panels(each)}
QUERIES: list[PanelQuery] = [query for each in DASHBOARDS.values() for query in (*panel_queries(each), *mark_queries(each))]
