"""What platform teams put into the operator's chart: names, labels, containers, volumes, registries, meshes, addresses."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_operator.handlers.engine import liveness_endpoint
from agent_operator.settings import OperatorSettings
from tests.charts.operator.chart import ANYWHERE, CHART, EVERYTHING, PLATFORMS, made, manifests, pod, refused
from tests.support.charts import every, merged, one, render, values_of


def policy(*values: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = made("NetworkPolicy", *values)["spec"]
    return spec


@pytest.mark.parametrize("name", PLATFORMS)
def test_a_platforms_values_are_taken(name: str) -> None:
    assert len(every(manifests(PLATFORMS[name]), "Deployment")) == 1


def test_a_parent_chart_gives_it_an_alias_a_registry_and_a_condition(tmp_path: Path) -> None:
    parent = tmp_path / "platform"
    shutil.copytree(CHART, parent / "charts/slipway-operator")
    needs = [
        {"name": "slipway-operator", "version": ">=0.0.0-0", "alias": alias, "condition": f"{alias}.enabled"}
        for alias in ("operator", "other")
    ]
    chart = {"apiVersion": "v2", "name": "platform", "version": "1.0.0", "dependencies": needs}
    (parent / "Chart.yaml").write_text(yaml.dump(chart, Dumper=yaml.CSafeDumper), encoding="utf-8")
    shared = {"imageRegistry": "registry.example", "imagePullSecrets": ["one", {"name": "two"}]}
    found = render(parent, {"global": shared, "other": {"enabled": False}}, name="platform")

    deployment = one(found, "Deployment")
    assert deployment["metadata"]["name"] == "platform-operator"
    assert deployment["metadata"]["labels"]["app.kubernetes.io/instance"] == "platform-operator"
    assert deployment["metadata"]["labels"]["app.kubernetes.io/name"] == "slipway-operator", "agents' policies select by it"
    spec = deployment["spec"]["template"]["spec"]
    assert spec["containers"][0]["image"].startswith("registry.example/slipway-operator:")
    assert spec["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}]


@pytest.mark.parametrize(
    ("sets", "name"),
    [
        (["nameOverride=keys"], "slipway-operator-keys"),
        (["fullnameOverride=keys"], "keys"),
        ([], "slipway-operator"),
    ],
)
def test_names_can_be_chosen(sets: list[str], name: str) -> None:
    assert made("Deployment", values_of(*sets))["metadata"]["name"] == name


def test_names_that_are_cut_do_not_meet() -> None:
    names = [made("Deployment", {"fullnameOverride": f"{'x' * 56}-{end}"})["metadata"]["name"] for end in ("one", "two")]

    assert names[0] != names[1]
    assert {len(name) for name in names} == {53}


def test_common_labels_are_on_every_object_and_the_pod_but_in_no_selector() -> None:
    found = manifests(EVERYTHING, values_of("commonLabels={cost-center: '7'}"))
    deployment = one(found, "Deployment")["spec"]

    assert all(m["metadata"]["labels"]["cost-center"] == "7" for m in found)
    assert deployment["template"]["metadata"]["labels"]["cost-center"] == "7"
    assert "cost-center" not in deployment["selector"]["matchLabels"]


def test_a_private_authority_is_mounted() -> None:
    spec = pod(PLATFORMS["private-ca-proxy"])
    [container] = spec["containers"]

    assert [volume["name"] for volume in spec["volumes"]] == [mount["name"] for mount in container["volumeMounts"]]
    [path] = [each["value"] for each in container["env"] if each["name"] == "SSL_CERT_FILE"]
    assert path.startswith(container["volumeMounts"][0]["mountPath"])


def test_own_containers_stand_before_and_beside_the_operator() -> None:
    spec = pod(
        values_of(
            "initContainers=[{name: first, image: a}]",
            "extraContainers=[{name: beside, image: b}]",
            "envFrom=[{secretRef: {name: settings}}]",
        )
    )

    assert [each["name"] for each in spec["initContainers"]] == ["first"]
    assert [each["name"] for each in spec["containers"]] == ["operator", "beside"]
    assert spec["containers"][0]["envFrom"] == [{"secretRef": {"name": "settings"}}]


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["image.tag=latest"], "image.tag: `latest` does not say what runs"),
        (["image.tag=1.10"], "--set-string image.tag="),
        (["image.tag=7"], "image.tag: 7 is a number"),
        (["extraEnv=[{name: WATCH_NAMESPACES, value: a}]"], "WATCH_NAMESPACES belongs to the chart; set watch.namespaces"),
        (["extraEnv=[{name: METRICS_PORT, value: '1'}]"], "METRICS_PORT belongs to the chart; it stays 9090"),
        (["extraEnv=[{name: A, value: a}, {name: A, value: b}]"], "extraEnv: A stands there twice"),
        (["podLabels={app.kubernetes.io/name: other}"], "podLabels: app.kubernetes.io/name is the chart's own"),
        (["commonLabels={app.kubernetes.io/instance: other}"], "commonLabels: app.kubernetes.io/instance is the chart's own"),
        (["enabled=false"], "enabled: it is for the `condition` of a parent chart"),
    ],
)
def test_what_would_go_wrong_silently_is_refused(sets: list[str], said: str) -> None:
    assert said in refused(*sets)


def test_a_digest_makes_latest_a_name_only() -> None:
    digest = f"sha256:{'ab' * 32}"

    assert pod(values_of("image.tag=latest", f"image.digest={digest}"))["containers"][0]["image"].endswith(digest)


def test_every_variable_that_the_chart_sets_is_refused_in_extra_env() -> None:
    for name in [each["name"] for each in pod()["containers"][0]["env"]]:
        assert f"extraEnv: {name} belongs to the chart" in refused(f"extraEnv=[{{name: {name}, value: a}}]")


def test_a_mesh_and_dns_are_let_through() -> None:
    spec = policy(PLATFORMS["istio"], values_of("networkPolicy.dnsTo=[{podSelector: {}}]"))

    assert {"ports": [{"port": 15008}]} in spec["ingress"]
    assert {port["port"] for rule in spec["egress"] for port in rule["ports"]} >= {15008, 15012}
    [dns] = [rule for rule in spec["egress"] if {"port": 53, "protocol": "UDP"} in rule["ports"]]
    assert dns["to"] == [{"podSelector": {}}]
    assert not {15008, 15012} & {port["port"] for rule in policy()["egress"] for port in rule["ports"]}


def test_scrapes_and_alerts_are_shaped_as_the_platform_wants_them() -> None:
    relabeling = {"action": "labeldrop", "regex": "pod"}
    shaped = {"scrapeTimeout": "10s", "relabelings": [relabeling], "metricRelabelings": [relabeling]}
    values = merged(EVERYTHING, {"monitoring": {"serviceMonitor": shaped, "alerts": {"alertLabels": {"team": "platform"}}}})
    [endpoint] = made("ServiceMonitor", values)["spec"]["endpoints"]
    alerts = [rule for group in made("PrometheusRule", values)["spec"]["groups"] for rule in group["rules"]]

    assert shaped.items() <= endpoint.items()
    assert {alert["labels"]["team"] for alert in alerts} == {"platform"}
    assert all("severity" in alert["labels"] for alert in alerts)


def test_in_a_pod_of_ipv6_it_listens_there() -> None:
    six, four = OperatorSettings.load({"POD_IP": "fd00::7"}), OperatorSettings.load({"POD_IP": "10.0.0.7"})
    service = made("Service", PLATFORMS["ipv6-only"])["spec"]

    assert (six.listen_address, liveness_endpoint(six)) == ("::", "http://[::]:8080/healthz")
    assert liveness_endpoint(four) == "http://0.0.0.0:8080/healthz"
    assert [e for e in pod()["containers"][0]["env"] if e["name"] == "POD_IP"]
    assert (service["ipFamilyPolicy"], service["ipFamilies"]) == ("SingleStack", ["IPv6"])


def test_objects_of_a_teams_own_come_with_the_release_and_are_templated() -> None:
    objects = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "{{ .Release.Name }}-map"}},
        "apiVersion: v1\nkind: Event\nmetadata: {name: '{{ .Release.Name }}-text'}",
    ]
    found = manifests({"extraObjects": objects})

    assert one(found, "Secret")["metadata"]["name"] == "slipway-operator-map"
    assert one(found, "Event")["metadata"]["name"] == "slipway-operator-text"


def test_alerts_can_be_left_out_and_an_empty_group_is_none() -> None:
    groups = made("PrometheusRule", values_of("monitoring.alerts.enabled=true"))["spec"]["groups"]
    (first, *_), every_name = groups, {rule["alert"] for group in groups for rule in group["rules"]}
    names = [rule["alert"] for rule in first["rules"]]
    left = made("PrometheusRule", values_of("monitoring.alerts.enabled=true", f"monitoring.alerts.disabled={names}"))["spec"][
        "groups"
    ]

    assert {rule["alert"] for group in left for rule in group["rules"]} == every_name - set(names) != set()
    assert first["name"] not in {group["name"] for group in left}


def test_two_operators_bring_dashboards_that_do_not_collide_and_their_alerts_lead_to_their_own() -> None:
    found_names: list[tuple[str, str, str]] = []
    for release in ("a", "b"):
        values = values_of(
            "monitoring.alerts.enabled=true", "monitoring.dashboards.enabled=true", "monitoring.dashboards.perRelease=true"
        )
        found = render(CHART, merged(ANYWHERE, values), name=release, namespace="platform")
        ((name, text),) = one(found, "ConfigMap")["data"].items()
        dashboard = json.loads(text)
        links = {
            rule["annotations"]["dashboard_url"].partition("?")[0]
            for group in one(found, "PrometheusRule")["spec"]["groups"]
            for rule in group["rules"]
        }
        assert links == {f"/d/{dashboard['uid']}"}
        found_names.append((dashboard["uid"], name, dashboard["title"]))

    assert all(one != other for one, other in zip(*found_names, strict=True))
    assert all(len(uid) <= 40 for uid, _, _ in found_names), "Grafana's limit"
