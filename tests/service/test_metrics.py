"""What the gauges tell of a real process, and that the size of a scrape depends on nobody's sessions."""

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from langchain_core.messages import AIMessage
from prometheus_client.exposition import generate_latest
from structlog.testing import capture_logs

from agent_service.health import HEARTBEAT_SECONDS, LAG_BEATS, Health
from agent_service.main import drain
from agent_service.metrics import MAX_ROUTES, MAX_TOLD, OTHER, Metrics
from agent_service.prices import PriceTable
from agent_service.runs.billing import Billing, CallBegun
from agent_service.runs.live_run import LiveRun
from agent_service.runs.run_types import Run
from tests.durability.fleet import until
from tests.service.api.conftest import plain_service
from tests.support.fake_model import FakeModel
from tests.support.service import RunningService, running_service

NAMES = frozenset({
    "code", "dependency", "graph", "key", "le", "limit", "method", "model", "node", "outcome", "reason", "result",
    "revision", "route", "rule", "scope", "score", "state", "status", "table", "tool", "type", "use", "version", "what",
})  # fmt: skip
"""Labels; none of them names a session, a run or a person."""


def made_metrics() -> Metrics:
    metrics = Metrics(models=["gpt-4o"], version="1", graph="g", guardrail_rules=["rule"])
    metrics.declare(nodes=["node"], tools=["tool"], routes=["RAG"])
    return metrics


def record_turn(metrics: Metrics, prices: PriceTable, session: int) -> None:
    """A turn of a session of its own, by what records a real one; its graph makes up every name it can."""
    name = f"session-{session}"
    run = Run(uuid4(), name, name, f"tenant-{session}", "u", "q", {}, "running", 1, 0, False, False, datetime.now(UTC))
    message = AIMessage(
        "hi", usage_metadata={"input_tokens": 5, "output_tokens": 2, "total_tokens": 7},
        response_metadata={"model_name": f"model-{session}"},
    )  # fmt: skip
    Billing(LiveRun(run), metrics, prices).answered(CallBegun(1, "node", "gpt-4o", time.monotonic(), []), message)
    metrics.tool_calls.labels(metrics.tool_label(f"tool-{session}"), "ok").inc()
    metrics.node_seconds.labels(metrics.node_label(f"node-{session}")).observe(0.1)
    metrics.routes.labels(metrics.route_label(f"route-{session}")).inc()
    metrics.runs.labels("completed", metrics.graph_label(f"graph-{session}"), metrics.graph_version).inc()


def series(metrics: Metrics) -> list[bytes]:
    return [line.rpartition(b" ")[0] for line in generate_latest(metrics.registry).splitlines()]


@pytest.mark.usefixtures("quiet")
def test_a_scrape_has_the_same_series_after_twenty_sessions_and_after_very_many() -> None:
    metrics, prices = made_metrics(), PriceTable.load()
    for session in range(MAX_ROUTES):
        record_turn(metrics, prices, session)
    few = series(metrics)
    for session in range(MAX_ROUTES, 10_000):
        record_turn(metrics, prices, session)
    assert series(metrics) == few
    assert metrics.routes.labels(OTHER)._value.get() == 10_000 - (MAX_ROUTES - 1)  # one was declared
    assert len([line for line in few if line.startswith(b"agent_routes_total")]) == MAX_ROUTES + 1


def test_no_label_is_a_session_a_run_or_a_person() -> None:
    """With the test above: 10⁵ sessions make a scrape no larger, as no series can tell two of them apart."""
    labels = {name for family in made_metrics().registry.collect() for sample in family.samples for name in sample.labels}
    assert labels <= NAMES


def test_an_undeclared_name_is_logged_once_and_their_number_is_bounded() -> None:
    metrics = made_metrics()
    with capture_logs() as lines:
        for _ in range(3):
            assert metrics.tool_label("surprise") == OTHER
        for number in range(2 * MAX_TOLD):
            metrics.model_label(f"model-{number}")
    assert [line["value"] for line in lines if line["label"] == "tool"] == ["surprise"]
    assert len([line for line in lines if line["label"] == "model"]) == MAX_TOLD


