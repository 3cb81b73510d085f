"""A tenant of a namespace who may write KeyRotations, AlertPolicies and AgentHealths, and nothing else: no Secret, no pod.

The operator may do much more, so the tenant writes hostile values into every field, past the definitions' patterns: an object may
be older than those. The reconcilers, the client of the Kubernetes API and the HTTP client are the real ones; the API server
behind HTTP notes what it is asked, and a server of the tenant's counts who calls.
"""

import base64
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from agent_operator.leases import Fences
from agent_operator.metrics import Metrics
from agent_operator.reconcile.tools import Key, Reconcile, Tools
from agent_operator.settings import OperatorSettings
from agent_operator.startup import reconcilers
from slipway_clients.clock import SystemClock
from slipway_clients.cluster import ClusterError, Manifest
from slipway_clients.cluster.http_cluster import connect
from slipway_clients.cluster.kinds import GROUP_VERSION, KEY_ROTATION, OWN, SECRET
from slipway_clients.egress.client import guarded_client
from slipway_clients.egress.origins import origins
from tests.operator.specs import GOOD, HOSTILE_TEXTS, fields, with_value
from tests.support.api_server import READS, ApiServer, Asked
from tests.support.fake_cluster import FakeCluster
from tests.support.fake_openai_admin import FakeOpenAI, serving
from tests.support.fake_openai_state import ADMIN_KEY, OpenAIState
from tests.support.fake_script import Script
from tests.support.http_server import http_server

pytestmark = pytest.mark.timeout(300)  # hundreds of objects: seconds, or a minute and more on a machine that does much else

TENANT, VICTIM, OPERATOR = "tenant", "victim", "slipway-system"

LEADING = {"secretName", "recordsSecretName", "name", "release", "app.kubernetes.io/instance", "url", "key", "projectID"}
"""Fields that lead somewhere get every value, each of the others every eighth: a run takes seconds, and leaves no field out."""

SECRETS = {
    (VICTIM, "db"): {"password": "victims-password"},
    (VICTIM, "pool"): {"a": "victims-pool-key"},
    (VICTIM, "api-keys"): {},
    (OPERATOR, "registry"): {"admin-key": "operators-other-secret"},
    (TENANT, "db"): {"password": "neighbours-password"},
    (TENANT, "model-key-of-others"): {"current": "neighbours-key"},
}
"""Of others; none agrees to anything. The tenant may not read the last two either, though they are in the same namespace."""

VALUES = [value for files in SECRETS.values() for value in files.values()]


@dataclass
class Collector:
    """The tenant's own server: whatever reaches it has got out."""

    port: int = 0
    received: list[str] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        self.received.append(f"{request.method} {request.raw_path} {request.headers.get('Authorization', '')}")
        return web.json_response({"status": "success", "data": {"groups": [], "alerts": [], "result": []}})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        async with http_server(self.handle) as url:
            self.port = int(url.rpartition(":")[2])
            yield


