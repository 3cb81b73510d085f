"""Routes: `slipway costs --by route` had none for runs that went on after a decision; a graph's own ones counted as `other`.

Found by a new user in the first hour. Siblings: a run that another process takes over behind the node that chose the route, a
session that was erased, a graph that makes up a route for each question, a route that is a user's sentence, and each other wire
on which a decision comes.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import interrupt

from agent_service.metrics import MAX_ROUTES, OTHER
from tests.service.api.test_mcp import accepted, person
from tests.support import a2a, mcp
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script
from tests.support.service import RunningService, running_service

ME = "tests.field.test_routes_of_runs"


class State(MessagesState):
    route: str


reached = asyncio.Event()
"""The node behind the router runs for the first time; it waits there for ever, and a second time it does not."""


def _graph(work: Any) -> Any:
    def choose(state: State) -> dict[str, Any]:
        return {"route": str(state["messages"][-1].content)}

    graph = StateGraph(State)
    graph.add_node("choose", choose)
    graph.add_node("work", work)
    graph.add_edge(START, "choose")
    graph.add_edge("choose", "work")
    graph.add_edge("work", END)
    return graph


def echo(_: object) -> Any:
    async def work(_: State) -> dict[str, Any]:
        return {"messages": [AIMessage("done")]}

    return _graph(work)


def asking(_: object) -> Any:
    async def work(_: State) -> dict[str, Any]:
        return {"messages": [AIMessage(f"done: {interrupt({'ask': 'really?'})}")]}

    return _graph(work)


def twice(context: Any, *, asks: bool = False) -> Any:
    """Calls a model twice, and asks in between if it is to."""

    async def first(state: State) -> dict[str, Any]:
        return {"messages": [await context.chat_model.ainvoke(state["messages"])]}

    async def second(state: State) -> dict[str, Any]:
        decided = interrupt({"ask": "really?"}) if asks else "go on"
        return {"messages": [await context.chat_model.ainvoke([*state["messages"], HumanMessage(str(decided))])]}

    graph: Any = StateGraph(State).add_node("choose", lambda state: {"route": state["messages"][-1].text})
    return graph.add_sequence([first, second]).add_edge(START, "choose").add_edge("choose", "first")


def asking_between(context: Any) -> Any:
    return twice(context, asks=True)


def stuck_once(_: object) -> Any:
    async def work(_: State) -> dict[str, Any]:
        if not reached.is_set():
            reached.set()
            await asyncio.Event().wait()
        return {"messages": [AIMessage("done")]}

    return _graph(work)


async def ask(client: httpx.AsyncClient, question: str) -> dict[str, Any]:
    run: dict[str, Any] = (await client.post("/chat", json={"question": question})).json()
    return run


async def stored(service: RunningService) -> list[str | None]:
    async with service.resources.pool.connection() as conn:
        rows = await (await conn.execute("SELECT route FROM slipway.runs ORDER BY created_at")).fetchall()
    return [row["route"] for row in rows]


async def test_a_run_that_goes_on_after_a_decision_keeps_its_route(database_url: str) -> None:
    async with running_service(database_url, AGENT_GRAPH=f"{ME}:asking") as service, service.client() as client:
        run = await ask(client, "billing")
        assert run["outcome"] == "interrupted"
        body = {"decisions": [{"type": "approve"}], "value": "yes"}
        resumed = await client.post(f"/runs/{run['run_id']}/resume", json={"value": body["value"]})
        assert resumed.json()["outcome"] == "completed", resumed.text
        assert await stored(service) == ["billing", "billing"]
        assert await service.metric("agent_routes_total", route="billing") == 2


QUESTION = {"messages": [{"role": "user", "content": "billing"}]}


async def by_chat(service: RunningService, http: httpx.AsyncClient) -> None:
    asked = await ask(http, "billing")
    await http.post(f"/runs/{asked['run_id']}/resume", json={"value": "yes"})


async def by_openai(service: RunningService, http: httpx.AsyncClient) -> None:
    """That wire has no decisions: its answer names the call that takes one."""
    said = (await http.post("/v1/chat/completions", json=QUESTION)).json()["choices"][0]["message"]["content"]
    call = re.search(r"/runs/[0-9a-f-]+/resume", said)
    assert call
    await http.post(call[0], json={"value": "yes"})


async def by_langgraph(service: RunningService, http: httpx.AsyncClient) -> None:
    thread = (await http.post("/threads", json={})).json()["thread_id"]
    for more in ({"input": QUESTION}, {"command": {"resume": "yes"}}):
        await http.post(f"/threads/{thread}/runs/wait", json={"assistant_id": "agent", **more})


async def by_commands(service: RunningService, http: httpx.AsyncClient) -> None:
    """Protocol 2."""
    thread = (await http.post("/threads", json={})).json()["thread_id"]
    start = {"assistant_id": "agent", "input": QUESTION}
    await http.post(f"/threads/{thread}/commands", json={"id": 1, "method": "run.start", "params": start})
    while not (asked := (await http.get(f"/threads/{thread}")).json()["interrupts"]):
        await asyncio.sleep(0.02)
    (interrupts,) = asked.values()
    answer = {"namespace": [], "interrupt_id": interrupts[0]["id"], "response": "yes"}
    await http.post(f"/threads/{thread}/commands", json={"id": 2, "method": "input.respond", "params": answer})


async def by_mcp(service: RunningService, http: httpx.AsyncClient) -> None:
    async with mcp.client_of(service.url, elicitation=person([], accepted(answer="yes"))) as agent:
        await agent.call_tool("agent", {"question": "billing"})


async def by_a2a(service: RunningService, http: httpx.AsyncClient) -> None:
    async with a2a.client_of(service.url) as agent:
        asked = await a2a.send(agent, a2a.message("billing"))
        await a2a.send(agent, a2a.message("yes", task_id=asked.id, context_id=asked.context_id))


Way = Callable[[RunningService, httpx.AsyncClient], Awaitable[None]]


@pytest.mark.parametrize("way", [by_chat, by_openai, by_langgraph, by_commands, by_mcp, by_a2a])
async def test_both_halves_of_a_decided_run_are_on_its_route_in_the_cost_report(database_url: str, way: Way) -> None:
    """Also when the session is erased, and the report has only what the ledger kept."""
    async with FakeModel(Script(token_count=20)) as fake:
        env = {
            "MODEL": "gpt-4o-mini",
            "OPENAI_BASE_URL": fake.url,
            "OPENAI_API_KEY": "sk-1",
            "AGENT_GRAPH": f"{ME}:asking_between",
        }
        async with running_service(database_url, **env) as service, service.client() as http:
            await way(service, http)
            async with asyncio.timeout(20):
                while (report := (await http.get("/usage?group_by=route")).json())["total"]["model_calls"] < 2:
                    await asyncio.sleep(0.02)
            for session in (await http.get("/sessions")).json()["sessions"]:
                await http.delete(f"/sessions/{session['session_id']}")
            for later in (report, (await http.get("/usage?group_by=route")).json()):
                assert [(row["route"], row["model_calls"], row["runs"]) for row in later["rows"]] == [("billing", 2, 2)]
                assert later["rows"][0]["cost_usd"] == report["total"]["cost_usd"] > 0


async def test_a_run_that_goes_on_after_a_budget_keeps_its_route(database_url: str) -> None:
    async with FakeModel(Script(token_count=50)) as fake:
        env = {"MODEL": "gpt-4o-mini", "OPENAI_BASE_URL": fake.url, "OPENAI_API_KEY": "sk-1", "AGENT_GRAPH": f"{ME}:twice"}
        async with running_service(database_url, MAX_RUN_TOKENS="40", **env) as service, service.client() as http:
            stopped = await ask(http, "billing")
            assert stopped["outcome"] == "budget"
        async with running_service(database_url, **env) as service, service.client() as http:
            gone_on = (await http.post(f"/runs/{stopped['run_id']}/resume", json={})).json()
            assert gone_on["outcome"] == "completed"
            rows = (await http.get("/usage?group_by=route")).json()["rows"]
            assert [(row["route"], row["model_calls"], row["runs"]) for row in rows] == [("billing", 2, 2)]


async def test_a_run_that_was_taken_over_behind_the_router_keeps_its_route(database_url: str) -> None:
    reached.clear()
    async with running_service(database_url, AGENT_GRAPH=f"{ME}:stuck_once") as service, service.client() as client:
        accepted = await client.post("/chat", json={"question": "shipping"}, headers={"Prefer": "respond-async"})
        run_id = accepted.json()["run_id"]
        await asyncio.wait_for(reached.wait(), 20)
        await asyncio.sleep(0)
    async with running_service(database_url, AGENT_GRAPH=f"{ME}:stuck_once") as service, service.client() as client:
        async with asyncio.timeout(30):
            while (await client.get(f"/runs/{run_id}")).json()["status"] != "finished":
                await asyncio.sleep(0.05)
        assert await stored(service) == ["shipping"]


async def test_an_erased_session_leaves_its_route_to_the_report(database_url: str) -> None:
    async with running_service(database_url) as service, service.client() as client:
        run = await ask(client, "How do I rotate keys?")
        before = (await client.get("/usage?group_by=route,day")).json()
        assert (await client.delete(f"/sessions/{run['session_id']}")).status_code == 204
        assert await stored(service) == []
        assert (await client.get("/usage?group_by=route,day")).json() == before
        assert {row["route"] for row in before["rows"]} & {"RAG", "DATA", "GENERAL"}


async def test_a_graphs_own_routes_count_by_name_up_to_twenty_and_a_sentence_does_not(database_url: str) -> None:
    async with running_service(database_url, AGENT_GRAPH=f"{ME}:echo") as service, service.client() as client:
        assert await service.metric("agent_routes_total", route="RAG") == 0
        await ask(client, "where is my parcel, please?")
        assert await service.metric("agent_routes_total", route=OTHER) == 1
        for number in range(MAX_ROUTES + 2):
            await ask(client, f"route-{number}")
        await ask(client, "route-0")
        assert await service.metric("agent_routes_total", route="route-0") == 2
        assert await service.metric("agent_routes_total", route=f"route-{MAX_ROUTES - 1}") == 1
        assert await service.metric("agent_routes_total", route=OTHER) == 3
