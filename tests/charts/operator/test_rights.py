"""What the operator may do, by the roles of its chart: enough for all that its code does, and nothing that it does not do.

Every kind of object is attended to in a cluster that refuses what no role grants. What was granted and never used is named.
"""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from agent_operator.leases import Fences
from agent_operator.metrics import Metrics
from agent_operator.reconcile.consent import RECEIVER
from agent_operator.reconcile.controller import Controller
from agent_operator.reconcile.rotation import secret as files
from agent_operator.reconcile.tools import Tools
from agent_operator.settings import OperatorSettings
from agent_operator.startup import reconcilers
from slipway_clients.cluster import Forbidden
from slipway_clients.cluster.kinds import ALERT_POLICY, ALL, CONFIG_MAP, EVENT, KEY_ROTATION, OWN, PROMETHEUS_RULE, SECRET
from tests.charts.operator.chart import EVERYTHING, NAMESPACED, made, manifests, refused
from tests.operator import policies
from tests.operator.policies import bench, policy
from tests.operator.reconcile.rotation.test_finalizer import delete, gone
from tests.operator.reconcile.rotation.world import KEY, NAMESPACE, World, started
from tests.operator.reconcile.test_agenthealth import World as HealthWorld
from tests.support.charts import Manifest, Values, every, merged, values_of
from tests.support.clock import WallClock
from tests.support.fake_cluster import Call, FakeCluster

KINDS = {kind.kind: kind for kind in ALL}

VERBS = {"get": "get", "list": "list", "apply": "patch", "create": "create", "replace": "update", "delete": "delete"}

Grant = tuple[str | None, str, str, str, str]
"""Namespace (None: all), API group, resource, verb, name ("": any)."""


def grants(objects: Iterable[Manifest], account: str = "slipway-operator") -> set[Grant]:
    """What a service account of slipway-system is granted by roles that are bound to it."""
    objects = list(objects)
    roles = {(m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]): m["rules"] for m in objects if "rules" in m}
    found: set[Grant] = set()
    for binding in every(objects, "RoleBinding") + every(objects, "ClusterRoleBinding"):
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": "slipway-system"}]
        namespace = binding["metadata"].get("namespace")
        for rule in roles[(binding["roleRef"]["kind"], namespace, binding["roleRef"]["name"])]:
            assert set(rule) <= {"apiGroups", "resources", "verbs", "resourceNames"}
            found |= {
                (namespace, group, resource, verb, name)
                for group in rule["apiGroups"]
                for resource in rule["resources"]
                for verb in rule["verbs"]
                for name in rule.get("resourceNames", [""])
            }
    return found


@dataclass
class Rights:
    """Refuses what is not granted, as the API server does, and notes which grants were used."""

    granted: set[Grant]
    used: set[Grant] = field(default_factory=set)

    def watch_over(self, cluster: FakeCluster) -> None:
        cluster.guards.append(lambda call: self.ask(cluster, call))

    def ask(self, cluster: FakeCluster, call: Call) -> None:
        kind = KINDS[call.kind]
        verbs = {"update"} if call.verb == "replace_status" else {VERBS[call.verb]}
        if call.verb == "apply" and cluster.find(kind, call.namespace, call.name or "") is None:
            verbs.add("create")
        resource = f"{kind.plural}/status" if call.verb == "replace_status" else kind.plural
        for verb in sorted(verbs):
            self.need(call.namespace, kind.api_version.rpartition("/")[0], resource, verb, call.name or "")

    def need(self, namespace: str | None, group: str, resource: str, verb: str, name: str) -> None:
        # The name of what is created is not known to the API server's authorization.
        names = {""} if verb in {"create", "list", "watch"} else {"", name}
        found = {(space, group, resource, verb, each) for space in (namespace, None) for each in names} & self.granted
        if not found:
            raise Forbidden(f"cannot {verb} {resource} {name} in {namespace}")
        self.used |= found