@dataclass
class Attack:
    api: ApiServer
    collector: Collector
    openai: FakeOpenAI
    openai_url: str
    reconcilers: dict[str, Reconcile]
    outcomes: Counter[str] = field(default_factory=Counter)
    number: int = 0

    async def write(self, kind: str, spec: Any, *, rounds: int = 1, status: Manifest | None = None, **metadata: Any) -> Manifest:
        """The tenant writes an object, and the operator attends to it; how the object is afterwards."""
        self.number += 1
        key = Key(kind, TENANT, f"object-{self.number}")
        identity = {"namespace": TENANT, "name": key.name, **metadata}
        found = {"apiVersion": GROUP_VERSION, "kind": kind, "metadata": identity, "spec": spec}
        self.api.cluster.put(found if status is None else {**found, "status": status})
        for _ in range(rounds):
            try:
                await self.reconcilers[kind](key)
                self.outcomes["attended to"] += 1
            except ClusterError as error:
                self.outcomes[type(error).__name__] += 1
        left = next(each for each in OWN if each.kind == kind)
        after = self.api.cluster.find(left, TENANT, key.name) or {}
        self.api.cluster.drop(left, TENANT, key.name)
        return after

    def outside(self) -> list[Asked]:
        """Requests for anything that is not of the tenant's namespace."""
        return [each for each in self.api.asked if each.namespace != TENANT and not self._own(each)]

    def _own(self, asked: Asked) -> bool:
        """In the operator's namespace: Secrets with admin keys, which an object names and an annotation allows."""
        return asked.namespace == OPERATOR and asked.kind == "Secret" and asked.method == "GET"

    def got_out(self) -> list[str]:
        """Values of others' Secrets in what the tenant can see or was sent, and changes to those Secrets."""
        told = json.dumps([each.manifest for each in self.api.cluster._objects.values() if not self._of_others(each.manifest)])
        told += repr(self.api.cluster.events) + repr(self.collector.received) + repr(self.openai.model.requests)
        decoded = "".join(base64.b64decode(text).decode(errors="replace") for text in _data_of(self.api.cluster))
        return [value for value in VALUES if value in told or value in decoded or _base64(value) in told]

    def _of_others(self, manifest: Manifest) -> bool:
        return (manifest["metadata"].get("namespace"), manifest["metadata"]["name"]) in SECRETS

    def changed(self) -> list[str]:
        return [f"{where}/{name}" for (where, name), files in SECRETS.items() if _files(self.api.cluster, where, name) != files]


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _files(cluster: FakeCluster, namespace: str, name: str) -> dict[str, str]:
    found = cluster.find(SECRET, namespace, name) or {}
    return {key: base64.b64decode(text).decode() for key, text in found.get("data", {}).items()}


def _data_of(cluster: FakeCluster) -> Iterator[str]:
    """Of every Secret that is none of SECRETS, encoded: a copy would be there."""
    for (kind, namespace, name), stored in cluster._objects.items():
        if kind == "Secret" and (namespace, name) not in SECRETS:
            yield from stored.manifest.get("data", {}).values()


def secret(namespace: str, name: str, files: dict[str, str], **metadata: Any) -> Manifest:
    data = {key: _base64(value) for key, value in files.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": namespace, "name": name, **metadata}, "data": data}


@pytest.fixture
async def attack() -> AsyncIterator[Attack]:
    collector, fake = Collector(), FakeOpenAI(OpenAIState(), Script())
    cluster = FakeCluster(secret(where, name, files) for (where, name), files in SECRETS.items())
    for name in ("agent-1", "agent-2"):
        labels = {"app.kubernetes.io/instance": "my-agent"}
        metadata = {"namespace": TENANT, "name": name, "labels": labels}
        # An address that the HTTP client refuses at once: a pod that does not answer.
        status = {"phase": "Running", "podIP": "127.0.0.2", "conditions": [{"type": "Ready", "status": "True"}]}
        cluster.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status})
    api = ApiServer(cluster)
    async with collector.serving(), serving(fake) as url, api.serving() as config, connect(config) as client:
        files = {"admin-key": ADMIN_KEY, "base-url": url}
        cluster.put(secret(OPERATOR, "openai-admin", files, annotations={"slipway.dev/allow": f"{TENANT}/proj_1"}))
        settings = OperatorSettings(pod_namespace=OPERATOR, key_hosts=origins(url.removesuffix("/v1")))
        # The collector's address may be connected to: here, only who a key may be sent to stands between.
        async with guarded_client({*settings.loopback, ("127.0.0.1", collector.port)}) as http:
            clock = SystemClock()
            tools = Tools(client, clock, Fences(client, clock, holder="operator"), Metrics("test"), http, settings)
            yield Attack(api, collector, fake, url, dict(reconcilers(tools)))


