"""What a real OTLP collector gets of a question: one tree, with the conventions' names and without anyone's words."""

import asyncio
import json
import signal
import time
from pathlib import Path

import httpx
import psycopg
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from agent_service.tracing import export
from tests.durability.fleet import until
from tests.service.api.conftest import plain_service
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script, ToolCall
from tests.support.otlp import Collector, Fault, Protocol, collector
from tests.support.reader import Reader
from tests.support.replicas import running_replicas
from tests.support.service import RunningService, running_service

QUESTION = "how-secret-is-my-question"
ARGUMENT = "secret-argument"
ANSWER = "very-secret-answer"
KEY = "sk-verysecretkey"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE_ID = CALLER.split("-")[1]

AGENT = "tests.support.graphs:plain"
OWN_SPAN = "tests.integration.traced:build"
GIVES_UP_SECONDS = 9.0
"""Under the 10 s that the exporter waits for one answer: whoever waited for it would take longer."""

TURN = f"""\
POST /chat
  invoke_agent {AGENT}
    node model
      chat gpt-4o
    node tools
      execute_tool lookup
    node model
      chat gpt-4o
    event log write"""

SCRIPT = Script(
    tokens=[ANSWER, "."],
    cached_tokens=1,
    answers_as="gpt-4o-2024-08-06",
    tool_calls=[ToolCall(name="lookup", arguments={"query": ARGUMENT})],
)


async def exemplars(service: RunningService) -> dict[str, str]:
    """Trace id by the name of the histogram that has one."""
    async with httpx.AsyncClient() as client:
        headers = {"Accept": "application/openmetrics-text; version=1.0.0"}
        text = (await client.get(f"{service.ops_url}/metrics", headers=headers)).text
    families = parse_openmetrics(text)  # type: ignore[no-untyped-call]  # prometheus_client has no types here
    return {family.name: s.exemplar.labels["trace_id"] for family in families for s in family.samples if s.exemplar}


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_a_question_is_one_tree_below_the_callers_span(protocol: Protocol, database_url: str) -> None:
    with collector(protocol) as traces:
        async with (
            FakeModel(SCRIPT) as model,
            plain_service(database_url, model, OPENAI_API_KEY=KEY, **traces.env) as service,
            service.client() as client,
        ):
            answer = await client.post("/chat", json={"question": QUESTION, "session_id": "s1"}, headers={"traceparent": CALLER})
            run = answer.json()
            await client.get("/live")
            shown = await exemplars(service)

    assert traces.tree() == TURN
    assert {span.trace_id for span in traces.spans} == {TRACE_ID}
    (request,), (turn,) = traces.named("POST /chat"), traces.named(f"invoke_agent {AGENT}")
    assert (request.parent_id, request.kind) == (CALLER.split("-")[2], "SERVER")
    assert request.attributes == {"http.request.method": "POST", "http.route": "/chat", "http.response.status_code": 200}
    assert turn.attributes == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": AGENT,
        "gen_ai.conversation.id": "s1",
        "slipway.run.id": run["run_id"],
        "slipway.run.attempt": 1,
        "slipway.run.outcome": "completed",
        "gen_ai.usage.input_tokens": run["usage"]["input_tokens"],
        "gen_ai.usage.cache_read.input_tokens": run["usage"]["cached_tokens"],
        "gen_ai.usage.output_tokens": run["usage"]["output_tokens"],
        "slipway.run.cost_usd": pytest.approx(run["cost_usd"]),
    }
    last = max(traces.named("chat gpt-4o"), key=lambda span: span.started)
    assert last.kind == "CLIENT"
    assert 0 < last.attributes.pop("gen_ai.response.time_to_first_chunk") < 10
    assert last.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": last.attributes["gen_ai.usage.input_tokens"],
        "gen_ai.usage.cache_read.input_tokens": 1,
        "gen_ai.usage.output_tokens": 2,
    }
    (tool,) = traces.named("execute_tool lookup")
    assert tool.attributes.pop("gen_ai.tool.call.id")
    assert tool.attributes == {
        "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "lookup", "gen_ai.tool.type": "function",
    }  # fmt: skip
    (write,) = traces.named("event log write")
    assert (write.attributes["db.system.name"], write.attributes["slipway.batch.runs"]) == ("postgresql", 1)
    assert request.resource["service.name"] == "slipway"
    assert {"service.version", "service.instance.id"} <= request.resource.keys()
    sent = b"".join(traces.bodies)
    assert [secret for secret in (QUESTION, ARGUMENT, ANSWER, KEY) if secret.encode() in sent] == []
    timed = ("turn_duration", "time_to_first_token", "llm_request_duration", "tool_duration")
    assert shown == {f"agent_{name}_seconds": TRACE_ID for name in timed}


