"""What a compiled graph brings with it: https://github.com/langchain-ai/langgraph/pull/1479 and
https://github.com/langchain-ai/agent-chat-ui/issues/144 (callbacks, metadata and configurable of `with_config`, which a server
dropped), https://github.com/langchain-ai/deepagents/pull/5882 (a recursion limit that it overrode).

Here the graph was compiled again without it. Siblings: tags, a step's time limit, a cache and a name; a limit above MAX_STEPS,
`create_agent`'s own limit, and a `thread_id` in the config, which must not win.
"""

import asyncio
from typing import Any

from langchain.agents import create_agent
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.cache.memory import InMemoryCache
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import CachePolicy

from tests.field.serving import ask, served

CALLED: list[str] = []


class Listener(AsyncCallbackHandler):
    async def on_chain_start(self, *_: Any, **__: Any) -> None:
        CALLED.append("started")


def graph(node: Any, **options: Any) -> StateGraph[MessagesState]:
    return StateGraph(MessagesState).add_node("node", node, **options).add_edge(START, "node")


async def tell(_: MessagesState, config: RunnableConfig) -> dict[str, Any]:
    named = config["configurable"].get("tenant")
    said = (
        f"{named}, {config['metadata'].get('team')}, {'blue' in config['tags']}, {config['configurable']['thread_id'] != 'mine'}"
    )
    return {"messages": [AIMessage(said)]}


def configured(_: Any) -> Any:
    return (
        graph(tell)
        .compile(name="booking")
        .with_config(
            configurable={"tenant": "acme", "thread_id": "mine"},
            metadata={"team": "travel"},
            tags=["blue"],
            callbacks=[Listener()],
        )
    )


async def test_configurable_metadata_tags_and_callbacks_of_with_config_reach_the_nodes(database_url: str) -> None:
    CALLED.clear()
    async with served(database_url, __name__, "configured") as client:
        answers = {(await ask(client))["answer"] for _ in range(2)}
    assert answers == {"acme, travel, True, True"}
    assert CALLED


async def again(_: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage("round")]}


def rounds(limit: int) -> Any:
    return graph(again).add_edge("node", "node").compile().with_config(recursion_limit=limit)


def few_rounds(_: Any) -> Any:
    return rounds(5)


def many_rounds(_: Any) -> Any:
    return rounds(1_000)


def agent(_: Any) -> Any:
    """Its own limit is 9,999."""
    return create_agent(GenericFakeChatModel(messages=iter([AIMessage("done")])), [])


async def steps(database_url: str, build: str) -> tuple[str, int]:
    async with served(database_url, __name__, build, MAX_STEPS="12") as client:
        run = await ask(client)
        return run["outcome"], run["answer"].count("round")


async def test_a_limit_of_the_graph_counts_where_it_is_below_the_services(database_url: str) -> None:
    assert await steps(database_url, "few_rounds") == ("iteration_limit", 5)
    assert await steps(database_url, "many_rounds") == ("iteration_limit", 12)
    assert (await steps(database_url, "agent"))[0] == "completed"


async def hang(_: MessagesState) -> dict[str, Any]:
    await asyncio.Event().wait()
    return {}


def with_step_limit(_: Any) -> Any:
    compiled = graph(hang).compile()
    compiled.step_timeout = 0.05
    return compiled


async def test_a_time_limit_of_a_step_is_kept(database_url: str) -> None:
    async with served(database_url, __name__, "with_step_limit", MAX_TURN_SECONDS="20") as client:
        run = await ask(client)
    assert (run["outcome"], "TimeoutError" in str(run)) == ("failed", True)


async def once(_: MessagesState) -> dict[str, Any]:
    CALLED.append("worked")
    return {"messages": [AIMessage("dear")]}


def cached(_: Any) -> Any:
    return graph(once, cache_policy=CachePolicy(key_func=lambda _: b"all")).compile(cache=InMemoryCache())


async def test_a_cache_is_kept(database_url: str) -> None:
    CALLED.clear()
    async with served(database_url, __name__, "cached") as client:
        answers = [(await ask(client))["answer"] for _ in range(2)]
    assert (answers, CALLED) == (["dear", "dear"], ["worked"])
