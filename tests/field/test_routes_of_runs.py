"""Routes: `slipway costs --by route` had none for runs that went on after a decision; a graph's own ones counted as `other`.

Found by a new user in the first hour. Siblings: a run that another process takes over behind the node that chose the route, a
session that was erased, a graph that makes up a route for each question, and a route that is a user's sentence.
"""

import asyncio
from typing import Any

import httpx
from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import interrupt

from agent_service.metrics import MAX_ROUTES, OTHER
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
