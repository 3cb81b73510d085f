"""One graph with a way for each thing that a crash may hit; the first word of the question picks it.

Effects are lines appended to the file SIDE_EFFECTS: they outlive a killed process, as a payment would.
"""

import asyncio
import os
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import interrupt

STEPS = 50
STEP_SECONDS = 0.1

FOREVER = 3600.0

WAYS = ("ask", "steps", "poison", "agent", "fork")


class State(MessagesState):
    """Messages, and how many steps were taken."""

    steps: int


def count(effect: str) -> int:
    """Writes the effect down; returns how often it has happened."""
    path = Path(os.environ["SIDE_EFFECTS"])
    with path.open("a") as file:
        file.write(f"{effect}\n")
    return path.read_text().splitlines().count(effect)


@tool
async def pay(order: str) -> str:
    """Ends at once."""
    count(f"pay {order}")
    return f"paid {order}"


@tool
async def ship(order: str) -> str:
    """Hangs the first time."""
    if count(f"ship {order}") == 1:
        await asyncio.sleep(FOREVER)
    return f"shipped {order}"


@tool
async def book(order: str) -> str:
    """Takes a moment."""
    await asyncio.sleep(0.2)
    count(f"book {order}")
    return f"booked {order}"


def way(state: State) -> str:
    word = str(state["messages"][-1].content).partition(" ")[0]
    return word if word in WAYS else "agent"


def fork(state: State) -> list[str] | str:
    return ["quick", "hanging"] if way(state) == "fork" else way(state)


async def ask(_: State) -> dict[str, Any]:
    answer = interrupt({"ask": "which colour?"})
    return {"messages": [AIMessage(f"You chose {answer}.")]}


async def step(state: State) -> dict[str, Any]:
    number = state.get("steps", 0)
    await asyncio.sleep(STEP_SECONDS)
    count(f"{state['messages'][0].content}: {number}")
    return {"messages": [AIMessage(f"step {number}")], "steps": number + 1}


def again(state: State) -> str:
    return "steps" if state["steps"] < STEPS else END


async def poison(state: State) -> dict[str, Any]:
    count(str(state["messages"][-1].content))
    os._exit(1)


async def quick(_: State) -> dict[str, Any]:
    count("quick")
    return {"messages": [AIMessage("quick is done")]}


async def hanging(_: State) -> dict[str, Any]:
    if count("hanging") == 1:
        await asyncio.sleep(FOREVER)
    return {"messages": [AIMessage("hanging is done")]}


def agent(context: Any) -> StateGraph[Any]:
    """A ReAct loop at the top level."""
    return create_agent(context.chat_model, tools=[pay, ship, book]).builder


def build(context: Any) -> Any:
    """Every way; the ReAct loop is a subgraph here."""
    graph: Any = StateGraph(State)
    graph.add_node("agent", create_agent(context.chat_model, tools=[pay, ship, book]))
    graph.add_node("ask", ask)
    graph.add_node("steps", step)
    graph.add_node("poison", poison)
    graph.add_node("quick", quick)
    graph.add_node("hanging", hanging)
    graph.add_conditional_edges(START, fork, ["ask", "steps", "poison", "agent", "quick", "hanging"])
    graph.add_conditional_edges("steps", again)
    return graph
