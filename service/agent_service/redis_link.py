"""The Redis of a release, if it has one. While it is away, PostgreSQL does its work, and nobody waits for it twice."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Literal, TypeVar

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

log = structlog.stdlib.get_logger(__name__)

T = TypeVar("T")

ANSWER_SECONDS = 2.0
"""A Redis that takes longer is taken for away; a usual answer takes a millisecond. Whoever finds no connection waits as long."""

CONNECTIONS = 8
"""Of one process; each carries some thousand answers a second."""

AWAY_SECONDS = 5.0
"""For so long nobody waits for one that was away."""

Use = Literal["rates", "answers"]


class RedisLink:
    """Of one process. Keys begin with `prefix`, which no other release has: several may share a server.

    Args:
        away: is told each time that PostgreSQL is to do what Redis was asked for.
    """

    def __init__(self, pool: BlockingConnectionPool, prefix: str, away: Callable[[Use], None]) -> None:
        self.pool = pool
        self.client = Redis(connection_pool=pool)
        self.prefix = prefix
        self._away = away
        self._away_until = 0.0

    async def ask(self, use: Use, call: Callable[[], Awaitable[T]]) -> T | None:
        """What the call says; None while Redis is away, or refuses it."""
        if time.monotonic() >= self._away_until:
            try:
                return await call()
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("redis_away", error=type(error).__name__)
                self._away_until = time.monotonic() + AWAY_SECONDS
        self._away(use)
        return None


@asynccontextmanager
async def open_redis(url: str, release: str, away: Callable[[Use], None] = lambda _use: None) -> AsyncIterator[RedisLink]:
    """`url`: redis://, rediss:// or unix://; `release`: an id of it. Connects when it is first used."""
    times = {"timeout": ANSWER_SECONDS, "socket_timeout": ANSWER_SECONDS, "socket_connect_timeout": ANSWER_SECONDS}
    pool = BlockingConnectionPool.from_url(url, max_connections=CONNECTIONS, **times)
    try:
        yield RedisLink(pool, f"slipway:{release}", away)
    finally:
        await pool.disconnect()