ENOUGH = values_of(
    "rbac.adminSecretNames=[openai-admin]",
    "watch.namespaces=[{name: team, secretNames: [openai-key, receiver, model-key, api-keys, pool], createSecrets: true,"
    " configMaps: true}, {name: prod, configMaps: true, secretNames: [model-key]}]",
)
"""The namespaces and names of the worlds below."""

PRECREATED = values_of(
    "rbac.adminSecretNames=[openai-admin]",
    "watch.allNamespaces=false",
    "watch.namespaces=[{name: team, secretNames: [openai-key]}]",
)


def rights(*values: Values) -> Rights:
    return Rights(grants(manifests(*values)))


def world(guard: Rights, **options: Any) -> World:
    found = World(**options)
    guard.watch_over(found.cluster)
    return found


async def rotate_and_delete(guard: Rights, *, precreated: bool) -> World:
    """Two keys, then the end of the object and of all its keys."""
    found = world(guard, options={"deletionPolicy": "Revoke"})
    if precreated:
        found.put_secret(NAMESPACE, "openai-key", {}, labels={files.OWNER: KEY.name})
    await started(found)
    found.annotate(rotate_now="1")
    await found.rotate()
    found.check = lambda: None  # type: ignore[method-assign]  # the object that it looks at goes away
    guards, found.cluster.guards = found.cluster.guards, []  # a person deletes it
    await delete(found)
    found.cluster.guards = guards
    await found.operator(KEY)
    assert gone(found)
    return found


async def records(guard: Rights) -> None:
    """The records of a client's keys are made, and changed."""
    provider = {"generated": {"kind": "APIKey", "apiKey": {"recordsSecretName": "api-keys", "user": "billing"}}}
    found = world(guard, provider=provider)
    await found.until(lambda: "api-keys" in json.dumps([call.name for call in found.cluster.calls if call.verb == "create"]))


async def rules(guard: Rights) -> None:
    """A policy's rules are made, mended by force, moved to a ConfigMap and back; a receiver comes and goes."""
    receiver = {"webhook": {"urlSecret": {"name": "receiver", "key": "url"}}}
    async with bench(policy(receiver=receiver)) as b:
        labels = {RECEIVER: "true"}
        b.cluster.put(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "team", "name": "receiver", "labels": labels}}
        )
        guard.watch_over(b.cluster)
        await b.reconcile()
        for kind in (PROMETHEUS_RULE, "AlertmanagerConfig"):
            name = kind if isinstance(kind, str) else kind.kind
            spoiled = b.cluster.find(KINDS[name], "team", policies.MADE)
            assert spoiled is not None, name
            spoiled["spec"]["extra"] = {"theirs": True}
            b.cluster.put(spoiled, owned={"spec": {"extra": {"theirs": True}}})
        await b.reconcile()
        b.cluster.put(policy(output="ConfigMap"))
        await b.reconcile()
        spoiled = b.cluster.find(CONFIG_MAP, "team", policies.MADE)
        assert spoiled is not None
        spoiled["data"]["theirs.yaml"] = "groups: []"
        b.cluster.put(spoiled, owned={"data": {"theirs.yaml": "x"}})
        await b.reconcile()
        b.cluster.put(policy())
        await b.reconcile()
        assert b.cluster.find(CONFIG_MAP, "team", policies.MADE) is None


async def health(guard: Rights) -> None:
    found = HealthWorld()
    guard.watch_over(found.cluster)
    status = await found.look()
    assert not [each for each in status["conditions"] if each["reason"] == "Forbidden"]


@asynccontextmanager
async def controller(guard: Rights, *objects: Manifest, namespaces: tuple[str, ...] = ()) -> AsyncIterator[FakeCluster]:
    """All of it together, as the process runs it but for kopf's watch."""
    cluster, clock = FakeCluster(objects), WallClock()
    guard.watch_over(cluster)
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(503))) as http:
        fences = Fences(cluster, clock, holder="operator", namespaces=namespaces)
        tools = Tools(cluster, clock, fences, Metrics("1"), http, OperatorSettings(namespaces=namespaces))
        async with fences.held(), Controller(tools, reconcilers(tools)).running():
            await clock.advance(60)
            yield cluster


