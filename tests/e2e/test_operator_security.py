"""The confused deputy: a tenant who may write the three kinds and read nothing, and an operator with the rights of its chart.

These are as wide as the chart makes them: objects of all namespaces, and Secrets of the tenant's and of the victim's namespace.
"""

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.agent import OPERATOR_IMAGE
from tests.e2e.operator import running_operator
from tests.e2e.test_network_policy import REACHED, SILENT, reach
from tests.operator.specs import GOOD, HOSTILE_TEXTS, fields, with_value
from tests.support.cluster import Namespace, fresh_namespace, idle_pod, wait_until
from tests.support.figures import Report
from tests.support.helm import Release, Values

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600), pytest.mark.xdist_group("operator-security")]

LEADING = {"secretName", "recordsSecretName", "name", "release", "url", "key", "projectID", "app.kubernetes.io/instance"}
"""Fields that lead somewhere; the others are tried in tests/attack, without a cluster."""

SUBRESOURCES = {"status", "log", "proxy", "exec", "token"}

ALL_SECRETS = ["model-key", "pool", "db", "api-keys", "mine"]
RIGHTS = {"secretNames": ALL_SECRETS, "createSecrets": True, "configMaps": True}

VICTIMS = {"db": "victims-password", "pool": "victims-pool-key", "model-key": "victims-model-key", "api-keys": "victims-records"}
NEIGHBOURS = {"db": "neighbours-password", "pool": "neighbours-pool-key"}
"""In the tenant's own namespace, without any label: who owns them has not agreed."""

WATCHED = "secrets,configmaps,serviceaccounts,roles,rolebindings,prometheusrules,alertmanagerconfigs,keyrotations"
VISIBLE = "keyrotations,alertpolicies,agenthealths,events,configmaps,prometheusrules,alertmanagerconfigs,secrets"

LISTENER = """
import socket, threading
seen = []
def listen(port):
    with socket.create_server(("", port)) as server:
        while True:
            seen.append(server.accept()[0].close())
for port in (8443, 9090):
    threading.Thread(target=listen, args=(port,), daemon=True).start()
with socket.create_server(("", 8080)) as server:
    while True:
        connection, _ = server.accept()
        connection.sendall(str(len(seen)).encode())
        connection.close()
"""
"""A server of the tenant's: who connects to 8443 or 9090 is counted, and 8080 tells the count."""

COUNT = "import socket; print(socket.create_connection(('127.0.0.1', 8080), 3).recv(9).decode())"
KNOCK = "import socket; socket.create_connection(('127.0.0.1', 8443), 3)"


@dataclass(frozen=True, slots=True)
class Scene:
    tenant: Namespace
    victim: Namespace
    home: Namespace
    operator: Release

    @property
    def account(self) -> str:
        return f"system:serviceaccount:{self.home.name}:slipway-operator"

    def may(self, verb: str, what: str, namespace: str, who: str | None = None) -> bool:
        """As the API server's own authorization says; `what` is a resource, resource/name or resource/subresource."""
        resource, _, part = what.partition("/")
        target = [resource, f"--subresource={part}"] if part in SUBRESOURCES else [what]
        command = ["kubectl", "auth", "can-i", verb, *target, f"--as={who or self.account}", f"--namespace={namespace}"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() == "yes"

    @property
    def writer(self) -> str:
        return f"system:serviceaccount:{self.tenant.name}:writer"

    def connections(self) -> int:
        return int(self.tenant.kubectl("exec", "listener", "--", "python", "-c", COUNT))

    def listener(self) -> str:
        return str(self.tenant.get("pod", "listener")["status"]["podIP"])

    def create(self, objects: list[dict[str, Any]]) -> int:
        """As the tenant; how many the API server took."""
        items = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        command = ["kubectl", "create", "--namespace", self.tenant.name, f"--as={self.writer}", "--filename=-", "--output=name"]
        done = subprocess.run(command, input=items, capture_output=True, text=True, check=False)
        assert "orbidden: User" not in done.stderr, done.stderr[:500]
        return len(done.stdout.split())


def secret(name: str, value: str, **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "labels": {f"slipway.dev/{label.replace('_', '-')}": text for label, text in labels.items()}}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "stringData": {"current": value, "a": value, "key": value},
    }


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with fresh_namespace("e2e-tenant") as tenant, fresh_namespace("e2e-victim") as victim, fresh_namespace("e2e-home") as home:
        agreeing = {"pool": {"key_pool": "true"}, "model-key": {"keyrotation": "mine"}, "api-keys": {"api_key_records": "admin"}}
        victim.apply(*(secret(name, value, **agreeing.get(name, {})) for name, value in VICTIMS.items()))
        tenant.apply(*(secret(name, value) for name, value in NEIGHBOURS.items()))
        admin = secret("openai-admin", "admins-key")
        admin["metadata"]["annotations"] = {"slipway.dev/allow": f"{victim.name}/proj_1"}
        home.apply(admin)
        listener = idle_pod("listener", OPERATOR_IMAGE)
        listener["spec"]["containers"][0]["command"] = ["python", "-c", LISTENER]
        tenant.apply(listener, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "writer"}})
        watch = {"allNamespaces": True, "namespaces": [{"name": space.name, **RIGHTS} for space in (tenant, victim)]}
        rbac = {"aggregate": True, "adminSecretNames": ["openai-admin"]}
        # Every way out is open: what holds is the operator itself.
        network: Values = {"extraEgress": [{}]}
        with running_operator(home, watch=watch, rbac=rbac, networkPolicy=network) as operator:
            for role in ("view", "edit", "admin"):
                bind(tenant, "writer", f"slipway-operator-{home.name}-{role}")
            tenant.kubectl("wait", "--for=condition=Ready", "pod/listener", "--timeout=60s")
            yield Scene(tenant, victim, home, operator)
            operator.uninstall()
            release_finalizers(tenant)


