"""A bounded pool full of threads that wait for a thread: https://github.com/stablemates/workhorse/pull/137,
https://github.com/PostHog/posthog/pull/34704.

Sync nodes that called `subgraph.invoke`, eight at once on two cores, wedged the process for good: each held one of
asyncio's six threads and waited for its checkpoint to be serialised by one. Siblings: sync nodes that wait for sync nodes
through the loop, fan-outs of them, sleeping ones beside async runs, and ones that never end when SIGTERM comes.
"""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Send

from tests.support.replicas import Replica, running_replicas
from tests.support.service import running_service

pytestmark = pytest.mark.slow

AT_ONCE = max(40, 2 * ((os.cpu_count() or 1) + 4))
"""More than asyncio's own threads, whatever the machine."""

FOREVER = 3600

Update = dict[str, Any]


def says(text: str) -> Update:
    return {"messages": [AIMessage(text)]}


def small(name: str, node: Any) -> Any:
    return StateGraph(MessagesState).add_node(name, node).add_edge(START, name).compile()


def inner(_: MessagesState) -> Update:
    time.sleep(0.05)
    return says("inner")


def stuck(_: MessagesState) -> Update:
    time.sleep(FOREVER)
    return {}


INNER, STUCK = small("inner", inner), small("stuck", stuck)


def invoke(state: MessagesState) -> Update:
    return says(f"got {INNER.invoke(state)['messages'][-1].content}")


async def take_loop(state: MessagesState) -> Update:
    """Gives its loop to a sync node, as libraries that keep one in a global do."""
    loop = asyncio.get_running_loop()
    waits = small("waits", lambda inside: wait_on(loop, inside))
    return says((await waits.ainvoke(state))["messages"][-1].content)


def wait_on(loop: asyncio.AbstractEventLoop, state: MessagesState) -> Update:
    """A sync node that waits for an async graph whose node is sync again."""
    got = asyncio.run_coroutine_threadsafe(INNER.ainvoke(state), loop).result()
    return says(f"got {got['messages'][-1].content}")


def fan(_: MessagesState) -> list[Send]:
    return [Send("branch", {"messages": []}) for _ in range(AT_ONCE)]


def branch(state: MessagesState) -> Update:
    INNER.invoke({"messages": [("user", "x")], **{k: v for k, v in state.items() if v}})
    return says("branch")


def sleep(_: MessagesState) -> Update:
    time.sleep(4)
    return says("slept")


async def trivial(_: MessagesState) -> Update:
    return says("at once")


def refuse(state: MessagesState) -> Update:
    return STUCK.invoke(state)  # type: ignore[no-any-return]  # LangGraph's


async def obstinate(_: MessagesState) -> Update:
    while True:
        try:
            await asyncio.sleep(FOREVER)
        except asyncio.CancelledError:  # what the test is about
            continue


NODES = {
    "invoke": invoke,
    "loop": take_loop,
    "branch": branch,
    "sleep": sleep,
    "trivial": trivial,
    "stuck": stuck,
    "refuse": refuse,
    "obstinate": obstinate,
}


def build(_: Any) -> Any:
    """The question names the node."""
    graph: Any = StateGraph(MessagesState)
    for name, node in NODES.items():
        graph.add_node(name, node)
    graph.add_node("fan", lambda _: {})
    graph.add_conditional_edges(START, lambda state: state["messages"][-1].content, [*NODES, "fan"])
    graph.add_conditional_edges("fan", fan, ["branch"])
    return graph


async def ask(client: httpx.AsyncClient, question: str) -> tuple[str, float]:
    began = time.monotonic()
    answer = await client.post("/chat", json={"question": question}, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["outcome"] == "completed", answer.text
    return answer.json()["answer"], time.monotonic() - began


@pytest.mark.parametrize(("question", "text"), [("invoke", "got inner"), ("loop", "got inner")])
async def test_sync_nodes_that_wait_for_threads_never_wedge(database_url: str, question: str, text: str) -> None:
    async with running_service(database_url, AGENT_GRAPH=f"{__name__}:build") as service, service.client() as client:
        answers = await asyncio.gather(*(ask(client, question) for _ in range(AT_ONCE)), ask(client, "trivial"))
        print(f"{question}: {AT_ONCE} at once, the slowest {max(seconds for _, seconds in answers):.1f} s")
    assert [answer.endswith(text) for answer, _ in answers[:-1]] == [True] * AT_ONCE
    assert answers[-1][0] == "at once"


async def test_a_fan_out_of_sync_nodes_that_invoke_subgraphs_ends(database_url: str) -> None:
    async with running_service(database_url, AGENT_GRAPH=f"{__name__}:build") as service, service.client() as client:
        answer, _ = await ask(client, "fan")
    assert answer.count("branch") == AT_ONCE


async def test_sleeping_sync_nodes_hold_up_nobody_else(database_url: str) -> None:
    async with running_service(database_url, AGENT_GRAPH=f"{__name__}:build") as service, service.client() as client:
        await ask(client, "trivial")
        sleeping = [asyncio.create_task(ask(client, "sleep")) for _ in range(AT_ONCE)]
        async with asyncio.timeout(20):
            while service.resources.worker.in_flight < AT_ONCE:
                await asyncio.sleep(0.01)
        await ask(client, "trivial")
        slept = sum(task.done() for task in sleeping)
        await asyncio.gather(*sleeping)
    assert slept < AT_ONCE


@pytest.mark.parametrize("question", ["stuck", "refuse", "obstinate"])
async def test_sigterm_ends_a_process_whose_nodes_never_end(database_url: str, tmp_path: Path, question: str) -> None:
    env = {"DATABASE_URL": database_url, "AGENT_GRAPH": f"{__name__}:build", "DRAIN_SECONDS": "0.1"}
    async with running_replicas(1, env, tmp_path) as [replica]:
        await begin(replica, question)
        began = time.monotonic()
        code = await replica.stop()
        print(f"{question}: exit code {code} after {time.monotonic() - began:.1f} s")
    assert code == 0


async def begin(replica: Replica, question: str) -> None:
    async with httpx.AsyncClient(base_url=replica.url) as client:
        run = (await client.post("/chat", json={"question": question}, headers={"Prefer": "respond-async"})).json()
        async with asyncio.timeout(20):
            while (await client.get(f"/runs/{run['run_id']}")).json()["status"] != "running":
                await asyncio.sleep(0.05)