@pytest.mark.xdist_group("warm")
async def test_a_run_that_is_handed_over_stays_one_trace(database_url: str, tmp_path: Path) -> None:
    slow = Script(token_count=80, tokens_per_second=20)
    with collector("grpc") as traces:
        async with FakeModel(slow) as model, httpx.AsyncClient(timeout=20) as client:
            env = {
                "DATABASE_URL": database_url, "AGENT_GRAPH": OWN_SPAN, "MODEL": "gpt-4o", "OPENAI_BASE_URL": model.url,
                "OPENAI_API_KEY": KEY, "OTEL_SERVICE_NAME": "shop", **traces.env,
            }  # fmt: skip
            each = [{"OTEL_RESOURCE_ATTRIBUTES": f"service.instance.id=replica-{number}"} for number in range(2)]
            async with running_replicas(2, env, tmp_path, each) as (here, peer):
                reader = Reader(lambda: [here.url, peer.url], QUESTION)
                reading = asyncio.create_task(reader.run(client))
                await until(lambda: len(reader.text) > 20)
                here.send(signal.SIGTERM)
                await until(lambda: '"draining"' in here.log.read_text())
                model.script = Script(token_count=80)
                here.send(signal.SIGTERM)  # hurry: at once, not at a step boundary
                await reading
                await client.get(f"{peer.url}/chat/stream", params={"question": QUESTION})
                assert (await here.wait(), await peer.stop()) == (0, 0)

    assert (reader.outcome, reader.attempts) == ("completed", 2)
    assert len(traces.named("GET /chat/stream")) == 1
    assert QUESTION.encode() not in b"".join(traces.bodies), "web frameworks put the query into spans of their own"
    first, second, _ = sorted(traces.named(f"invoke_agent {OWN_SPAN}"), key=lambda span: span.started)
    (asked,) = [span for span in traces.named("POST /chat") if span.span_id == first.parent_id]  # a retry would be another
    assert (second.parent_id, second.trace_id) == (first.parent_id, first.trace_id) == (asked.span_id, asked.trace_id)
    assert [span.attributes["slipway.run.attempt"] for span in (first, second)] == [1, 2]
    assert (first.attributes["slipway.run.stopped"], second.attributes["slipway.run.outcome"]) == ("hand_over", "completed")
    assert [span.resource["service.instance.id"] for span in (first, second)] == ["replica-0", "replica-1"]
    assert {span.resource["service.name"] for span in traces.spans} == {"shop"}
    assert {span.parent_id for span in traces.named("look at the shelf")} > {first.span_id, second.span_id}
    for replica, event in ((here, "run_stopped_here"), (peer, "run_taken_over"), (peer, "run_ended")):
        lines = [json.loads(line) for line in replica.log.read_text().splitlines()]
        line = next(line for line in lines if line["event"] == event)
        assert line["trace_id"] == asked.trace_id


async def test_faults_interrupts_and_cancels_are_told_apart_and_no_message_leaves(database_url: str) -> None:
    with collector() as traces:
        graphs = {name: f"tests.support.graphs:{name}" for name in ("raising", "asking", "endless")}
        for name, graph in graphs.items():
            async with running_service(database_url, AGENT_GRAPH=graph, **traces.env) as service, service.client() as client:
                accepted = await client.post("/chat", json={"question": name}, headers={"Prefer": "respond-async"})
                path = f"/runs/{accepted.json()['run_id']}"
                if name == "endless":
                    await client.post(f"{path}/cancel")
                await _outcome(client, path)

    def shape(graph: str) -> list[tuple[str, bool]]:
        (turn,) = traces.named(f"invoke_agent {graphs[graph]}")
        below = [span for span in traces.spans if span.trace_id == turn.trace_id and span.name.startswith("node")]
        return [(turn.attributes["slipway.run.outcome"], turn.failed), *((span.name, span.failed) for span in below)]

    assert shape("raising") == [("failed", True), ("node boom", True)]
    assert shape("asking") == [("interrupted", False), ("node ask", False)]
    assert shape("endless")[0] == ("cancelled", False)
    (boom,) = traces.named("node boom")
    assert boom.attributes["error.type"] == "RuntimeError"
    assert b"secret detail" not in b"".join(traces.bodies)


async def _outcome(client: httpx.AsyncClient, path: str) -> None:
    async with asyncio.timeout(20):
        while not (await client.get(path)).json()["outcome"]:
            await asyncio.sleep(0.02)


async def test_a_sampler_of_the_environment_decides(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    with collector() as traces:
        async with running_service(database_url, **traces.env) as service, service.client() as client:
            assert (await client.post("/chat", json={"question": "hi"})).json()["outcome"] == "completed"
            assert await exemplars(service) == {}, "an exemplar that leads nowhere"
    assert traces.requests == 0


@pytest.mark.parametrize("off", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
async def test_traces_can_be_switched_off_beside_an_address(off: dict[str, str], database_url: str) -> None:
    with collector() as traces:
        async with running_service(database_url, **{**traces.env, **off}) as service, service.client() as client:
            await client.post("/chat", json={"question": "hi"})
    assert traces.requests == 0


async def test_without_a_collector_the_callers_trace_id_still_goes_with_the_run(database_url: str) -> None:
    async with running_service(database_url) as service, service.client() as client:
        await client.post("/chat", json={"question": "hi"}, headers={"traceparent": CALLER})
        await client.post("/chat", json={"question": "hi"}, headers={"traceparent": "no such thing"})
        assert await exemplars(service) == {}
    with psycopg.connect(database_url) as conn:
        (first,), (second,) = conn.execute("SELECT traceparent FROM slipway.runs ORDER BY created_at").fetchall()
    assert first == CALLER
    assert second.split("-")[1] not in {TRACE_ID, "0" * 32}


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("fault", ["error", "hang", None])
async def test_a_collector_that_is_down_costs_a_question_nothing_and_the_end_little(
    fault: Fault | None, protocol: Protocol, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    monkeypatch.setattr(export, "FLUSH_SECONDS", 0.5)
    with collector(protocol, fault) as traces:
        env = traces.env if fault else _nobody(traces)
        async with running_service(database_url, **env) as service, service.client() as client:
            started = time.monotonic()
            for _ in range(5):
                assert (await client.post("/chat", json={"question": "hi"})).json()["outcome"] == "completed"
            assert time.monotonic() - started < GIVES_UP_SECONDS
            if fault:
                traces.wait_for(lambda: traces.requests)
            leaving = time.monotonic()
        assert time.monotonic() - leaving < GIVES_UP_SECONDS


def _nobody(traces: Collector) -> dict[str, str]:
    """An address where nothing listens: the first port of a range that needs privileges."""
    return {**traces.env, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
