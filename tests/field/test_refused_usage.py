"""Endpoints that refuse a field which only we added: https://github.com/microsoft/semantic-kernel/issues/10510,
https://github.com/openai/openai-python/issues/2296 (Azure's own data), https://github.com/langgenius/dify-plugin-sdks/pull/50.

`stream_options`, by which the bill learns the tokens, made each question fail with `model_rejected`. Siblings: 400 and 422, its
inner field named, a gateway's plain text, other refusals (which must stay), and a graph that asks for usage itself.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph

from agent_service.agents.context import AgentContext
from tests.field.serving import ModelEndpoint, ask, served

AZURE = {"error": {"code": 400, "message": "Validation error at #/stream_options: Extra inputs are not permitted"}}
VLLM = {
    "object": "error",
    "message": "[{'loc': ('body', 'stream_options'), 'msg': 'Extra inputs are not permitted'}]",
    "code": 400,
}
FASTAPI = {"detail": [{"loc": ["body", "stream_options", "include_usage"], "msg": "extra fields not permitted"}]}

REFUSALS: dict[str, tuple[int, Any]] = {
    "azure": (400, AZURE),
    "vllm": (400, VLLM),
    "fastapi": (422, FASTAPI),
    "plain text": (400, "unknown argument: include_usage"),
}


class Endpoint(ModelEndpoint):
    """Refuses as it is told whatever has `stream_options`, and answers the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.refusal: tuple[int, Any] = (400, "")
        self.refuses = "stream_options"
        self.asked: list[dict[str, Any]] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        self.asked.append(asked)
        if self.refuses in asked:
            status, body = self.refusal
            return web.Response(text=body, status=status) if isinstance(body, str) else web.json_response(body, status=status)
        chunk = b'data: {"choices": [{"index": 0, "delta": {"content": "well"}, "finish_reason": "stop"}]}\n\n'
        return web.Response(body=chunk + b"data: [DONE]\n\n", content_type="text/event-stream")


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    async with Endpoint() as opened:
        yield opened


def graph(model: Any) -> StateGraph[MessagesState]:
    async def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    return StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer")


def build(context: AgentContext) -> StateGraph[MessagesState]:
    return graph(context.chat_model)


def build_own(_: AgentContext) -> StateGraph[MessagesState]:
    """A model that the graph makes, and that asks for usage itself."""
    return graph(ChatOpenAI(model="m", stream_usage=True, streaming=True))


def settings(endpoint: Endpoint) -> dict[str, str]:
    return {"OPENAI_BASE_URL": endpoint.url, "OPENAI_API_KEY": "k", "MODEL": "m", "MODEL_MAX_RETRIES": "0"}


@pytest.mark.parametrize("kind", REFUSALS)
async def test_a_question_is_answered_without_the_field_and_the_next_does_not_send_it(
    database_url: str, endpoint: Endpoint, kind: str
) -> None:
    endpoint.refusal = REFUSALS[kind]
    async with served(database_url, __name__, **settings(endpoint)) as client:
        runs = [await ask(client) for _ in range(2)]
    assert [(run["answer"], run["usage"]["output_tokens"] > 0) for run in runs] == [("well", True)] * 2  # estimated
    assert ["stream_options" in asked for asked in endpoint.asked] == [True, False, False]


async def test_a_model_of_the_graph_is_answered_too(
    database_url: str, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
    endpoint.refusal = REFUSALS["azure"]
    async with served(database_url, __name__, "build_own", **settings(endpoint)) as client:
        assert (await ask(client))["answer"] == "well"


async def test_another_refusal_is_one_and_is_not_asked_again(database_url: str, endpoint: Endpoint) -> None:
    endpoint.refuses, endpoint.refusal = "messages", (400, {"error": {"message": "max_tokens is too large"}})
    async with served(database_url, __name__, **settings(endpoint)) as client:
        run = await ask(client)
    assert (run["outcome"], run["error"]["code"], len(endpoint.asked)) == ("failed", "model_rejected", 1)
