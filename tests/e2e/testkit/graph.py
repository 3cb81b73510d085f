"""The graph of the end-to-end tests: says so many words at a set pace, has an effect that is counted, blocks the process.

The question says what to do, in any order: `words=40 pace=4 steps=2 effect=x block=60 id=7`.
It needs nothing but what the service's image holds, and no Slipway import.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Any

import psycopg
from langchain_core.language_models.chat_models import BaseChatModel, agenerate_from_stream
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.tools import BaseTool, tool
from langgraph.graph import END, START, MessagesState, StateGraph

Orders = dict[str, str]


class State(MessagesState):
    """Messages, and how many steps of this answer were said."""

    said: int


def orders(question: str) -> Orders:
    return dict(word.split("=", 1) for word in question.split() if "=" in word)


def words(question: str, step: int) -> list[str]:
    """What a step says; unlike what any other step of any other question says."""
    wanted = orders(question)
    return [f"{wanted['id']}.{step}.{number}" for number in range(int(wanted.get("words", "10")))]


def answer(question: str) -> list[str]:
    """Every word of the whole answer."""
    return [word for step in range(int(orders(question).get("steps", "1"))) for word in words(question, step)]


class PacedModel(BaseChatModel):
    """Streams `words`, so many a second."""

    words: list[str]
    pace: float

    @property
    def _llm_type(self) -> str:
        return "paced"

    def _generate(self, messages: list[BaseMessage], *_: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError("only asked asynchronously")

    async def _agenerate(self, messages: list[BaseMessage], *_: Any, **kwargs: Any) -> ChatResult:
        return await agenerate_from_stream(self._astream(messages, **kwargs))

    async def _astream(self, messages: list[BaseMessage], *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:  # noqa: ARG002  # langchain's signature
        for word in self.words:
            await asyncio.sleep(1 / self.pace)
            yield ChatGenerationChunk(message=AIMessageChunk(content=f"{word} "))
        count = UsageMetadata(input_tokens=1, output_tokens=len(self.words), total_tokens=1 + len(self.words))
        yield ChatGenerationChunk(message=AIMessageChunk(content="", usage_metadata=count, chunk_position="last"))


class Effects:
    """Effects written down where they outlive every pod; one connection at a time, as a database has few."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def count(self, effect: str) -> int:
        """One more `effect`; how many there are now."""
        async with self._turn, await psycopg.AsyncConnection.connect(os.environ["DATABASE_URL"]) as conn:
            # Two pods at once would fail to make the table, IF NOT EXISTS or not.
            await conn.execute("SELECT pg_advisory_xact_lock(7)")
            await conn.execute("CREATE TABLE IF NOT EXISTS testkit_effects (effect text PRIMARY KEY, times int NOT NULL)")
            cursor = await conn.execute(
                "INSERT INTO testkit_effects AS old VALUES (%s, 1) ON CONFLICT (effect) DO UPDATE SET times = old.times + 1"
                " RETURNING times",
                [effect],
            )
            row = await cursor.fetchone()
            return int(row[0]) if row else 0


def paying(effects: Effects) -> BaseTool:
    @tool
    async def pay(order: str) -> str:
        """Pays an order: an effect that must not be lost."""
        return f"paid {order}, {await effects.count(order)} times"

    return pay


def asked(state: State) -> str:
    """The question of this turn."""
    return str(next(message.content for message in reversed(state["messages"]) if message.type == "human"))


async def say(state: State) -> dict[str, Any]:
    question, step = asked(state), state["said"]
    model = PacedModel(words=words(question, step), pace=float(orders(question).get("pace", "10")))
    return {"messages": [await model.ainvoke(state["messages"])], "said": step + 1}


def again(state: State) -> str:
    return "say" if state["said"] < int(orders(asked(state)).get("steps", "1")) else END


def build(_: Any) -> StateGraph[State]:
    """effect → block → say, as often as the question has steps."""
    effects = Effects()
    pay = paying(effects)

    async def effect(state: State) -> dict[str, Any]:
        if order := orders(asked(state)).get("effect"):
            await pay.ainvoke({"order": order})
        return {"said": 0}

    async def block(state: State) -> dict[str, Any]:
        """Blocks the whole event loop, as a careless graph does; only the first process that takes the run."""
        wanted = orders(asked(state))
        if "block" in wanted and await effects.count(f"block {wanted['id']}") == 1:
            time.sleep(float(wanted["block"]))  # noqa: ASYNC251  # the fault that this graph is for
        return {}

    graph = StateGraph(State)
    graph.add_node("effect", effect)
    graph.add_node("block", block)
    graph.add_node("say", say)
    graph.add_edge(START, "effect")
    graph.add_edge("effect", "block")
    graph.add_edge("block", "say")
    graph.add_conditional_edges("say", again)
    return graph
