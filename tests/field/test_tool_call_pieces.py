"""Tool calls of endpoints that are OpenAI's only nearly: https://github.com/ollama/ollama/issues/7881 (no index),
https://github.com/ollama/ollama/issues/15457 and https://github.com/BerriAI/litellm/issues/33678 (index 0 for all),
https://github.com/open-webui/computer/issues/224 (pieces without an index),
https://github.com/oracle/langchain-oracle/issues/163 (each piece with an id and an index of its own),
https://github.com/spring-projects/spring-ai/issues/6762 (an empty id).

Here calls without an index were dropped, and the turn ended with an empty answer. Siblings: null and text for an index, counting
from one, no id at all, name or id repeated with each piece, arguments as an object or null, whole answers, what is no call.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from langchain.agents import create_agent
from langchain_core.tools import tool

from agent_service.agents.context import AgentContext
from tests.field.serving import ModelEndpoint, ask, served

Piece = dict[str, Any]
Pieces = list[list[Piece]]
"""By chunk."""

A, B = '{"path": "a.rs"}', '{"path": "b.rs"}'


def piece(arguments: Any, *, id: str | None = None, name: str | None = "read", **more: Any) -> Piece:  # noqa: A002  # the wire's word
    return {
        "function": {"arguments": arguments, **({"name": name} if name is not None else {})},
        **({"id": id} if id else {}),
        **more,
    }


def apart(arguments: str, first: Piece, then: Any = lambda _: {}) -> Pieces:
    """A call in three pieces: its head, and its arguments in two; `then` is what the later ones have beside those."""
    cut = len(arguments) // 2
    head = {**first, "function": {**first["function"], "arguments": ""}}
    return [[head], *([{**piece(part, name=None), **then(n)}] for n, part in enumerate((arguments[:cut], arguments[cut:]), 1))]


STREAMS: dict[str, Pieces] = {
    "no index": [[piece(A, id="a")], [piece(B, id="b")]],
    "no index, one chunk": [[piece(A, id="a"), piece(B, id="b")]],
    "no index, apart": [*apart(A, piece("", id="a")), *apart(B, piece("", id="b"))],
    "no index and no id": [[piece(A)], [piece(B)]],
    "null": [*apart(A, piece("", id="a", index=None), lambda _: {"index": None}), [piece(B, id="b", index=None)]],
    "always 0": [[piece(A, id="a", index=0)], [piece(B, id="b", index=0)]],
    "always 0, one chunk": [[piece(A, id="a", index=0), piece(B, id="b", index=0)]],
    "always 0, apart": [
        *apart(A, piece("", id="a", index=0), lambda _: {"index": 0}),
        *apart(B, piece("", id="b", index=0), lambda _: {"index": 0}),
    ],
    "an id for each piece": [
        *apart(
            A,
            piece("", id="a", index=0),
            lambda n: {"index": n, "id": f"a{n}", "function": {"name": "", "arguments": A[8 * (n - 1) : 8 * n]}},
        ),
        [piece(B, id="b", index=9)],
    ],
    "an empty id": [*apart(A, piece("", id="a", index=0), lambda _: {"index": 0, "id": ""}), [piece(B, id="b", index=1)]],
    "the id again": [*apart(A, piece("", id="a", index=0), lambda _: {"index": 0, "id": "a"}), [piece(B, id="b", index=1)]],
    "the name again": [[piece(A[:8], id="a", index=0)], [piece(A[8:], id="a", index=0)], [piece(B, id="b", index=1)]],
    "the name again, no id": [[piece(A[:8], index=0)], [piece(A[8:], index=0)], [piece(B, index=1)]],
    "no id": [[piece(A, index=0)], [piece(B, index=1)]],
    "from one": [[piece(A, id="a", index=1)], [piece(B, id="b", index=2)]],
    "text for an index": [[piece(A, id="a", index="0")], [piece(B, id="b", index="1")]],
    "an object": [[piece(json.loads(A), id="a", index=0)], [piece(B, id="b", index=1)]],
    "null, then arguments": [[piece(None, id="a", index=0)], [piece(A, name=None, index=0)], [piece(B, id="b", index=1)]],
    "as documented": [
        *apart(A, piece("", id="a", index=0), lambda _: {"index": 0}),
        *apart(B, piece("", id="b", index=1), lambda _: {"index": 1}),
    ],
}

NO_CALLS: dict[str, Any] = {"text": ["read"], "no list": 7, "a list for an index": [piece(A, id="a", index=[0])]}


class Endpoint(ModelEndpoint):
    """Sends the pieces as tool calls, and says what it was answered."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: Any = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        results = [message["content"] for message in asked["messages"] if message["role"] == "tool"]
        deltas = [{"content": " ".join(results)}] if results else [{"tool_calls": calls} for calls in self.pieces]
        choices: list[dict[str, Any]] = [{"index": 0, "delta": delta} for delta in deltas]
        if not asked.get("stream"):
            message = {"role": "assistant", "content": None, "tool_calls": self.pieces[0]}
            if results:
                message = {"role": "assistant", "content": " ".join(results)}
            return web.json_response({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for choice in [*choices, {"index": 0, "delta": {}, "finish_reason": "stop"}]:
            await response.write(f"data: {json.dumps({'model': 'm', 'choices': [choice]})}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    async with Endpoint() as opened:
        yield opened


@tool
async def read(path: str) -> str:
    """Reads a file."""
    return f"<{path}>"


def build(context: AgentContext) -> Any:
    return create_agent(context.chat_model, [read])


def build_whole(context: AgentContext) -> Any:
    return create_agent(context.chat_model.model_copy(update={"streaming": False, "disable_streaming": True}), [read])


def settings(endpoint: Endpoint) -> dict[str, str]:
    return {"OPENAI_BASE_URL": endpoint.url, "OPENAI_API_KEY": "k", "MODEL": "m", "MODEL_MAX_RETRIES": "0"}


async def test_both_tools_are_called_with_their_arguments_however_the_calls_are_cut(
    database_url: str, endpoint: Endpoint
) -> None:
    answers = {}
    async with served(database_url, __name__, **settings(endpoint)) as client:
        for name, endpoint.pieces in STREAMS.items():
            answers[name] = (await ask(client))["answer"]
    assert answers == dict.fromkeys(STREAMS, "<a.rs> <b.rs>")


async def test_a_whole_answer_may_lack_ids_and_hold_objects(database_url: str, endpoint: Endpoint) -> None:
    endpoint.pieces = [[piece(json.loads(A)), piece(B, id="b")]]
    async with served(database_url, __name__, "build_whole", **settings(endpoint)) as client:
        assert (await ask(client))["answer"] == "<a.rs> <b.rs>"


@pytest.mark.parametrize("build", ["build", "build_whole"])
async def test_what_is_no_tool_call_fails_the_run_with_a_sentence(database_url: str, endpoint: Endpoint, build: str) -> None:
    async with served(database_url, __name__, build, **settings(endpoint)) as client:
        for name, calls in NO_CALLS.items():
            endpoint.pieces = [calls]
            run = await ask(client)
            if not (build == "build_whole" and name == "a list for an index"):  # where no index is looked at
                assert run["error"]["message"] == "the model endpoint failed: it sent a malformed tool call", name
