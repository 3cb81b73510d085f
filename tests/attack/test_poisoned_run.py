"""A caller whose question blocks or kills whichever process executes it: that run fails after MAX_ATTEMPTS, no other does.

Three real replicas; this module is their kubelet, which starts a dead one again and kills one whose /live fails. Each
poison meets twenty other runs, spread over all replicas: in one long step, or in many short ones.
"""

import asyncio
import contextlib
import ctypes
import os
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph

from tests.durability.fleet import until
from tests.support.replicas import Replica, running_replicas

REPLICAS = 3
INNOCENTS = 20
MAX_ATTEMPTS = 3
LEASE_SECONDS = 2.0

LIVENESS_SECONDS = 6.0
"""LIVENESS_TIMEOUT. Above two leases: a blocked process sees that its run went on elsewhere."""

STEP_SECONDS = 0.5
STEPS = 16
"""In all eight seconds: longer than a poisoned run needs to meet every replica."""

PATIENCE_SECONDS = 120.0

CATASTROPHE = re.compile(r"(a+)+$")

Update = dict[str, Any]


class State(MessagesState):
    """Messages, and how many steps were taken."""

    steps: int


def question(state: State) -> str:
    return str(state["messages"][0].content)


def regex() -> None:
    CATASTROPHE.match("a" * 60 + "b")


def spin() -> None:
    while True:
        pass


POISONS: dict[str, Any] = {
    "sleep": lambda: time.sleep(600),
    "spin": spin,
    "regex": regex,
    "exit": lambda: os._exit(3),
    "segfault": lambda: ctypes.string_at(0),
}


def note(text: str) -> None:
    with Path(os.environ["SIDE_EFFECTS"]).open("a") as file:
        file.write(f"{text}\n")


async def strike(state: State) -> Update:
    note(question(state))
    POISONS[question(state).split()[1]]()
    return {}


def strike_in_thread(state: State) -> Update:
    note(question(state))
    POISONS[question(state).split()[1]]()
    return {}


async def after_a_while(state: State) -> Update:
    """The process holds others' leases by then, and this run has told its readers something."""
    await asyncio.sleep(1)
    return await strike(state)


async def step(state: State) -> Update:
    await asyncio.sleep(STEP_SECONDS)
    return {"steps": state.get("steps", 0) + 1, "messages": [AIMessage("step")]}


async def long(_: State) -> Update:
    await asyncio.sleep(STEP_SECONDS * STEPS)
    return {"messages": [AIMessage("done")]}


def build(_: Any) -> Any:
    graph: Any = StateGraph(State)
    for node in (strike, strike_in_thread, after_a_while, step, long):
        graph.add_node(node.__name__, node)
    graph.add_conditional_edges(START, lambda state: question(state).split()[0])
    graph.add_conditional_edges("step", lambda state: "step" if state["steps"] < STEPS else "__end__")
    return graph


@asynccontextmanager
async def kubelet(replicas: list[Replica]) -> AsyncIterator[dict[str, int]]:
    """Starts dead replicas again, and kills those whose /live fails or does not answer for a while."""
    done = {"killed": 0, "started": 0}
    async with httpx.AsyncClient(timeout=1) as client:

        async def keep(replica: Replica) -> None:
            good = time.monotonic()
            while True:
                await asyncio.sleep(0.1)
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get(f"{replica.ops_url}/live")).status_code == 200:
                        good = time.monotonic()
                if not replica.dead and time.monotonic() - good > LIVENESS_SECONDS:
                    done["killed"] += 1
                    await replica.kill()
                if replica.dead:
                    done["started"] += 1
                    with contextlib.suppress(RuntimeError):  # a poisoned run killed it before it was ready: once more
                        await replica.start()
                    good = time.monotonic()

        keepers = [asyncio.create_task(keep(replica)) for replica in replicas]
        try:
            yield done
        finally:
            for keeper in keepers:
                keeper.cancel()
            for result in await asyncio.gather(*keepers, return_exceptions=True):
                assert isinstance(result, asyncio.CancelledError), result


async def ask(client: httpx.AsyncClient, replica: Replica, text: str) -> str:
    answer = await client.post(f"{replica.url}/chat", json={"question": text}, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["run_id"])


async def ended(database_url: str, count: int) -> list[dict[str, Any]]:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as conn:
        conn.row_factory = psycopg.rows.dict_row  # type: ignore[assignment]  # rows of a query are dicts

        async def look() -> list[dict[str, Any]] | None:
            cursor = await conn.execute("SELECT * FROM slipway.runs ORDER BY created_at")
            rows: list[dict[str, Any]] = await cursor.fetchall()  # type: ignore[assignment]  # likewise
            return rows if len(rows) == count and all(row["outcome"] for row in rows) else None

        return await until(look, PATIENCE_SECONDS)


async def attack(database_url: str, folder: Path, poisons: list[str]) -> None:
    effects = folder / "effects"
    env = {
        "DATABASE_URL": database_url,
        "AGENT_GRAPH": f"{__name__}:build",
        "LEASE_SECONDS": str(LEASE_SECONDS),
        "MAX_ATTEMPTS": str(MAX_ATTEMPTS),
        "LIVENESS_TIMEOUT": str(LIVENESS_SECONDS),
        "SIDE_EFFECTS": str(effects),
    }
    async with running_replicas(REPLICAS, env, folder) as replicas, httpx.AsyncClient(timeout=20) as client:
        for number in range(INNOCENTS):
            await ask(client, replicas[number % REPLICAS], f"{['step', 'long'][number % 2]} {number}")
        began = time.monotonic()
        for number, poison in enumerate(poisons):
            await ask(client, replicas[number % REPLICAS], poison)
        async with kubelet(replicas) as done:
            rows = await ended(database_url, INNOCENTS + len(poisons))
        seconds = time.monotonic() - began

    poisoned, innocent = rows[INNOCENTS:], rows[:INNOCENTS]
    strikes = [effects.read_text().splitlines().count(poison) for poison in poisons]
    completed = sum(row["outcome"] == "completed" for row in innocent)
    print(
        f"{', '.join(poisons)}: {[row['outcome'] for row in poisoned]} after {strikes} strikes; {completed} of {INNOCENTS} others"
        f" completed, in up to {max(row['attempt'] for row in innocent)} attempts; {seconds:.0f} s, {done}"
    )
    assert [row["outcome"] for row in innocent] == ["completed"] * INNOCENTS
    for row in poisoned:
        assert (row["outcome"], row["error"]["code"]) == ("failed", "too_many_attempts")
    # Of several at once, one may be charged with a process that another killed before it could strike.
    least = MAX_ATTEMPTS if len(poisons) == 1 else MAX_ATTEMPTS - 1
    assert all(least <= count <= MAX_ATTEMPTS for count in strikes)


@pytest.mark.timeout(180)
async def test_a_poisoned_run_fails_and_the_runs_beside_it_complete(database_url: str, tmp_path: Path) -> None:
    await attack(database_url, tmp_path, ["strike sleep"])


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "poisons",
    [
        ["strike exit"],
        ["strike regex"],
        ["strike spin"],
        ["strike segfault"],
        ["after_a_while sleep"],
        ["after_a_while exit"],
        ["strike_in_thread regex"],
        ["strike_in_thread exit"],
        ["strike sleep", "strike regex", "strike exit"],
    ],
    ids=" and ".join,
)
async def test_whatever_poisons_it(database_url: str, tmp_path: Path, poisons: list[str]) -> None:
    await attack(database_url, tmp_path, poisons)
