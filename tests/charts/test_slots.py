"""What platform teams put into a chart of others: names, labels, containers, keys of Secrets, autoscalers, meshes, addresses."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ruamel.yaml import YAML

from tests.charts.slipway import ANYWHERE, CHART, write_umbrella
from tests.support.charts import CHARTS, Manifest, Values, every, merged, one, render, render_text, values_of

HPA = "HorizontalPodAutoscaler"


def made(*sets: str) -> list[Manifest]:
    return render(CHART, merged(ANYWHERE, values_of(*sets)))


def pod(*sets: str) -> dict[str, Any]:
    found: dict[str, Any] = one(made(*sets), "Deployment")["spec"]["template"]["spec"]
    return found


def env(container: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


@pytest.fixture(scope="module")
def umbrella(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A parent with the chart three times, by aliases; the last one is off by its condition."""
    parent = write_umbrella(tmp_path_factory.mktemp("umbrella") / "platform", "support", "sales", "legal")
    (parent / "values.yaml").write_text("legal: {enabled: false}\n", encoding="utf-8")
    return parent


def test_two_of_one_parent_are_two_agents(umbrella: Path) -> None:
    values: Values = {
        "global": {"imageRegistry": "registry.example:5000/mirror", "imagePullSecrets": ["shared"]},
        "support": {"autoscaling": {"enabled": True}, "image": {"repository": "other.example/team/slipway"}},
    }
    found = render(umbrella, values, name="release")
    names = [(each["kind"], each["metadata"]["name"]) for each in found]
    agents = {each["metadata"]["name"]: each["spec"] for each in every(found, "Deployment")}

    assert len(set(names)) == len(names)
    assert agents.keys() == {"release-support", "release-sales"}
    selectors = [spec["selector"]["matchLabels"] for spec in agents.values()]
    assert {labels["app.kubernetes.io/instance"] for labels in selectors} == agents.keys()
    assert {labels["app.kubernetes.io/name"] for labels in selectors} == {"slipway"}
    pods = {name: spec["template"]["spec"] for name, spec in agents.items()}
    assert {name: each["containers"][0]["image"] for name, each in pods.items()} == {
        "release-support": "registry.example:5000/mirror/team/slipway:0.1.0",
        "release-sales": "registry.example:5000/mirror/slipway:0.1.0",
    }
    assert all(each["imagePullSecrets"] == [{"name": "shared"}] for each in pods.values())
    databases = {each["metadata"]["name"]: each["spec"]["template"]["spec"] for each in every(found, "StatefulSet")}
    assert databases.keys() == {"release-support-postgres", "release-sales-postgres"}
    assert {each["containers"][0]["image"].partition(":5000/")[2] for each in databases.values()} == {
        "mirror/pgvector/pgvector:0.8.0-pg17"
    }


def test_names_may_be_given_and_those_that_are_cut_stay_apart() -> None:
    assert one(made("fullnameOverride=brain"), "Deployment")["metadata"]["name"] == "brain"
    assert one(made("nameOverride=brain"), "Deployment")["metadata"]["name"] == "my-agent-brain"
    assert one(made("nameOverride=brain"), "Deployment")["metadata"]["labels"]["app.kubernetes.io/instance"] == "my-agent-brain"
    common = "a-prefix-that-many-releases-have-in-common"
    cut = {one(render(CHART, {}, name=f"{common}-{end}"), "Deployment")["metadata"]["name"] for end in ("one", "two")}
    assert len(cut) == 2
    assert max(map(len, cut)) <= 42


