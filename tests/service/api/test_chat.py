import asyncio
import base64
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.service.api.conftest import plain_service
from tests.support import sse
from tests.support.fake_model import FakeModel, Recorded
from tests.support.fake_script import Script, ToolCall, echo_tokens
from tests.support.problems import check_problem
from tests.support.service import JWT_SECRET, running_service
from tests.support.tokens import bearer


def completions(model: FakeModel) -> list[Recorded]:
    return [request for request in model.requests if request.path == "/v1/chat/completions"]


async def test_chat_answers_with_what_the_model_said_and_what_it_cost(client: httpx.AsyncClient) -> None:
    response = await client.post("/chat", json={"question": "How far is the moon?"})

    body = response.json()
    assert response.status_code == 200, body
    assert body["answer"] == "".join(echo_tokens("How far is the moon?"))
    assert (body["outcome"], body["status"], body["usage"]["model_calls"]) == ("completed", "finished", 1)
    assert body["cost_usd"] > 0


async def test_a_stream_carries_the_answer_as_unnamed_events_and_ends_with_done(client: httpx.AsyncClient) -> None:
    stream = await sse.read(client, "GET", "/chat/stream", params={"question": "Hello?"})

    assert stream.text == "".join(echo_tokens("Hello?"))
    assert stream.done
    assert [e["state"] for e in stream.named("node")] == ["start", "end"]
    assert stream.named("usage")[0]["outcome"] == "completed"
    run_id = stream.named("run")[0]["run_id"]
    assert stream.ids == sorted(set(stream.ids))
    assert {(run, attempt) for run, attempt, _ in stream.ids} == {(run_id, 1)}


async def test_a_second_turn_of_a_session_shows_the_model_the_first(client: httpx.AsyncClient, model: FakeModel) -> None:
    first = (await client.post("/chat", json={"question": "one"})).json()
    await client.post("/chat", json={"question": "two", "session_id": first["session_id"]})

    told = [m["content"] for m in completions(model)[-1].payload["messages"]]
    assert told == ["one", first["answer"], "two"]


async def test_tools_show_as_events_and_their_errors_too(client: httpx.AsyncClient, model: FakeModel) -> None:
    model.script = Script(
        tokens=["done"],
        tool_calls=[ToolCall(name="lookup", arguments={"query": "x"}), ToolCall(name="explode", arguments={"query": "y"})],
    )

    stream = await sse.read(client, "POST", "/chat/stream", json={"question": "go"})

    assert {e["tool"]: e["args"] for e in stream.named("tool_start")} == {"lookup": {"query": "x"}, "explode": {"query": "y"}}
    ends = {e["tool"]: (e["status"], e["output"]) for e in stream.named("tool_end")}
    assert ends["lookup"] == ("ok", "found x")
    assert ends["explode"][0] == "error"


async def test_a_client_that_leaves_and_returns_misses_nothing(client: httpx.AsyncClient, model: FakeModel) -> None:
    model.script = Script(token_count=40, tokens_per_second=200)
    first = await sse.read(client, "GET", "/chat/stream", params={"question": "long"}, stop_after=12)

    headers = {"Last-Event-ID": first.events[-1].id}
    rest = await sse.read(client, "GET", "/chat/stream", params={"question": "long"}, headers=headers)

    assert first.text + rest.text == "".join(echo_tokens("long", 40))
    assert first.ids + rest.ids == sorted(set(first.ids + rest.ids))
    assert len(completions(model)) == 1


async def test_a_finished_stream_answers_a_reconnect_with_204(client: httpx.AsyncClient) -> None:
    stream = await sse.read(client, "GET", "/chat/stream", params={"question": "short"})
    run_id = stream.ids[0][0]

    again = await client.get(f"/runs/{run_id}/stream", headers={"Last-Event-ID": stream.events[-1].id})
    replay = await sse.read(client, "GET", f"/runs/{run_id}/stream")

    assert again.status_code == 204
    assert [(e.id, e.data) for e in replay.events] == [(e.id, e.data) for e in stream.events]


async def test_the_last_event_id_of_another_run_is_refused(client: httpx.AsyncClient) -> None:
    one, two = [await sse.read(client, "GET", "/chat/stream", params={"question": q}) for q in ("one", "two")]
    last = {"Last-Event-ID": two.events[-1].id}
    answer = await client.get(f"/runs/{one.ids[0][0]}/stream", headers=last)
    check_problem(answer, 422, "invalid_request", field="Last-Event-ID")


async def test_an_idempotency_key_joins_the_first_run_also_when_both_race(client: httpx.AsyncClient, model: FakeModel) -> None:
    async def ask() -> httpx.Response:
        return await client.post("/chat", json={"question": "once"}, headers={"Idempotency-Key": "k1"})

    answers = [r.json() for r in await asyncio.gather(*(ask() for _ in range(5)))]

    assert len({a["run_id"] for a in answers}) == 1
    assert {a["answer"] for a in answers} == {"".join(echo_tokens("once"))}
    assert len(completions(model)) == 1
    other = await client.post("/chat", json={"question": "other"}, headers={"Idempotency-Key": "k1"})
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")


