"""Keys of a pool, signing secrets and clients' keys, each rotated twice under the pods of a real release."""

import base64
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jwt
import pytest

from tests.e2e.agent import CHART, default_values, fullname
from tests.e2e.operator import running_operator
from tests.e2e.rotations import end_rotations, secret
from tests.support.cluster import Namespace, fresh_namespace, wait_until
from tests.support.figures import Report
from tests.support.helm import Release

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

TARGETS = {"pool": "model-key", "signing": "signing", "caller": "caller"}
"""KeyRotation to its target Secret."""

PROVIDERS: dict[str, dict[str, Any]] = {
    "pool": {"pool": {"secretName": "keys"}},
    "signing": {"generated": {"kind": "JWTSecret"}},
    "caller": {"generated": {"kind": "APIKey", "apiKey": {"recordsSecretName": "records", "user": "billing"}}},
}

ASK = """
import sys, urllib.error, urllib.request
request = urllib.request.Request("http://127.0.0.1:8000/usage", headers={"Authorization": "Bearer " + sys.argv[1]})
try:
    print(urllib.request.urlopen(request, timeout=10).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""

ROTATED_SECONDS = 120
"""The kubelet brings a Secret to its pods twice in a rotation, and the overlap is 5 s."""


@dataclass(frozen=True, slots=True)
class World:
    namespace: Namespace
    deployment: str

    def status(self, rotation: str) -> dict[str, Any]:
        return dict(self.namespace.get("keyrotation", rotation).get("status", {}))

    def current(self, rotation: str) -> str:
        """The key that the target Secret holds."""
        secret = self.namespace.get("secret", TARGETS[rotation])
        return base64.b64decode(secret["data"]["current"]).decode()

    def answers(self, token: str) -> int:
        """HTTP status with which the pod answers a caller who shows this."""
        return int(self.namespace.python(self.deployment, ASK, token))

    def wait_for(self, revision: int) -> None:
        for name in TARGETS:
            wait_until(f"revision {revision} of {name}", lambda name=name: self._is_at(name, revision), seconds=ROTATED_SECONDS)  # type: ignore[misc]  # bound at once

    def _is_at(self, rotation: str, revision: int) -> bool:
        status = self.status(rotation)
        return status.get("revision") == revision and status.get("phase") == "Idle"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """One replica, whose every key is rotated, and an operator that may make Secrets."""
    with fresh_namespace("e2e-kinds") as namespace:
        release = Release(namespace, "agent-kinds", CHART)
        pool = {"secretName": "keys"}
        namespace.apply(
            secret(pool["secretName"], {"a": "sk-first", "b": "sk-second"}, {"slipway.dev/key-pool": "true"}),
            *(secret(target, {}, {"slipway.dev/keyrotation": name}) for name, target in TARGETS.items()),
            secret("records", {}, {"slipway.dev/api-key-records": "true"}),
        )
        rights = {"secretNames": [*TARGETS.values(), "records", "keys"]}
        with running_operator(namespace, rights=rights):
            try:
                namespace.apply(*(_rotation(name, release.name) for name in TARGETS))
                values = default_values() | {
                    "replicaCount": 1,
                    # Nothing is asked of it: a pod tells which key it has loaded.
                    "model": {"name": "fake", "baseUrl": "http://127.0.0.1:1/v1", "existingSecret": "model-key"},
                    "auth": {"jwt": {"existingSecret": "signing", "key": ""}, "apiKeys": {"existingSecret": "records"}},
                    "networkPolicy": {"operatorNamespace": namespace.name},
                }
                release.upgrade(values)
                found = World(namespace, f"deployment/{fullname(release.name)}")
                found.wait_for(1)
                yield found
            finally:
                end_rotations(namespace)


def _rotation(name: str, release: str) -> dict[str, Any]:
    labels = {"app.kubernetes.io/instance": release, "app.kubernetes.io/component": "agent"}
    spec = {
        "target": {"secretName": TARGETS[name]},
        "consumers": {"selector": {"matchLabels": labels}},
        "provider": PROVIDERS[name],
        "overlap": "5s",
    }
    return {"apiVersion": "slipway.dev/v1alpha1", "kind": "KeyRotation", "metadata": {"name": name}, "spec": spec}


def test_pools_signing_secrets_and_clients_keys_rotate_and_the_old_ones_end(world: World, report: Report) -> None:
    keys = {name: world.current(name) for name in TARGETS}
    before = {"signing": world.answers(_signed(keys["signing"])), "caller": world.answers(keys["caller"])}
    began = time.monotonic()
    world.namespace.kubectl("annotate", "keyrotations", *TARGETS, "slipway.dev/rotate-now=1")
    world.wait_for(2)
    report(f"key rotation: a pool, a signing secret and a client's key are replaced in {time.monotonic() - began:.0f} s")
    fresh = {name: world.current(name) for name in TARGETS}

    assert before == {"signing": 200, "caller": 200}
    assert (keys["pool"], fresh["pool"]) == ("sk-first", "sk-second")
    notes = world.namespace.get("secret", "keys")["metadata"]["annotations"]
    assert json.loads(notes["slipway.dev/used"]).keys() == {"a", "b"}
    assert world.answers(_signed(fresh["signing"])) == 200
    assert world.answers(fresh["caller"]) == 200
    # The pod reads the Secret without the old key within a sync of the kubelet.
    wait_until("the end of the old signing secret", lambda: world.answers(_signed(keys["signing"])) == 401, seconds=60)
    wait_until("the end of the old client's key", lambda: world.answers(keys["caller"]) == 401, seconds=60)
    assert len(world.namespace.get("secret", "records")["data"]) == 1


def _signed(secret: str) -> str:
    return jwt.encode({"sub": "e2e", "exp": int(time.time()) + 600}, secret, "HS256")