def test_labels_for_all_are_on_every_object_and_pod() -> None:
    found = made("commonLabels={team: agents}", "podLabels={tier: gold}", "monitoring.dashboards.enabled=true")

    assert [each["metadata"]["name"] for each in found if each["metadata"].get("labels", {}).get("team") != "agents"] == []
    labels = one(found, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert (labels["team"], labels["tier"]) == ("agents", "gold")
    assert "team" not in one(found, "Deployment")["spec"]["selector"]["matchLabels"]


TWICE = {"team": "agents", "tier": "common"}
OWN = {"tier": "own"}


@pytest.mark.parametrize(
    ("chart", "values"),
    [
        (
            CHART,
            {
                "service": {"labels": OWN},
                "ingress": {"enabled": True, "labels": OWN},
                "httpRoute": {"enabled": True, "parentRefs": [{"name": "main"}], "labels": OWN},
                "helmTest": {"podLabels": OWN},
                "podLabels": OWN,
            },
        ),
        (CHARTS / "slipway-operator", {"podLabels": OWN, "metricsApi": {"enabled": True, "tls": {"certManager": True}}}),
    ],
    ids=["slipway", "slipway-operator"],
)
def test_a_label_that_is_common_and_an_objects_own_stands_there_once(chart: Path, values: Values) -> None:
    monitoring = {each: {"enabled": True, "labels": OWN} for each in ("serviceMonitor", "alerts", "dashboards")}
    given = merged(ANYWHERE, {"commonLabels": TWICE, "monitoring": monitoring}, values)
    strict = YAML(typ="safe")  # it refuses a key that stands twice
    texts = [text for path, text in render_text(chart, given).items() if path.endswith(".yaml")]
    found = [each for text in texts for each in strict.load_all(text) if each]

    tiers = {(each["kind"], each["metadata"]["labels"]["tier"]) for each in found if each["metadata"].get("labels")}
    assert {("ServiceMonitor", "own"), ("PrometheusRule", "own"), ("ServiceAccount", "common")} <= tiers
    if chart == CHART:
        assert {("Ingress", "own"), ("HTTPRoute", "own"), ("Pod", "own")} <= tiers


def test_the_name_that_objects_of_the_operator_know_an_agent_by_fits_them() -> None:
    for release in ("r" * 40, "r" * 53):
        found = render(
            CHART, merged(ANYWHERE, values_of("nameOverride=an-alias-of-it", "operator.agentHealth.enabled=true")), name=release
        )
        assert len(one(found, "AgentHealth")["spec"]["release"]) <= 53


def test_containers_of_the_platform_stand_before_and_beside_the_agents() -> None:
    spec = pod(
        "initContainers=[{name: cloud-sql-proxy, image: proxy, restartPolicy: Always}]",
        "extraContainers=[{name: log-shipper, image: shipper}]",
        "envFrom=[{secretRef: {name: team}}]",
    )

    assert [each["name"] for each in spec["initContainers"]] == ["cloud-sql-proxy", "migrate"]
    assert [each["name"] for each in spec["containers"]] == ["agent", "log-shipper"]
    assert spec["initContainers"][1]["envFrom"] == spec["containers"][0]["envFrom"] == [{"secretRef": {"name": "team"}}]


def test_keys_of_secrets_are_as_their_maker_calls_them() -> None:
    spec = pod(
        "postgres.mode=external",
        "postgres.existingSecret=cluster-app",
        "postgres.key=uri",
        "auth.jwt.existingSecret=login",
        "auth.jwt.key=signing",
        "model.name=large",
        "model.existingSecret=endpoint",
        "model.key=api-key",
    )
    by = env(spec["containers"][0])

    assert by["DATABASE_URL"]["secretKeyRef"] == {"name": "cluster-app", "key": "uri"}
    assert env(spec["initContainers"][0])["DATABASE_URL"] == by["DATABASE_URL"]
    assert by["JWT_SECRET"]["secretKeyRef"] == {"name": "login", "key": "signing"}
    (volume,) = (each for each in spec["volumes"] if each["name"] == "openai")
    assert volume["secret"]["items"] == [{"key": "api-key", "path": "current"}]
    # the generated ones keep theirs, whatever the keys of yours are called
    own = env(pod("postgres.key=uri", "auth.jwt.key=signing")["containers"][0])
    assert (own["DATABASE_URL"]["secretKeyRef"]["key"], own["JWT_SECRET"]["secretKeyRef"]["key"]) == ("url", "jwt-secret")


def test_an_endpoint_without_a_key_needs_no_secret() -> None:
    spec = pod("model.name=llama", "model.baseUrl=http://vllm.models/v1", "model.needsKey=false")

    assert env(spec["containers"][0])["OPENAI_API_KEY"] == "none"
    assert "openai" not in [each["name"] for each in spec["volumes"]]


def test_where_the_platform_assigns_ids_no_pod_asks_for_one() -> None:
    found = made("openshift=true")
    pods = [each["spec"]["template"]["spec"] for kind in ("Deployment", "StatefulSet") for each in every(found, kind)]
    contexts = [each["securityContext"] for each in (*pods, one(found, "Pod")["spec"])]

    assert [key for context in contexts for key in context if key in ("fsGroup", "runAsUser", "runAsGroup")] == []
    assert all(context["runAsNonRoot"] for context in contexts)


def test_the_number_of_pods_can_be_left_to_others() -> None:
    assert "replicas" not in one(made("replicaCount=null"), "Deployment")["spec"]
    found = made("autoscaling.enabled=true", "autoscaling.mode=external")
    assert "replicas" not in one(found, "Deployment")["spec"]
    assert every(found, HPA) == every(found, "ScaledObject") == []


def test_metrics_and_behavior_of_the_autoscaler_can_be_ones_own() -> None:
    metric = "{type: External, external: {metric: {name: queue}, target: {type: Value, value: 5}}}"
    spec = one(
        made("autoscaling.enabled=true", f"autoscaling.metrics=[{metric}]", "autoscaling.behavior={scaleUp: {policies: []}}"), HPA
    )["spec"]

    assert [each["external"]["metric"]["name"] for each in spec["metrics"]] == ["queue"]
    assert spec["behavior"] == {"scaleUp": {"policies": []}}


def test_keda_shows_itself_to_prometheus() -> None:
    scaled = one(
        made(
            "autoscaling.enabled=true",
            "autoscaling.mode=keda",
            "autoscaling.keda.serverAddress=https://mimir/prometheus",
            "autoscaling.keda.authenticationRef=mimir",
            "autoscaling.keda.authenticationKind=ClusterTriggerAuthentication",
            "autoscaling.keda.authModes=bearer",
            "autoscaling.keda.customHeaders=X-Scope-OrgID=team",
        ),
        "ScaledObject",
    )
    (trigger,) = scaled["spec"]["triggers"]

    assert trigger["authenticationRef"] == {"name": "mimir", "kind": "ClusterTriggerAuthentication"}
    assert (trigger["metadata"]["authModes"], trigger["metadata"]["customHeaders"]) == ("bearer", "X-Scope-OrgID=team")


def test_a_disruption_budget_by_what_must_stay_needs_no_null() -> None:
    spec = one(made("pdb.minAvailable=1"), "PodDisruptionBudget")["spec"]

    assert (spec["minAvailable"], "maxUnavailable" in spec) == (1, False)


def test_the_pod_of_helm_test_fits_quotas_and_meshes_or_is_left_out() -> None:
    test = one(
        made(
            "helmTest.resources={limits: {cpu: 1, memory: 256Mi}, requests: {cpu: 50m, memory: 64Mi}}",
            'helmTest.podLabels={sidecar.istio.io/inject: "false"}',
            "helmTest.podAnnotations={team: agents}",
            "helmTest.existingSecret=tester",
            "helmTest.key=api-key",
        ),
        "Pod",
    )

    assert test["spec"]["containers"][0]["resources"]["limits"]["cpu"] == 1
    assert test["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
    assert test["metadata"]["annotations"]["team"] == "agents"
    assert env(test["spec"]["containers"][0])["TOKEN"]["secretKeyRef"] == {"name": "tester", "key": "api-key"}
    assert every(made("helmTest.enabled=false"), "Pod") == []


def test_services_and_pods_may_be_of_both_families_or_of_ipv6_alone() -> None:
    for sets in (["service.ipFamilyPolicy=PreferDualStack"], ["service.ipFamilyPolicy=SingleStack", "service.ipFamilies=[IPv6]"]):
        found = made(*sets)
        agent = env(one(found, "Deployment")["spec"]["template"]["spec"]["containers"][0])
        services = [each["spec"] for each in every(found, "Service") if not each["metadata"]["name"].endswith("-postgres")]
        assert (agent["HOST"], agent["OPS_HOST"]) == ("::", "::")
        assert len({str((each.get("ipFamilyPolicy"), each.get("ipFamilies"))) for each in services}) == 1
    assert "HOST" not in env(pod()["containers"][0])
    assert "HOST" not in env(pod("service.ipFamilies=[IPv4]", "service.ipFamilyPolicy=SingleStack")["containers"][0])


def test_a_load_balancer_is_described_whole() -> None:
    service = one(
        made(
            "service.type=LoadBalancer",
            "service.labels={tier: edge}",
            "service.nodePort=31000",
            "service.loadBalancerClass=internal",
            "service.loadBalancerSourceRanges=[10.0.0.0/8]",
            "service.externalTrafficPolicy=Local",
        ),
        "Service",
        "my-agent-slipway",
    )

    assert service["metadata"]["labels"]["tier"] == "edge"
    assert service["spec"]["ports"][0]["nodePort"] == 31000
    assert service["spec"]["loadBalancerClass"] == "internal"
    assert (service["spec"]["loadBalancerSourceRanges"], service["spec"]["externalTrafficPolicy"]) == (["10.0.0.0/8"], "Local")


def test_the_policy_names_the_database_and_dns_and_lets_a_mesh_through() -> None:
    policy = one(
        made(
            "postgres.existingSecret=database",
            "networkPolicy.postgresTo=[{ipBlock: {cidr: 10.1.2.3/32}}]",
            "networkPolicy.dnsTo=[{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}}]",
            "networkPolicy.mesh=istio",
        ),
        "NetworkPolicy",
    )["spec"]
    to = {port["port"]: rule.get("to") for rule in policy["egress"] for port in rule["ports"]}

    assert to[5432] == [{"ipBlock": {"cidr": "10.1.2.3/32"}}]
    assert to[53] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}]
    assert to[15008] == to[15012] == [{"namespaceSelector": {}}]
    assert [{"port": 15008}] in [rule["ports"] for rule in policy["ingress"]]
    (ops,) = (rule for rule in policy["ingress"] if rule["ports"] == [{"port": "ops"}])
    assert {"ipBlock": {"cidr": "169.254.7.127/32"}} in ops["from"]


