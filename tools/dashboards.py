"""Writes the dashboards' JSON into the charts (`make dashboards`)."""

from pathlib import Path

from slipway_monitoring.dashboards import cost_quality, operator, overview, rollouts_keys, tools_nodes
from slipway_monitoring.dashboards.frame import DashboardSpec
from slipway_monitoring.rules.thresholds import Thresholds

ROOT = Path(__file__).parent.parent
AGENT = ROOT / "charts/slipway/files/dashboards"
OPERATOR = ROOT / "charts/slipway-operator/files/dashboards"
"""Beside each agent; what the operator exports is shown by the operator's chart."""


def specs(limits: Thresholds) -> dict[Path, DashboardSpec]:
    """File to dashboard. The lines drawn in panels are those of the alerts."""
    agent = [module.build(limits) for module in (overview, cost_quality, tools_nodes, rollouts_keys)]
    own = operator.build(limits)
    return {AGENT / f"{spec.uid}.json": spec for spec in agent} | {OPERATOR / f"{own.uid}.json": own}


if __name__ == "__main__":
    for path, spec in specs(Thresholds()).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(spec.render(), encoding="utf-8")
