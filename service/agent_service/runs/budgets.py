"""Budgets: a model call begins when it fits what is left of its run, of its user's day and of its tenant's month.

A call reserves before it begins, in PostgreSQL, so that all processes together stay within a limit; it is settled by the
transaction that puts it into the ledger. While others have reserved the rest, it waits for them: only a budget that is really
spent ends a run. docs/operations/cost-control.md has an example.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import structlog
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.messages import BaseMessage

from agent_service.caller_limits import BudgetLimits
from agent_service.db.pool import Pool, connection
from agent_service.errors import BudgetSpent, LeaseLost
from agent_service.metrics import Metrics
from agent_service.prices import PriceTable, TokensUsed
from agent_service.principal import Principal
from agent_service.runs import events
from agent_service.runs.live_run import LiveRun
from agent_service.runs.writer import Writer

log = structlog.stdlib.get_logger(__name__)

WARN_AT = Decimal("0.8")
"""Share of a budget at which its owner is told, once a period."""

CHARS_PER_TOKEN = 3
"""Of a prompt, to be on the safe side: English has four."""

FIRST_WAIT_SECONDS, MOST_WAIT_SECONDS = 0.02, 0.5
"""Between two looks of a call that waits for what others have reserved; doubled each time."""

REMEMBERED_SECONDS = 5.0
"""For so long a caller whose budget is spent gets no new run here, without another look: as long as a raise may take to hold."""

REMEMBERED_CALLERS = 10_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one model call may use."""

    tokens: int
    usd: Decimal

    def at_least(self, other: "Estimate") -> "Estimate":
        return Estimate(max(self.tokens, other.tokens), max(self.usd, other.usd))


class Budgets:
    """Of one process.

    Args:
        model: name in the price table by which a call is estimated before it begins.
    """

    def __init__(
        self, pool: Pool, writer: Writer, *, limits: BudgetLimits, prices: Callable[[], PriceTable], metrics: Metrics, model: str
    ) -> None:
        self._pool = pool
        self._writer = writer
        self._limits = limits
        self._prices = prices
        self._metrics = metrics
        self._model = model
        self._spent: OrderedDict[tuple[str, str], tuple[float, BudgetSpent]] = OrderedDict()
        self.any_set = False
        """Whether slipway.budgets has a row, as last looked."""

    def refuse_who_has_spent(self, principal: Principal) -> None:
        """Raises BudgetSpent for a caller of whom this process has just seen that nothing is left."""
        owner = (principal.tenant, principal.user)
        until, error = self._spent.get(owner, (0.0, None))
        if error and time.monotonic() < until:
            raise error
        self._spent.pop(owner, None)

    def gates(self, live: LiveRun) -> list[BaseCallbackHandler]:
        """Handlers that keep the run's model calls within its budgets; they come before all others."""
        limits = self._limits
        if not (limits.of_period or self.any_set or limits.run_tokens is not None or limits.run_usd is not None):
            return []
        gate = Gate(self, live)
        return [gate, _ThreadGate(gate)]

    def estimate(self, messages: Sequence[Sequence[BaseMessage]]) -> Estimate:
        """Of a call that is about to begin."""
        prompt = sum(len(message.text) for each in messages for message in each) // CHARS_PER_TOKEN + 1
        answer = self._limits.answer_tokens
        usd = self._prices().cost_usd(self._model, TokensUsed(input=prompt, output=answer))
        return Estimate(prompt + answer, usd or Decimal(0))

    def check_run(self, tokens: int, usd: Decimal) -> None:
        """Raises BudgetSpent when a run has used what one may use."""
        limits = self._limits
        if limits.run_tokens is not None and tokens >= limits.run_tokens:
            raise BudgetSpent(f"the run has used {tokens:,} tokens, of at most {limits.run_tokens:,} (MAX_RUN_TOKENS)")
        if limits.run_usd is not None and usd >= limits.run_usd:
            raise BudgetSpent(f"the run has cost {usd:.4f} USD, of at most {limits.run_usd:f} (MAX_RUN_USD)")

    async def reserve(self, live: LiveRun, calls: int, most: Estimate) -> None:
        """Returns once `calls` model calls of the run may be open, each of at most so much.

        Raises:
            BudgetSpent: nothing is left of the day or the month.
            LeaseLost: the run is not this process's any more.
        """
        if not (self._limits.of_period or self.any_set):
            return
        pause = FIRST_WAIT_SECONDS
        while True:
            await self._writer.settled(live)  # what it has used before is in the ledger
            if live.stopped:
                raise asyncio.CancelledError
            row = await self._look(live, calls, most)
            for budget in row["budgets"]:
                if budget["warns"]:
                    self._warn(live, budget)
            match row["verdict"]:
                case "go":
                    return
                case "spent":
                    raise self._remember(live.run.principal, next(budget for budget in row["budgets"] if budget["spent"]))
                case "lost":
                    raise LeaseLost("another process executes the run")
            await asyncio.sleep(pause)
            pause = min(2 * pause, MOST_WAIT_SECONDS)

    async def _look(self, live: LiveRun, calls: int, most: Estimate) -> Mapping[str, Any]:
        limits = self._limits
        values = (live.run.id, live.run.attempt, calls, most.tokens, most.usd)
        usual = (limits.day_tokens, limits.day_usd, limits.month_tokens, limits.month_usd)
        async with connection(self._pool) as conn:
            row = await (await conn.execute(RESERVE, (*values, *usual, WARN_AT))).fetchone()
        assert row is not None  # noqa: S101  # a function without a set has one
        return row

    def _warn(self, live: LiveRun, budget: Mapping[str, Any]) -> None:
        scope = budget["scope"]
        self._metrics.budget_warnings.labels(scope).inc()
        log.warning(
            "budget_nearly_spent", scope=scope, **{key: budget[key] for key in ("tokens", "max_tokens", "usd", "max_usd")}
        )
        told = {key: budget[key] for key in ("scope", "period", "tokens", "max_tokens", "usd", "max_usd")}
        live.said.publish(events.budget(told))

    def _remember(self, principal: Principal, budget: Mapping[str, Any]) -> BudgetSpent:
        whose, setting = {
            "user": ("your budget of today", "DAILY_TOKEN_LIMIT, DAILY_USD_LIMIT"),
            "tenant": ("your tenant's budget of this month", "MONTHLY_TENANT_TOKEN_LIMIT, MONTHLY_TENANT_USD_LIMIT"),
        }[budget["scope"]]
        error = BudgetSpent(
            f"{whose} is spent ({setting} or `slipway budgets`)",
            retry_after=seconds_left(budget["scope"], datetime.now(UTC)),
        )
        self._spent[(principal.tenant, principal.user)] = (time.monotonic() + REMEMBERED_SECONDS, error)
        while len(self._spent) > REMEMBERED_CALLERS:
            self._spent.popitem(last=False)
        return error


