"""A session as its owner goes back to it: found, renamed, with sources and decisions, asked again from an earlier question."""

import json
from collections.abc import AsyncIterator
from operator import add
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import httpx
import pytest
from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.message import add_messages
from typing_extensions import TypedDict

from agent_service.child_processes import Workers
from agent_service.documents.ingest import ingest
from agent_service.runs import session_store
from agent_service.runs.prune import Retention, prune
from tests.support.fake_model import FakeModel
from tests.support.problems import check_problem
from tests.support.service import RunningService, running_service

OFFLINE = {"AUTH": "disabled"}


@pytest.fixture
async def offline(database_url: str, tmp_path: Path, workers: Workers) -> AsyncIterator[RunningService]:
    """The default graph on the offline model, with one document."""
    (tmp_path / "harbour.md").write_text("# Harbour manual\n\n## Mooring\nA vessel is moored with two ropes.\n")
    async with running_service(database_url, **OFFLINE) as service:
        await ingest([tmp_path], service.resources.pool, workers)
        yield service


@pytest.fixture
async def plain(database_url: str, model: FakeModel) -> AsyncIterator[RunningService]:
    env = {"AGENT_GRAPH": "tests.support.graphs:plain", "MODEL": "gpt-4o", "OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "k"}
    async with running_service(database_url, **OFFLINE, **env) as service:
        yield service


async def ask(client: httpx.AsyncClient, question: str, **more: object) -> dict[str, Any]:
    answer = await client.post("/chat", json={"question": question, "session_id": "s", **more})
    assert answer.status_code == 200, answer.text
    run: dict[str, Any] = answer.json()
    return run


async def history(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = (await client.get("/sessions/s/messages")).json()["messages"]
    return messages


async def test_sources_and_their_passages_outlive_the_events(offline: RunningService) -> None:
    async with offline.client() as client:
        run = await ask(client, "How is a vessel moored?")
        for pruned in (False, True):
            if pruned:
                await prune(offline.resources.pool, Retention(event_hours=1e-9, session_days=0))
            answer = (await history(client))[1]
            (source,) = answer["sources"]
            assert (source["title"], source["section"]) == ("Harbour manual", "Mooring")
            (passage,) = (await client.get(f"/runs/{run['run_id']}/passages")).json()["passages"]
            assert (passage["source"], "two ropes" in passage["text"]) == (source["source"], True)
        other = await ask(client, "Show my notes")
        assert (await client.get(f"/runs/{other['run_id']}/passages")).json() == {"passages": []}


async def test_a_decision_stands_in_the_history(offline: RunningService) -> None:
    async with offline.client() as client:
        run = await ask(client, "Remember that the backup runs at three")
        decision = {"type": "reject", "message": "it does not"}
        assert (await client.post(f"/runs/{run['run_id']}/resume", json={"decisions": [decision]})).status_code == 200
        assert [message.get("decided") for message in await history(client)] == [None, [], [{"decisions": [decision]}]]


async def test_a_question_is_replaced_with_all_behind_it_and_the_model_hears_nothing_of_them(
    plain: RunningService, model: FakeModel
) -> None:
    async with plain.client() as client:
        await ask(client, "first")
        second = await ask(client, "second")
        await ask(client, "third")
        replaced = await ask(client, "another second", replaces=second["run_id"])

        asked = [message["content"] for message in model.requests[-1].payload["messages"] if message["role"] == "user"]
        assert asked == ["first", "another second"]
        assert [message["content"] for message in await history(client) if message["role"] == "user"] == asked
        first = (await history(client))[0]["run_id"]
        again = await ask(client, "first", replaces=first)
        assert again["answer"]
        assert [message["run_id"] for message in await history(client)] == [again["run_id"]] * 2
        for gone in (second["run_id"], replaced["run_id"]):
            refused = await client.post("/chat", json={"question": "x", "session_id": "s", "replaces": gone})
            check_problem(refused, 404, "not_found", field="replaces")
        check_problem(await client.post("/chat", json={"question": "x", "replaces": first}), 404, "not_found", field="replaces")
        assert len(await history(client)) == 2


COMPACT = Retention(event_hours=24, session_days=0)


def heard(model: FakeModel) -> list[str]:
    return [message["content"] for message in model.requests[-1].payload["messages"] if message["role"] == "user"]


async def test_the_last_question_is_replaced_as_often_as_one_likes_in_a_session_that_was_idle(
    plain: RunningService, model: FakeModel
) -> None:
    async with plain.client() as client:
        await ask(client, "first")
        last = await ask(client, "second")
        for words in ("third", "fourth"):
            for _ in range(2):  # a session that is compacted twice loses no more
                async with plain.resources.pool.connection() as conn:
                    await conn.execute("UPDATE slipway.sessions SET compacted_at = NULL")
                assert await prune(plain.resources.pool, COMPACT)
            last = await ask(client, words, replaces=last["run_id"])
            assert heard(model) == ["first", words]
        await ask(client, "fifth")
        assert heard(model) == ["first", "fourth", "fifth"]


async def test_a_question_whose_state_before_is_no_longer_kept_is_not_replaced_and_nothing_is_forgotten(
    plain: RunningService, model: FakeModel
) -> None:
    async with plain.client() as client:
        first, second, _ = [await ask(client, words) for words in ("first", "second", "third")]
        assert await prune(plain.resources.pool, COMPACT)

        refused = await client.post("/chat", json={"question": "x", "session_id": "s", "replaces": second["run_id"]})

        check_problem(refused, 409, "state_gone", field="replaces")
        await ask(client, "fourth")
        assert heard(model) == ["first", "second", "third", "fourth"]
        anew = await ask(client, "first again", replaces=first["run_id"])  # there was nothing before it
        assert [message["run_id"] for message in await history(client)] == [anew["run_id"]] * 2


class Counting(MessagesState):
    asked: Annotated[int, add]


class Remembering(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    calls: Annotated[int, add]


def counting(_: Any) -> StateGraph[Counting]:
    """Counts its questions, and has a subgraph that remembers how often it was called: state that is no message."""

    def call(state: Remembering) -> dict[str, Any]:
        return {"calls": 1, "messages": [AIMessage(f"call {state.get('calls', 0) + 1}")]}

    inner = StateGraph(Remembering).add_node("call", call).add_edge(START, "call").compile(checkpointer=True)

    def count(state: Counting) -> dict[str, Any]:
        return {"asked": 1, "messages": [AIMessage(f"question {state.get('asked', 0) + 1}")]}

    graph = StateGraph(Counting).add_node("inner", inner).add_node("count", count)
    return graph.add_edge(START, "inner").add_edge("inner", "count")


async def test_state_that_is_no_message_goes_back_too_and_that_of_a_subgraph_which_remembers(database_url: str) -> None:
    graph = {"AGENT_GRAPH": "tests.integration.test_history:counting"}
    async with running_service(database_url, **OFFLINE, **graph) as service, service.client() as client:
        answers = [await ask(client, words) for words in ("one", "two", "three")]
        assert [run["answer"].split("\n\n") for run in answers] == [[f"call {n}", f"question {n}"] for n in (1, 2, 3)]
        assert await prune(service.resources.pool, COMPACT)

        again = await ask(client, "three", replaces=answers[-1]["run_id"])

        assert again["answer"].split("\n\n") == ["call 3", "question 3"]
        assert (await ask(client, "four"))["answer"].split("\n\n") == ["call 4", "question 4"]


async def test_sessions_are_found_by_title_or_question_and_renamed(plain: RunningService) -> None:
    async with plain.client() as client:
        for session, question in (("a", "About 100% of Anchors"), ("b", "About ropes")):
            await client.post("/chat", json={"question": question, "session_id": session})
        await client.post("/chat", json={"question": "and sails_too", "session_id": "b"})

        async def found(**query: str) -> list[tuple[str, str]]:
            sessions = (await client.get("/sessions", params=query)).json()["sessions"]
            return [(each["session_id"], each["title"]) for each in sessions]

        assert [name for name, _ in await found(text="ABOUT")] == ["b", "a"]
        assert [name for name, _ in await found(text=" sails_T ")] == ["b"]
        assert [name for name, _ in await found(text="0% of")] == ["a"]
        assert await found(text="%") == await found(text="100%")
        assert await found(text="nothing") == []
        assert (await client.patch("/sessions/b", json={"title": "  Rigging "})).status_code == 204
        assert await found(text="rigging") == [("b", "Rigging")]
        for title in ("", "  ", "x" * 81, "a\u0000", None):
            check_problem(await client.patch("/sessions/b", json={"title": title}), 422, "invalid_request", field="title")
        check_problem(await client.patch("/sessions/none", json={"title": "x"}), 404, "not_found")
        assert await found(text="rigging", served="true") == [("b", "Rigging")]


async def test_sessions_of_graphs_that_are_not_served_are_left_out_on_request(plain: RunningService, database_url: str) -> None:
    async with plain.client() as client:
        await ask(client, "hers")
    async with running_service(database_url, **OFFLINE) as offline, offline.client() as client:
        assert len((await client.get("/sessions", params={"served": "true"})).json()["sessions"]) == 1
        async with offline.resources.pool.connection() as conn:
            await conn.execute("UPDATE slipway.sessions SET graph = 'elsewhere'")
        assert len((await client.get("/sessions")).json()["sessions"]) == 1
        assert (await client.get("/sessions", params={"served": "true"})).json() == {"sessions": []}


async def test_a_history_reads_no_events_of_runs_that_have_ended(offline: RunningService) -> None:
    pool = offline.resources.pool
    async with offline.client() as client:
        await ask(client, "How is a vessel moored?")
        before = await history(client)
        async with pool.connection() as conn:
            await conn.execute("DELETE FROM slipway.run_events")
        assert await history(client) == before
        assert before[1]["sources"]


async def test_sources_of_a_run_that_ended_before_they_were_kept_are_told_in_their_order(offline: RunningService) -> None:
    pool = offline.resources.pool
    sources = [{"title": "t", "section": str(n), "source": f"{n}.md"} for n in range(120)]
    said = json.dumps(
        [["tool_end", "", {"sources": sources[:50]}], ["text", "", '"sources"'], ["tool_end", "", {"sources": sources[50:]}]]
    )
    async with offline.client() as client:
        run = await ask(client, "How is a vessel moored?")
        async with pool.connection() as conn:
            await conn.execute("UPDATE slipway.runs SET sources = NULL")
            await conn.execute("DELETE FROM slipway.run_events")
            await conn.execute(
                "INSERT INTO slipway.run_events (run_id, attempt, first_seq, last_seq, events) VALUES (%s, 1, 1, 3, %s)",
                (run["run_id"], said),
            )
        assert (await history(client))[1]["sources"] == sources[:100]
        assert await prune(pool, Retention(event_hours=1e-9, session_days=0))
        assert (await history(client))[1]["sources"] == sources[:100]


async def test_a_search_looks_through_the_newest_sessions_and_questions_alone(
    plain: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        session_store,
        "FIND_SESSIONS",
        session_store.FIND_SESSIONS.replace("LIMIT 500", "LIMIT 2").replace("LIMIT 100", "LIMIT 1"),
    )
    async with plain.client() as client:
        for session, question in (("a", "ropes"), ("b", "sails"), ("b", "keel"), ("c", "ropes")):
            await client.post("/chat", json={"question": question, "session_id": session})
        found = {
            text: [each["session_id"] for each in (await client.get("/sessions", params={"text": text})).json()["sessions"]]
            for text in ("ropes", "keel", "sails")
        }
    assert found == {"ropes": ["c"], "keel": ["b"], "sails": ["b"]}  # `sails` is b's title


async def test_a_long_history_is_read_in_pages(plain: RunningService) -> None:
    async with plain.client() as client:
        await ask(client, "question 0")
        async with plain.resources.pool.connection() as conn:
            await conn.execute(
                "INSERT INTO slipway.runs (id, session_id, tenant, user_id, question, input, status, outcome, created_at)"
                " SELECT gen_random_uuid(), r.session_id, r.tenant, r.user_id, 'question ' || n, '{}', 'finished', 'completed',"
                " r.created_at + n * interval '1 second' FROM slipway.runs r, generate_series(1, 24) AS n"
            )
        pages: list[list[str]] = []
        query: dict[str, Any] = {"limit": 10}
        while True:
            page = (await client.get("/sessions/s/messages", params=query)).json()
            pages.append([message["content"] for message in page["messages"] if message["role"] == "user"])
            if page["earlier"] is None:
                break
            query["before"] = page["earlier"]
        whole = (await client.get("/sessions/s/messages")).json()

        refused = await client.get("/sessions/s/messages", params={"before": str(uuid4())})

    assert (refused.status_code, refused.json()["field"]) == (422, "before")
    expected = [f"question {n}" for n in range(25)]
    assert pages == [expected[15:], expected[5:15], expected[:5]]
    assert [message["content"] for message in whole["messages"] if message["role"] == "user"] == expected
    assert whole["earlier"] is None
