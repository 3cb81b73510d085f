"""Turns a model call into a row of the ledger and the metrics of cost."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from agent_service.metrics import Metrics
from agent_service.prices import PriceTable, TokensUsed
from agent_service.runs.cut_off import CutOff
from agent_service.runs.live_run import LiveRun
from agent_service.runs.run_types import ModelCall
from agent_service.threads import LANE
from agent_service.token_counts import count_tokens


@dataclass(slots=True)
class CallBegun:
    """A model call of this attempt; `started` by time.monotonic(), `model` as it was asked for."""

    number: int
    node: str
    model: str
    started: float
    prompt: Sequence[BaseMessage]


class Billing:
    """The model calls of one run."""

    def __init__(self, live: LiveRun, metrics: Metrics, prices: PriceTable) -> None:
        self._live = live
        self._metrics = metrics
        self._prices = prices
        self._embeddings = 0
        live.embedded = self.embedded

    def embedded(self, model: str, tokens: int, estimated: bool) -> None:
        """What was searched for, made a vector. Its number is negative: like that it settles no reservation of a chat model."""
        self._embeddings -= 1
        used = TokensUsed(input=tokens)
        usd, attempt = self._prices.cost_usd(model, used), self._live.run.attempt
        self._enter(ModelCall(attempt, self._embeddings, "embedding", model, tokens, 0, 0, usd, estimated), used)

    def answered(self, call: CallBegun, message: AIMessage) -> None:
        """A call that ended, by the usage that the endpoint reported, or estimated without one."""
        named = str(message.response_metadata.get("model_name") or call.model)
        used = reported(message)
        if used:
            self._add(call, named, used, estimated=False)
        else:
            self._estimate(call, named, _words(message))

    def estimated(self, call: CallBegun, text: str, more: int = 0) -> None:
        """A call that was cut off: its prompt and what it produced, counted here; `more` tokens of which there is no text."""
        self._estimate(call, call.model, text, more)

    def found(self, call: CutOff) -> None:
        """A call that was cut off when the process of an earlier attempt died."""
        used = TokensUsed(input=call.prompt_tokens, output=count_tokens(call.text) + call.unseen_tokens)
        usd = self._prices.cost_usd(call.model, used)
        bill = ModelCall(call.attempt, call.number, call.node, call.model, used.input, used.cached, used.output, usd, True)
        self._enter(bill, used)

    def _estimate(self, call: CallBegun, named: str, text: str, more: int = 0) -> None:
        prompt = sum(count_tokens(_words(message)) for message in call.prompt)
        used = TokensUsed(input=prompt, output=count_tokens(text) + more)
        self._add(call, named, used, estimated=True)

    def _add(self, call: CallBegun, named: str, used: TokensUsed, *, estimated: bool) -> None:
        """`named` is what the endpoint called the model; a gateway may answer by a name that only it knows."""
        usd = self._prices.cost_usd(named, used)
        if usd is None and call.model != named:
            usd = self._prices.cost_usd(call.model, used)
        attempt, seconds = self._live.run.attempt, time.monotonic() - call.started
        self._metrics.model_seconds.labels(self._metrics.model_label(named)).observe(seconds, self._live.trace.exemplar)
        self._enter(ModelCall(attempt, call.number, call.node, named, used.input, used.cached, used.output, usd, estimated), used)

    def _enter(self, bill: ModelCall, used: TokensUsed) -> None:
        self._live.calls.append(bill)
        metrics, label = self._metrics, self._metrics.model_label(bill.model)
        kinds = (("input", used.input), ("cached", used.cached), ("output", used.output), ("reasoning", used.reasoning))
        for kind, amount in kinds:
            metrics.tokens.labels(label, kind).inc(amount)
        if bill.cost_usd is None:
            metrics.count_unpriced(bill.model)
        else:
            metrics.cost_usd.labels(label, metrics.graph_version).inc(float(bill.cost_usd))


def bill_embedding(model: str, tokens: int, estimated: bool) -> None:
    """Of the run that this is done for; what no run has asked for, such as `slipway ingest`, is nobody's."""
    if isinstance(live := LANE.get(), LiveRun):
        live.embedded(model, tokens, estimated)


def reported(message: AIMessage) -> TokensUsed | None:
    """The usage that the endpoint sent with an answer; None without one. Only zeros are none: some gateways fill them in."""
    usage = message.usage_metadata
    if not usage or not (usage["input_tokens"] or usage["output_tokens"]):
        return None
    read, written = usage.get("input_token_details") or {}, usage.get("output_token_details") or {}
    return TokensUsed(
        input=usage["input_tokens"],
        cached=_of_any_tier(read, "cache_read"),
        output=usage["output_tokens"],
        reasoning=_of_any_tier(written, "reasoning"),
        cache_write=_of_any_tier(read, "cache_creation") + sum(_of_any_tier(read, name) for name in ANTHROPIC_CACHE),
    )


ANTHROPIC_CACHE = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
"""Where langchain-anthropic has the tokens that were cached now, by how long; `cache_creation` is 0 then."""


def _of_any_tier(details: Mapping[str, Any], name: str) -> int:
    """langchain-openai calls the tokens of a service tier `flex_cache_read`, `priority_cache_read`."""
    return sum(details.get(key) or 0 for key in (name, f"flex_{name}", f"priority_{name}"))


def _words(message: BaseMessage) -> str:
    """What a model reads or writes of a message: its text, and the calls of tools that it asks for."""
    calls = message.tool_calls if isinstance(message, AIMessage) else ()
    return "".join((message.text, *(f"{call['name']}{json.dumps(call['args'], default=str)}" for call in calls)))