def test_routes_have_several_hosts_labels_and_filters() -> None:
    found = made(
        "ingress.enabled=true",
        "ingress.host=a.example",
        "ingress.hosts=[b.example]",
        "ingress.tlsSecret=both",
        "ingress.labels={edge: public}",
        "httpRoute.enabled=true",
        "httpRoute.parentRefs=[{name: main}]",
        "httpRoute.labels={edge: public}",
        "httpRoute.annotations={team: agents}",
        "httpRoute.filters=[{type: RequestHeaderModifier, requestHeaderModifier: {remove: [x-debug]}}]",
    )
    ingress, route = one(found, "Ingress"), one(found, "HTTPRoute")

    assert [rule["host"] for rule in ingress["spec"]["rules"]] == ["a.example", "b.example"]
    assert ingress["spec"]["tls"][0]["hosts"] == ["a.example", "b.example"]
    assert ingress["metadata"]["labels"]["edge"] == route["metadata"]["labels"]["edge"] == "public"
    assert route["metadata"]["annotations"] == {"team": "agents"}
    assert route["spec"]["rules"][0]["filters"][0]["type"] == "RequestHeaderModifier"


def test_each_host_of_the_ingress_can_have_a_certificate_of_its_own() -> None:
    tls = [{"secretName": "one", "hosts": ["a.example"]}, {"secretName": "two", "hosts": ["b.example", "c.example"]}]
    hosts = ("ingress.enabled=true", "ingress.host=a.example", "ingress.hosts=[b.example, c.example]")
    ingress = one(made(*hosts, "ingress.tls=" + json.dumps(tls)), "Ingress")["spec"]

    assert ingress["tls"] == tls
    assert [rule["host"] for rule in ingress["rules"]] == ["a.example", "b.example", "c.example"]
    assert env(pod(*hosts, "ingress.tls=" + json.dumps(tls))["containers"][0])["PUBLIC_URL"] == "https://a.example"
    assert "PUBLIC_URL" not in env(pod(*hosts, "ingress.tls=" + json.dumps(tls[1:]))["containers"][0])