class Gate(AsyncCallbackHandler):
    """Of one run: its model calls that are awaited wait here before they begin."""

    run_inline = True
    raise_error = True

    def __init__(self, budgets: Budgets, live: LiveRun) -> None:
        self._budgets = budgets
        self._live = live
        self._most = Estimate(0, Decimal(0))
        self._open: set[UUID] = set()
        self.loop = asyncio.get_running_loop()

    async def on_chat_model_start(
        self,
        serialized: dict[str, Any],  # noqa: ARG002  # langchain's signature
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        **_: Any,
    ) -> None:
        if asyncio.get_running_loop() is self.loop:  # else a thread calls, and _ThreadGate waits there
            await self.enter(run_id, messages)

    async def enter(self, call: UUID, messages: Sequence[Sequence[BaseMessage]]) -> None:
        used = self._live.calls
        self._budgets.check_run(
            sum(each.input_tokens + each.output_tokens for each in used),
            sum((Decimal(str(each.cost_usd or 0)) for each in used), Decimal(0)),
        )
        self._most = self._most.at_least(self._budgets.estimate(messages))
        self._open.add(call)
        try:
            await self._budgets.reserve(self._live, len(self._open), self._most)
        except BaseException:
            self._open.discard(call)
            raise

    def left(self, call: UUID) -> None:
        self._open.discard(call)


class _ThreadGate(BaseCallbackHandler):
    """The same for calls from threads (sync nodes), where langchain swallows what an async handler raises; and the way out."""

    run_inline = True
    raise_error = True

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],  # noqa: ARG002  # langchain's signature
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        **_: Any,
    ) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # a thread without a loop
            asyncio.run_coroutine_threadsafe(self._gate.enter(run_id, messages), self._gate.loop).result()

    def on_llm_end(self, response: Any, *, run_id: UUID, **_: Any) -> None:  # noqa: ARG002  # langchain's signature
        self._gate.left(run_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:  # noqa: ARG002  # langchain's signature
        self._gate.left(run_id)


def seconds_left(scope: str, now: datetime) -> int:
    """Until the user's day or the tenant's month is over."""
    today = now.date()
    end = today + timedelta(days=1) if scope == "user" else (today.replace(day=1) + timedelta(days=32)).replace(day=1)
    return max(1, round((datetime.combine(end, datetime.min.time(), UTC) - now).total_seconds()))


RESERVE = "SELECT verdict, budgets FROM slipway.reserve(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
