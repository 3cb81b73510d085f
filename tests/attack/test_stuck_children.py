"""A replica whose parsers' children spin, at SIGTERM and at `kill -9`: it ends in time, and no child outlives it."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph

from agent_service.agents.context import AgentContext
from agent_service.child_processes import GivenUp, Workers
from agent_service.data.data_reader import PARSING
from agent_service.documents.ingest import READING
from agent_service.main import HAND_OVER_SECONDS
from tests.attack.children import forever_in_c
from tests.durability.fleet import until
from tests.support.replicas import Replica, running_replicas

DRAIN_SECONDS = 2.0

ALLOWANCES = {"sql": replace(PARSING, seconds=60, cpu_seconds=60), "document": READING}
"""The first is a parser that got past its walls: with them it might be gone before the signal comes."""


def build(context: AgentContext) -> Any:
    """Two ways: a child that spins as the reader of a query does, or as that of a document."""
    workers: Workers = context.database._workers

    async def spin(state: MessagesState) -> dict[str, Any]:
        try:
            await workers.call(ALLOWANCES[str(state["messages"][-1].content)], forever_in_c)
        except GivenUp as error:
            return {"messages": [AIMessage(str(error))]}
        return {}

    graph: Any = StateGraph(MessagesState)
    graph.add_node("spin", spin)
    graph.add_edge(START, "spin")
    return graph


@asynccontextmanager
async def spinning(database_url: str, folder: Path, *ways: str) -> AsyncIterator[tuple[Replica, set[int]]]:
    """A replica and all that descend from it, with a child that spins for each way."""
    env = {"DATABASE_URL": database_url, "AGENT_GRAPH": f"{__name__}:build", "DRAIN_SECONDS": str(DRAIN_SECONDS)}
    async with running_replicas(1, env, folder) as (replica,), httpx.AsyncClient(timeout=20) as client:
        assert replica.process
        for way in ways:
            answer = await client.post(f"{replica.url}/chat", json={"question": way}, headers={"Prefer": "respond-async"})
            assert answer.status_code == 202, answer.text
        pid = replica.process.pid
        await until(lambda: sum(cpu_ticks(child) > BUSY_TICKS for child in descendants(pid)) >= len(ways) or None, 60)
        yield replica, descendants(pid)


BUSY_TICKS = 150
"""Hundredths of a second of CPU: a child that has started, with its imports, has used about 50."""


def descendants(pid: int) -> set[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        if (found := _stat(int(entry.name))) is not None:
            parents[int(entry.name)] = int(found[1])
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return family - {pid}


def cpu_ticks(pid: int) -> int:
    found = _stat(pid)
    return int(found[11]) + int(found[12]) if found else 0


def _stat(pid: int) -> list[str] | None:
    """The fields of proc(5) from `state` on; None for a process that is gone, or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields


def alive(pids: set[int]) -> set[int]:
    return {pid for pid in pids if _stat(pid) is not None}


@pytest.mark.timeout(120)
async def test_a_drain_ends_in_time_with_a_query_and_a_document_stuck(database_url: str, tmp_path: Path) -> None:
    async with spinning(database_url, tmp_path, "document", "sql") as (replica, children):
        began = time.monotonic()
        code = await replica.stop()
        seconds = time.monotonic() - began
        await until(lambda: not alive(children) or None, 5)
    print(f"SIGTERM with {len(children)} child processes, two of them stuck: exit code {code} after {seconds:.1f} s, 0 left")
    assert code == 0
    assert len(children) >= 2
    assert seconds < DRAIN_SECONDS + HAND_OVER_SECONDS + 8  # READING is 120 s
    assert "Traceback" not in await asyncio.to_thread(replica.log.read_text)


@pytest.mark.timeout(120)
async def test_a_killed_replica_leaves_no_child(database_url: str, tmp_path: Path) -> None:
    async with spinning(database_url, tmp_path, "document", "document") as (replica, children):
        replica.send(signal.SIGKILL)
        began = time.monotonic()
        await replica.wait()
        await until(lambda: not alive(children) or None, 20)
        seconds = time.monotonic() - began
    print(f"kill -9 with {len(children)} child processes, two of them stuck: 0 left after {seconds:.1f} s")
    assert len(children) >= 2
