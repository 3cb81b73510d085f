"""Endpoints of known providers, as their documentation has their wire: each answers, calls a tool, and is billed by its usage.

`tests/support/provider_shapes.py` is what they send, over real HTTP, and below is Anthropic's own API. A graph has a model of
each, as `ChatOpenAI(model=…)`.
A client that a graph brings itself (Anthropic's, Azure's) is billed likewise.
"""

import asyncio
import importlib
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import orjson
import psycopg
import pytest
import yaml
from aiohttp import web
from langchain.chat_models import init_chat_model
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.tools import tool
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from psycopg.rows import dict_row

from tests.field.serving import ModelEndpoint, ask, served, stream
from tests.support.provider_shapes import ANSWER, PRICES, SHAPES, THOUGHT, TOOL_CALL, cost

# What Anthropic's Messages API streams to its own client, by its public documentation: a tool call; an answer with thoughts.

Json = dict[str, Any]

CLAUDE = "claude-shape-1"


def _begun(usage: Json) -> Json:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": CLAUDE, "content": [], "usage": usage}
    return {"type": "message_start", "message": {**message, "stop_reason": None, "stop_sequence": None}}


def _block(index: int, block: Json, *deltas: Json) -> list[Json]:
    return [
        {"type": "content_block_start", "index": index, "content_block": block},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def _ended(reason: str, usage: Json) -> list[Json]:
    return [
        {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ]


CLAUDE_CALL = [
    _begun({"input_tokens": 400, "output_tokens": 1}),
    {"type": "ping"},
    *_block(
        0,
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"city": '},
        {"type": "input_json_delta", "partial_json": '"Paris"}'},
    ),
    *_ended("tool_use", {"input_tokens": 400, "output_tokens": 20}),
]
CLAUDE_CALL_USD = cost(400, 0, 0, 20)

_CLAUDE_CACHED = {
    "input_tokens": 200,
    "cache_read_input_tokens": 1_500,
    "cache_creation_input_tokens": 400,
    "output_tokens": 1,
}
CLAUDE_ANSWER = [
    _begun(_CLAUDE_CACHED),
    *_block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": THOUGHT[:6]},
        {"type": "thinking_delta", "thinking": THOUGHT[6:]},
        {"type": "signature_delta", "signature": "c2lnbmF0dXJl"},
    ),
    *_block(
        1,
        {"type": "text", "text": ""},
        {"type": "text_delta", "text": "It rains"},
        {"type": "text_delta", "text": " in Paris."},
    ),
    *_ended("end_turn", {**_CLAUDE_CACHED, "output_tokens": 60}),
]
CLAUDE_ANSWER_USD: Decimal = cost(200, 1_500, 400, 60)

CLAUDE_ERROR = (529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_1"})


ORIGIN = {"url": ""}
"""Of the endpoint, for the graph's own clients."""


@tool
def weather(city: str) -> str:
    """Of a city."""
    return f"rain in {city}"


def model_of(name: str, way: str) -> BaseChatModel:
    if name == CLAUDE:
        return init_chat_model(f"anthropic:{name}", base_url=ORIGIN["url"], api_key="sk-ant", max_retries=0)
    if way == "deployment":
        return AzureChatOpenAI(
            azure_endpoint=ORIGIN["url"], azure_deployment=name, api_version="2024-10-21", api_key="azure-key", max_retries=0
        )
    return ChatOpenAI(model=name, disable_streaming=way == "whole")


def build(_: Any) -> StateGraph[MessagesState]:
    """The question names the model and the way: `whole`, `pieces` (the node streams), `error`, `deployment`."""

    async def agent(state: MessagesState) -> dict[str, Any]:
        name, _, way = state["messages"][0].text.partition(" ")
        model = model_of(name, way).bind_tools([weather])
        try:
            if way != "pieces":
                return {"messages": [await model.ainvoke(state["messages"])]}
            answer: Any = AIMessageChunk(content="")
            async for piece in model.astream(state["messages"]):
                answer += piece
        except Exception as error:
            if way != "error":
                raise
            return {"messages": [AIMessage(f"{type(error).__name__}: {error}")]}
        return {"messages": [answer]}

    graph = StateGraph(MessagesState).add_node("agent", agent).add_node("tools", ToolNode([weather])).add_edge(START, "agent")
    return graph.add_conditional_edges("agent", tools_condition).add_edge("tools", "agent")


class Providers(ModelEndpoint):
    """Answers as the shape that the model names."""

    def __init__(self) -> None:
        super().__init__()
        self.headers: dict[str, dict[str, str]] = {}
        """Of the last request, by path and query."""
        app = self._runner.app
        app.router.add_post("/v1/messages", self.claude)
        app.router.add_post("/openai/deployments/{model}/chat/completions", self.answer)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        payload = await self._record(request)
        name = request.match_info.get("model") or payload["model"]
        shape = SHAPES[name]
        if "error" in payload["messages"][0]["content"]:
            return web.json_response(shape.error[1], status=shape.error[0])
        model = {"model": shape.answers_as or name}
        if not payload.get("stream"):
            return web.json_response({**model, **shape.whole})
        events = shape.answer if payload["messages"][-1]["role"] == "tool" else shape.call
        return await _send(request, [b"data: " + orjson.dumps({**model, **event}) for event in events] + [b"data: [DONE]"])

    async def claude(self, request: web.Request) -> web.StreamResponse:
        payload = await self._record(request)
        content = payload["messages"][0]["content"]
        if "error" in (content if isinstance(content, str) else content[0]["text"]):
            refused = web.json_response(CLAUDE_ERROR[1], status=CLAUDE_ERROR[0])
            refused.force_close()
            return refused
        events = CLAUDE_ANSWER if len(payload["messages"]) > 1 else CLAUDE_CALL
        return await _send(request, [b"event: %b\ndata: %b" % (e["type"].encode(), orjson.dumps(e)) for e in events])

    async def _record(self, request: web.Request) -> dict[str, Any]:
        self.headers[request.path_qs] = {name.lower(): value for name, value in request.headers.items()}
        payload: dict[str, Any] = orjson.loads(await request.read())
        return payload


async def _send(request: web.Request, events: list[bytes]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    response.force_close()  # the clients that a graph brings close nothing themselves
    await response.prepare(request)
    for event in events:
        await response.write(event + b"\n\n")
        await asyncio.sleep(0)
    return response


@pytest.fixture
async def endpoint() -> AsyncIterator[Providers]:
    async with Providers() as providers:
        ORIGIN["url"] = providers.url.removesuffix("/v1")
        yield providers


@pytest.fixture
async def client(
    endpoint: Providers, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    env = {"OPENAI_BASE_URL": endpoint.url, "OPENAI_API_KEY": "sk-1"}
    for name, value in env.items():
        monkeypatch.setenv(name, value)  # what the graph's ChatOpenAI reads
    table = tmp_path / "prices.yaml"
    table.write_text(yaml.dump(dict.fromkeys([*SHAPES, CLAUDE], PRICES), Dumper=yaml.CSafeDumper))
    more = {"MODEL": "openai", "MODEL_MAX_RETRIES": "0", "MODEL_CIRCUIT_FAILURES": "0", "PRICE_FILE": str(table)}
    async with served(database_url, __name__, **env, **more) as opened:
        yield opened


async def ledger(database_url: str, run_id: str) -> list[dict[str, Any]]:
    query = (
        "SELECT model, input_tokens AS input, output_tokens AS output, cached_tokens AS cached, cost_usd, estimated"
        " FROM slipway.ledger WHERE run_id = %s ORDER BY call"
    )
    async with await psycopg.AsyncConnection.connect(database_url, row_factory=dict_row) as conn:
        return await (await conn.execute(query, (run_id,))).fetchall()


async def test_each_provider_answers_and_calls_a_tool_and_is_billed(client: httpx.AsyncClient, database_url: str) -> None:
    for name, shape in SHAPES.items():
        bill = {
            "model": shape.answers_as or name,
            "input": shape.used.input,
            "output": shape.used.output,
            "cached": shape.used.cached,
            "cost_usd": shape.used.cost_usd,
            "estimated": False,
        }
        for way in ("", "pieces", "whole"):
            run = await stream(client, f"{name} {way}".strip())
            said = {"text": run.text, "thought": "".join(event["text"] for event in run.named("reasoning"))[-len(THOUGHT) :]}
            assert said == {"text": ANSWER, "thought": THOUGHT if shape.thinks else ""}, (name, way)
            calls = [] if way == "whole" else [TOOL_CALL]
            assert [event["args"] for event in run.named("tool_start")] == calls, (name, way)
            first = run.named("run")[0]
            rows = await ledger(database_url, first["run_id"])
            assert len(rows) == len(calls) + 1, (name, way)
            assert rows[-1] == bill, (name, way)
            history = (await client.get(f"/sessions/{first['session_id']}/messages")).json()["messages"]
            assert THOUGHT not in str(history), (name, way)
            assert history[-1]["content"] == ANSWER, (name, way)


async def test_a_graph_is_told_the_error_of_each_provider(client: httpx.AsyncClient) -> None:
    for name, shape in SHAPES.items():
        answer = (await ask(client, f"{name} error"))["answer"]
        assert shape.says in answer, (name, answer)


@pytest.mark.slow  # to import Anthropic's client takes seconds
async def test_anthropics_own_client_is_billed_by_what_it_reports(client: httpx.AsyncClient, database_url: str) -> None:
    await asyncio.to_thread(importlib.import_module, "langchain_anthropic")
    run = await stream(client, CLAUDE)
    assert (run.text, "".join(event["text"] for event in run.named("reasoning"))) == (ANSWER, THOUGHT)
    assert [event["args"] for event in run.named("tool_start")] == [TOOL_CALL]
    called, answered = await ledger(database_url, run.named("run")[0]["run_id"])
    assert (called["input"], called["output"], called["cost_usd"]) == (400, 20, CLAUDE_CALL_USD)
    assert (answered["input"], answered["cached"], answered["cost_usd"]) == (2_100, 1_500, CLAUDE_ANSWER_USD)
    failed = await ask(client, f"{CLAUDE} failure of the error kind")
    assert (failed["outcome"], failed["error"]["code"]) == ("failed", "graph_failed")


async def test_azures_own_client_is_billed_by_what_it_reports(
    client: httpx.AsyncClient, endpoint: Providers, database_url: str
) -> None:
    run = await stream(client, "azure deployment")
    assert run.text == ANSWER
    (*_, bill) = await ledger(database_url, run.named("run")[0]["run_id"])
    assert bill["cost_usd"] == SHAPES["azure"].used.cost_usd
    path = "/openai/deployments/azure/chat/completions?api-version=2024-10-21"
    assert endpoint.headers[path]["api-key"] == "azure-key"