def kopf_watches(guard: Rights, namespace: str | None) -> None:
    """tests/operator/test_main.py shows that this, and no other watch, is what kopf asks for."""
    for kind in OWN:
        for verb in ("list", "watch"):
            guard.need(namespace, "slipway.dev", kind.plural, verb, "")


async def exercise(guard: Rights) -> None:
    guard.need("team", EVENT.api_version.partition("/")[0], EVENT.plural, "create", "")  # the double has no objects for them
    await rotate_and_delete(guard, precreated=False)
    await records(guard)
    await rules(guard)
    await health(guard)
    async with controller(guard, policy()):
        pass
    kopf_watches(guard, None)


async def test_the_roles_suffice_and_every_verb_in_them_is_used() -> None:
    guard = rights(ENOUGH)
    await exercise(guard)

    # By namespace and name a grant may be there for an object that these worlds do not have.
    def verbs(found: set[Grant]) -> set[tuple[str, str, str]]:
        return {(group, resource, verb) for _, group, resource, verb, _ in found}

    assert verbs(guard.granted) - verbs(guard.used) == set()


async def test_a_secret_that_is_there_already_needs_no_create_and_no_delete_at_all() -> None:
    guard = rights(PRECREATED)

    found = await rotate_and_delete(guard, precreated=True)

    assert {verb for _, _, resource, verb, _ in guard.granted if resource == "secrets"} == {"get", "update"}
    secret = found.cluster.find(SECRET, NAMESPACE, "openai-key")
    assert secret is not None, "it is somebody else's object"
    assert (found.secret(), found.openai.keys) == ({}, {})


async def test_without_the_right_to_config_maps_policies_with_prometheus_rules_are_kept() -> None:
    guard = rights(values_of("watch.namespaces=[{name: team}]"))
    async with controller(guard, policy()) as cluster:
        assert cluster.find(PROMETHEUS_RULE, "team", policies.MADE) is not None
        found = cluster.find(ALERT_POLICY, "team", "main")
        assert found is not None
        assert "Forbidden" not in json.dumps(found["status"])

        cluster.put(policy(output="ConfigMap"))
    async with controller(guard, *[each for each in [cluster.find(ALERT_POLICY, "team", "main")] if each]) as again:
        found = again.find(ALERT_POLICY, "team", "main")
        assert found is not None
        assert "cannot get configmaps" in json.dumps(found["status"]), "it says which right it lacks"


async def test_in_a_namespace_that_is_not_listed_an_object_says_what_it_lacks_and_nothing_is_made_there() -> None:
    spec = {"target": {"secretName": "openai-key"}, "consumers": {"selector": {}}, "provider": {"pool": {"secretName": "pool"}}}
    rotation = {"apiVersion": KEY_ROTATION.api_version, "kind": "KeyRotation", "metadata": {"namespace": "team", "name": "k"}}
    guard = rights(values_of("watch.namespaces=[{name: other, secretNames: [openai-key, pool], createSecrets: true}]"))
    async with controller(guard, policy(), {**rotation, "spec": spec}) as cluster:
        written = {(call.verb, call.kind) for call in cluster.writes() if call.verb in {"create", "apply", "replace", "delete"}}
        assert "KeyRotation" not in {kind for _, kind in written - {("replace", "KeyRotation")}}, written
        for kind, name in ((ALERT_POLICY, "main"), (KEY_ROTATION, "k")):
            found = cluster.find(kind, "team", name)
            assert found is not None
            assert "Forbidden" in json.dumps(found["status"])
            assert "finalizers" not in found["metadata"], "it could not be deleted any more"
        assert cluster.find(PROMETHEUS_RULE, "team", policies.MADE) is None