def bind(namespace: Namespace, account: str, role: str) -> None:
    namespace.kubectl(
        "create", "rolebinding", f"{account}-{role}", f"--clusterrole={role}", f"--serviceaccount={namespace.name}:{account}"
    )


def release_finalizers(namespace: Namespace) -> None:
    """For objects that never made a key, and whose operator is gone: else their namespace would stay."""
    if names := namespace.kubectl("get", "keyrotations", "--output=name").split():
        namespace.kubectl("patch", *names, "--type=merge", '--patch={"metadata": {"finalizers": null}}')


def versions(*spaces: Namespace) -> dict[str, str]:
    found = [each for space in spaces for each in space.get(WATCHED)]
    return {
        f"{each['kind']} {each['metadata']['namespace']}/{each['metadata']['name']}": each["metadata"]["resourceVersion"]
        for each in found
    }


def hostile(scene: Scene) -> Iterator[tuple[str, dict[str, Any]]]:
    address = scene.listener()
    urls = [f"https://{address}:8443/", f"http://{address}:9090", f"https://api.openai.com@{address}:8443/"]
    names = [*VICTIMS, "openai-admin", f"{scene.victim.name}/db", f"../../{scene.victim.name}/secrets/pool", scene.victim.name]
    for kind, good in GOOD:
        for where in fields(good):
            if where[-1] in LEADING:
                for value in [*urls, *names, *HOSTILE_TEXTS]:
                    yield kind, with_value(good, where, value)


def agreed_by_nobody(scene: Scene) -> Iterator[tuple[str, dict[str, Any]]]:
    """Well-formed names of Secrets that are there, in every role; a key, once read, would go to the tenant's listener."""
    urls = [f"https://{scene.listener()}:8443/", f"http://{scene.listener()}:9090/"]
    for url in urls:
        for name in [*VICTIMS, "openai-admin"]:
            base = {"consumers": {"selector": {"matchLabels": {"app": "none"}}}, "verify": {"url": url}}
            for provider in (
                {"pool": {"secretName": name}},
                {"openAI": {"projectID": "proj_1", "adminKey": {"secretName": name}}},
                {"generated": {"kind": "APIKey", "apiKey": {"recordsSecretName": name, "user": "eve", "role": "admin"}}},
            ):
                yield "KeyRotation", {**base, "target": {"secretName": "mine"}, "provider": provider}
                yield "KeyRotation", {**base, "target": {"secretName": name}, "provider": provider}
            webhook = {"webhook": {"urlSecret": {"name": name, "key": "key"}}}
            yield "AlertPolicy", {"release": "demo", "receiver": webhook, "prometheus": {"url": url}}
        yield "AgentHealth", {"release": scene.victim.name, "prometheus": {"url": url}}


