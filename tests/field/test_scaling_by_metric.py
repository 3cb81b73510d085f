"""Autoscalers and the replicas that Helm and they write: https://github.com/kedacore/keda/issues/3065 (no metric was taken for 0,
and pods went at the peak), https://github.com/kedacore/keda/issues/4249 (`fallback` did nothing),
https://github.com/kedacore/keda/issues/1850 (to zero, as the metric was away), https://github.com/helm/helm/issues/7090 and
https://github.com/NatLabRockies/openstudio-server-helm/issues/110 (an upgrade set `replicas`, or could not).

Nothing of it happens here. Siblings: each mode, a lone pod, draining pods, another release and namespace, no pod, zero pods.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.slipway import CHART, SCALED, made
from tests.monitoring.rules.promtool import promtool
from tests.support.charts import refusal, values_of


def series(pod: str, job: str = "my-agent", namespace: str = "agents") -> str:
    return f'agent_concurrency{{namespace="{namespace}",job="{job}",pod="{pod}"}}'


HISTORIES: dict[str, tuple[dict[str, int], list[float]]] = {
    "three pods": ({series("a"): 5, series("b"): 7, series("c"): 0}, [12]),
    "one pod": ({series("a"): 5}, [5]),
    "all drain": ({series("a"): 0, series("b"): 0}, [0]),
    "others only": ({series("a", job="other"): 9, series("b", namespace="other"): 9, series("c", job="my-agent-2"): 9}, []),
    "no pod": ({}, []),
}


def trigger() -> dict[str, Any]:
    (found,) = made("ScaledObject", SCALED["keda"])["spec"]["triggers"]
    return dict(found)


def test_the_query_is_one_element_or_none_on_a_real_prometheus(tmp_path: Path) -> None:
    query = trigger()["metadata"]["query"]
    tests = [
        {
            "name": name,
            "interval": "15s",
            "input_series": [{"series": each, "values": f"{value}x8"} for each, value in given.items()],
            "promql_expr_test": [
                {"expr": query, "eval_time": "1m", "exp_samples": [{"labels": "{}", "value": v} for v in expected]}
            ],
        }
        for name, (given, expected) in HISTORIES.items()
    ]
    path = tmp_path / "tests.yaml"
    path.write_text(
        yaml.dump({"rule_files": [], "evaluation_interval": "15s", "tests": tests}, Dumper=yaml.CSafeDumper), encoding="utf-8"
    )
    assert "SUCCESS" in promtool("test", "rules", path)


def test_a_metric_that_is_away_is_an_error_and_takes_no_pod_away() -> None:
    spec = made("ScaledObject", SCALED["keda"])["spec"]
    assert trigger()["metadata"]["ignoreNullValues"] == "false"
    assert trigger()["metricType"] == "AverageValue"  # the only type that a fallback counts for
    assert spec["fallback"] == {"failureThreshold": 3, "replicas": spec["minReplicaCount"], "behavior": "currentReplicasIfHigher"}


@pytest.mark.parametrize("mode", SCALED)
def test_the_deployment_names_no_replicas_while_an_autoscaler_does(mode: str) -> None:
    assert "replicas" not in made("Deployment", SCALED[mode], values_of("replicaCount=7"))["spec"]
    assert made("Deployment", values_of("replicaCount=7"))["spec"]["replicas"] == 7


@pytest.mark.parametrize("mode", SCALED)
def test_no_autoscaler_takes_the_last_pod_away(mode: str) -> None:
    assert "/autoscaling/minReplicas" in refusal(
        CHART, {**SCALED[mode], "autoscaling": {**SCALED[mode]["autoscaling"], "minReplicas": 0}}
    )