SENSITIVE = {
    "secrets",
    "configmaps",
    "prometheusrules",
    "alertmanagerconfigs",
    "pods/proxy",
    "serviceaccounts/token",
}


@pytest.mark.parametrize("values", [{}, EVERYTHING, ENOUGH])
def test_of_the_whole_cluster_it_reads_no_secret_and_changes_nothing_but_status_events_and_its_lease(values: Values) -> None:
    wide = {grant for grant in grants(manifests(values)) if grant[0] is None}

    assert {resource for _, _, resource, verb, _ in wide if verb not in {"get", "list", "watch"}} == {
        *(f"{kind.plural}/status" for kind in OWN),
        "events",
        "leases",
    }
    assert {resource for _, _, resource, _, _ in wide} & SENSITIVE == set()
    assert {name for _, _, resource, verb, name in wide if resource == "leases" and verb != "create"} == {"slipway-operator"}


@pytest.mark.parametrize("values", [{}, NAMESPACED, EVERYTHING, ENOUGH, PRECREATED])
def test_no_grant_is_for_everything_and_secrets_are_named(values: Values) -> None:
    found = grants(manifests(values))

    assert not [grant for grant in found if "*" in grant]
    assert not [grant for grant in found if grant[2] == "secrets" and grant[3] in {"list", "watch", "patch"}]
    assert not [grant for grant in found if grant[2] == "secrets" and grant[3] != "create" and not grant[4]]
    assert not [grant for grant in found if grant[2].startswith(("pods/", "serviceaccounts", "roles", "clusterroles"))]


def test_secrets_are_created_and_deleted_only_where_that_is_asked_for() -> None:
    found = grants(
        manifests(values_of("watch.namespaces=[{name: a, secretNames: [k], createSecrets: true}, {name: b, secretNames: [k]}]"))
    )

    assert {grant[0] for grant in found if grant[2] == "secrets" and grant[3] in {"create", "delete"}} == {"a"}
    assert {grant[0] for grant in found if grant[2] == "secrets" and grant[3] == "get"} == {"a", "b"}
    assert {grant[0] for grant in found if grant[2] == "configmaps"} == set()


def test_in_namespaced_mode_nothing_of_the_cluster_is_granted() -> None:
    objects = manifests(NAMESPACED)

    assert every(objects, "ClusterRole") == every(objects, "ClusterRoleBinding") == []
    assert {grant[0] for grant in grants(objects)} == {"team-a", "team-b", "slipway-system"}


def test_keys_of_administrators_are_read_in_its_own_namespace_alone() -> None:
    own = {grant for grant in grants(manifests(NAMESPACED)) if grant[0] == "slipway-system"}

    assert own == {("slipway-system", "", "secrets", "get", "admin-key")}


def test_roles_of_two_releases_of_one_name_in_one_namespace_do_not_collide() -> None:
    assert made("Role", values_of("watch.namespaces=[{name: team}]"))["metadata"]["name"] == "slipway-operator-slipway-system"


AGGREGATED = {
    "view": ({"keyrotations", "alertpolicies", "agenthealths"}, {"get", "list", "watch"}),
    "edit": ({"alertpolicies", "agenthealths"}, {"create", "update", "patch", "delete", "deletecollection"}),
    "admin": ({"keyrotations"}, {"create", "update", "patch", "delete", "deletecollection"}),
}


@pytest.mark.parametrize("role", AGGREGATED)
def test_people_get_the_kinds_by_the_roles_that_they_have(role: str) -> None:
    label = f"rbac.authorization.k8s.io/aggregate-to-{role}"
    [found] = [each for each in every(manifests(), "ClusterRole") if label in each["metadata"].get("labels", {})]

    resources, verbs = AGGREGATED[role]
    [rule] = found["rules"]
    assert (rule["apiGroups"], {*rule["resources"]}, {*rule["verbs"]}) == (["slipway.dev"], resources, verbs)


