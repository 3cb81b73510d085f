"""The release's AgentHealth is one that the CRD takes."""

import jsonschema
import yaml

from tests.charts.slipway import made, manifests, refused
from tests.support.charts import CHARTS, values_of

CRD = CHARTS / "slipway-operator/crds-source/agenthealths.yaml"

HEALTH = values_of(
    "operator.agentHealth.enabled=true",
    "operator.agentHealth.prometheusUrl=http://prometheus.monitoring:9090",
    "operator.agentHealth.limits={p99Seconds: 20, minReplicas: 3}",
    "graph.version=2.0.1",
    "operator.agentHealth.baseline=stable",
    "operator.agentHealth.accepted=[{condition: DatabaseExternal, because: a test system}]",
)


def test_it_names_the_release_and_fits_the_definition() -> None:
    health = made("AgentHealth", HEALTH)
    schema = yaml.load(CRD.read_text(encoding="utf-8"), yaml.CSafeLoader)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]

    jsonschema.validate(health["spec"], {**schema["properties"]["spec"], "additionalProperties": False})
    assert health["spec"] == {
        "release": health["metadata"]["labels"]["app.kubernetes.io/instance"],
        "prometheus": {"url": "http://prometheus.monitoring:9090"},
        "limits": {"p99Seconds": 20, "minReplicas": 3},
        "rollout": {"version": "2.0.1", "baseline": "stable"},
        "accepted": [{"condition": "DatabaseExternal", "because": "a test system"}],
    }


def test_an_upgrade_to_another_version_is_a_new_generation_so_that_kubectl_waits_for_a_new_verdict() -> None:
    versions = [made("AgentHealth", HEALTH, values_of(f"graph.version=v{n}"))["spec"]["rollout"]["version"] for n in (1, 2)]

    assert versions == ["v1", "v2"]


def test_there_is_none_unless_asked_for() -> None:
    assert "AgentHealth" not in {manifest["kind"] for manifest in manifests()}


def test_a_cluster_without_the_crd_is_told_what_to_install() -> None:
    assert "install the chart slipway-operator first" in refused("operator.agentHealth.enabled=true", "checkCRDs=true")