@pytest.fixture
def quiet() -> Iterator[None]:
    with capture_logs():
        yield


async def test_the_queue_is_told_beside_its_limit_and_refusals_are_counted(database_url: str) -> None:
    env = {"AGENT_GRAPH": "tests.support.graphs:endless", "MAX_CONCURRENT_RUNS": "1", "MAX_QUEUED_RUNS": "1"}
    async with running_service(database_url, **env) as service, service.client(headers={"Prefer": "respond-async"}) as client:
        assert await service.metric("agent_rate_limited_total", limit="queue") == 0
        answers = [(await client.post("/chat", json={"question": "hi"})).status_code for _ in range(3)]
        assert answers == [202, 202, 503]
        assert await service.metric("agent_rate_limited_total", limit="queue") == 1
        assert await service.metric("agent_runs_in_flight") == await service.metric("agent_runs_in_flight_limit") == 1
        await shows(service, "agent_runs_queued", 1)
        assert await service.metric("agent_runs_queued_limit") == 1
        assert await service.metric("agent_db_pool_connections_limit") == 10
        assert await service.metric("agent_dependency_up", dependency="database") == 1
        assert await service.metric("agent_drain_limit_seconds") == 300


async def shows(service: RunningService, name: str, value: float, **labels: str) -> None:
    """Waits until the metric has the value."""
    async with asyncio.timeout(20):
        while await service.metric(name, **labels) != value:
            await asyncio.sleep(0.02)


async def test_a_drain_tells_when_it_began(database_url: str) -> None:
    async with running_service(database_url) as service:
        assert await service.metric("agent_drain_started_timestamp_seconds") == await service.metric("agent_draining") == 0
        hurry = asyncio.Event()
        hurry.set()
        await drain(service.resources.settings, service.resources, hurry=hurry)
        assert await service.metric("agent_draining") == 1
        assert 0 <= time.time() - await service.metric("agent_drain_started_timestamp_seconds") < 60


async def test_a_rotated_key_is_told_by_its_revision_and_its_age_outlives_the_process(database_url: str, tmp_path: Path) -> None:
    def publish(revision: str) -> None:
        (tmp_path / "current").write_text(f"sk-key-{revision}")
        (tmp_path / "revision").write_text(revision)

    publish("7")
    env = {"OPENAI_KEY_DIR": str(tmp_path), "OPENAI_API_KEY": ""}
    ages: list[float] = []
    async with FakeModel() as model:
        for _ in range(2):  # the second one is a pod that starts anew
            async with plain_service(database_url, model, **env) as service:
                await shows(service, "agent_key_revision", 1, key="openai", revision="7")
                ages.append(await service.metric("agent_key_loaded_timestamp_seconds", key="openai"))
                if len(ages) == 2:
                    publish("8")
                    await shows(service, "agent_key_revision", 1, key="openai", revision="8")
                    assert await service.metric("agent_key_revision", key="openai", revision="7") == 0
                    assert await service.metric("agent_key_loaded_timestamp_seconds", key="openai") > ages[0]
    assert ages[0] == ages[1]
    assert 0 <= time.time() - ages[0] < 60


async def test_a_pause_of_the_loop_is_told_while_it_lasts_and_for_half_a_minute() -> None:
    metrics, health = made_metrics(), Health("1", 60.0)
    watching = asyncio.create_task(health.watch(metrics))
    await until(lambda: health.lags)
    time.sleep(HEARTBEAT_SECONDS + 0.3)  # noqa: ASYNC251  # the fault under test
    during = metrics.registry.get_sample_value("agent_event_loop_lag_seconds") or 0
    await until(lambda: len(health.lags) > 1)  # by now a beat was late, and another came after it
    after = metrics.registry.get_sample_value("agent_event_loop_lag_seconds") or 0
    watching.cancel()
    assert min(during, after) >= 0.3
    health.lags.extend([0.0] * LAG_BEATS)
    assert health.lag() < 0.3 + health.silent_seconds
