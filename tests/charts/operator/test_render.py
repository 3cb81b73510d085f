"""charts/slipway-operator: what it installs, and what the operator may do."""

import json
from typing import Any

import jsonschema
import pytest
import yaml

from agent_operator.settings import OperatorSettings
from slipway_clients.cluster.kinds import GROUP_VERSION, OWN
from tests.charts.operator.chart import CASES, CHART, EVERYTHING, PLATFORMS, made, manifests, pod, refused
from tests.support.charts import MINORS, Manifest, check_with_api, different, every, one, values_of
from tools import alert_rules
from tools.chart_schema import read_values, schema, schema_text, with_table

CRD_GROUPS = {"monitoring.coreos.com", "apiextensions.k8s.io", "cert-manager.io", "cilium.io", "external-secrets.io"}


def crds(*values: Manifest) -> list[Manifest]:
    return every(manifests(*values), "CustomResourceDefinition")


@pytest.mark.parametrize("minor", MINORS)
def test_the_api_takes_every_object(minor: str) -> None:
    own = different(map(manifests, (*CASES.values(), *PLATFORMS.values())), CRD_GROUPS)

    check_with_api(own, minor)
    assert {m["kind"] for m in own} >= {"ClusterRole", "Deployment", "NetworkPolicy", "ServiceAccount"}