def report(attack: Attack, what: str, tried: int) -> None:
    outside = attack.outside()
    reads = [each for each in outside if each.method in READS]
    print(  # the count is what this is for
        f"namespace tenant, {what}: {tried} objects, {len(attack.api.asked)} requests to the API server;"
        f" outside of the namespace: {len(reads)} reads, {len(outside) - len(reads)} writes,"
        f" {len(attack.collector.received)} calls;"
        f" values of others told: {len(attack.got_out())}, Secrets of others changed: {len(attack.changed())}"
    )
    assert outside == []
    assert attack.collector.received == []
    assert attack.got_out() == []
    assert attack.changed() == []


def values(port: int) -> list[Any]:
    """What is written into fields: names of others, ways out of a path, a query, a selector or a header, and the collector."""
    urls = [
        f"http://127.0.0.1:{port}/",
        f"https://127.0.0.1:{port}",
        f"http://localhost:{port}/x",
        f"http://api.openai.com@127.0.0.1:{port}/",
    ]
    names = [
        "../../victim/secrets/pool",
        "../../../../api/v1/namespaces/victim/secrets/db",
        "..%2f..%2fvictim%2fsecrets%2fdb",
        "victim",
    ]
    return [*urls, *names, *HOSTILE_TEXTS, None, 7, ["a"], {"a": "b"}]


async def test_the_good_objects_are_served_so_that_the_attacks_could_have_been(attack: Attack) -> None:
    spec = {
        **rotation({"openAI": {"projectID": "proj_1", "adminKey": {"secretName": "openai-admin"}}}),
        "verify": {"url": f"{attack.openai_url}/models"},
    }
    after = await attack.write("KeyRotation", spec, rounds=2)

    assert after["status"]["revision"] == 1
    assert len(attack.openai.state.keys) == 1
    assert not attack.outside()
    policy = await attack.write("AlertPolicy", {"release": "demo"})
    assert next(each for each in policy["status"]["conditions"] if each["type"] == "RulesApplied")["status"] == "True"