def test_a_tenant_leads_the_operator_nowhere(scene: Scene, report: Report) -> None:
    assert not scene.may("get", "secrets", scene.tenant.name, scene.writer)
    assert not scene.may("create", "keyrotations", scene.victim.name, scene.writer)
    before = versions(scene.victim, scene.home)
    untouched = {name: scene.tenant.get("secret", name)["metadata"]["resourceVersion"] for name in NEIGHBOURS}
    specs = [*hostile(scene), *agreed_by_nobody(scene)]
    objects = [
        {"apiVersion": "slipway.dev/v1alpha1", "kind": kind, "metadata": {"name": f"h{number}"}, "spec": spec}
        for number, (kind, spec) in enumerate(specs)
    ]
    taken = scene.create(objects)
    wait_until("all objects are attended to", lambda: not unattended(scene), seconds=240, every=3)

    changed = {name for name, version in versions(scene.victim, scene.home).items() if before.get(name) != version}
    changed |= before.keys() - versions(scene.victim, scene.home).keys()
    told = [value for value in [*VICTIMS.values(), *NEIGHBOURS.values(), "admins-key"] if value in visible(scene)]
    attempts = [line for line in scene.home.kubectl("logs", "deployment/slipway-operator").splitlines() if elsewhere(scene, line)]
    report(
        f"confused deputy: {len(objects)} hostile objects, {len(objects) - taken} refused by the API server, {taken} attended to;"
        f" outside of the tenant's namespace: {len(attempts)} refused attempts, {len(changed)} writes,"
        f" {scene.connections()} connections; values of others told: {len(told)}"
    )

    assert 50 < taken < len(objects), "some are refused by the definitions, some by the operator"
    assert (attempts, changed, told) == ([], set(), [])
    assert scene.connections() == 0
    assert untouched == {name: scene.tenant.get("secret", name)["metadata"]["resourceVersion"] for name in NEIGHBOURS}
    scene.tenant.kubectl("exec", "listener", "--", "python", "-c", KNOCK)
    assert scene.connections() == 1, "the listener counts"


def unattended(scene: Scene) -> list[str]:
    items = scene.tenant.get("keyrotations,alertpolicies,agenthealths")
    return [each["metadata"]["name"] for each in items if not each.get("status", {}).get("conditions")]


def visible(scene: Scene) -> str:
    """All that the tenant could read if it might, and all that was made; but for the neighbours' own Secrets."""
    theirs = {("Secret", name) for name in NEIGHBOURS}
    items = [each for each in scene.tenant.get(VISIBLE) if (each["kind"], each["metadata"]["name"]) not in theirs]
    data = [text for each in items if each["kind"] == "Secret" for text in each.get("data", {}).values()]
    return json.dumps(items) + "".join(base64.b64decode(text).decode(errors="replace") for text in data)


def elsewhere(scene: Scene, line: str) -> bool:
    """The API server's word that a request for another namespace was refused; an admin key's Secret is asked for by design."""
    found = re.search(r'cannot (\w+) resource \\"(\w+)\\".* in the namespace \\"([a-z0-9-]+)', line)
    if found is None or found[3] == scene.tenant.name:
        return False
    return found.groups() != ("get", "secrets", scene.home.name)


def test_the_operator_may_do_nothing_that_its_page_does_not_list(scene: Scene, report: Report) -> None:
    asked = [
        *[(verb, "secrets", "kube-system") for verb in ("get", "list", "watch", "create", "update", "patch", "delete")],
        *[(verb, "configmaps", "kube-system") for verb in ("get", "list", "create", "update", "delete")],
        *[(verb, "prometheusrules", "monitoring") for verb in ("get", "list", "create", "update", "delete")],
        *[(verb, "secrets", scene.victim.name) for verb in ("list", "watch", "patch", "deletecollection")],
        *[("get", resource, scene.victim.name) for resource in ("secrets", "secrets/other", "pods/log", "pods/proxy", "nodes")],
        *[("create", resource, scene.victim.name) for resource in ("pods", "pods/exec", "serviceaccounts/token", "rolebindings")],
        *[(verb, "leases/kube-scheduler", "kube-system") for verb in ("get", "update", "delete")],
        *[
            ("update", "keyrotations", "default"),
            ("update", "deployments", scene.victim.name),
            ("impersonate", "users", "default"),
        ],
    ]
    allowed = [each for each in asked if scene.may(*each)]
    lease = ("update", "leases/slipway-operator", "default")
    wanted = [("get", "secrets/db", scene.victim.name), ("list", "keyrotations", "default"), lease]
    report(f"the operator's rights: of {len(asked)} that it must not have the API server grants it {len(allowed)}")

    assert allowed == []
    assert all(scene.may(*each) for each in wanted), "the question is asked rightly"
    assert scene.may("update", "alertpolicies/status", "default")


