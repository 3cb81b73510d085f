"""Runs that callers begin, counted in Redis: for clusters that have one, and would rather not have PostgreSQL count."""

from typing import Any

from limits import RateLimitItemPerMinute
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from agent_service.caller_limits import WINDOW_SECONDS, CallerLimits, Rate, Standing
from agent_service.principal import Principal
from agent_service.redis_link import RedisLink


class RedisRates:
    """The same sliding window as slipway.standing. While Redis is away, PostgreSQL counts."""

    def __init__(self, link: RedisLink, limit: int) -> None:
        options: dict[str, Any] = {"connection_pool": link.pool}  # its type has no room for it, its documentation has
        self._link = link
        self._storage = RedisStorage("async+redis://", implementation="redispy", key_prefix=link.prefix, **options)
        self._limiter = SlidingWindowCounterRateLimiter(self._storage)
        self._item = RateLimitItemPerMinute(limit)

    async def hit(self, principal: Principal) -> Standing | None:
        """Counts one run that begins, unless it is refused; None: Redis is away."""
        return await self._link.ask("rates", lambda: self._hit(principal.label))

    async def _hit(self, owner: str) -> Standing:
        allowed = await self._limiter.hit(self._item, owner)
        earlier, fades, recent, left = await self._storage.get_sliding_window(self._item.key_for(owner), WINDOW_SECONDS)
        elapsed = WINDOW_SECONDS - (fades if earlier else left % WINDOW_SECONDS)
        return Standing(
            CallerLimits(self._item.amount), None if allowed else "rate", Rate(self._item.amount, recent, earlier, elapsed)
        )
