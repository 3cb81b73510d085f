"""The ops port of a serving process: it answers whatever the event loop does."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from agent_service.health import Health
from agent_service.ops import OpsServer, serve_ops
from agent_service.resources import VERSION
from tests.service.api.conftest import plain_service
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script, ToolCall
from tests.support.service import RunningService

LIVENESS_SECONDS = 3.0
"""So long that a busy machine alone uses no half of it."""

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel() as fake:
        yield fake


@pytest.fixture
async def service(database_url: str, model: FakeModel) -> AsyncIterator[RunningService]:
    async with plain_service(database_url, model, LIVENESS_TIMEOUT=str(LIVENESS_SECONDS)) as running:
        yield running


@pytest.fixture
async def ops(service: RunningService) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=service.ops_url, timeout=10) as client:
        yield client


async def samples(ops: httpx.AsyncClient) -> list[Sample]:
    text = (await ops.get("/metrics")).text
    return [sample for family in parse_text(text) for sample in family.samples]


def value(found: list[Sample], name: str, **labels: str) -> float:
    (match,) = [s.value for s in found if s.name == name and s.labels == labels]
    return match


async def test_metrics_come_in_the_format_that_is_asked_for(ops: httpx.AsyncClient) -> None:
    text, modern = await ops.get("/metrics"), await ops.get("/metrics", headers={"Accept": OPENMETRICS})

    assert text.headers["content-type"].startswith("text/plain")
    assert modern.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert modern.text.endswith("# EOF\n")
    names = {family.name for family in parse_openmetrics(modern.text)}  # type: ignore[no-untyped-call]  # prometheus_client has no types here
    assert names >= {"agent_runs", "agent_turn_duration_seconds", "agent_build", "process_cpu_seconds"}


async def test_children_stand_at_zero_before_the_first_run(ops: httpx.AsyncClient) -> None:
    found = await samples(ops)

    for outcome in ("completed", "interrupted", "iteration_limit", "timeout", "budget", "cancelled", "failed"):
        assert value(found, "agent_runs_total", outcome=outcome, graph="agent", version=VERSION) == 0
    for status in ("ok", "rate_limited", "client_error", "server_error", "connection_error", "timeout", "auth"):
        assert value(found, "agent_llm_requests_total", model="gpt-4o", status=status) == 0
    for tool in ("lookup", "explode", "other"):
        assert value(found, "agent_tool_calls_total", tool=tool, status="error") == 0
        assert value(found, "agent_tool_duration_seconds_count", tool=tool) == 0
    for node in ("model", "tools", "other"):
        assert value(found, "agent_node_duration_seconds_count", node=node) == 0
    for kind in ("input", "cached", "output"):
        assert value(found, "agent_tokens_total", model="gpt-4o", type=kind) == 0
    assert value(found, "agent_runs_in_flight") == value(found, "agent_draining") == value(found, "agent_streams_open") == 0
    assert value(found, "agent_feedback_total", score="0", version=VERSION) == 0


async def test_a_turn_counts_its_parts_by_their_names(ops: httpx.AsyncClient, service: RunningService, model: FakeModel) -> None:
    model.script = Script(
        tokens=["done"],
        cached_tokens=1,
        answers_as="gpt-4o-2024-08-06",
        tool_calls=[ToolCall(name="lookup", arguments={"query": "x"})],
    )
    async with service.client() as client:
        run = (await client.post("/chat", json={"question": "go"})).json()
        await client.post("/feedback", json={"run_id": run["run_id"], "score": 0})
        await client.get(f"/runs/{run['run_id']}")
        await client.get("/nope")
        await client.request("PROPFIND", "/chat")
        await client.get("/live")

    found = await samples(ops)
    assert value(found, "agent_runs_total", outcome="completed", graph="agent", version=VERSION) == 1
    assert value(found, "agent_turn_duration_seconds_count", graph="agent") == 1
    assert value(found, "agent_time_to_first_token_seconds_count", graph="agent", version=VERSION) == 1
    assert value(found, "agent_llm_requests_total", model="gpt-4o", status="ok") == 2
    assert value(found, "agent_llm_request_duration_seconds_count", model="gpt-4o") == 2
    assert value(found, "agent_tool_calls_total", tool="lookup", status="ok") == 1
    assert value(found, "agent_tool_calls_total", tool="lookup", status="error") == 0
    assert value(found, "agent_tool_duration_seconds_count", tool="lookup") == 1
    assert value(found, "agent_tokens_total", model="gpt-4o", type="output") == run["usage"]["output_tokens"]
    assert value(found, "agent_cost_usd_total", model="gpt-4o", version=VERSION) == pytest.approx(run["cost_usd"])
    assert value(found, "agent_node_duration_seconds_count", node="model") == 2
    assert value(found, "agent_feedback_total", score="0", version=VERSION) == 1
    requests = {tuple(sorted(s.labels.items())): s.value for s in found if s.name == "agent_http_requests_total" and s.value}
    assert {(dict(key)["method"], dict(key)["route"], dict(key)["code"]): n for key, n in requests.items()} == {
        ("POST", "/chat", "200"): 1,
        ("POST", "/feedback", "204"): 1,
        ("GET", "/runs/{run_id}", "200"): 1,
        ("GET", "other", "404"): 1,
        ("other", "/chat", "405"): 1,
    }


async def test_it_answers_while_the_event_loop_is_blocked_and_live_fails_only_after_its_timeout(service: RunningService) -> None:
    answers: list[tuple[float, str, int]] = []
    ended = threading.Event()

    def probe() -> None:
        with httpx.Client(base_url=service.ops_url, timeout=30) as client:
            while not ended.is_set():
                for path in ("/live", "/metrics", "/status", "/ready"):
                    answers.append((time.monotonic(), path, client.get(path).status_code))  # noqa: PERF401  # seen meanwhile
                ended.wait(0.02)  # often enough, and a processor is left to others

    thread = asyncio.create_task(asyncio.to_thread(probe))
    try:
        async with asyncio.timeout(30):
            while not answers:
                await asyncio.sleep(0.01)
        blocked_from = time.monotonic()
        while not any(status == 503 for _, _, status in answers) and time.monotonic() < blocked_from + 30:
            time.sleep(0.01)  # noqa: ASYNC251  # the fault under test
        failed, until = len(answers), time.monotonic() + 30
        while len(answers) < failed + 20 and time.monotonic() < until:
            time.sleep(0.01)  # noqa: ASYNC251  # likewise
        during = [answer for answer in answers if answer[0] > blocked_from]
        async with asyncio.timeout(30):
            while [status for _, path, status in answers if path == "/live"][-1] != 200:
                await asyncio.sleep(0.01)
    finally:
        ended.set()
        await thread

    assert {status for _, path, status in during if path in {"/metrics", "/status"}} == {200}
    live = [(at - blocked_from, status) for at, path, status in during if path == "/live"]
    failing = [at for at, status in live if status == 503]
    assert failing[0] > LIVENESS_SECONDS / 2, "it says so only after the timeout, of which a busy machine may have used a part"
    assert [at for at, status in live if status == 200 and at > failing[0]] == []
    assert all(status == 200 for _, path, status in during if path == "/ready"), "a pause of seconds takes no pod out"


async def test_status_tells_what_the_operator_reads(ops: httpx.AsyncClient) -> None:
    status = (await ops.get("/status")).json()
    assert status.keys() >= {"version", "draining", "runs_in_flight", "runs_queued", "keys"}
    assert (status["draining"], status["runs_in_flight"], status["runs_queued"]) == (False, 0, 0)
    assert status["database"]["max_connections"] > 0
    assert status["database"]["tls"] is False, "the tests' server has no certificate"


async def test_a_failing_status_is_a_500_and_the_port_lives_on(ops: httpx.AsyncClient, service: RunningService) -> None:
    def broken() -> dict[str, object]:
        raise OSError("the key folder is gone")

    service.ops.status = broken
    assert (await ops.get("/status")).status_code == 500
    assert (await ops.get("/live")).status_code == 200


async def test_unknown_paths_and_methods_of_the_ops_port(ops: httpx.AsyncClient) -> None:
    assert (await ops.get("/nope")).status_code == 404
    assert (await ops.get("/live?verbose=1")).status_code == 200
    assert (await ops.post("/live")).status_code == 405


def test_a_port_that_is_closed_before_it_answers_ends_without_an_error() -> None:
    """As of a process whose settings are wrong. An error in its thread would be a warning, and so fails this."""
    for _ in range(20):
        with serve_ops(OpsServer(("127.0.0.1", 0), Health("1", 30), CollectorRegistry())):
            pass
