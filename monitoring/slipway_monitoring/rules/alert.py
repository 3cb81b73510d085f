"""An alert, and the rule that it becomes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

from slipway_monitoring.rules.scope import Scope

Severity = Literal["critical", "warning"]
"""critical: users are hurt or money burns, wake somebody up. warning: in working hours."""

Dashboard = Literal["overview", "cost-quality", "tools-nodes", "rollouts-keys", "operator"]

RELEASE = "{{ $labels.namespace }}/{{ $labels.job }}"
PERCENT = "{{ $value | humanizePercentage }}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """`hold` and `keep` in seconds: how long the condition holds before it fires, and fires on after it was last seen."""

    name: str
    expr: str
    severity: Severity
    hold: float
    keep: float = 0.0
    summary: str
    description: str
    dashboard: Dashboard
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Links:
    """Base URLs of runbooks and of Grafana. Empty: alerts have no link to their runbook, and a path within Grafana."""

    runbooks: str = ""
    grafana: str = ""

    def runbook(self, alert: str) -> dict[str, str]:
        """Annotations: the page in the repository, as an agent that is down does not serve its runbooks, and its address."""
        page = runbook_page(alert)
        url = {"runbook_url": f"{self.runbooks.rstrip('/')}/{page}"} if self.runbooks else {}
        return {"runbook": f"docs/runbooks/{page}", **url}

    def dashboard(self, uid: str, namespace: str, job: str) -> str:
        return f"{self.grafana.rstrip('/')}/d/slipway-{uid}?var-namespace={quote(namespace)}&var-job={quote(job)}"


LINKS = Links()


def runbook_page(alert: str) -> str:
    """Path below docs/runbooks: `AgentTargetDown` → `agent-target-down.md`; of the operator's alerts, in its folder."""
    page = "".join(f"-{c.lower()}" if c.isupper() else c for c in alert).lstrip("-") + ".md"
    return f"operator/{page}" if alert.startswith("Slipway") else page


def as_rule(alert: Alert, scope: Scope, links: Links) -> dict[str, Any]:
    """The rule as Prometheus reads it."""
    rule: dict[str, Any] = {"alert": alert.name, "expr": alert.expr}
    if alert.hold:
        rule["for"] = scope.over(alert.hold)
    if alert.keep:
        rule["keep_firing_for"] = scope.over(alert.keep)
    rule["labels"] = {"severity": alert.severity, **alert.labels}
    rule["annotations"] = {
        "summary": alert.summary,
        "description": alert.description,
        **links.runbook(alert.name),
        "dashboard_url": links.dashboard(alert.dashboard, scope.select.namespace, scope.select.job),
    }
    return rule
