"""Keys that rotate under load: no request fails, no key is left behind, whatever becomes of the operator."""

import asyncio
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.agent import CHART, Agent, default_values, fullname, open_door
from tests.e2e.operator import running_operator
from tests.e2e.rotations import end_rotations, fake_state, killed_at_random, start_fake_openai
from tests.support.cluster import Namespace, fresh_namespace, has_api, prometheus_query, require_api, wait_until
from tests.support.figures import Report
from tests.support.helm import Release, Values
from tests.support.load import Tally, load

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

SECONDS = float(os.environ.get("ROTATION_SECONDS", "300"))
STREAMS = int(os.environ.get("ROTATION_STREAMS", "50"))

KILL_EVERY = (60.0, 100.0)
"""Seconds. The operator that follows starts, and waits 30 s for the Lease of the one that was killed: let it get to work."""

STUCK = "stuck-consumer"


@dataclass(frozen=True, slots=True)
class World:
    agent: Agent
    operator: Release

    @property
    def namespace(self) -> Namespace:
        return self.agent.namespace

    @property
    def rotation(self) -> dict[str, Any]:
        return dict(self.namespace.get("keyrotation", f"{self.agent.fullname}-model"))

    @property
    def status(self) -> dict[str, Any]:
        return dict(self.rotation.get("status", {}))

    def condition(self, type_: str) -> dict[str, Any]:
        return next((each for each in self.status.get("conditions", []) if each["type"] == type_), {})

    def annotate(self, annotation: str) -> None:
        self.namespace.kubectl("annotate", "--overwrite", f"keyrotation/{self.agent.fullname}-model", annotation)

    def events(self, reason: str) -> list[str]:
        return [event["note"] for event in self.namespace.get("events.events.k8s.io") if event.get("reason") == reason]

    def metric(self, name: str) -> float:
        """Of the operator, at this moment; that Prometheus gets it as well shows in the alert."""
        [pod] = self.namespace.pods(f"app.kubernetes.io/instance={self.operator.name}")
        text = self.namespace.ops(pod.name, "/metrics")
        found = re.search(rf"^slipway_operator_{name}{{[^}}]*}} (\S+)$", text, re.MULTILINE)
        assert found, f"no sample of {name}"
        return float(found[1])

    def wait_until_idle(self, *, seconds: float) -> None:
        wait_until("the end of the rotation", lambda: self.status.get("phase") == "Idle", seconds=seconds)


@pytest.fixture(scope="module")
def makes() -> Iterator[Namespace]:
    """Where the operator may make Secrets itself."""
    with fresh_namespace("e2e-makes") as namespace:
        yield namespace


@pytest.fixture(scope="module")
def world(makes: Namespace) -> Iterator[World]:
    """Two replicas whose key the chart's KeyRotation replaces each minute; the model accepts only keys that are not revoked.

    The key's Secret was made empty by an administrator and handed over: there the operator may not make Secrets.
    """
    with fresh_namespace("e2e-rotation") as namespace:
        url = start_fake_openai(namespace)
        agent = Release(namespace, "agent-rotated", CHART)
        namespace.apply(_handed_over("model-key", to=f"{fullname(agent.name)}-model"))
        rights = [
            {"name": namespace.name, "secretNames": ["model-key"]},
            {"name": makes.name, "secretNames": ["made"], "createSecrets": True},
        ]
        values: Values = {
            "watch": {"allNamespaces": False, "namespaces": rights},
            "rbac": {"adminSecretNames": ["openai-admin"]},
            # The fake speaks plain http, which the operator takes for hosts that its own settings name, and for no others.
            "keyHosts": [url.removesuffix("/v1")],
        }
        monitored = has_api("prometheusrules.monitoring.coreos.com")
        monitoring = {"serviceMonitor": {"enabled": monitored, "interval": "5s"}, "alerts": {"enabled": monitored}}
        with running_operator(namespace, **values, monitoring=monitoring) as operator:
            values = default_values() | {
                "replicaCount": 2,
                # What is counted here is what a key's change breaks. A busy machine must not look like a dead process.
                "env": {"HEARTBEAT_SECONDS": 2, "LEASE_SECONDS": 60},
                "model": {"name": "fake", "baseUrl": url, "existingSecret": "model-key"},
                "limits": {"ratePerMinute": 0},  # one caller begins a thousand runs a minute
                "operator": {"keyRotation": _rotation()},
                "networkPolicy": {"operatorNamespace": namespace.name},
            }
            try:
                agent.upgrade(values, "--timeout=300s")
                found = World(open_door(agent, values), operator)
                wait_until("the first key in every pod", lambda: _has_first_key(found), seconds=180)
                yield found
            finally:
                end_rotations(namespace)


