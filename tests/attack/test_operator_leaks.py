"""Nothing sensitive leaks from the operator: what it writes into objects, Events, logs and metrics, whatever fails.

    pytest -s tests/attack/test_operator_leaks.py      prints what was tried and what was found where

A cluster in memory; a provider, an API server and pods that quote keys in each error, as OpenAI does.
"""

import base64
import contextlib
import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, get_args

import httpx
import pytest
from prometheus_client import generate_latest

from agent_operator.logs import setup_logging as operator_logging
from slipway_clients.cluster import ClusterError, Conflict, Forbidden, Manifest, Unavailable
from slipway_clients.cluster.kinds import ALERT_POLICY, ALERTMANAGER_CONFIG, PROMETHEUS_RULE, SECRET
from tests.attack.test_leaks import ANSWER, MODEL_KEY, PASSWORD, QUESTION, Search
from tests.doctor.checks import release
from tests.operator.policies import MADE, bench, policy
from tests.operator.reconcile import test_agenthealth
from tests.operator.reconcile.rotation.test_sources import API_KEY, JWT, POOL, api_keys
from tests.operator.reconcile.rotation.world import NAMESPACE, OPENAI, World
from tests.service.test_logs import restoring
from tests.support.fake_openai_state import ADMIN_KEY, FaultKind


class QuotingWorld(World):
    """A provider that quotes keys, its own and ours, in each error and each name."""

    async def _provide(self, request: httpx.Request) -> httpx.Response:
        response = await super()._provide(request)
        if response.status_code < 400:
            return response
        keys = ", ".join([request.headers.get("Authorization", ""), *(key.value for key in self.openai.keys.values())])
        return httpx.Response(response.status_code, json={"error": {"message": f"Incorrect API key provided: {keys}"}})


@contextmanager
def operator_log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    with restoring():
        operator_logging("debug")
        handler = logging.getLogger().handlers[0]
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(stream)
        yield stream


def world_of(kind: str) -> World:
    """With a rotation of that kind each few minutes."""
    options: dict[str, Any] = {"schedule": {"interval": "10m"}, "overlap": "30s"}
    match kind:
        case "pool":
            world = QuotingWorld(provider=POOL, options=options)
            keys = {f"k{number}": f"canary-pool-key-{number}-c7d" for number in range(40)}
            world.put_secret(NAMESPACE, "pool", keys, labels={"slipway.dev/key-pool": "true"})
            return world
        case "jwt":
            return QuotingWorld(provider=JWT, status_key="jwt", options=options)
        case "api key":
            return QuotingWorld(provider=API_KEY, status_key="api_keys", status_of=api_keys, options=options)
    return QuotingWorld(provider=OPENAI, options=options)


PROVIDER_FAULTS: tuple[FaultKind, ...] = get_args(FaultKind)

Refusal = type[Unavailable | Forbidden | Conflict]


async def provider_fails(world: World) -> AsyncIterator[None]:
    for method in ("GET", "POST", "DELETE"):
        for fault in PROVIDER_FAULTS:
            world.openai.faults += [(method, fault)] * 3
            yield
            world.openai.faults.clear()


async def api_server_fails(world: World) -> AsyncIterator[None]:
    errors: tuple[Refusal, ...] = (Unavailable, Forbidden, Conflict)
    for error in errors:
        for verb in ("get", "apply", "create", "replace"):
            world.cluster.fail(error("secrets is not to be had"), verb=verb, kind=SECRET, times=3)
            yield


