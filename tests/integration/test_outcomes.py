"""How runs end, as their readers see it: by the stream, by its replay, by the answer, in the ledger."""

from typing import Any

import httpx
import psycopg
import pytest

from tests.service.api.conftest import plain_service
from tests.support import sse
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Fault, FaultKind, Script, echo_tokens
from tests.support.service import RunningService, running_service


async def ask(client: httpx.AsyncClient, question: str = "go") -> tuple[sse.Stream, dict[str, Any]]:
    """A run as its stream, which is the same when replayed from the log, and its state."""
    stream = await sse.read(client, "GET", "/chat/stream", params={"question": question})
    run_id = stream.named("run")[0]["run_id"]
    replay = await sse.read(client, "GET", f"/runs/{run_id}/stream")
    assert [(e.id, e.event, e.data) for e in replay.events] == [(e.id, e.event, e.data) for e in stream.events]
    assert stream.done
    return stream, (await client.get(f"/runs/{run_id}")).json()


def ledger(url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as conn:
        return conn.execute(
            "SELECT model, output_tokens > 0, cost_usd IS NOT NULL, estimated FROM slipway.ledger ORDER BY id"
        ).fetchall()


async def test_too_many_steps_end_with_an_honest_answer(database_url: str) -> None:
    async with (
        running_service(database_url, AGENT_GRAPH="tests.support.graphs:looping", MAX_STEPS="5") as service,
        service.client() as client,
    ):
        stream, run = await ask(client)

        assert run["outcome"] == "iteration_limit"
        assert "more steps" in run["answer"]
        assert run["answer"] == stream.text
        assert stream.named("error") == []
        assert await service.metric("agent_runs_total", outcome="iteration_limit") == 1


async def test_a_graph_that_raises_fails_without_its_detail(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with running_service(database_url, AGENT_GRAPH="tests.support.graphs:raising") as service, service.client() as client:
        stream, run = await ask(client)

        assert (run["outcome"], run["answer"], run["error"]["code"]) == ("failed", "", "graph_failed")
        assert [(e["code"], e["retryable"]) for e in stream.named("error")] == [("graph_failed", False)]
        assert "secret" not in str(stream.events) + str(run)
        again = await client.post("/chat", json={"question": "again", "session_id": run["session_id"]})
        assert again.json()["outcome"] == "failed"
    assert caplog.records == [] or "secret" not in caplog.text


async def test_a_turn_that_takes_too_long_is_stopped(database_url: str) -> None:
    async with (
        running_service(database_url, AGENT_GRAPH="tests.support.graphs:endless", MAX_TURN_SECONDS="0.3") as service,
        service.client() as client,
    ):
        stream, run = await ask(client)

        assert (run["outcome"], run["error"]["code"]) == ("timeout", "timeout")
        assert [(e["code"], e["retryable"]) for e in stream.named("error")] == [("timeout", True)]


async def test_awkward_text_is_the_same_on_the_wire_in_the_log_and_in_the_answer(database_url: str) -> None:
    async with running_service(database_url, AGENT_GRAPH="tests.support.graphs:saying") as service, service.client() as client:
        stream, run = await ask(client)

        assert run["answer"] == stream.text == "one\ntwo\nthree\n\nfour \ufffd ? [DONE]"
        history = (await client.get(f"/sessions/{run['session_id']}/messages")).json()
        assert history["messages"][-1]["content"] == run["answer"]


async def test_a_limited_model_is_asked_again(client: httpx.AsyncClient, model: FakeModel, service: RunningService) -> None:
    model.script = Script(faults=[Fault(kind="rate_limited", retry_after="0")])

    stream, run = await ask(client)

    assert (run["outcome"], run["answer"]) == ("completed", "".join(echo_tokens("go")))
    assert stream.named("error") == []
    assert await service.metric("agent_llm_requests_total", model="gpt-4o", status="rate_limited") == 1
    assert await service.metric("agent_llm_requests_total", model="gpt-4o", status="ok") == 1
    assert run["usage"]["model_calls"] == 1


@pytest.mark.parametrize(
    ("fault", "code", "retryable", "status"),
    [
        ("server_error", "model_unavailable", True, "server_error"),
        ("unauthorized", "model_unavailable", True, "auth"),
        ("bad_request", "model_rejected", False, "client_error"),
        ("hang", "model_unavailable", True, "timeout"),
    ],
)
async def test_a_model_that_stays_broken_fails_the_run(
    database_url: str, model: FakeModel, fault: FaultKind, code: str, retryable: bool, status: str
) -> None:
    model.script = Script(faults=[Fault(kind=fault, times=100, retry_after="0")])
    async with (
        plain_service(database_url, model, MODEL_MAX_RETRIES="1", MODEL_TIMEOUT="0.2") as service,
        service.client() as client,
    ):
        stream, run = await ask(client)

        assert (run["outcome"], run["error"]["code"], run["answer"]) == ("failed", code, "")
        assert [(e["code"], e["retryable"]) for e in stream.named("error")] == [(code, retryable)]
        assert stream.named("usage")[0]["outcome"] == "failed"
        assert await service.metric("agent_llm_requests_total", model="gpt-4o", status=status) >= 1
        prompt_only = [("gpt-4o", False, True, True)]  # a request that was sent is billed, as far as anybody knows
        assert ledger(database_url) == (prompt_only if status == "timeout" else [])
        model.script = Script()
        again = await client.post("/chat", json={"question": "again", "session_id": run["session_id"]})
        assert again.json()["outcome"] == "completed"


@pytest.mark.parametrize("fault", ["cut", "malformed", "stream_error", "hang"])
async def test_an_answer_that_breaks_off_fails_with_what_was_said_billed(
    database_url: str, model: FakeModel, fault: FaultKind
) -> None:
    model.script = Script(faults=[Fault(kind=fault, after_tokens=10, times=100)])
    async with (
        plain_service(database_url, model, MODEL_MAX_RETRIES="1", MODEL_TIMEOUT="0.3") as service,
        service.client() as client,
    ):
        stream, run = await ask(client)

        assert run["outcome"] == "failed"
        assert [e["code"] for e in stream.named("error")] == ["model_unavailable"]
        assert run["answer"] == stream.text == "".join(echo_tokens("go", 10))
        assert ledger(database_url) == [("gpt-4o", True, True, True)]
        assert run["cost_usd"] > 0


@pytest.mark.parametrize("fault", ["cut", "malformed", "stream_error"])
async def test_the_default_graph_asks_again_and_its_readers_drop_the_first_text(
    database_url: str, model: FakeModel, fault: FaultKind
) -> None:
    model.script = Script(
        tokens=["GEN", "ERAL", " it", " is"], faults=[Fault(kind=fault, after_tokens=3, model="gpt-4o")]
    )  # fmt: skip
    async with (
        plain_service(
            database_url, model, AGENT_GRAPH="agent_service.agents.default.graph:build", CHEAP_MODEL="gpt-4o-mini"
        ) as service,
        service.client() as client,
    ):
        stream, run = await ask(client)

        kinds = [e.event for e in stream.events]
        reset = kinds.index("reset")
        before = "".join(e.data for e in stream.events[:reset] if e.event == "message")
        after = "".join(e.data for e in stream.events[reset:] if e.event == "message" and e.data != "[DONE]")
        assert before == "GENERAL it"
        assert after == run["answer"] == "GENERAL it is"
        assert stream.named("reset") == [{"text": ""}]
        assert (run["outcome"], run["error"]) == ("completed", None)
        assert ledger(database_url) == [
            ("gpt-4o-mini", True, True, False), ("gpt-4o", True, True, True), ("gpt-4o", True, True, False),
        ]  # fmt: skip
