"""Turns a model call into a row of the ledger and the metrics of cost."""

import time
from collections.abc import Sequence

import structlog
from langchain_core.messages import AIMessage, BaseMessage

from agent_service.metrics import Metrics
from agent_service.prices import PriceTable
from agent_service.runs.live_run import LiveRun
from agent_service.runs.run_types import ModelCall
from agent_service.token_counts import count_tokens

log = structlog.stdlib.get_logger(__name__)


class Billing:
    """The model calls of one run."""

    def __init__(self, live: LiveRun, metrics: Metrics, prices: PriceTable) -> None:
        self._live = live
        self._metrics = metrics
        self._prices = prices

    def answered(self, node: str, model: str, started: float, prompt: Sequence[BaseMessage], message: AIMessage) -> None:
        """A call that ended, by the usage that the endpoint reported, or estimated without one."""
        usage = message.usage_metadata
        if not usage:
            self.estimated(node, model, started, prompt, message.text)
            return
        model = str(message.response_metadata.get("model_name") or model)
        cached = (usage.get("input_token_details") or {}).get("cache_read") or 0
        self._add(node, model, started, usage["input_tokens"], cached, usage["output_tokens"], estimated=False)

    def estimated(self, node: str, model: str, started: float, prompt: Sequence[BaseMessage], text: str) -> None:
        """A call that was cut off: its prompt and what it produced, counted here."""
        asked = sum(count_tokens(message.text) for message in prompt)
        self._add(node, model, started, asked, 0, count_tokens(text), estimated=True)

    def _add(
        self, node: str, model: str, started: float, tokens_in: int, cached: int, tokens_out: int, *, estimated: bool
    ) -> None:
        cost = self._prices.cost_usd(model, input_tokens=tokens_in, cached_tokens=cached, output_tokens=tokens_out)
        usd = None if cost is None else float(cost)
        number = len(self._live.calls) + 1
        self._live.calls.append(ModelCall(number, node, model, tokens_in, cached, tokens_out, usd, estimated))
        metrics, label = self._metrics, self._metrics.model_label(model)
        metrics.model_seconds.labels(label).observe(time.monotonic() - started, self._live.trace.exemplar)
        for kind, amount in (("input", tokens_in), ("cached", cached), ("output", tokens_out)):
            metrics.tokens.labels(label, kind).inc(amount)
        if usd is None:
            metrics.unpriced.labels(label).inc()
            log.warning("model_without_price", model=model)
        else:
            metrics.cost_usd.labels(label).inc(usd)