def _handed_over(name: str, *, to: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": {"slipway.dev/keyrotation": to}}}


def _has_first_key(world: World) -> bool:
    return world.status.get("revision", 0) > 0 and world.status.get("phase") == "Idle"


def _rotation() -> dict[str, Any]:
    return {
        "enabled": True,
        "provider": {"openAI": {"projectID": "proj_e2e", "adminKey": {"secretName": "openai-admin"}}},
        "schedule": {"interval": "60s", "jitter": "1s"},
        "overlap": "10s",
        "deadline": "30s",
        "emergencyConfirmTimeout": "10s",
    }


def _failed(tally: Tally) -> list[str]:
    """What a person would have seen go wrong."""
    return [
        f"{reader.outcome or 'no end'}: {reader.visible_errors} {reader.errors}"
        for reader in tally.readers
        if reader.outcome != "completed" or reader.visible_errors
    ]


def test_an_empty_secret_that_was_handed_over_is_filled_and_none_is_made(world: World, report: Report) -> None:
    secret = world.namespace.get("secret", "model-key")
    report("key rotation: an empty Secret of the administrator's holds the first key, without a right to make Secrets")

    assert {"current", "revision"} <= secret["data"].keys()
    assert "app.kubernetes.io/managed-by" not in secret["metadata"]["labels"], "the administrator's own"
    rules = [rule for role in world.namespace.get("roles") for rule in role["rules"] if "secrets" in rule["resources"]]
    assert {verb for rule in rules for verb in rule["verbs"]} == {"get", "update"}


@pytest.mark.usefixtures("world")
def test_with_the_right_to_make_secrets_it_makes_its_own_and_takes_it_away(makes: Namespace) -> None:
    spec = {
        "target": {"secretName": "made"},
        "consumers": {"selector": {"matchLabels": {"app": "none"}}, "minPods": 0},
        "provider": {"generated": {"kind": "JWTSecret"}},
        "deletionPolicy": "Revoke",
    }
    head = {"apiVersion": "slipway.dev/v1alpha1", "kind": "KeyRotation", "metadata": {"name": "signing"}}
    makes.apply({**head, "spec": spec})
    made = wait_until("the Secret", lambda: _find(makes, "secret", "made"), seconds=60)
    makes.kubectl("wait", "--for=condition=Ready", "keyrotation/signing", "--timeout=60s")
    makes.kubectl("delete", "keyrotation", "signing", "--timeout=60s")

    assert made["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "slipway-operator"
    assert _find(makes, "secret", "made") is None


def _find(namespace: Namespace, kind: str, name: str) -> dict[str, Any] | None:
    return next((each for each in namespace.get(kind) if each["metadata"]["name"] == name), None)


async def test_keys_rotate_each_minute_under_load_while_the_operator_is_killed(world: World, report: Report) -> None:
    first = world.status["revision"]
    began = time.monotonic()
    client = world.agent.client()
    with killed_at_random(world.namespace, world.operator, every=KILL_EVERY, seed=7) as kills:
        async with client, load(STREAMS, world.agent.urls, client, lambda number: f"What is {number}?") as tally:
            await asyncio.sleep(SECONDS)
    took = time.monotonic() - began
    await asyncio.to_thread(world.wait_until_idle, seconds=120)
    state = fake_state(world.namespace)
    rotations = world.status["revision"] - first
    failed = _failed(tally)
    report(
        f"key rotation: {rotations} rotations and {len(kills)} kills of the operator in {took:.0f} s"
        f" under {STREAMS} open streams,"
        f" {len(tally.readers) / took:.0f} a second: {len(tally.readers)} streams, {len(failed)} failed,"
        f" {state['refused']} model calls refused, {len(state['keys']) - 1} orphan keys"
    )

    assert failed == []
    assert state["refused"] == 0
    assert [account["id"] for account in state["accounts"]] == [world.status["currentKeyID"]]
    assert rotations >= 2
    assert len(kills) >= 2


def test_a_pod_that_cannot_load_the_key_blocks_the_revoke_and_is_told(world: World, report: Report) -> None:
    _start_stuck_pod(world)
    world.annotate("slipway.dev/rotate-now=stuck")
    began = time.monotonic()
    wait_until("Stuck", lambda: world.condition("Stuck").get("status") == "True", seconds=180)
    seconds = time.monotonic() - began
    old = world.status["previousKeyID"]
    told = world.condition("Stuck")["message"]
    report(f"key rotation: a pod that cannot load the key is told after {seconds:.0f} s (deadline 30 s): {told}")

    assert STUCK in told
    assert world.condition("Stuck")["reason"] == "PodsNotConfirmed"
    assert any(STUCK in note for note in world.events("RotationStuck"))
    assert world.metric("rotation_stuck") == 1
    assert world.metric("rotation_pods_behind") == 1
    assert old in {account["id"] for account in fake_state(world.namespace)["accounts"]}, "the old key is still good"


def test_the_stuck_rotation_raises_its_alert(world: World, report: Report) -> None:
    require_api("prometheusrules.monitoring.coreos.com")
    labels = f'namespace="{world.namespace.name}",name="{world.agent.fullname}-model"'
    firing = f'ALERTS{{alertname="SlipwayRotationStuck",alertstate="firing",{labels}}}'
    began = time.monotonic()
    [alert, *_] = wait_until("the alert", lambda: prometheus_query(firing), seconds=180)
    report(f"key rotation: SlipwayRotationStuck fires {time.monotonic() - began:.0f} s after the condition (it holds for 60 s)")

    assert alert["metric"]["severity"] == "critical"


def test_an_emergency_revokes_the_leaked_key_and_says_what_it_breaks(world: World, report: Report) -> None:
    leaked, key_id = world.status["revision"] - 1, world.status["previousKeyID"]
    world.annotate(f"slipway.dev/emergency-revoke={leaked}")
    began = time.monotonic()
    wait_until("the revoke", lambda: key_id not in {each["id"] for each in fake_state(world.namespace)["accounts"]}, seconds=90)
    report(
        f"key rotation: a leaked key is revoked {time.monotonic() - began:.0f} s after the annotation, over a pod that is stuck"
    )

    told = wait_until("its event", lambda: world.events("EmergencyRevoke"), seconds=10)
    assert STUCK in told[-1]
    world.namespace.kubectl("delete", "pod", STUCK, "--wait=false")
    world.wait_until_idle(seconds=120)


def _start_stuck_pod(world: World) -> None:
    """A replica whose key is mounted file by file, a mistake that people make: such a mount never changes (`subPath`)."""
    [name, *_] = [pod.name for pod in world.agent.serving()]
    pod = world.namespace.get("pod", name)
    spec = {key: value for key, value in pod["spec"].items() if key not in {"nodeName", "hostname"}}
    container = next(each for each in spec["containers"] if any(e["name"] == "OPENAI_KEY_DIR" for e in each["env"]))
    folder = next(e["value"] for e in container["env"] if e["name"] == "OPENAI_KEY_DIR")
    mount = next(each for each in container["volumeMounts"] if each["mountPath"] == folder)
    files = [mount | {"mountPath": f"{folder}/{file}", "subPath": file} for file in ("current", "revision")]
    container["volumeMounts"] = [each for each in container["volumeMounts"] if each is not mount] + files
    labels = {key: value for key, value in pod["metadata"]["labels"].items() if key != "pod-template-hash"}
    metadata = {"name": STUCK, "labels": labels}
    world.namespace.kubectl("apply", "--filename=-", stdin=json.dumps({**_head(pod), "metadata": metadata, "spec": spec}))
    world.namespace.kubectl("wait", "--for=condition=Ready", f"pod/{STUCK}", "--timeout=120s")


def _head(pod: dict[str, Any]) -> dict[str, str]:
    return {"apiVersion": pod["apiVersion"], "kind": pod["kind"]}
