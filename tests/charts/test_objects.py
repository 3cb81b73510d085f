"""The objects around the agent's pods."""

import errno
import io
import runpy
import time
import urllib.error
import urllib.request
from email.message import Message
from typing import Any, ClassVar

import pytest

from tests.charts.slipway import CHART, EXTERNAL, MONITORED, PLACED, ROUTED, SCALED, agent, made, manifests
from tests.support.charts import every, merged, one, values_of

SELECTOR = {"app.kubernetes.io/name": "slipway", "app.kubernetes.io/instance": "my-agent"}
AGENT = {**SELECTOR, "app.kubernetes.io/component": "agent"}
POSTGRES = {**SELECTOR, "app.kubernetes.io/component": "postgres"}

DNS = {53, 5353}
"""5353 is where OpenShift's DNS pods listen; a policy sees the port behind the Service."""


def policy(*values: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = made("NetworkPolicy", *values, name="my-agent-slipway")["spec"]
    return spec


def egress_ports(*values: dict[str, Any]) -> set[int]:
    return {port["port"] for rule in policy(*values)["egress"] for port in rule["ports"]}


def test_the_selector_of_every_object_is_the_same() -> None:
    found = manifests(MONITORED)
    deployment = one(found, "Deployment")

    assert deployment["spec"]["selector"]["matchLabels"] == AGENT
    assert deployment["spec"]["template"]["metadata"]["labels"] == AGENT
    for service in ("my-agent-slipway", "my-agent-slipway-ops"):
        assert one(found, "Service", service)["spec"]["selector"] == AGENT
    assert one(found, "ServiceMonitor")["spec"]["selector"]["matchLabels"] == AGENT


def test_the_api_is_on_port_80_and_the_ops_port_on_a_headless_service() -> None:
    found = manifests(PLACED)
    api, ops = one(found, "Service", "my-agent-slipway"), one(found, "Service", "my-agent-slipway-ops")

    assert [(p["name"], p["port"], p["targetPort"]) for p in api["spec"]["ports"]] == [("api", 80, "api")]
    assert [(p["name"], p["port"], p["targetPort"]) for p in ops["spec"]["ports"]] == [("ops", 9090, "ops")]
    assert (ops["spec"]["clusterIP"], ops["spec"]["publishNotReadyAddresses"]) == ("None", True)
    assert api["metadata"]["annotations"] == {"lb": "internal"}


def test_one_pod_at_a_time_may_be_evicted_and_unready_ones_always() -> None:
    spec = made("PodDisruptionBudget")["spec"]

    assert (spec["maxUnavailable"], spec["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")
    assert spec["selector"]["matchLabels"] == AGENT


def test_the_pods_metric_is_runs_per_pod() -> None:
    spec = made("HorizontalPodAutoscaler", SCALED["pods-metric"])["spec"]

    (metric,) = spec["metrics"]
    assert metric["pods"] == {"metric": {"name": "agent_concurrency"}, "target": {"type": "AverageValue", "averageValue": "50"}}
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 10)


def test_cpu_counts_the_agents_container_only() -> None:
    (metric,) = made("HorizontalPodAutoscaler", SCALED["cpu"])["spec"]["metrics"]

    target = {"type": "Utilization", "averageUtilization": 70}
    assert metric["containerResource"] == {"name": "cpu", "container": "agent", "target": target}


def test_keda_takes_no_answer_for_an_error_and_then_keeps_the_pods() -> None:
    spec = made("ScaledObject", SCALED["keda"])["spec"]

    (trigger,) = spec["triggers"]
    assert trigger["metadata"]["ignoreNullValues"] == "false"
    assert spec["fallback"] == {"failureThreshold": 3, "replicas": 2, "behavior": "currentReplicasIfHigher"}
    assert trigger["authenticationRef"] == {"name": "prometheus"}
    assert every(manifests(SCALED["keda"]), "HorizontalPodAutoscaler") == []


def test_only_the_agent_reaches_the_database() -> None:
    spec = made("NetworkPolicy", name="my-agent-slipway-postgres")["spec"]

    assert spec["podSelector"]["matchLabels"] == POSTGRES
    assert spec["ingress"] == [{"ports": [{"port": 5432}], "from": [{"podSelector": {"matchLabels": AGENT}}]}]
    assert (spec["policyTypes"], spec.get("egress")) == (["Ingress", "Egress"], None)


def test_the_ops_port_is_for_prometheus_and_the_operator() -> None:
    rules = {rule["ports"][0]["port"]: rule for rule in policy()["ingress"]}

    peers = {
        (peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"], *peer["podSelector"]["matchLabels"].values())
        for peer in rules["ops"]["from"]
    }
    assert peers == {("monitoring", "prometheus"), ("slipway-system", "slipway-operator")}
    assert "from" not in rules["api"]


def test_their_namespaces_have_names_and_others_may_be_let_in() -> None:
    mine = values_of(
        "networkPolicy.monitoringNamespace=observability",
        "networkPolicy.operatorNamespace=platform",
        "networkPolicy.opsFrom=[{podSelector: {}}]",
    )
    rules = {rule["ports"][0]["port"]: rule for rule in policy(mine)["ingress"]}

    *named, other = rules["ops"]["from"]
    spaces = {peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for peer in named}
    assert (spaces, other) == ({"observability", "platform"}, {"podSelector": {}})


def test_who_reaches_the_api_can_be_limited_and_helm_test_still_does() -> None:
    rules = {rule["ports"][0]["port"]: rule for rule in policy(ROUTED)["ingress"]}

    own, test = rules["api"]["from"]
    assert own == {"podSelector": {}}
    assert test["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "test"
    assert one(manifests(), "Pod")["metadata"]["labels"].items() >= test["podSelector"]["matchLabels"].items()


@pytest.mark.parametrize(
    ("values", "ports"),
    [
        ({}, {*DNS, 443, 5432}),
        (EXTERNAL, {*DNS, 443, 5432, 8080, 8443}),
        (values_of("model.baseUrl=http://models.internal/v1"), {*DNS, 443, 5432, 80}),
        (values_of("postgres.existingSecret=mine", "networkPolicy.postgresPort=6432"), {*DNS, 443, 6432}),
        ({"env": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.tracing:4318"}}, {*DNS, 443, 5432, 4318}),
        ({"env": {"LANGSMITH_ENDPOINT": "http://langsmith:1984", "GUARDRAILS": "off"}}, {*DNS, 443, 5432, 1984}),
        (
            {"env": {"A": "https://[::1]:4317/x", "B": "http://{host} of mine", "C": "http://one?to=http://two:9"}},
            {*DNS, 443, 5432, 4317, 80},
        ),
        (values_of("extraEnv=[{name: HTTPS_PROXY, value: 'http://user@proxy:3128'}]"), {*DNS, 443, 5432, 3128}),
        (ROUTED, {*DNS, 443, 5432, 6379}),
    ],
)
def test_traffic_out_is_dns_the_database_and_the_addresses_of_the_values(values: dict[str, Any], ports: set[int]) -> None:
    assert egress_ports(values) == ports


def test_a_clouds_metadata_service_is_out_of_reach() -> None:
    blocks = [peer["ipBlock"] for rule in policy()["egress"] for peer in rule.get("to", []) if "ipBlock" in peer]

    assert any("169.254.169.254/32" in block["except"] for block in blocks)


def test_without_a_network_policy_there_is_none() -> None:
    assert every(manifests(values_of("networkPolicy.enabled=false")), "NetworkPolicy") == []


def test_the_jobs_name_is_the_releases() -> None:
    monitor = made("ServiceMonitor", MONITORED)

    assert monitor["spec"]["jobLabel"] == "app.kubernetes.io/instance"
    assert monitor["metadata"]["labels"]["team"] == "agents"
    assert monitor["spec"]["endpoints"] == [{"port": "ops", "interval": "15s"}]


def test_an_ingress_lets_streams_through() -> None:
    ingress = made("Ingress", ROUTED)

    assert ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    (rule,) = ingress["spec"]["rules"]
    assert rule["host"] == "agent.test"
    assert rule["http"]["paths"][0]["backend"]["service"] == {"name": "my-agent-slipway", "port": {"name": "api"}}
    assert ingress["spec"]["tls"] == [{"secretName": "certificate", "hosts": ["agent.test"]}]
    assert ingress["spec"]["ingressClassName"] == "public"


def test_a_route_has_its_time_limits_off() -> None:
    spec = made("HTTPRoute", ROUTED)["spec"]

    (rule,) = spec["rules"]
    assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}
    assert rule["backendRefs"] == [{"name": "my-agent-slipway", "port": 80}]
    assert (spec["parentRefs"], spec["hostnames"]) == ([{"name": "main", "namespace": "ingress"}], ["agent.test"])


def test_the_evaluation_database_keeps_its_data_in_a_folder_of_its_volume() -> None:
    spec = made("StatefulSet", PLACED)["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    env = {e["name"]: e["value"] for e in container["env"]}

    (mount,) = [m["mountPath"] for m in container["volumeMounts"] if m["name"] == "data"]
    assert env["PGDATA"].startswith(f"{mount}/")
    assert spec["volumeClaimTemplates"][0]["spec"]["storageClassName"] == "fast"
    assert not any("PASSWORD" in name and not name.endswith("_FILE") for name in env)


def test_a_database_of_the_users_replaces_it() -> None:
    found = manifests(EXTERNAL)

    assert every(found, "StatefulSet") == []
    assert [m["metadata"]["name"] for m in found if "postgres" in m["metadata"]["name"]] == []
    (url,) = [e for e in agent(EXTERNAL)["initContainers"][0]["env"] if e["name"] == "DATABASE_URL"]
    assert url["valueFrom"]["secretKeyRef"] == {"name": "database", "key": "url"}


def test_extra_objects_are_templated_maps_or_texts() -> None:
    names = {m["metadata"]["name"] for m in every(manifests(PLACED), "ConfigMap")}

    assert names >= {"my-agent-map", "my-agent-text"}


def test_helm_test_uses_the_token_it_is_given() -> None:
    pod = made("Pod", EXTERNAL)
    env = {e["name"]: e for e in pod["spec"]["containers"][0]["env"]}

    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert env["TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "tester", "key": "token"}
    assert env["URL"]["value"] == "http://my-agent-slipway"
    compile(pod["spec"]["containers"][0]["args"][0], "stream_test.py", "exec")


class Stream(io.BytesIO):
    """An answer as urllib has it."""

    headers: ClassVar = {"Content-Type": "text/event-stream"}


def run_stream_test(monkeypatch: pytest.MonkeyPatch, *said: object) -> None:
    """The script of `helm test`, told this one after the other."""
    told = iter(said)

    def urlopen(*_: object, **__: object) -> object:
        answer = next(told)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    for name, value in {"AUTH": "disabled", "URL": "http://my-agent-slipway"}.items():
        monkeypatch.setenv(name, value)
    runpy.run_path(str(CHART / "files/stream_test.py"))


def test_helm_test_waits_until_its_node_knows_the_service(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = urllib.error.URLError(OSError(errno.EHOSTUNREACH, "No route to host"))
    run_stream_test(monkeypatch, unknown, unknown, Stream(b"data: Hello\n\ndata: [DONE]\n\n"))
    assert "ended with [DONE]" in capsys.readouterr().out


def test_helm_test_takes_an_answer_for_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = urllib.error.HTTPError("http://my-agent-slipway", 503, "overloaded", Message(), None)
    with pytest.raises(urllib.error.HTTPError, match="503"):
        run_stream_test(monkeypatch, refused)


def test_helm_test_runs_where_the_agent_may_and_with_its_pull_secrets() -> None:
    values = merged(PLACED, values_of("serviceAccount.create=false", "serviceAccount.name=mine"))
    test = made("Pod", values)["spec"]

    same = ("serviceAccountName", "imagePullSecrets", "nodeSelector", "tolerations")
    assert {key: test[key] for key in same} == {key: agent(values)[key] for key in same}
    assert test["serviceAccountName"] == "mine"