def test_scrapes_are_shaped_as_the_platform_wants_them() -> None:
    (endpoint,) = one(
        made(
            "monitoring.serviceMonitor.enabled=true",
            "monitoring.serviceMonitor.scrapeTimeout=5s",
            "monitoring.serviceMonitor.relabelings=[{targetLabel: cluster, replacement: west}]",
            "monitoring.serviceMonitor.metricRelabelings=[{action: labeldrop, regex: instance}]",
        ),
        "ServiceMonitor",
    )["spec"]["endpoints"]

    assert endpoint["scrapeTimeout"] == "5s"
    assert endpoint["relabelings"] == [{"targetLabel": "cluster", "replacement": "west"}]
    assert endpoint["metricRelabelings"] == [{"action": "labeldrop", "regex": "instance"}]


def test_labels_of_the_rules_object_and_of_its_alerts_are_two_things() -> None:
    rules = one(
        made(
            "monitoring.alerts.enabled=true",
            "monitoring.alerts.labels={release: prometheus}",
            "monitoring.alerts.alertLabels={team: agents, severity: page}",
        ),
        "PrometheusRule",
    )
    alerts = [rule["labels"] for group in rules["spec"]["groups"] for rule in group["rules"]]

    assert rules["metadata"]["labels"]["release"] == "prometheus"
    assert {labels["team"] for labels in alerts} == {"agents"}
    assert {labels["severity"] for labels in alerts} == {"page"}, "one's own labels win"
    assert all("release" not in labels for labels in alerts)


