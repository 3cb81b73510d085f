"""charts/slipway/ci: what each platform's values make. That the API of four Kubernetes minors takes it: test_api_schemas.py."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.slipway import CHART, PLATFORMS, agent, made, manifests, write_umbrella
from tests.support.charts import Manifest, every, merged, one, pod_specs, render, values_of

IDS = {"runAsUser", "runAsGroup", "fsGroup", "fsGroupChangePolicy", "supplementalGroups"}
ALIASES = ("support", "sales")


@pytest.fixture(scope="module")
def umbrella(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_umbrella(tmp_path_factory.mktemp("chart") / "umbrella", *ALIASES)


def umbrella_values(*sets: str) -> dict[str, Any]:
    values = yaml.load((CHART / "ci/umbrella-values.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
    return merged(values, values_of(*sets))


def containers(found: list[Manifest]) -> list[Manifest]:
    return [c for spec in pod_specs(found) for c in spec["containers"] + spec.get("initContainers", [])]


def policy(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = made("NetworkPolicy", PLATFORMS[name], name="my-agent-slipway")["spec"]
    return spec


@pytest.mark.parametrize("name", PLATFORMS)
def test_a_platforms_values_are_taken_and_its_pods_stay_restricted(name: str) -> None:
    found = manifests(PLATFORMS[name])

    assert len(every(found, "Deployment")) == 1
    for container in containers(found):
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["resources"]["limits"]["memory"]


def test_on_openshift_no_pod_asks_for_an_id() -> None:
    own = values_of("podSecurityContext={runAsUser: 5, supplementalGroups: [4]}", "securityContext.runAsUser=5")
    for spec in pod_specs(manifests(PLATFORMS["openshift"], own)):
        contexts = [spec["securityContext"], *(c["securityContext"] for c in spec["containers"] + spec.get("initContainers", []))]
        assert not any(IDS & context.keys() for context in contexts)
        assert spec["securityContext"]["runAsNonRoot"] is True


def test_two_aliases_of_an_umbrella_share_no_object_and_select_only_their_own_pods(umbrella: Path) -> None:
    found = render(umbrella, umbrella_values(), name="agents")

    names = [(m["kind"], m["metadata"]["name"]) for m in found]
    assert len(names) == len(set(names))
    assert {m["metadata"]["name"] for m in every(found, "Deployment")} == {"agents-support", "agents-sales"}
    pods = {m["metadata"]["name"]: m["spec"]["template"]["metadata"]["labels"] for m in every(found, "Deployment")}
    for service in every(found, "Service"):
        chosen = [name for name, labels in pods.items() if service["spec"]["selector"].items() <= labels.items()]
        assert len(chosen) == (0 if "postgres" in service["metadata"]["name"] else 1)
        assert all(service["metadata"]["name"].startswith(name) for name in chosen)
    images = {container["image"].split("/")[0] for container in containers(found)}
    assert images == {"registry.example"}


def test_an_alias_that_is_a_part_of_the_releases_name_is_a_name_of_its_own(umbrella: Path) -> None:
    found = render(umbrella, umbrella_values(), name="sales-and-support")

    assert {m["metadata"]["name"] for m in every(found, "Deployment")} == {"sales-and-support-sales", "sales-and-support-support"}


def test_an_alias_can_be_switched_off(umbrella: Path) -> None:
    found = render(umbrella, umbrella_values("sales.enabled=false"), name="agents")

    assert {m["metadata"]["name"] for m in every(found, "Deployment")} == {"agents-support"}


def test_own_containers_come_before_the_migration_and_beside_the_agent() -> None:
    spec = agent(PLATFORMS["sidecars"])

    assert [c["name"] for c in spec["initContainers"]] == ["cloud-sql-proxy", "migrate"]
    assert [c["name"] for c in spec["containers"]] == ["agent", "log-shipper"]
    given = [c["envFrom"] for c in (spec["initContainers"][1], spec["containers"][0])]
    assert given == [[{"secretRef": {"name": "agent-settings"}}]] * 2


def test_a_quota_on_cpu_limits_finds_one_in_every_container() -> None:
    assert all("cpu" in container["resources"]["limits"] for container in containers(manifests(PLATFORMS["quota"])))


def test_services_have_the_address_families_that_are_asked_for() -> None:
    services = every(manifests(PLATFORMS["ipv6-only"]), "Service")

    assert len(services) == 3
    assert all((s["spec"]["ipFamilyPolicy"], s["spec"]["ipFamilies"]) == ("SingleStack", ["IPv6"]) for s in services)


def test_the_database_and_dns_are_let_through_where_they_are() -> None:
    rules = {rule["ports"][0]["port"]: rule for rule in policy("cilium-fqdn")["egress"]}

    assert rules[5432]["to"] == [{"ipBlock": {"cidr": "10.20.0.0/24"}}]
    (dns,) = rules[53]["to"]
    assert dns["podSelector"]["matchLabels"] == {"k8s-app": "kube-dns"}
    assert rules.keys() == {53, 5432}


def test_in_an_ambient_mesh_the_agents_alone_reach_the_database() -> None:
    database = made("NetworkPolicy", PLATFORMS["istio-ambient"], name="my-agent-slipway-postgres")["spec"]
    agents = {"podSelector": {"matchLabels": made("Deployment")["spec"]["selector"]["matchLabels"]}}

    assert database["ingress"] == [{"ports": [{"port": port}], "from": [agents]} for port in (5432, 15008)]


def test_a_database_that_comes_with_the_release_is_the_one_that_the_pods_reach() -> None:
    found = manifests(PLATFORMS["cloudnative-pg"])
    cluster = one(found, "Cluster")
    (database,) = [v for v in agent(PLATFORMS["cloudnative-pg"])["volumes"] if v["name"] == "database"]

    assert f"'{cluster['metadata']['name']}-app'" in str(database)
    reached = [rule["to"] for rule in policy("cloudnative-pg")["egress"] if rule["ports"][0]["port"] == 5432]
    assert reached == [[{"podSelector": {"matchLabels": {"cnpg.io/cluster": cluster["metadata"]["name"]}}}]]


def test_a_gateways_route_is_that_of_its_https_listener() -> None:
    found = manifests(PLATFORMS["gateway"])
    gateway = one(found, "Gateway")
    (https,) = [each for each in gateway["spec"]["listeners"] if each["protocol"] == "HTTPS"]
    route = one(found, "HTTPRoute", "my-agent-slipway")["spec"]

    assert [(ref["name"], ref["sectionName"]) for ref in route["parentRefs"]] == [(gateway["metadata"]["name"], https["name"])]
    assert route["hostnames"] == [https["hostname"]]


def test_kedas_credentials_are_those_that_the_trigger_names() -> None:
    found = manifests(PLATFORMS["keda"])
    reference = one(found, "ScaledObject")["spec"]["triggers"][0]["authenticationRef"]

    assert one(found, reference["kind"])["metadata"]["name"] == reference["name"]


def test_every_secret_is_a_key_of_the_one_that_external_secrets_makes() -> None:
    found = manifests(PLATFORMS["external-secrets"])
    pods = [one(found, "Deployment")["spec"]["template"]["spec"], one(found, "Pod")["spec"]]
    refs = [e["valueFrom"]["secretKeyRef"] for spec in pods for c in spec["containers"] for e in c["env"] if "valueFrom" in e]
    (openai,) = [v["secret"] for v in pods[0]["volumes"] if v["name"] == "openai"]

    assert {ref["name"] for ref in refs} == {"agent-secrets"} == {openai["secretName"]}
    assert {ref["key"] for ref in refs} == {"database-url", "token-key", "redis-url", "test-token"}
    assert openai["items"] == [{"key": "openai-key", "path": "current"}]
