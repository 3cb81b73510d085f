"""Writes the dashboards' JSON into the charts (`make dashboards`)."""

from pathlib import Path

from slipway_monitoring.dashboards import cost_quality, operator, overview, rollouts_keys, tools_nodes
from slipway_monitoring.dashboards.frame import Sheet
from slipway_monitoring.rules.thresholds import Thresholds

ROOT = Path(__file__).parent.parent
AGENT = ROOT / "charts/slipway/files/dashboards"
OPERATOR = ROOT / "charts/slipway-operator/files/dashboards"
"""Beside each agent; what the operator exports is shown by the operator's chart."""


def sheets(limits: Thresholds) -> dict[Path, Sheet]:
    """File to dashboard. The lines drawn in panels are those of the alerts."""
    agent = [module.sheet(limits) for module in (overview, cost_quality, tools_nodes, rollouts_keys)]
    own = operator.sheet(limits)
    return {AGENT / f"{sheet.uid}.json": sheet for sheet in agent} | {OPERATOR / f"{own.uid}.json": own}


if __name__ == "__main__":
    for path, sheet in sheets(Thresholds()).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(sheet.render(), encoding="utf-8")
