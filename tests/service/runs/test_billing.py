"""A model call's way into the ledger: reported usage first, an estimate without it, and the price of the name that is known."""

import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

from langchain_core.messages import AIMessage, HumanMessage
from structlog.testing import capture_logs

from agent_service.metrics import MAX_TOLD, Metrics
from agent_service.prices import PriceTable
from agent_service.runs.billing import Billing, CallBegun
from agent_service.runs.live_run import LiveRun
from agent_service.runs.run_types import ModelCall, Run
from agent_service.token_counts import count_tokens

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