def test_dashboards_of_two_releases_can_stand_side_by_side() -> None:
    sets = values_of("monitoring.dashboards.enabled=true", "monitoring.dashboards.perRelease=true")

    def dashboards(name: str) -> dict[str, dict[str, Any]]:
        maps = every(render(CHART, sets, name=name), "ConfigMap")
        return {file: yaml.load(text, yaml.CSafeLoader) for each in maps for file, text in each["data"].items()}

    one_s, other_s = dashboards("one"), dashboards("other")
    assert len(one_s) == len(other_s) > 1
    assert not one_s.keys() & other_s.keys()
    for field in ("uid", "title"):
        assert not {each[field] for each in one_s.values()} & {each[field] for each in other_s.values()}
    assert max(len(each["uid"]) for each in one_s.values()) <= 40, "Grafana's limit"
    assert all(each["title"].endswith("(agents/one)") for each in one_s.values())
    rules = one(render(CHART, merged(ANYWHERE, sets, values_of("monitoring.alerts.enabled=true")), name="one"), "PrometheusRule")
    alerts = [rule for group in rules["spec"]["groups"] for rule in group["rules"]]
    linked = {rule["annotations"]["dashboard_url"].rpartition("/d/")[2].partition("?")[0].partition("/")[0] for rule in alerts}
    assert linked <= {each["uid"] for each in one_s.values()}