@pytest.mark.parametrize("kind", ["openAI", "pool", "jwt", "api key"])
async def test_a_rotation_tells_no_key_in_events_statuses_logs_or_metrics(kind: str) -> None:
    search = Search({"admin key": ADMIN_KEY})
    statuses: list[str] = []
    with operator_log() as log:
        world = world_of(kind)
        await world.rotate()
        for fails in (provider_fails, api_server_fails):
            async for _ in fails(world):
                for _ in range(12):
                    world.clock.pass_by(120)
                    with contextlib.suppress(ClusterError):  # the queue has it come again
                        await world.turn()
                    statuses.append(json.dumps(world.object))
                    search.canaries |= keys_of(world)
                    world.sync()
        text = log.getvalue()
    search.look("object statuses", "\n".join(statuses))
    search.look("Kubernetes Events", repr(world.cluster.events))
    search.look("operator's log at debug", text)
    search.look("operator's metrics", generate_latest(world.metrics.registry).decode())
    assert world.cluster.events
    assert world.status["revision"] > 3
    assert kind != "openAI" or "AdminKeyRefused" in world.reasons()
    search.report(f"rotation of kind {kind}, {len(search.canaries)} keys")


def keys_of(world: World) -> dict[str, str]:
    """What of it is secret now, as it is and as Secrets have it."""
    keys = [key.value for key in world.openai.keys.values()]
    keys += [text for name in ("openai-key", "pool") for file, text in world.secret(name).items() if file != "revision"]
    return {form: form for key in keys for form in (key, base64.b64encode(key.encode()).decode())}


async def test_a_verdict_tells_neither_keys_nor_what_pods_say_beside_the_point() -> None:
    """Its own words about a dependency are shown: those are looked at in test_leaks.py."""
    search = Search({"question": QUESTION, "answer": ANSWER, "key": MODEL_KEY, "password": PASSWORD, "admin key": ADMIN_KEY})
    encoded = {name: base64.b64encode(canary.encode()).decode() for name, canary in search.canaries.items()}
    search.canaries |= {f"{name}, encoded": text for name, text in encoded.items()}
    with operator_log() as log:
        world = test_agenthealth.World()
        secret = release.secret("2026-02-20T00:00:00Z")
        world.cluster.put({**secret, "data": {"current": encoded["key"], "revision": encoded["admin key"]}})
        deployment = release.deployment()
        environment = {"OPENAI_API_KEY": MODEL_KEY, "DATABASE_URL": f"postgresql://ann:{PASSWORD}@db/agent", "MODEL": ""}
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        container["env"] = [{"name": name, "value": value} for name, value in environment.items()]
        world.cluster.put(deployment)
        world.status |= {"question": QUESTION, "keys": {"openai": "7"}, "database": {"max_connections": 197, "url": PASSWORD}}
        world.health |= {"answer": ANSWER}
        statuses = [await world.look()]
        world.prometheus_is_up = False
        statuses.append(await world.look())
        world.cluster.fail(Forbidden("secrets is forbidden"), verb="list", kind=SECRET)
        statuses.append(await world.look())
    search.look("status of AgentHealth", json.dumps(statuses))
    search.look("Kubernetes Events", repr(world.cluster.events))
    search.look("operator's log at debug", log.getvalue())
    assert world.cluster.events
    assert any(finding for finding in statuses[0]["checks"].items())
    search.report("AgentHealth")


async def test_a_policy_tells_nothing_of_the_secret_of_its_receiver() -> None:
    hook = "https://hooks.invalid/canary-hook-w9r"
    search = Search({"receiver": hook, "receiver, encoded": base64.b64encode(hook.encode()).decode()})
    metadata = {"namespace": "team", "name": "hook", "labels": {"slipway.dev/alert-receiver": "true"}}
    secret: Manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
    secret["data"] = {"url": search.canaries["receiver, encoded"]}
    receiver = {"webhook": {"urlSecret": {"name": "hook", "key": "url"}}}
    with operator_log() as log:
        async with bench(policy(receiver=receiver), secret) as b:
            for _ in range(2):
                await b.reconcile()
                b.prometheus.down = not b.prometheus.down
            written = [b.cluster.find(kind, "team", name) for kind, name in WRITTEN]
            assert all(written)
            search.look("status of AlertPolicy, and what it makes", json.dumps(written))
            search.look("Kubernetes Events", repr(b.cluster.events))
    search.look("operator's log at debug", log.getvalue())
    search.report("AlertPolicy")


WRITTEN = ((ALERT_POLICY, "main"), (PROMETHEUS_RULE, MADE), (ALERTMANAGER_CONFIG, MADE))