def test_nobody_but_the_operator_gets_the_status() -> None:
    people = [each for each in every(manifests(), "ClusterRole") if "aggregate-to" in json.dumps(each["metadata"])]

    assert len(people) == 3
    assert "status" not in json.dumps([each["rules"] for each in people])
    assert len(every(manifests(values_of("rbac.aggregate=false")), "ClusterRole")) == 1, "the operator's own"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("watchNamespaces=[team]", "watchNamespaces is gone: use watch.namespaces"),
        ("watchNamespaces=[]", "watchNamespaces is gone: use watch.namespaces"),
        ("rbac.secretNames=[a]", "rbac.secretNames is gone: use secretNames of each entry of watch.namespaces"),
        ("rbac.allSecrets=false", "rbac.allSecrets is gone: use secretNames"),
        ("networkPolicy.ingressFrom=[]", "networkPolicy.ingressFrom is gone: use networkPolicy.monitoringNamespace"),
        ("networkPolicy.egressPorts=[443]", "networkPolicy.egressPorts is gone: use networkPolicy.egressTo"),
        ("watch.allNamespaces=false", "watch.namespaces: name at least one namespace"),
        ("watch.namespaces=[{name: a}, {name: a}]", "watch.namespaces: a is there twice"),
        ("watch.namespaces=[{name: a, createSecrets: true}]", "watch.namespaces: a has createSecrets without secretNames"),
    ],
)
def test_values_that_are_gone_or_contradict_are_refused_with_what_to_do(old: str, new: str) -> None:
    assert new in refused(old)


# The network policy.


def network(*values: Values) -> dict[str, Any]:
    spec: dict[str, Any] = made("NetworkPolicy", *values)["spec"]
    return spec


def ports(rule: dict[str, Any]) -> list[int]:
    return [port["port"] for port in rule["ports"]]


PROMETHEUS = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}},
    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}},
}


def test_by_default_only_prometheus_in_its_namespace_gets_in() -> None:
    assert network()["ingress"] == [{"ports": [{"port": "ops"}], "from": [PROMETHEUS]}]
    assert network()["policyTypes"] == ["Ingress", "Egress"]


def test_every_way_out_but_the_one_to_names_has_a_destination() -> None:
    dns, *others = network(merged(EVERYTHING, {"networkPolicy": {"extraEgress": []}}))["egress"]

    assert [(port["port"], port["protocol"]) for port in dns["ports"]] == [(p, t) for p in (53, 5353) for t in ("UDP", "TCP")]
    assert [("to" in rule, ports(rule)) for rule in others] == [
        (True, [9090]),
        (True, [9090]),
        (True, [443, 6443, 8443, 8080, 9090]),
    ]
    assert others[1]["to"] == [PROMETHEUS]


def test_metadata_services_are_out_of_reach() -> None:
    [outside] = [rule for rule in network()["egress"] if 6443 in ports(rule)]

    assert [peer["ipBlock"]["except"] for peer in outside["to"]] == [["169.254.0.0/16"], ["fe80::/10", "fd00:ec2::254/128"]]


def test_in_namespaced_mode_agents_of_other_namespaces_are_out_of_reach() -> None:
    [agents] = [rule for rule in network(NAMESPACED)["egress"] if ports(rule) == [9090]]

    [expression] = agents["to"][0]["namespaceSelector"]["matchExpressions"]
    assert (expression["key"], expression["values"]) == ("kubernetes.io/metadata.name", ["team-a", "team-b"])


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("http://p.m:9090/x", 9090),
        ("http://p", 80),
        ("https://p/prom", 443),
        ("http://p:8481/select/0/prometheus", 8481),
        ("", None),
    ],
)
def test_prometheus_is_reached_on_the_port_of_its_address(url: str, port: int | None) -> None:
    rules = [rule for rule in network({"prometheus": {"url": url}})["egress"] if rule.get("to") == [PROMETHEUS]]

    assert [ports(rule) for rule in rules] == ([[port]] if port else [])
