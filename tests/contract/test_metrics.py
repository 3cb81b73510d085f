"""What is written about metrics is true: whoever reads one reads a declared one, and each declared one is read."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from agent_operator.metrics import Metrics as OperatorMetrics
from agent_service.metrics import Metrics
from slipway_monitoring.dashboards.reading import METRIC, PanelQuery
from slipway_monitoring.rules.operator_rules import render_operator
from slipway_monitoring.rules.render import render
from slipway_monitoring.rules.scope import Selector
from slipway_monitoring.rules.thresholds import Thresholds
from tests.monitoring.dashboards.shipped import QUERIES

ROOT = Path(__file__).parent.parent.parent
SUFFIXES = {"counter": ("_total",), "info": ("_info",), "gauge": ("",), "histogram": ("", "_bucket", "_sum", "_count")}
WRITTEN = re.compile(r"\b(?:agent|slipway_operator)_[a-z0-9_]*[a-z0-9]\b")
NO_METRICS = {"agent_service", "agent_operator"}
"""Packages."""

DOCUMENTS = sorted(
    path
    for folder in ("docs", "charts", "k8s")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".md", ".yaml", ".tpl", ".txt"}
)


def registries() -> Iterator[CollectorRegistry]:
    yield Metrics(models=(), version="", graph="", guardrail_rules=()).registry
    yield OperatorMetrics("").registry


def families() -> dict[str, set[str]]:
    """Declared names, and under which names of series each is exported."""
    return {
        family.name: {family.name + suffix for suffix in SUFFIXES[family.type]}
        for registry in registries()
        for family in registry.collect()
        if not family.name.startswith("process_")
    }


def exported() -> set[str]:
    return {name for names in families().values() for name in names}


def in_rules() -> set[str]:
    groups = render(Thresholds(daily_budget_usd=100.0), selector=Selector("ns", "agent"))
    groups += render_operator(selector=Selector("ns", "operator"))
    return {name for group in groups for rule in group["rules"] for name in METRIC.findall(rule["expr"])}


def in_dashboards() -> set[str]:
    return {name for query in QUERIES for name in METRIC.findall(query.expr)}


def in_autoscalers() -> set[str]:
    templates = (ROOT / "charts/slipway/templates").iterdir()
    return {name for path in templates if path.is_file() for name in WRITTEN.findall(path.read_text(encoding="utf-8"))}


def foreign(names: set[str]) -> set[str]:
    """Those that should be ours and are not."""
    return {name for name in names if name.startswith(("agent_", "slipway_operator_"))} - exported()


def test_dashboards_and_rules_read_declared_metrics() -> None:
    assert foreign(in_dashboards() | in_rules()) == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_names_declared_metrics(document: Path) -> None:
    written = {*WRITTEN.findall(document.read_text(encoding="utf-8"))} - NO_METRICS

    assert foreign(written) == set()


def test_every_metric_has_a_reader() -> None:
    """A panel, an alert or an autoscaler; documents alone do not keep a metric alive."""
    read = in_dashboards() | in_rules() | in_autoscalers()

    assert {name for name, series in families().items() if not series & read} == set()


def label_values(query: PanelQuery, metric: str, label: str) -> Iterator[str]:
    for matchers in re.findall(metric + r"\{([^}]*)\}", query.expr):
        for _, values in re.findall(rf'\b{label}(=~|=|!~|!=)"([^"$]*)"', matchers):
            yield from values.split("|")


@pytest.mark.parametrize(
    ("metric", "label"),
    [
        ("agent_runs_total", "outcome"),
        ("agent_llm_requests_total", "status"),
        ("agent_tool_calls_total", "status"),
        ("agent_tokens_total", "type"),
        ("agent_stream_resumes_total", "result"),
        ("agent_runs_recovered_total", "reason"),
        ("agent_db_pool_connections", "state"),
        ("agent_feedback_total", "score"),
        ("agent_answers_total", "result"),
        ("slipway_operator_reconcile_errors_total", "reason"),
    ],
)
def test_panels_pick_values_that_a_label_can_have(metric: str, label: str) -> None:
    possible = {
        sample.labels[label]
        for registry in registries()
        for family in registry.collect()
        for sample in family.samples
        if sample.name == metric
    }
    picked = {value for query in QUERIES for value in label_values(query, metric, label)}

    assert picked
    assert picked <= possible
