"""Alert rules of a release: pure functions from thresholds to what Prometheus reads. No cluster, no kopf, no service."""

from agent_operator.rules.alert import Links, runbook_page
from agent_operator.rules.render import render
from agent_operator.rules.scope import Selector, Windows
from agent_operator.rules.slo import Slo
from agent_operator.rules.thresholds import TURN_BOUNDS, Thresholds

__all__ = ["TURN_BOUNDS", "Links", "Selector", "Slo", "Thresholds", "Windows", "render", "runbook_page"]