async def test_a_second_question_while_a_run_is_going_gets_409(client: httpx.AsyncClient, model: FakeModel) -> None:
    model.script = Script(tokens_per_second=5)
    first = await client.post("/chat", json={"question": "slow", "session_id": "s1"}, headers={"Prefer": "respond-async"})
    second = await client.post("/chat", json={"question": "too soon", "session_id": "s1"})

    assert first.status_code == 202
    assert (second.status_code, second.json()["code"]) == (409, "session_busy")
    await client.post(f"/runs/{first.json()['run_id']}/cancel")


async def test_cancel_stops_the_model_request_and_bills_what_was_produced(client: httpx.AsyncClient, model: FakeModel) -> None:
    model.script = Script(token_count=1000, tokens_per_second=50)
    started = (await client.post("/chat", json={"question": "slow"}, headers={"Prefer": "respond-async"})).json()
    run_url = f"/runs/{started['run_id']}"
    seen = await sse.read(client, "GET", f"{run_url}/stream", stop_after=10)

    assert (await client.post(f"{run_url}/cancel")).status_code == 202
    rest = await sse.read(client, "GET", f"{run_url}/stream", headers={"Last-Event-ID": seen.events[-1].id})

    state = (await client.get(run_url)).json()
    assert state["outcome"] == "cancelled"
    assert state["answer"] == seen.text + rest.text
    assert state["usage"]["output_tokens"] > 0
    assert state["cost_usd"] > 0
    assert completions(model)[0].disconnected


async def test_respond_async_names_the_run_that_goes_on_alone(client: httpx.AsyncClient) -> None:
    accepted = await client.post("/chat", json={"question": "later"}, headers={"Prefer": "respond-async"})
    run_id = accepted.json()["run_id"]

    assert accepted.headers["location"] == f"/runs/{run_id}"
    stream = await sse.read(client, "GET", f"/runs/{run_id}/stream")
    assert stream.text == "".join(echo_tokens("later"))
    assert (await client.get(f"/runs/{run_id}")).json()["answer"] == stream.text


async def test_history_lists_sessions_and_messages_until_they_are_erased(client: httpx.AsyncClient) -> None:
    asked = (await client.post("/chat", json={"question": "first words", "session_id": "mine"})).json()
    await client.post("/feedback", json={"run_id": asked["run_id"], "score": 1, "comment": "good"})

    listed = (await client.get("/sessions")).json()["sessions"]
    history = (await client.get("/sessions/mine/messages")).json()
    assert [(s["session_id"], s["title"]) for s in listed] == [("mine", "first words")]
    assert [(m["role"], m["content"], m.get("feedback")) for m in history["messages"]] == [
        ("user", "first words", None),
        ("assistant", asked["answer"], 1),
    ]

    assert (await client.delete("/sessions/mine")).status_code == 204
    assert (await client.get("/sessions/mine/messages")).status_code == 404
    assert (await client.get(f"/runs/{asked['run_id']}")).status_code == 404
    assert (await client.get("/usage")).json()["rows"][0]["runs"] == 1


async def test_usage_groups_the_ledger(client: httpx.AsyncClient) -> None:
    for question in ("a", "b"):
        await client.post("/chat", json={"question": question})

    rows = (await client.get("/usage", params={"group_by": "model,user"})).json()["rows"]

    assert [(r["model"], r["user"], r["runs"], r["model_calls"]) for r in rows] == [("gpt-4o", "default/local", 2, 2)]
    assert rows[0]["cost_usd"] > 0
    assert (await client.get("/usage", params={"group_by": "colour"})).json()["field"] == "group_by"


@pytest.mark.parametrize("count", [20, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(300)])])
async def test_many_streams_and_as_many_chats_at_once_get_every_token(database_url: str, model: FakeModel, count: int) -> None:
    model.script = Script(token_count=30, tokens_per_second=200)
    limits = httpx.Limits(max_connections=2 * count)
    async with (
        # Who waits for a connection on a starved machine is not to be told 503: here each token counts, not how fast it comes.
        plain_service(database_url, model, DATABASE_TIMEOUT="120") as service,
        httpx.AsyncClient(base_url=service.url, timeout=240, limits=limits) as client,
    ):

        async def chat(n: int) -> str:
            return str((await client.post("/chat", json={"question": f"chat {n}"})).json()["answer"])

        async def stream(n: int) -> str:
            return (await sse.read(client, "GET", "/chat/stream", params={"question": f"stream {n}"})).text

        answers = await asyncio.gather(*(chat(n) for n in range(count)), *(stream(n) for n in range(count)))

        expected = [f"chat {n}" for n in range(count)] + [f"stream {n}" for n in range(count)]
        assert answers == ["".join(echo_tokens(question, 30)) for question in expected]
        assert await service.metric("agent_runs_total", outcome="completed") == 2 * count
        assert await service.metric("agent_runs_in_flight") == 0


