"""Limits of a caller: runs in a minute, runs at a time, budgets. Counted elsewhere; here one is told how one stands."""

import math
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, TypedDict

from agent_service.errors import RateLimited, TooManyRuns
from agent_service.principal import Principal

WINDOW_SECONDS = 60

RESPONSE_HEADERS: ContextVar[dict[str, str]] = ContextVar("response_headers")
"""Of the request that is being answered; ContextMiddleware makes it and sends it."""


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """Of one caller; None: no limit."""

    per_minute: int | None = None
    at_a_time: int | None = None

    def __bool__(self) -> bool:
        return self.per_minute is not None or self.at_a_time is not None


@dataclass(frozen=True, slots=True)
class BudgetLimits:
    """Tokens (input and output) and USD; None: no limit. `answer_tokens`: the most that one answer is expected to have."""

    run_tokens: int | None
    run_usd: Decimal | None
    day_tokens: int | None
    day_usd: Decimal | None
    month_tokens: int | None
    month_usd: Decimal | None
    answer_tokens: int

    @property
    def of_period(self) -> bool:
        return any(limit is not None for limit in (self.day_tokens, self.day_usd, self.month_tokens, self.month_usd))


@dataclass(frozen=True, slots=True)
class Rate:
    """Runs begun: `recent` in this minute, of which `elapsed` seconds are over, and `earlier` in the minute before."""

    limit: int
    recent: int
    earlier: int
    elapsed: float

    @property
    def used(self) -> int:
        """In the last 60 s, if those of the minute before were evenly spread; as slipway.standing and Redis' limiter count."""
        return math.floor(self.earlier * (WINDOW_SECONDS - self.elapsed) / WINDOW_SECONDS + self.recent)

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.used)

    @property
    def retry_after(self) -> int:
        """Seconds until one more may begin."""
        left = WINDOW_SECONDS - self.elapsed
        # What may still count of the minute before, or (from the next minute on) of this one.
        if self.recent < self.limit:
            seconds = left - WINDOW_SECONDS * (self.limit - self.recent) / self.earlier if self.earlier else 0.0
        else:
            seconds = left + WINDOW_SECONDS * (1 - self.limit / self.recent)
        return max(1, math.floor(seconds) + 1)

    def headers(self) -> dict[str, str]:
        """`RateLimit-Reset`: seconds until the count of this minute begins to fade; when refused, until one more may begin."""
        reset = math.ceil(WINDOW_SECONDS - self.elapsed) if self.remaining else self.retry_after
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(reset),
            "RateLimit-Policy": f"{self.limit};w={WINDOW_SECONDS}",
        }


class StandingRow(TypedDict):
    """What slipway.standing says; `going` is None without a limit on runs at a time."""

    refused: Literal["rate", "runs"] | None
    recent: int
    earlier: int
    elapsed: float
    going: int | None


@dataclass(frozen=True, slots=True)
class Standing:
    """Of a caller who asks for a run: which limit refuses it, if one does."""

    limits: CallerLimits
    refused: Literal["rate", "runs"] | None
    rate: Rate | None = None
    going: int | None = None

    @classmethod
    def of(cls, row: StandingRow, limits: CallerLimits) -> "Standing":
        """From what slipway.standing says; the run that begins counts."""
        recent = row["recent"] + (row["refused"] is None)
        rate = Rate(limits.per_minute, recent, row["earlier"], row["elapsed"]) if limits.per_minute is not None else None
        return cls(limits, row["refused"], rate, row["going"])

    def tell(self) -> None:
        """Puts the rate into the answer's headers, and raises what refuses the run.

        Raises:
            RateLimited, TooManyRuns
        """
        if self.rate:
            RESPONSE_HEADERS.get({}).update(self.rate.headers())
        if self.refused == "runs":
            most = self.limits.at_a_time
            raise TooManyRuns(f"{self.going} runs of yours are going, of {most} at a time (MAX_RUNS_PER_PRINCIPAL)")
        if self.refused and self.rate:
            most = self.rate.limit
            raise RateLimited(f"at most {most} runs a minute (RATE_LIMIT_PER_MINUTE)", retry_after=self.rate.retry_after)


CountStart = Callable[[Principal], Awaitable[Standing | None]]
"""Counts a run that begins elsewhere than in PostgreSQL; None: it cannot be counted there now."""
