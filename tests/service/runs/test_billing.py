"""A model call's way into the ledger: reported usage first, an estimate without it, and the price of the name that is known."""

import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import psycopg
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from structlog.testing import capture_logs

from agent_service.metrics import MAX_TOLD, Metrics
from agent_service.prices import PriceTable
from agent_service.runs.billing import Billing, CallBegun
from agent_service.runs.live_run import LiveRun
from agent_service.runs.run_types import ModelCall, Run
from agent_service.token_counts import count_tokens
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script
from tests.support.service import running_service

PRICES = PriceTable.parse(b"asked: {input: 1, output: 1000000}\nanswered: {input: 1, output: 2000000}", "prices")


def made_metrics() -> Metrics:
    return Metrics(models=["asked"], version="1", graph="g", guardrail_rules=[])


def billed(message: AIMessage, *, metrics: Metrics | None = None, prompt: list[Any] | None = None) -> ModelCall:
    live = LiveRun(Run(uuid4(), "t", "s", "t", "u", "q", {}, "running", 1, 0, False, False, datetime.now(UTC)))
    begun = CallBegun(1, "node", "asked", time.monotonic(), prompt or [])
    Billing(live, metrics or made_metrics(), PRICES).answered(begun, message)
    (call,) = live.calls
    return call


def usage(read: int, written: int) -> Any:
    return {"input_tokens": read, "output_tokens": written, "total_tokens": read + written}


def test_reported_usage_wins_over_what_was_said() -> None:
    call = billed(AIMessage("many words more than three", usage_metadata=usage(0, 3)))
    assert (call.output_tokens, call.cost_usd, call.estimated) == (3, Decimal(3), False)


def test_without_usage_tool_calls_are_counted_too_and_the_call_is_marked() -> None:
    calling = AIMessage("", tool_calls=[{"name": "search", "args": {"query": "how do keys rotate"}, "id": "1"}])
    call = billed(calling, prompt=[HumanMessage("hello world"), calling])
    assert call.estimated
    assert call.output_tokens == count_tokens('search{"query": "how do keys rotate"}')
    assert call.input_tokens == call.output_tokens + 2


def test_usage_of_zeros_only_is_no_usage() -> None:
    call = billed(AIMessage("hello world", usage_metadata=usage(0, 0)))
    assert (call.output_tokens, call.estimated) == (2, True)


def test_a_call_costs_as_the_model_that_answered_or_else_as_the_one_that_was_asked() -> None:
    named, unknown = (
        AIMessage("x", usage_metadata=usage(0, 1), response_metadata={"model_name": n}) for n in ("answered", "x-7")
    )
    assert [(call.model, call.cost_usd) for call in map(billed, (named, unknown))] == [
        ("answered", Decimal(2)),
        ("x-7", Decimal(1)),
    ]


def test_a_model_without_a_price_is_counted_each_time_and_named_once_and_of_very_many_only_some_are() -> None:
    metrics, prices = made_metrics(), PriceTable({})
    live = LiveRun(Run(uuid4(), "t", "s", "t", "u", "q", {}, "running", 1, 0, False, False, datetime.now(UTC)))
    billing = Billing(live, metrics, prices)
    with capture_logs() as lines:
        for number in (*range(3 * MAX_TOLD), 0, 0):
            billing.estimated(CallBegun(number, "node", f"model-{number}", time.monotonic(), []), "x")
    told = [line["model"] for line in lines if line["event"] == "model_without_price"]
    assert told == [f"model-{number}" for number in range(MAX_TOLD)]
    assert metrics.unpriced.labels("other")._value.get() == 3 * MAX_TOLD + 2
    assert all(call.cost_usd is None for call in live.calls)


def searching(context: Any) -> StateGraph[MessagesState]:
    """Searches for the question, from a coroutine and from a thread, while a model answers beside it."""

    async def search(state: MessagesState) -> dict[str, Any]:
        await context.documents.search(state["messages"][-1].text)
        return {}

    def embed(state: MessagesState) -> dict[str, Any]:
        context.documents._embeddings.embed_query(state["messages"][-1].text)
        return {}

    async def say(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await context.chat_model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("search", search).add_node("embed", embed).add_node("say", say)
    return graph.add_edge(START, "search").add_edge(START, "embed").add_edge(START, "say")


async def test_what_is_searched_for_is_billed_to_the_run_and_counts_in_its_budgets(database_url: str) -> None:
    env = {
        "MODEL": "gpt-4o",
        "EMBEDDING_MODEL": "text-embedding-3-small",
        "OPENAI_API_KEY": "sk-1",
        "AGENT_GRAPH": "tests.service.runs.test_billing:searching",
        "DAILY_TOKEN_LIMIT": "100000",
    }
    async with (
        FakeModel(Script(token_count=5)) as model,
        running_service(database_url, OPENAI_BASE_URL=model.url, **env) as service,
        service.client() as client,
    ):
        run = (await client.post("/chat", json={"question": "how do keys rotate"})).json()
        told = (await client.get(f"/runs/{run['run_id']}")).json()["usage"]
        counted = await service.metric("agent_tokens_total", model="text-embedding-3-small", type="input")

    with psycopg.connect(database_url) as conn:
        rows = conn.execute(
            "SELECT call, node, model, input_tokens, output_tokens, cost_usd, estimated FROM slipway.ledger ORDER BY call"
        ).fetchall()
        spent = conn.execute("SELECT DISTINCT tokens FROM slipway.spending").fetchall()
        reserved = conn.execute("SELECT open_calls FROM slipway.runs").fetchall()
    vector = ("embedding", "text-embedding-3-small", 4, 0, Decimal("0.00000008"), False)
    assert [row[:2] for row in rows] == [(-2, "embedding"), (-1, "embedding"), (1, "say")]
    assert [row[1:] for row in rows[:2]] == [vector, vector]
    assert (spent, reserved) == ([(4 + 4 + 4 + 5,)], [(0,)])
    assert (told["model_calls"], told["input_tokens"], counted) == (3, 12, 8)
