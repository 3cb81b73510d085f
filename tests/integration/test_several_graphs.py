"""Several graphs in one process, as a langgraph.json tells them: each session in its own, each wire by their names."""

import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from langgraph_sdk import get_client

from agent_service.errors import GraphError, SettingsError
from tests.support.problems import check_problem
from tests.support.service import RunningService, running_service

PROJECT = Path(__file__).parents[1] / "data/project/langgraph.json"


@pytest.fixture(autouse=True)
def _forget_the_project(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(os, "environ", os.environ)
    monkeypatch.delenv("SEVERAL_GREETING", raising=False)
    yield
    os.environ.pop("SEVERAL_GREETING", None)
    for name in [name for name in sys.modules if name.startswith("several_")]:
        del sys.modules[name]


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[RunningService]:
    async with running_service(database_url, LANGGRAPH_CONFIG=str(PROJECT), AGENT_CONTEXT='{"tone": "kind"}') as running:
        yield running


@pytest.fixture
async def client(service: RunningService) -> AsyncIterator[httpx.AsyncClient]:
    async with service.client() as opened:
        yield opened


async def ask(client: httpx.AsyncClient, question: str, **fields: Any) -> dict[str, Any]:
    answer = await client.post("/chat", json={"question": question, **fields})
    assert answer.status_code == 200, answer.text
    run: dict[str, Any] = answer.json()
    return run


async def test_each_graph_answers_by_its_name_and_the_first_one_without(client: httpx.AsyncClient) -> None:
    unnamed, echo, asking = (
        await ask(client, "one"),
        await ask(client, "two", graph="echo"),
        await ask(client, "no colour", graph="asking"),
    )

    assert [run["answer"] for run in (unnamed, echo, asking)] == ["echo 1 kind: one", "echo 1 kind: two", "asking: none"]
    assert [run["graph"] for run in (unnamed, echo, asking)] == ["echo", "echo", "asking"]


async def test_a_session_goes_on_in_the_graph_of_its_first_run_named_or_not(client: httpx.AsyncClient) -> None:
    await ask(client, "no colour", session_id="s", graph="asking")

    again = await ask(client, "no colour, again", session_id="s")
    named = await ask(client, "no colour, once more", session_id="s", graph="asking")

    assert (again["answer"], again["graph"]) == ("asking: none+none", "asking")
    assert named["answer"] == "asking: none+none+none"
    assert [(each["session_id"], each["graph"]) for each in (await client.get("/sessions")).json()["sessions"]] == [
        ("s", "asking")
    ]


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k"}], ids=["plain", "with a key"])
async def test_another_graph_on_a_session_is_refused_and_nothing_is_stored(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    await ask(client, "one", session_id="s", graph="echo")

    refused = await client.post("/chat", json={"question": "two", "session_id": "s", "graph": "asking"}, headers=headers)

    problem = check_problem(refused, 409, "other_graph")
    assert problem["detail"] == "the session belongs to graph echo, and asking cannot go on with it"
    assert problem["graph"] == "echo"
    assert (await ask(client, "three", session_id="s"))["answer"] == "echo 2 kind: three"


async def test_a_name_that_nobody_serves_is_refused_with_those_that_are(client: httpx.AsyncClient) -> None:
    listed = "graph: expected one of echo, asking, counting"
    for answer in (
        await client.post("/chat", json={"question": "q", "graph": "none"}),
        await client.post("/chat/stream", json={"question": "q", "graph": "ECHO"}),
        await client.get("/chat/stream", params={"question": "q", "graph": "echo "}),
    ):
        assert check_problem(answer, 422, "invalid_request", field="graph")["detail"] == listed
    for odd in ("", "x" * 65, "a\0b", 1, ["echo"]):
        check_problem(await client.post("/chat", json={"question": "q", "graph": odd}), 422, "invalid_request", field="graph")


async def test_the_document_lists_the_graphs_that_take_questions(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()

    in_body = document["components"]["schemas"]["ChatRequest"]["properties"]["graph"]["anyOf"][0]
    (in_query,) = [each for each in document["paths"]["/chat/stream"]["get"]["parameters"] if each["name"] == "graph"]
    assert in_body["enum"] == in_query["schema"]["anyOf"][0]["enum"] == ["echo", "asking"]
    assert "x-graph-name" not in str(document)


async def test_a_graph_without_messages_takes_no_question(client: httpx.AsyncClient) -> None:
    refused = await client.post("/chat", json={"question": "q", "graph": "counting"})

    problem = check_problem(refused, 422, "invalid_request", field="graph")
    assert problem["detail"] == "graph: counting takes no question: its state has no `messages`"
    assert (await client.get("/sessions")).json() == {"sessions": []}


async def test_a_stream_names_its_graph_in_the_query(client: httpx.AsyncClient) -> None:
    streamed = await client.get("/chat/stream", params={"question": "no colour", "graph": "asking"})

    assert "asking: none" in streamed.text


async def test_a_decision_goes_on_in_the_runs_own_graph(client: httpx.AsyncClient) -> None:
    run = await ask(client, "colour?", session_id="s", graph="asking")
    assert run["outcome"] == "interrupted"

    resumed = (await client.post(f"/runs/{run['run_id']}/resume", json={"value": "blue"})).json()

    assert (resumed["answer"], resumed["graph"]) == ("asking: blue", "asking")


async def test_the_context_is_checked_by_the_graph_that_gets_it(client: httpx.AsyncClient) -> None:
    assert (await ask(client, "q", graph="echo", context={"tone": "gruff"}))["answer"] == "echo 1 gruff: q"

    refused = await client.post("/chat", json={"question": "q", "graph": "asking", "context": {"tone": "gruff"}})
    check_problem(refused, 422, "invalid_request", field="context")

    await ask(client, "no colour", session_id="s", graph="asking")
    refused = await client.post("/chat", json={"question": "q", "session_id": "s", "context": {"tone": "gruff"}})
    check_problem(refused, 422, "invalid_request", field="context")


async def test_one_idempotency_key_is_not_for_two_graphs(client: httpx.AsyncClient) -> None:
    async def keyed(key: str, **graph: str) -> httpx.Response:
        return await client.post("/chat", json={"question": "no colour", **graph}, headers={"Idempotency-Key": key})

    first, again = await keyed("k", graph="asking"), await keyed("k", graph="asking")

    assert first.json()["run_id"] == again.json()["run_id"]
    check_problem(await keyed("k"), 409, "idempotency_conflict", field="Idempotency-Key")
    assert (await keyed("d")).json()["run_id"] == (await keyed("d", graph="echo")).json()["run_id"]


async def test_openai_clients_choose_a_graph_by_the_models_name(service: RunningService) -> None:
    async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0) as api:

        async def said(model: str, **more: Any) -> tuple[str, str | None]:
            got = await api.chat.completions.create(model=model, messages=[{"role": "user", "content": "no colour"}], **more)
            return got.model, got.choices[0].message.content

        assert [each.id async for each in api.models.list()] == ["slipway", "echo", "asking"]
        assert (await api.models.retrieve("asking")).id == "asking"
        assert await said("slipway") == ("slipway", "echo 1 kind: no colour")
        assert await said("echo") == ("echo", "echo 1 kind: no colour")
        assert await said("asking") == ("asking", "asking: none")
        with pytest.raises(openai.NotFoundError, match="model: expected one of slipway, echo, asking") as unknown:
            await said("gpt-4")
        assert unknown.value.code == "model_not_found"
        with pytest.raises(openai.UnprocessableEntityError, match="counting takes no question"):
            await said("counting")
        stream = await api.chat.completions.create(
            model="asking", messages=[{"role": "user", "content": "no colour"}], stream=True
        )
        assert {chunk.model async for chunk in stream} == {"asking"}


async def test_a_chat_page_that_changes_the_model_is_answered_beside_and_a_named_session_refuses(service: RunningService) -> None:
    async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0) as api:

        async def said(model: str, messages: list[tuple[str, str]], **headers: str) -> str | None:
            told: Any = [{"role": role, "content": text} for role, text in messages]
            got = await api.chat.completions.create(model=model, messages=told, extra_headers=headers)
            return got.choices[0].message.content

        chat = {"X-Conversation-Id": "c"}
        first = await said("echo", [("user", "a")], **chat)
        history = [("user", "a"), ("assistant", str(first)), ("user", "no colour")]
        assert await said("asking", history, **chat) == "asking: none"
        assert await said("echo", history, **chat) == "echo 2 kind: no colour"

        await said("echo", [("user", "a")], **{"X-Session-Id": "s"})
        with pytest.raises(openai.ConflictError, match="belongs to graph echo"):
            await said("asking", [("user", "no colour")], **{"X-Session-Id": "s"})


async def test_langgraphs_client_runs_a_graph_of_any_state_and_keeps_a_thread_to_its_graph(
    service: RunningService, client: httpx.AsyncClient
) -> None:
    async with get_client(url=service.url) as sdk:
        assert {each["graph_id"] for each in await sdk.assistants.search()} == {"echo", "asking", "counting"}
        assert await sdk.runs.wait(None, "counting", input={"count": 1}) == {"count": 2}

        thread = (await sdk.threads.create())["thread_id"]
        assert await sdk.runs.wait(thread, "counting", input={"count": 40}) == {"count": 41}
        asked: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
        with pytest.raises(httpx.HTTPStatusError, match="409 Conflict"):
            await sdk.runs.wait(thread, "echo", input=asked)
        assert await sdk.runs.wait(thread, "counting", input={"count": 41}) == {"count": 42}

        refused = await client.post("/chat", json={"question": "q", "session_id": thread})
        told = check_problem(refused, 422, "invalid_request", field="graph")
        assert "counting takes no question" in str(told["detail"])

        state = await sdk.threads.get_state(thread)
        assert state["values"] == {"count": 42}


async def test_graphs_share_no_kept_answer(database_url: str) -> None:
    cache = {"RESPONSE_CACHE_SECONDS": "60", "RESPONSE_CACHE_GRAPHS": "echo,asking"}
    async with (
        running_service(database_url, LANGGRAPH_CONFIG=str(PROJECT), **cache) as service,
        service.client() as client,
    ):
        answers = [(await ask(client, "no colour", graph=name))["answer"] for name in ("echo", "asking", "echo", "asking")]

    assert answers == ["echo 1 hello: no colour", "asking: none"] * 2


async def test_agent_graph_names_the_default_one_or_stands_beside_the_file(database_url: str) -> None:
    async with (
        running_service(database_url, LANGGRAPH_CONFIG=str(PROJECT), AGENT_GRAPH="asking") as service,
        service.client() as client,
    ):
        assert (await ask(client, "no colour"))["answer"] == "asking: none"
    async with running_service(database_url, LANGGRAPH_CONFIG=str(PROJECT), AGENT_GRAPH="tests.support.graphs:saying") as service:
        assert service.resources.runs.graphs.default.name == "agent"
        assert service.resources.runs.graphs.names == ["agent", "echo", "asking", "counting"]
    with pytest.raises(GraphError, match=r"graphs\.counting=.* has no `messages` \(it has count\)"):
        async with running_service(database_url, LANGGRAPH_CONFIG=str(PROJECT), AGENT_GRAPH="counting"):
            pass


async def test_agent_graph_takes_a_files_path(database_url: str) -> None:
    target = f"{PROJECT.parent}/src/several_echo.py:build"
    async with running_service(database_url, AGENT_GRAPH=target) as service, service.client() as client:
        assert (await ask(client, "q"))["answer"] == "echo 1 : q"
        assert [each["id"] for each in (await client.get("/v1/models")).json()["data"]] == ["slipway"]


async def test_a_file_of_graphs_without_messages_is_served_and_takes_no_question(database_url: str, tmp_path: Path) -> None:
    source = PROJECT.parent / "src/several_counting.py"
    (tmp_path / "several_counting.py").write_text(source.read_text())
    (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": {"counting": "./several_counting.py:graph"}}))
    async with (
        running_service(database_url, LANGGRAPH_CONFIG=str(tmp_path / "langgraph.json")) as service,
        service.client() as client,
    ):
        check_problem(await client.post("/chat", json={"question": "q"}), 422, "invalid_request", field="graph")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("graph = 1", r"graphs\.b=\./b\.py:graph is of type int"),
        ("import nothing_of_this_name", r"imports 'nothing_of_this_name', which is not installed \(.*/b\.py:1\)"),
        (
            "from langgraph.graph import StateGraph\ngraph = StateGraph(dict)",
            r"graphs\.b=\./b\.py:graph: the graph does not compile",
        ),
    ],
)
async def test_one_wrong_graph_of_several_ends_the_start_and_is_named(
    database_url: str, tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "b.py").write_text(text)
    graphs = {"a": "tests.support.graphs:saying", "b": "./b.py:graph"}
    (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": graphs}))
    sys.modules.pop("b", None)
    with pytest.raises(SettingsError, match=told):
        async with running_service(database_url, LANGGRAPH_CONFIG=str(tmp_path / "langgraph.json")):
            pass
    sys.modules.pop("b", None)


async def test_answers_are_given_again_of_graphs_that_opted_in_alone(database_url: str) -> None:
    cache = {"RESPONSE_CACHE_SECONDS": "60", "RESPONSE_CACHE_GRAPHS": "echo"}
    async with (
        running_service(database_url, LANGGRAPH_CONFIG=str(PROJECT), AGENT_CONTEXT='{"tone": "kind"}', **cache) as service,
        service.client() as client,
    ):
        for graph, again in (("echo", True), ("asking", False)):
            runs = [await ask(client, "no colour", graph=graph) for _ in range(2)]
            assert [run["usage"]["cached_answer"] for run in runs] == [False, again], graph


@pytest.mark.parametrize(("graphs", "told"), [("", "name those of echo, asking"), ("echo, nobody", "nobody is not served here")])
async def test_a_cache_for_graphs_that_are_not_named_or_not_served_is_refused(database_url: str, graphs: str, told: str) -> None:
    cache = {"RESPONSE_CACHE_SECONDS": "60", "RESPONSE_CACHE_GRAPHS": graphs}
    with pytest.raises(SettingsError, match=f"RESPONSE_CACHE_GRAPHS: {told}"):
        async with running_service(database_url, LANGGRAPH_CONFIG=str(PROJECT), **cache):
            pass