@pytest.mark.parametrize(
    ("role", "reads", "writes"),
    [
        ("view", {"keyrotations", "alertpolicies", "agenthealths"}, set()),
        ("edit", {"keyrotations", "alertpolicies", "agenthealths"}, {"alertpolicies", "agenthealths"}),
        (
            "admin",
            {"keyrotations", "alertpolicies", "agenthealths"},
            {"keyrotations", "alertpolicies", "agenthealths"},
        ),
    ],
)
def test_the_clusters_own_roles_have_the_kinds(scene: Scene, role: str, reads: set[str], writes: set[str]) -> None:
    who = f"system:serviceaccount:{scene.tenant.name}:{role}"
    scene.tenant.kubectl("create", "serviceaccount", role)
    bind(scene.tenant, role, role)
    wait_until("the roles are aggregated", lambda: scene.may("get", "agenthealths", scene.tenant.name, who), seconds=30)
    kinds = ("keyrotations", "alertpolicies", "agenthealths")

    assert {kind for kind in kinds if scene.may("get", kind, scene.tenant.name, who)} == reads
    assert {kind for kind in kinds if scene.may("create", kind, scene.tenant.name, who)} == writes
    assert not [kind for kind in kinds if scene.may("update", f"{kind}/status", scene.tenant.name, who)]


def test_only_prometheus_in_its_namespace_reaches_the_metrics(scene: Scene, report: Report) -> None:
    [pod] = scene.home.get("pods", "--selector=app.kubernetes.io/name=slipway-operator")
    address = pod["status"]["podIP"]
    impostor = idle_pod("stranger", OPERATOR_IMAGE)
    impostor["metadata"]["labels"] = {"app.kubernetes.io/name": "prometheus"}
    real = Namespace("monitoring")
    scene.tenant.apply(impostor)
    real.apply(impostor)
    try:
        for space in (scene.tenant, real):
            space.kubectl("wait", "--for=condition=Ready", "pod/stranger", "--timeout=60s")
        found = {
            "one who is only called Prometheus": reach(scene.tenant, address, 9090),
            "Prometheus": reach(real, address, 9090),
        }
    finally:
        real.kubectl("delete", "pod", "stranger", "--wait=false")
    report(f"the operator's metrics: {', '.join(f'{who}: {how}' for who, how in found.items())}")

    assert [*found.values()] == [SILENT, REACHED]


def test_a_second_operator_over_the_namespace_waits_until_the_first_is_gone(scene: Scene, report: Report) -> None:
    def holder() -> str:
        return str(scene.tenant.get("lease", "slipway-operator")["spec"]["holderIdentity"])

    first = holder()
    assert first.startswith(f"{scene.home.name}/")
    with fresh_namespace("e2e-second") as other, running_operator(other, watch=only(scene.tenant)) as second:
        wait_until("the second is at work", lambda: "Running" in json.dumps(other.get("pods")), seconds=60)
        scene.tenant.kubectl("label", "alertpolicies", "--all", "touched=yes")
        assert holder() == first

        scene.home.kubectl("scale", "deployment/slipway-operator", "--replicas=0")
        taken = wait_until("the Lease is taken", lambda: holder() if holder() not in {first, ""} else None, seconds=60)
        report(f"two operators over one namespace: the second waits while {first} is there, and is {taken} afterwards")

        assert taken.startswith(f"{other.name}/")
        second.uninstall()
    scene.home.kubectl("scale", "deployment/slipway-operator", "--replicas=1")
    scene.home.wait_until_ready("slipway-operator", seconds=120)


def only(namespace: Namespace) -> dict[str, Any]:
    return {"allNamespaces": False, "namespaces": [{"name": namespace.name}]}
