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
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage

from agent_service.caller_limits import BudgetLimits
from agent_service.db.pool import Pool, connection, until_database_answers
from agent_service.errors import BudgetSpent, LeaseLost
from agent_service.metrics import Metrics
from agent_service.prices import MOST_USD, PriceTable, TokensUsed
from agent_service.principal import Principal
from agent_service.runs import events
from agent_service.runs.cut_off import prompt_tokens
from agent_service.runs.live_run import LiveRun
from agent_service.runs.pauses import Pauses
from agent_service.runs.run_rows import one
from agent_service.runs.run_types import Run
from agent_service.runs.writer import Writer

log = structlog.stdlib.get_logger(__name__)

WARN_AT = Decimal("0.8")
"""Share of a budget at which its owner is told, once a period."""

BYTES_PER_TOKEN = 3
"""Of a prompt, to be on the safe side: English has four, Chinese about three."""

PART_BYTES = 4_500
"""For a part of a message that is no text, such as a picture: 1,500 tokens."""

FIRST_WAIT_SECONDS, MOST_WAIT_SECONDS = 0.02, 0.5
"""Between two looks of a call that waits for what others have reserved."""

OUTPUT_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
"""What OpenAI's endpoints and others call the limit of an answer."""

MOST_TOKENS = 2**31 - 1
"""Of one call, in the ledger."""

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
        self._spent: OrderedDict[tuple[str, str], tuple[float, str]] = OrderedDict()
        """By caller: until when it is remembered, and whose budget it was."""
        self.any_set = False
        """Whether slipway.budgets has a row, as last looked."""

    def refuse_who_has_spent(self, principal: Principal) -> None:
        """Raises BudgetSpent for a caller of whom this process has just seen that nothing is left."""
        owner = (principal.tenant, principal.user)
        until, scope = self._spent.get(owner, (0.0, ""))
        if time.monotonic() < until:
            raise _spent(scope)
        self._spent.pop(owner, None)

    @property
    def of_period(self) -> bool:
        """Whether anybody has a budget of a day or a month, so that calls have to reserve."""
        return self._limits.of_period or self.any_set

    def estimate(self, prompt: int, asked: Mapping[str, Any]) -> Estimate:
        """Of a call that is about to begin, with a prompt of so many bytes; `asked` is what goes to the endpoint beside it."""
        used = TokensUsed(input=prompt // BYTES_PER_TOKEN + 1, output=_most_output(asked) or self._limits.answer_tokens)
        prices = self._prices()
        name = str(asked.get("model") or asked.get("model_name") or self._model)
        usd = prices.cost_usd(name, used)
        if usd is None:  # it may be answered under a name that has one
            usd = max((price.cost(used) for price in prices.prices.values()), default=Decimal(0))
        return Estimate(used.input + used.output, min(usd, MOST_USD))

    def check_run(self, tokens: int, usd: Decimal) -> None:
        """Raises BudgetSpent when a run has used what one may use."""
        limits = self._limits
        if limits.run_tokens is not None and tokens >= limits.run_tokens:
            raise BudgetSpent(f"the run has used {tokens:,} tokens, of at most {limits.run_tokens:,} (MAX_RUN_TOKENS)")
        if limits.run_usd is not None and usd >= limits.run_usd:
            raise BudgetSpent(f"the run has cost {usd:.4f} USD, of at most {limits.run_usd:f} (MAX_RUN_USD)")

    async def reserve(self, live: LiveRun, others: Callable[[], int], most: Estimate) -> None:
        """Returns once one more model call of the run may be open beside its `others`, each of at most so much.

        Raises:
            BudgetSpent: nothing is left of the day or the month.
            LeaseLost: the run is not this process's any more.
        """
        pauses = Pauses(FIRST_WAIT_SECONDS, MOST_WAIT_SECONDS)
        while True:
            await self._writer.billed(live)  # what it has used before is in the ledger
            if live.stopped:
                raise asyncio.CancelledError
            row = await until_database_answers(lambda: self._look(live, others() + 1, most), "budget")
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
            await pauses.take()

    async def release(self, live: LiveRun) -> None:
        """Frees what earlier attempts had reserved, once what they used is in the ledger: until then nobody may have it."""
        await self._writer.billed(live)
        if self.of_period and not live.stopped:
            await until_database_answers(lambda: self._free(live.run), "budget")

    async def _free(self, run: Run) -> None:
        async with connection(self._pool) as conn:
            await conn.execute(RELEASE, (run.id, run.attempt))

    async def _look(self, live: LiveRun, calls: int, most: Estimate) -> Mapping[str, Any]:
        limits = self._limits
        usual = (limits.day_tokens, limits.day_usd, limits.month_tokens, limits.month_usd)
        return await self._read(RESERVE, live.run.id, live.run.attempt, calls, most.tokens, most.usd, *usual, WARN_AT)

    async def _read(self, query: str, *values: object) -> Mapping[str, Any]:
        async with connection(self._pool) as conn:
            row = await one(conn, query, *values)
        assert row is not None  # noqa: S101  # aggregates, and functions without a set, have one
        return row

    def _warn(self, live: LiveRun, budget: Mapping[str, Any]) -> None:
        whose = {key: budget[key] for key in ("scope", "period")}
        spent = {key: budget[key] for key in ("tokens", "max_tokens", "usd", "max_usd")}
        self._metrics.budget_warnings.labels(budget["scope"]).inc()
        log.warning("budget_nearly_spent", **whose, **spent)
        # What a tenant has spent is for its admins: docs/operations/authentication.md.
        live.said.publish(events.budget(whose if budget["scope"] == "tenant" else whose | spent))

    def _remember(self, principal: Principal, budget: Mapping[str, Any]) -> BudgetSpent:
        self._spent[(principal.tenant, principal.user)] = (time.monotonic() + REMEMBERED_SECONDS, budget["scope"])
        while len(self._spent) > REMEMBERED_CALLERS:
            self._spent.popitem(last=False)
        return _spent(budget["scope"])


class Gate(BaseCallbackHandler):
    """Keeps the model calls of one run within its budgets. It stands behind all other handlers, and tells them of a refusal:
    langchain would leave those behind it with coroutines that nobody awaits.

    Args:
        before: the other handlers of the run.
        sent: told of each call that begins, and of about how many tokens its prompt has.
    """

    run_inline = True
    raise_error = True

    def __init__(
        self, budgets: Budgets, live: LiveRun, before: Sequence[BaseCallbackHandler], sent: Callable[[UUID, int], None]
    ) -> None:
        self._budgets = budgets
        self._live = live
        self._others = before
        self._sent = sent
        self._most = Estimate(0, Decimal(0))
        self._open: dict[UUID, asyncio.Task[Any] | None] = {}
        """Calls that have reserved, and who makes them: langchain tells of no end when one is cancelled alone."""
        self._turn = asyncio.Lock()
        self._loop = asyncio.get_running_loop()

    @property
    def on_chat_model_start(self) -> Callable[..., Any]:
        """What waits: on the loop a coroutine, in a thread (sync nodes) a function, as langchain swallows there what a
        coroutine raises. A blocking call on the loop cannot wait."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._start_in_thread
        return self._start

    async def _start(self, _: Any, messages: list[list[BaseMessage]], *, run_id: UUID, **kwargs: Any) -> None:
        if asyncio.get_running_loop() is self._loop:
            await self._enter(run_id, messages, kwargs, asyncio.current_task())

    def _start_in_thread(self, _: Any, messages: list[list[BaseMessage]], *, run_id: UUID, **kwargs: Any) -> None:
        asyncio.run_coroutine_threadsafe(self._enter(run_id, messages, kwargs, None), self._loop).result()

    async def _enter(
        self, call: UUID, messages: list[list[BaseMessage]], kwargs: Mapping[str, Any], task: asyncio.Task[Any] | None
    ) -> None:
        """Waits until the call may begin. One at a time, as each reserves for all that are open."""
        asked = kwargs.get("invocation_params") or {}
        prompt = sum(_size(message) for each in messages for message in each) + len(str(asked.get("tools") or ""))
        try:
            async with self._turn:
                self._check_run()
                if self._budgets.of_period:
                    estimate = self._budgets.estimate(prompt, asked)
                    self._most = self._most.at_least(estimate)
                    await self._budgets.reserve(self._live, self._still_open, self._most)
                self._open[call] = task
        except BudgetSpent as error:
            for other in self._others:
                other.on_llm_error(error, run_id=call)
            raise
        self._sent(call, prompt_tokens(prompt))

    def _still_open(self) -> int:
        self._open = {each: by for each, by in self._open.items() if by is None or not by.done()}
        return len(self._open)

    def _check_run(self) -> None:
        """Raises BudgetSpent when the run has used, in all its attempts, what one may use."""
        tokens, usd = 0, Decimal(0)
        for call in (*self._live.billed, *self._live.calls):
            tokens += call.input_tokens + call.output_tokens
            usd += call.cost_usd or 0
        self._budgets.check_run(tokens, usd)

    def on_llm_end(self, response: Any, *, run_id: UUID, **_: Any) -> None:  # noqa: ARG002  # langchain's signature
        self._open.pop(run_id, None)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:  # noqa: ARG002  # langchain's signature
        self._open.pop(run_id, None)


def _most_output(asked: Mapping[str, Any]) -> int:
    """Tokens that a call may answer with at most, in all its choices; 0 when it sets no limit."""
    limits = [limit for name in OUTPUT_LIMITS if isinstance(limit := asked.get(name), int) and limit > 0]
    choices = asked.get("n")
    return min(max(limits, default=0) * max(1, choices if isinstance(choices, int) else 1), MOST_TOKENS)


def _size(message: BaseMessage) -> int:
    """Bytes that a message stands for: its text, the calls of tools in it, and a good deal for each picture."""
    parts = message.content if isinstance(message.content, list) else []
    others = len([part for part in parts if isinstance(part, dict) and part.get("type") != "text"])
    calls = str(message.tool_calls) if isinstance(message, AIMessage) and message.tool_calls else ""
    return len(f"{message.text}{calls}".encode(errors="replace")) + others * PART_BYTES


def _spent(scope: str) -> BudgetSpent:
    whose, setting = {
        "user": ("your budget of today", "DAILY_TOKEN_LIMIT, DAILY_USD_LIMIT"),
        "tenant": ("your tenant's budget of this month", "MONTHLY_TENANT_TOKEN_LIMIT, MONTHLY_TENANT_USD_LIMIT"),
    }[scope]
    return BudgetSpent(f"{whose} is spent ({setting} or `slipway budgets`)", retry_after=seconds_left(scope, datetime.now(UTC)))


def seconds_left(scope: str, now: datetime) -> int:
    """Until the user's day or the tenant's month is over."""
    today = now.date()
    end = today + timedelta(days=1) if scope == "user" else (today.replace(day=1) + timedelta(days=32)).replace(day=1)
    return max(1, round((datetime.combine(end, datetime.min.time(), UTC) - now).total_seconds()))


RELEASE = "UPDATE slipway.runs SET open_calls = 0 WHERE id = %s AND attempt = %s AND open_calls > 0"

RESERVE = "SELECT verdict, budgets FROM slipway.reserve(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
