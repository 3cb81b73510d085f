"""Values of charts/slipway/ci in a cluster: two aliases of one parent, in a namespace whose quota counts limits.cpu."""

import time
from pathlib import Path

import pytest
import yaml

from tests.charts.slipway import CHART, write_umbrella
from tests.e2e.agent import default_values
from tests.support.charts import merged
from tests.support.cluster import fresh_namespace
from tests.support.figures import Report
from tests.support.helm import Release

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

ALIASES = ("support", "sales")

QUOTA = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "team"},
    "spec": {"hard": {"limits.cpu": "12", "limits.memory": "8Gi"}},
}


def test_two_aliases_of_one_parent_run_side_by_side_within_a_quota(tmp_path: Path, report: Report) -> None:
    quota = yaml.safe_load((CHART / "ci/quota-values.yaml").read_text(encoding="utf-8"))
    began = time.monotonic()
    with fresh_namespace("e2e-platforms") as namespace:
        namespace.apply(QUOTA)
        parent = Release(namespace, "team", write_umbrella(tmp_path / "umbrella", *ALIASES))
        parent.upgrade({alias: merged(default_values(), quota) for alias in ALIASES})
        told = parent.test()
        ready = {each["metadata"]["name"]: each["status"].get("readyReplicas") for each in namespace.get("deployments")}
        databases = {each["metadata"]["name"] for each in namespace.get("statefulsets")}
    report(f"platforms: two aliases of one parent are ready, and answer `helm test`, in {time.monotonic() - began:.0f} s")

    assert ready == {"team-support": 1, "team-sales": 1}
    assert databases == {"team-support-postgres", "team-sales-postgres"}
    assert told.count("Succeeded") == len(ALIASES), told
