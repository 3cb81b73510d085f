"""Runs that callers begin, counted in Redis: for clusters that have one, and would rather not have PostgreSQL count."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog
from limits import RateLimitItemPerMinute
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import BlockingConnectionPool
from redis.exceptions import RedisError

from agent_service.caller_limits import WINDOW_SECONDS, CallerLimits, Rate, Standing
from agent_service.principal import Principal

log = structlog.stdlib.get_logger(__name__)

ANSWER_SECONDS = 2.0
"""A Redis that takes longer is taken for away; a usual answer takes a millisecond. Whoever finds no connection waits as long."""

CONNECTIONS = 8
"""Of one process; each carries some thousand answers a second."""

AWAY_SECONDS = 5.0
"""For so long nobody waits for one that was away."""


class RedisRates:
    """The same sliding window as slipway.standing. While Redis is away, PostgreSQL counts."""

    def __init__(self, storage: RedisStorage, limit: int) -> None:
        self._storage = storage
        self._limiter = SlidingWindowCounterRateLimiter(storage)
        self._item = RateLimitItemPerMinute(limit)
        self._away_until = 0.0

    async def hit(self, principal: Principal) -> Standing | None:
        """Counts one run that begins, unless it is refused; None: Redis is away."""
        if time.monotonic() < self._away_until:
            return None
        owner = principal.label
        try:
            allowed = await self._limiter.hit(self._item, owner)
            earlier, fades, recent, left = await self._storage.get_sliding_window(self._item.key_for(owner), WINDOW_SECONDS)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("redis_away", error=type(error).__name__)
            self._away_until = time.monotonic() + AWAY_SECONDS
            return None
        elapsed = WINDOW_SECONDS - (fades if earlier else left % WINDOW_SECONDS)
        return Standing(
            CallerLimits(self._item.amount), None if allowed else "rate", Rate(self._item.amount, recent, earlier, elapsed)
        )


@asynccontextmanager
async def open_redis_rates(url: str, limit: int) -> AsyncIterator[RedisRates]:
    """`url`: redis://, rediss:// or unix://. Connects when it is first used."""
    times = {"timeout": ANSWER_SECONDS, "socket_timeout": ANSWER_SECONDS, "socket_connect_timeout": ANSWER_SECONDS}
    pool = BlockingConnectionPool.from_url(url, max_connections=CONNECTIONS, **times)
    try:
        options: dict[str, Any] = {"connection_pool": pool}  # its type has no room for it, its documentation has
        yield RedisRates(RedisStorage("async+redis://", implementation="redispy", key_prefix="slipway", **options), limit)
    finally:
        await pool.disconnect()
