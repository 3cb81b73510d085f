"""From thresholds to groups of rules, as Prometheus and a PrometheusRule take them."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from slipway_monitoring.rules import capacity, graph, keys, models, presence, slo, users
from slipway_monitoring.rules.alert import LINKS, Alert, Links, as_rule
from slipway_monitoring.rules.scope import FULL_LENGTH, Scope, Selector, Windows
from slipway_monitoring.rules.slo import Slo
from slipway_monitoring.rules.thresholds import Thresholds

TOPICS = {
    "users": users.alerts,
    "graph": graph.alerts,
    "models": models.alerts,
    "capacity": capacity.alerts,
    "keys": keys.alerts,
    "presence": presence.alerts,
}
"""A group each: Prometheus runs the rules of a group one after the other, and groups side by side."""


def render(
    thresholds: Thresholds,
    *,
    selector: Selector,
    links: Links = LINKS,
    windows: Windows = FULL_LENGTH,
    slos: Iterable[Slo] = (),
    labels: Mapping[str, str] | None = None,
    without: Collection[str] = (),
) -> list[dict[str, Any]]:
    """Groups of the alerts of one release; `labels` are put on every rule, alerts named in `without` are left out."""
    scope = Scope(selector, windows)
    topics = {name: [*alerts(thresholds, scope)] for name, alerts in TOPICS.items()}
    topics["slo"] = [*slo.alerts(tuple(slos), thresholds, scope)]
    wanted = {name: [alert for alert in alerts if alert.name not in without] for name, alerts in topics.items()}
    return [_group(name, alerts, scope, links, labels or {}) for name, alerts in wanted.items() if alerts]


def _group(name: str, alerts: list[Alert], scope: Scope, links: Links, labels: Mapping[str, str]) -> dict[str, Any]:
    rules = [as_rule(alert, scope, links) for alert in alerts]
    return {"name": f"slipway.{name}", "rules": [{**rule, "labels": {**labels, **rule["labels"]}} for rule in rules]}