async def test_heartbeats_keep_a_silent_stream_alive(database_url: str) -> None:
    async with (
        running_service(database_url, AGENT_GRAPH="tests.support.graphs:endless", HEARTBEAT_SECONDS="0.05") as service,
        service.client() as client,
        client.stream("GET", "/chat/stream", params={"question": "hm"}) as response,
    ):
        lines = response.aiter_lines()
        while await anext(lines) != ": heartbeat":
            pass
        assert response.headers["x-accel-buffering"] == "no"
        assert response.headers["cache-control"] == "no-store"
        assert json.loads((await client.get("/sessions")).text)["sessions"][0]["title"] == "hm"


PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
PDF = b"%PDF-1.7\n%%EOF"


def given(*files: tuple[str, bytes]) -> list[dict[str, str]]:
    return [{"name": name, "data": base64.b64encode(data).decode()} for name, data in files]


@pytest.fixture
async def with_files(database_url: str, model: FakeModel) -> AsyncIterator[httpx.AsyncClient]:
    limits = {"FILE_GRAPHS": "agent", "MAX_FILES": "2", "MAX_FILE_BYTES": "1000"}
    model.script = Script(tokens=["A dot."])
    async with (
        plain_service(database_url, model, AUTH="required", JWT_SECRET=JWT_SECRET, **limits) as service,
        service.client() as client,
    ):
        client.headers.update(bearer("ann", "acme"))
        yield client


async def test_files_reach_the_model_as_its_provider_takes_them_and_are_kept(
    with_files: httpx.AsyncClient, model: FakeModel
) -> None:
    asked = {"question": "What is this?", "files": given(("dot.png", PNG), ("a.pdf", PDF))}
    run = (await with_files.post("/chat", json=asked, headers={"Idempotency-Key": "k"})).json()
    assert run["answer"] == "A dot."
    (said,) = completions(model)[-1].payload["messages"]
    text, picture, paper = said["content"]
    assert text == {"type": "text", "text": "What is this?"}
    assert picture == {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(PNG).decode()}"}}
    assert paper["file"]["filename"] == "a.pdf"
    assert paper["file"]["file_data"] == f"data:application/pdf;base64,{base64.b64encode(PDF).decode()}"

    assert (await with_files.post("/chat", json=asked, headers={"Idempotency-Key": "k"})).json()["run_id"] == run["run_id"]
    asked["files"] = asked["files"][:1]
    again = await with_files.post("/chat", json=asked, headers={"Idempotency-Key": "k"})
    check_problem(again, 409, "idempotency_conflict", field="Idempotency-Key")

    history = (await with_files.get(f"/sessions/{run['session_id']}/messages")).json()["messages"]
    assert history[0]["files"] == [
        {"name": "dot.png", "media_type": "image/png", "bytes": len(PNG)},
        {"name": "a.pdf", "media_type": "application/pdf", "bytes": len(PDF)},
    ]
    for number, (kind, content) in enumerate((("image/png", PNG), ("application/pdf", PDF))):
        response = await with_files.get(f"/runs/{run['run_id']}/files/{number}")
        assert (response.content, response.headers["content-type"]) == (content, kind)
        assert response.headers["content-disposition"] == "attachment"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in response.headers["content-security-policy"]
    check_problem(await with_files.get(f"/runs/{run['run_id']}/files/2"), 404, "not_found")
    check_problem(await with_files.get(f"/runs/{run['run_id']}/files/-1"), 422, "invalid_request", field="number")
    check_problem(await with_files.get(f"/runs/{run['run_id']}/files/0", headers=bearer("eve", "acme")), 404, "not_found")

    follow = (await with_files.post("/chat", json={"question": "And now?", "session_id": run["session_id"]})).json()
    assert len(completions(model)[-1].payload["messages"]) == 3
    check_problem(await with_files.get(f"/runs/{follow['run_id']}/files/0"), 404, "not_found")


async def test_files_beyond_a_limit_or_of_another_kind_are_refused_by_their_place(
    with_files: httpx.AsyncClient, model: FakeModel
) -> None:
    svg = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    for files, status, code, field in (
        (given(("cat.png", svg)), 422, "invalid_request", "files.0.data"),
        (given(*[("a.pdf", PDF)] * 3), 422, "invalid_request", "files"),
        (given(("ok.png", PNG), ("a.pdf", PDF + b" " * 1000)), 413, "too_large", "files.1.data"),
        ([{"name": "../etc/passwd", "data": "JVBERi0="}], 422, "invalid_request", "files.0.name"),
        ([{"name": "a\u0000.pdf", "data": "JVBERi0="}], 422, "invalid_request", "files.0.name"),
        ([{"name": "a.pdf", "data": ""}], 422, "invalid_request", "files.0.data"),
        ([{"name": "a.pdf", "data": "JVBERi0=", "url": "http://169.254.169.254/"}], 422, "invalid_request", "files.0.url"),
    ):
        check_problem(await with_files.post("/chat", json={"question": "?", "files": files}), status, code, field=field)
    assert not completions(model)


async def test_a_graph_that_takes_no_files_refuses_them_by_its_name(client: httpx.AsyncClient, model: FakeModel) -> None:
    response = await client.post("/chat", json={"question": "?", "files": given(("dot.png", PNG))})
    assert "files: agent takes none" in str(check_problem(response, 422, "invalid_request", field="files")["detail"])
    assert not completions(model)