def new_fields(kind: str, good: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Those that no good object of the kind before this one has."""
    known: set[tuple[Any, ...]] = set()
    for each, spec in GOOD:
        if spec is good:
            break
        known |= set(fields(spec)) if each == kind else set()
    return [where for where in fields(good) if where not in known]


@pytest.mark.parametrize(("kind", "good"), [each for each in GOOD if new_fields(*each)])
async def test_hostile_values_in_every_field_lead_nowhere(attack: Attack, kind: str, good: dict[str, Any]) -> None:
    tried = 0
    for number, where in enumerate(new_fields(kind, good)):
        every = values(attack.collector.port)
        for value in every if where[-1] in LEADING else every[number % 8 :: 8]:
            await attack.write(kind, with_value(good, where, value))
            tried += 1
    report(attack, f"{kind} {'/'.join(good.get('provider', good.get('receiver', {'': 0})))}", tried)


def rotation(provider: Any, name: str = "model-key") -> dict[str, Any]:
    selector = {"matchLabels": {"app.kubernetes.io/instance": "my-agent"}}
    return {"target": {"secretName": name}, "consumers": {"selector": selector}, "provider": provider}


async def test_secrets_that_do_not_agree_are_not_used_in_any_role(attack: Attack) -> None:
    """Names that are well-formed, of Secrets that the tenant may not read."""
    tried = 0
    for (_, name), url in (
        (key, url) for key in SECRETS for url in (f"http://127.0.0.1:{attack.collector.port}/", "https://evil.example")
    ):
        admin = {"projectID": "proj_1", "adminKey": {"secretName": name}}
        api_key = {"recordsSecretName": name, "user": "eve", "role": "admin"}
        for spec in (
            {**rotation({"pool": {"secretName": name}}), "verify": {"url": url}},
            {**rotation({"openAI": admin}), "verify": {"url": url}},
            rotation({"openAI": {**admin, "adminKey": {"secretName": name, "key": "password"}}}),
            rotation({"generated": {"kind": "APIKey", "apiKey": api_key}}),
            rotation({"generated": {"kind": "APIKey", "apiKey": {**api_key, "role": "user"}}}),
            rotation({"generated": {"kind": "JWTSecret"}}, name),
            {**rotation({"generated": {"kind": "JWTSecret"}}, name), "deletionPolicy": "Revoke"},
        ):
            await attack.write("KeyRotation", spec, rounds=2)
            tried += 1
        for receiver in (
            {"webhook": {"urlSecret": {"name": name, "key": "password"}}},
            {"slack": {"channel": "#x", "apiUrlSecret": {"name": name, "key": "password"}}},
            {"pagerDuty": {"routingKeySecret": {"name": name, "key": "password"}}},
        ):
            await attack.write("AlertPolicy", {"release": "demo", "receiver": receiver}, rounds=2)
            tried += 1
    made = [each for each in attack.api.asked if each.kind == "AlertmanagerConfig" and each.method not in READS]
    report(attack, "Secrets without consent", tried)
    assert made == []


async def test_a_minted_key_is_sent_to_no_host_of_the_tenants(attack: Attack) -> None:
    tried = 0
    provider = {"openAI": {"projectID": "proj_1", "adminKey": {"secretName": "openai-admin"}}}
    port = attack.collector.port
    host = attack.openai_url.removeprefix("http://").removesuffix("/v1")
    for url in (
        f"http://127.0.0.1:{port}/",
        f"http://127.0.0.1:{port}/?{host}",
        f"http://{host}@127.0.0.1:{port}/",
        f"http://{host}:{port}/",
        f"http://{host}.127.0.0.1:{port}/",
        f"http://127.0.0.1:{port}#{host}",
        f"http://127.0.0.1:{port}\\@{host}/",
        f"HTTP://127.0.0.1:{port}",
        f"//127.0.0.1:{port}",
        f"http://[::ffff:127.0.0.1]:{port}/",
        f"http://0x7f000001:{port}/",
        "http://169.254.169.254/latest/meta-data/iam",
        "http://metadata.google.internal/",
    ):
        await attack.write("KeyRotation", {**rotation(provider), "verify": {"url": url}}, rounds=2)
        tried += 1
    report(attack, "hosts for a minted key", tried)
    assert attack.openai.state.keys == {}, "nothing is made for a host that is not meant"


async def test_old_objects_are_ended_without_leaving_the_namespace(attack: Attack) -> None:
    """Of a time before the patterns, with a status that says that keys were made, and now deleted."""
    tried = 0
    status = {"phase": "Idle", "revision": 3, "currentKeyID": "../../../proj_2/api_keys/key_1", "conditions": []}
    for name in (each for each in values(attack.collector.port) if isinstance(each, str)):
        for spec in (
            {**rotation({"pool": {"secretName": name}}), "deletionPolicy": "Revoke"},
            {**rotation({"pool": {"secretName": "pool"}}, name), "deletionPolicy": "Revoke"},
            {**rotation({"openAI": {"projectID": name, "adminKey": {"secretName": "openai-admin"}}}), "deletionPolicy": "Revoke"},
        ):
            ending: dict[str, Any] = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["slipway.dev/keyrotation"]}
            await attack.write(KEY_ROTATION.kind, spec, status=status, **ending)
            tried += 1
    report(attack, "deletions", tried)


async def test_a_redirect_of_a_host_that_is_meant_takes_no_key_along(attack: Attack) -> None:
    async def redirect(_: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(f"http://127.0.0.1:{attack.collector.port}/")

    async with http_server(redirect) as base:
        annotations = {"slipway.dev/allow": f"{TENANT}/proj_1"}
        attack.api.cluster.put(
            secret(OPERATOR, "redirected", {"admin-key": ADMIN_KEY, "base-url": base}, annotations=annotations)
        )
        provider = {"openAI": {"projectID": "proj_1", "adminKey": {"secretName": "redirected"}}}
        await attack.write("KeyRotation", rotation(provider), rounds=2)
    report(attack, "redirects", 1)
