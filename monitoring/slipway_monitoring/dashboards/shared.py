"""Names, queries and panels that more than one dashboard uses."""

from slipway_monitoring.dashboards.panels import Limit, Panel, PanelText, Query, stat_panel
from slipway_monitoring.dashboards.promql import per_second, quantile
from slipway_monitoring.rules.thresholds import Thresholds

RELEASE_NAME = "{{namespace}}/{{job}}"
PODS = "{{pod}}"

TURNS = per_second("agent_runs_total")
HTTP = per_second("agent_http_requests_total")
FAILED = 'outcome=~"failed|timeout"'
BROKEN = 'status=~"server_error|connection_error|timeout|auth"'
"""Attempts at a model that its endpoint is to blame for, or our key."""

QUANTILES = (0.5, 0.95, 0.99)


def quantiles(histogram: str) -> list[Query]:
    """p50, p95 and p99 of a histogram; the highest has exemplars, which lead to traces."""
    return [Query(quantile(q, histogram), f"{RELEASE_NAME} p{q * 100:g}", exemplars=q == max(QUANTILES)) for q in QUANTILES]


def cost_per_hour(text: PanelText, limits: Thresholds) -> Panel:
    """USD at the rate of the last minutes."""
    query = Query(f"{per_second('agent_cost_usd_total')} * 3600", RELEASE_NAME)
    return stat_panel(text, query, limit=Limit(critical=limits.cost_usd_per_hour), decimals=2)
