"""A graph with a `context_schema`: https://github.com/langchain-ai/langgraph/issues/5804.

`runtime.context` was None and the graph raised AttributeError: there was no way to give a context. Siblings: pydantic, dataclass
and TypedDict; defaults by setting; wrong and unknown fields; a resume; a graph that takes none.
"""

from dataclasses import dataclass
from typing import Any, TypedDict

import pytest
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from pydantic import BaseModel

from tests.field.serving import ask, served, stream


class Model(BaseModel):
    name: str
    age: int = 7


@dataclass
class Data:
    name: str
    age: int = 7


class Typed(TypedDict, total=False):
    name: str
    age: int


async def say(state: MessagesState, runtime: Runtime[Any]) -> dict[str, Any]:
    context = runtime.context
    name, age = (context["name"], context.get("age", 7)) if isinstance(context, dict) else (context.name, context.age)
    return {"messages": [AIMessage(f"{name} is {age}")]}


async def ask_then_say(state: MessagesState, runtime: Runtime[Any]) -> dict[str, Any]:
    interrupt("go on?")
    return await say(state, runtime)


def build_model(_: Any) -> Any:
    return StateGraph(MessagesState, context_schema=Model).add_node("say", say).add_edge(START, "say")


def build_data(_: Any) -> Any:
    return StateGraph(MessagesState, context_schema=Data).add_node("say", say).add_edge(START, "say")


def build_typed(_: Any) -> Any:
    return StateGraph(MessagesState, context_schema=Typed).add_node("say", say).add_edge(START, "say")


def build_asking(_: Any) -> Any:
    return StateGraph(MessagesState, context_schema=Data).add_node("say", ask_then_say).add_edge(START, "say").compile()


def build_none(_: Any) -> Any:
    async def plain(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage("no context")]}

    return StateGraph(MessagesState).add_node("say", plain).add_edge(START, "say")


KINDS = ["build_model", "build_data", "build_typed"]


@pytest.mark.parametrize("build", KINDS)
async def test_the_context_comes_from_the_request_over_the_setting(database_url: str, build: str) -> None:
    async with served(database_url, __name__, build, AGENT_CONTEXT='{"name": "Ann", "age": 40}') as client:
        assert (await ask(client))["answer"] == "Ann is 40"
        assert (await ask(client, context={"name": "Bob"}))["answer"] == "Bob is 40"
        assert (await stream(client, context={"age": 3})).text == "Ann is 3"
        assert (await client.get("/chat/stream?question=go")).text.count("data: Ann is 40") == 1


@pytest.mark.parametrize("build", KINDS)
@pytest.mark.parametrize(
    ("context", "field"),
    [
        ({"name": 5}, "context.name"),
        ({"name": "Bob", "age": "old"}, "context.age"),
        ({"name": "Bob", "role": "admin"}, "context.role"),
        ({"name": "a\x00b"}, "context"),
        ([], "context"),
        ("Bob", "context"),
    ],
)
async def test_a_context_that_does_not_fit_is_refused_by_name(database_url: str, build: str, context: Any, field: str) -> None:
    async with served(database_url, __name__, build) as client:
        refused = await client.post("/chat", json={"question": "go", "context": context})
        assert refused.status_code == 422, refused.text
        assert refused.json()["field"] == field
        assert (await client.get("/sessions")).json()["sessions"] == []


async def test_a_required_field_that_nobody_gives_is_named(database_url: str) -> None:
    async with served(database_url, __name__, "build_data") as client:
        refused = await client.post("/chat", json={"question": "go"})
        assert (refused.status_code, refused.json()["field"]) == (422, "context.name")


async def test_a_decision_goes_on_with_the_context_of_the_question(database_url: str) -> None:
    async with served(database_url, __name__, "build_asking") as client:
        run = await ask(client, context={"name": "Bob"})
        decided = (await client.post(f"/runs/{run['run_id']}/resume", json={"value": 1})).json()
    assert decided["answer"] == "Bob is 7"


async def test_an_agent_that_takes_no_context_says_so(database_url: str) -> None:
    async with served(database_url, __name__, "build_none") as client:
        assert (await ask(client))["answer"] == "no context"
        refused = await client.post("/chat", json={"question": "go", "context": {}})
        assert (refused.status_code, refused.json()["field"]) == (422, "context")
