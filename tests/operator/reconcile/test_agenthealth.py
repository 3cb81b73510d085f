"""AgentHealth on a cluster in memory, with pods and a Prometheus that answer over HTTP."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from agent_operator.leases import Fences
from agent_operator.metrics import Metrics
from agent_operator.reconcile.agenthealth import INTERVAL, agent_health
from agent_operator.reconcile.tools import Key, Tools
from agent_operator.settings import OperatorSettings
from slipway_clients.cluster import Forbidden, Manifest, Unavailable
from slipway_clients.cluster.kinds import AGENT_HEALTH, DISRUPTION_BUDGET, SECRET
from slipway_doctor.checks.gather import by_address, gather
from slipway_doctor.checks.registry import CHECKS
from tests.doctor.checks import release
from tests.support.clock import WallClock
from tests.support.fake_cluster import FakeCluster

CRD = Path(__file__).parents[3] / "charts/slipway-operator/crds-source/agenthealths.yaml"
PROMETHEUS = "http://prometheus"
KEY = Key("AgentHealth", release.NAMESPACE, release.RELEASE)


def agent_health_object(**spec: Any) -> Manifest:
    return {
        "apiVersion": AGENT_HEALTH.api_version,
        "kind": AGENT_HEALTH.kind,
        "metadata": {"name": KEY.name, "namespace": KEY.namespace},
        "spec": {"release": release.RELEASE, "prometheus": {"url": PROMETHEUS}, **spec},
    }


class World:
    """What the reconcile can see: a cluster, pods, Prometheus, a clock. Tests change its parts."""

    def __init__(self, cluster: Callable[[list[Manifest]], FakeCluster] = FakeCluster) -> None:
        self.clock = WallClock(release.NOW)
        self.status = release.status()
        self.health = release.health()
        self.answers: dict[str, float] = {"up{": 2, "histogram_quantile": 4.21, "code=~": 0.001, "draining": 1, "increase": 500}
        self.prometheus_is_up = True
        self.asked: list[str] = []
        objects = [o for plural, found in release.objects().items() if plural != "databases" for o in found]
        pods = [release.pod_manifest("a", "node1"), release.pod_manifest("b", "node2")]
        self.cluster = cluster([agent_health_object(), release.deployment(), *pods, *objects])

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.port == 9090:
            return self._ops(request.url.path)
        if not self.prometheus_is_up:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json={"status": "success", "data": self._prometheus(request)})

    def _ops(self, path: str) -> httpx.Response:
        if path == "/metrics":
            registry = CollectorRegistry()
            Gauge("agent_unpriced_model_calls_total", "x", ["model"], registry=registry).labels("m").set(0)
            Gauge("agent_nobody_reads_this", "x", registry=registry).set(1)
            return httpx.Response(200, content=generate_latest(registry))
        if path == "/health":
            return httpx.Response(200 if self.health["status"] == "ok" else 503, json=self.health)
        return httpx.Response(200, json=self.status)

    def _prometheus(self, request: httpx.Request) -> dict[str, Any]:
        match request.url.path.rsplit("/", 1)[1]:
            case "rules":
                rule = {"name": "AgentCostHigh", "query": release.QUERY, "health": "ok", "type": "alerting"}
                return {"groups": [{"name": "cost", "rules": [rule]}]}
            case "alerts":
                return {"alerts": []}
        expression = request.url.params["query"]
        self.asked.append(expression)
        value = next(value for part, value in self.answers.items() if part in expression)
        return {"resultType": "vector", "result": [{"metric": {}, "value": [0, str(value)]}]}

    @asynccontextmanager
    async def tools(self) -> AsyncIterator[Tools]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(self.answer)) as http:
            fences = Fences(self.cluster, self.clock, holder="me")
            yield Tools(self.cluster, self.clock, fences, Metrics("0"), http, OperatorSettings(prometheus_urls=(PROMETHEUS,)))

    async def look(self) -> dict[str, Any]:
        """The status after one reconcile."""
        async with self.tools() as tools:
            assert await agent_health(tools)(KEY) == INTERVAL
        found = self.cluster.find(AGENT_HEALTH, KEY.namespace, KEY.name)
        assert found
        status: dict[str, Any] = found["status"]
        return status


def condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    (found,) = [c for c in status["conditions"] if c["type"] == kind]
    return dict(found)


@pytest.fixture
def world() -> World:
    return World()


async def test_a_release_that_is_well_says_so_in_its_columns(world: World) -> None:
    status = await world.look()

    columns = ("ready", "draining", "inFlight", "p99", "errors", "keyAge", "alerts", "health")
    assert [status[column] for column in columns] == ["2/2", 0, 6, "4.2s", "0.1%", "9d", "0", "Healthy"]
    assert [c["type"] for c in status["conditions"][:2]] == ["Healthy", "Ready"]
    assert condition(status, "Healthy") | {"status": "True", "reason": "Healthy"} == condition(status, "Healthy")
    assert status["checks"]["fail"] == status["checks"]["warn"] == 0
    assert {c["type"] for c in status["conditions"]} == {"Healthy", "Ready", *(check.id for check in CHECKS)}


async def test_the_status_is_what_the_definition_allows(world: World) -> None:
    status = await world.look()
    schema = yaml.load(CRD.read_text(encoding="utf-8"), yaml.CSafeLoader)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]

    closed = {**schema["properties"]["status"], "additionalProperties": False}
    jsonschema.validate(status, closed)


async def test_every_printer_column_is_in_the_status(world: World) -> None:
    status = await world.look()
    columns = yaml.load(CRD.read_text(encoding="utf-8"), yaml.CSafeLoader)["spec"]["versions"][0]["additionalPrinterColumns"]

    paths = [c["jsonPath"].removeprefix(".status.") for c in columns if c["jsonPath"].startswith(".status.")]
    assert {path for path in paths if path not in status and not path.startswith("conditions[")} == set()


async def test_what_says_nothing_new_is_not_written(world: World) -> None:
    await world.look()
    writes = len(world.cluster.writes())

    world.clock.pass_by(INTERVAL)
    world.answers |= {"histogram_quantile": 4.19, "code=~": 0.00102}
    await world.look()

    assert len(world.cluster.writes()) == writes


@pytest.mark.parametrize(
    ("spoil", "kind", "reason", "health"),
    [
        (
            lambda w: w.health["dependencies"]["database"].update(ok=False),
            "DatabaseReachable",
            "DatabaseUnreachable",
            "Unhealthy",
        ),
        (lambda w: w.cluster.drop(DISRUPTION_BUDGET, "prod", "my-agent-slipway"), "DisruptionBudget", "NoBudget", "Warning"),
        (lambda w: w.answers.update({"up{": 1}), "Scraped", "PodsNotScraped", "Warning"),
    ],
)
async def test_a_fault_is_named_with_a_fix_and_told_as_an_event(
    world: World, spoil: Callable[[World], object], kind: str, reason: str, health: str
) -> None:
    await world.look()
    spoil(world)

    status = await world.look()

    found = condition(status, kind)
    assert (found["status"], found["reason"], status["health"]) == ("False", reason, health)
    assert "Fix: " in found["message"]
    assert condition(status, "Healthy")["reason"] == reason
    assert condition(status, "Ready")["status"] == "True", "helm --wait must not wait for what an upgrade is to mend"
    assert [(e.type, e.reason) for e in world.cluster.events][-1] == ("Warning" if health == "Unhealthy" else "Normal", health)


async def test_a_condition_keeps_the_time_of_its_change(world: World) -> None:
    first = condition(await world.look(), "DatabaseReachable")["lastTransitionTime"]
    world.clock.pass_by(60)
    same = condition(await world.look(), "DatabaseReachable")["lastTransitionTime"]
    world.health["dependencies"]["database"]["ok"] = False

    changed = condition(await world.look(), "DatabaseReachable")["lastTransitionTime"]

    assert first == same == "2026-03-01T12:00:00Z"
    assert changed == "2026-03-01T12:01:00Z"


async def test_what_was_accepted_stays_visible_and_does_not_count(world: World) -> None:
    world.cluster.drop(DISRUPTION_BUDGET, "prod", "my-agent-slipway")
    world.cluster.put(agent_health_object(accepted=[{"condition": "DisruptionBudget", "because": "a test system"}]))

    status = await world.look()

    assert status["health"] == "Healthy"
    assert condition(status, "DisruptionBudget")["message"].endswith("Accepted: a test system")


async def test_limits_of_the_spec_are_used(world: World) -> None:
    world.cluster.put(agent_health_object(limits={"p99Seconds": 4, "errorRatio": 0.0001, "keyAgeDays": 9, "minReplicas": 3}))

    status = await world.look()

    failed = {c["type"] for c in status["conditions"] if c["status"] == "False"}
    assert failed == {"Healthy", "LatencyWithinLimit", "ErrorsWithinLimit", "KeyFresh", "ReplicasEnough"}


async def test_without_prometheus_the_rest_is_still_judged(world: World) -> None:
    world.prometheus_is_up = False

    status = await world.look()

    assert condition(status, "RulesLoaded")["reason"] == "PrometheusUnreachable"
    assert (status["p99"], status["alerts"], condition(status, "Healthy")["status"]) == ("-", "-", "True")


async def test_what_we_may_not_read_is_unknown_and_not_wrong(world: World) -> None:
    world.cluster.fail(Forbidden("secrets is forbidden"), verb="get", kind=SECRET)

    status = await world.look()

    assert condition(status, "KeyFresh") | {"status": "Unknown", "reason": "Forbidden"} == condition(status, "KeyFresh")


async def test_a_month_of_samples_is_read_once_an_hour(world: World) -> None:
    world.answers = {"[1h]": 0, "[30d]": 1, **world.answers}
    async with world.tools() as tools:
        reconcile = agent_health(tools)
        for _ in range(3):
            await reconcile(KEY)
            world.clock.pass_by(INTERVAL)
        world.clock.pass_by(3600)
        await reconcile(KEY)

    assert sum("[30d]" in expression for expression in world.asked) == 2


async def test_a_drain_of_the_last_minutes_is_seen_at_once(world: World) -> None:
    world.answers = {"[1h]": 0, "[30d]": 0, **world.answers}
    async with world.tools() as tools:
        reconcile = agent_health(tools)
        await reconcile(KEY)
        world.answers["[1h]"] = 1
        await reconcile(KEY)
    found = world.cluster.find(AGENT_HEALTH, KEY.namespace, KEY.name)

    assert found
    assert condition(found["status"], "DrainTested")["reason"] == "Drained"


async def test_an_api_server_that_is_away_writes_nothing(world: World) -> None:
    await world.look()
    writes = len(world.cluster.writes())
    world.cluster.fail(Unavailable("503"), verb="list")

    async with world.tools() as tools:
        with pytest.raises(Unavailable):
            await agent_health(tools)(KEY)

    assert len(world.cluster.writes()) == writes


async def test_an_object_that_is_gone_or_going_is_left_alone(world: World) -> None:
    world.cluster.drop(AGENT_HEALTH, KEY.namespace, KEY.name)

    async with world.tools() as tools:
        assert await agent_health(tools)(KEY) is None

    assert world.cluster.writes() == []


async def test_no_key_of_a_secret_is_kept(world: World) -> None:
    world.cluster.put({**release.secret("2026-02-20T00:00:00Z"), "data": {"current": "c2stc2VjcmV0"}})

    async with world.tools() as tools:
        facts = await gather(world.cluster, world.clock, by_address(tools.http), namespace="prod", release="my-agent")
    status = await world.look()

    assert facts.of("secrets")
    assert "c2stc2VjcmV0" not in repr(facts) + json.dumps(status)