def test_the_oldest_minor_of_the_chart_is_among_them() -> None:
    chart = yaml.load((CHART / "Chart.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)

    assert chart["kubeVersion"] == f">={MINORS[0]}.0-0"


def test_schema_and_readme_are_what_the_comments_say() -> None:
    values, readme = read_values(CHART / "values.yaml"), (CHART / "README.md").read_text(encoding="utf-8")

    jsonschema.Draft7Validator.check_schema(schema(values))
    assert (CHART / "values.schema.json").read_text(encoding="utf-8") == schema_text(values), "make chart-docs"
    assert readme == with_table(readme, values), "make chart-docs"


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("replicas=2", "replicas"),
        ("rbac.secretName=a", "secretName"),
        ("watch.namespaces=[team-a]", "watch"),
        ("workers=0", "workers"),
        ("prometheus.tokenSecret=a", "a token goes by https only"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(wrong: str, named: str) -> None:
    assert named in refused(wrong)


def test_token_and_authority_of_prometheus_are_mounted_and_bring_no_right() -> None:
    url = "prometheus.url=https://thanos:9091"
    given = [url, "prometheus.tokenSecret=token", "prometheus.caSecret=ca", "prometheus.caKey=service-ca.crt"]
    found = manifests(values_of(*given))
    spec = one(found, "Deployment")["spec"]["template"]["spec"]
    (volume,) = (each for each in spec["volumes"] if each["name"] == "prometheus")
    env = {each["name"]: each.get("value") for each in spec["containers"][0]["env"]}

    assert volume["projected"]["sources"] == [
        {"secret": {"name": "token", "items": [{"key": "token", "path": "token"}]}},
        {"secret": {"name": "ca", "items": [{"key": "service-ca.crt", "path": "ca.crt"}]}},
    ]
    (mount,) = (each for each in spec["containers"][0]["volumeMounts"] if each["name"] == "prometheus")
    assert (env["PROMETHEUS_TOKEN_FILE"], env["PROMETHEUS_CA_FILE"]) == ("/prometheus/token", "/prometheus/ca.crt")
    assert (mount["mountPath"], mount["readOnly"]) == ("/prometheus", True)
    rights = [each for each in found if each["kind"] in {"Role", "ClusterRole"}]
    assert rights == [each for each in manifests(values_of(url)) if each["kind"] in {"Role", "ClusterRole"}]


def test_there_is_a_crd_for_each_kind_and_it_outlives_the_release() -> None:
    found = {(crd["spec"]["names"]["kind"], crd["spec"]["names"]["plural"]) for crd in crds()}

    assert found == {(kind.kind, kind.plural) for kind in OWN}
    for crd in crds():
        assert crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
        assert [f"{crd['spec']['group']}/{version['name']}" for version in crd["spec"]["versions"]] == [GROUP_VERSION]


def test_a_crd_is_the_canonical_file_and_its_labels() -> None:
    for crd in crds():
        plural = crd["spec"]["names"]["plural"]
        source = yaml.load((CHART / "crds-source" / f"{plural}.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)

        assert (crd["spec"], crd["metadata"]["name"]) == (source["spec"], source["metadata"]["name"])


def test_crds_may_be_somebody_elses_or_go_with_the_release() -> None:
    assert crds(values_of("crds.install=false")) == []
    assert all("annotations" not in crd["metadata"] for crd in crds(values_of("crds.keep=false")))


@pytest.mark.parametrize("kind", OWN)
def test_every_status_has_ready_and_conditions_with_a_generation(kind: Any) -> None:
    [crd] = [crd for crd in crds() if crd["spec"]["names"]["kind"] == kind.kind]
    [version] = crd["spec"]["versions"]
    condition = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]["conditions"]["items"]["properties"]

    assert version["subresources"] == {"status": {}}
    assert {"type", "status", "reason", "message", "observedGeneration", "lastTransitionTime"} <= condition.keys()
    assert len(version["additionalPrinterColumns"]) >= 5
    assert "slipway" in crd["spec"]["names"]["categories"]


def test_every_variable_is_one_that_the_operator_reads_and_accepts() -> None:
    values = values_of(
        "watch.allNamespaces=false",
        "watch.namespaces=[{name: a}, {name: b}]",
        "prometheus.url=http://p:9090",
        "resyncSeconds=30",
        "workers=8",
        "logLevel=debug",
    )
    env = {each["name"]: each.get("value", "x") for each in pod(values)["containers"][0]["env"]}

    settings = OperatorSettings.load(env)

    assert (settings.namespaces, settings.prometheus_url, settings.pod_name) == (("a", "b"), "http://p:9090", "x")
    assert (settings.resync_seconds, settings.workers, settings.log_level) == (30, 8, "debug")
    ports = {each["name"]: each["containerPort"] for each in pod()["containers"][0]["ports"]}
    assert ports == {"probe": settings.probe_port, "ops": settings.metrics_port}


def test_services_of_the_namespace_are_no_settings() -> None:
    assert pod()["enableServiceLinks"] is False, "a Service `metrics` would set METRICS_PORT to tcp://…"


def test_one_pod_that_is_replaced_and_not_doubled() -> None:
    spec = made("Deployment")["spec"]

    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert every(manifests(EVERYTHING), "PodDisruptionBudget") == []


def test_the_pod_passes_the_restricted_standard() -> None:
    spec = pod()
    [container] = spec["containers"]

    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()


def test_the_monitor_keeps_the_namespaces_of_the_objects() -> None:
    monitor = made("ServiceMonitor", EVERYTHING)
    service = made("Service", EVERYTHING)

    [endpoint] = monitor["spec"]["endpoints"]
    assert (endpoint["port"], endpoint["honorLabels"]) == ("ops", True)
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "slipway-operator"


def test_without_the_prometheus_operator_its_objects_are_refused_with_a_hint() -> None:
    for value in ("monitoring.serviceMonitor.enabled", "monitoring.alerts.enabled"):
        assert f"{value} needs the API monitoring.coreos.com/v1" in refused(f"{value}=true")


def test_the_alerts_are_what_the_rules_of_the_code_say() -> None:
    assert (CHART / "files" / "alerts.yaml").read_text(encoding="utf-8") == alert_rules.render_operator_file(), "make alerts"

    text = json.dumps(made("PrometheusRule", EVERYTHING)["spec"])
    assert "__" not in text.replace("__name__", "")
    assert 'job=\\\\\\"slipway-operator\\\\\\"' in json.dumps(text)


def test_the_dashboard_is_a_config_map_for_the_sidecar() -> None:
    [config_map] = every(manifests(EVERYTHING), "ConfigMap")

    assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(config_map["data"]["slipway-operator.json"])["uid"] == "slipway-operator"
