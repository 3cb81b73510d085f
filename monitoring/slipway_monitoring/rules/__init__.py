"""Alert rules of a release: pure functions from thresholds to what Prometheus reads. No cluster, no kopf, no service."""

from slipway_monitoring.rules.alert import Links, runbook_page
from slipway_monitoring.rules.render import render
from slipway_monitoring.rules.scope import Selector, Windows
from slipway_monitoring.rules.slo import Slo
from slipway_monitoring.rules.thresholds import TURN_BOUNDS, Thresholds

__all__ = ["TURN_BOUNDS", "Links", "Selector", "Slo", "Thresholds", "Windows", "render", "runbook_page"]
