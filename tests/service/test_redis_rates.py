"""Counting in a real Redis."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from agent_service import redis_link
from agent_service.caller_limits import Standing
from agent_service.principal import Principal
from agent_service.redis_link import open_redis
from agent_service.redis_rates import RedisRates
from tests.support.redis_server import Redis, running_redis

ALICE, BOB = Principal("default", "alice"), Principal("default", "bob")


@pytest.fixture
async def redis() -> AsyncIterator[Redis]:
    async with running_redis() as server:
        yield server


@pytest.fixture
async def rates(redis: Redis) -> AsyncIterator[RedisRates]:
    async with open_redis(redis.url, "one") as link:
        yield RedisRates(link, 5)


async def hits(rates: RedisRates, who: Principal, count: int) -> list[Standing | None]:
    return await asyncio.gather(*(rates.hit(who) for _ in range(count)))


async def test_so_many_as_the_limit_begin_of_many_at_once(rates: RedisRates) -> None:
    told = await hits(rates, ALICE, 20)

    assert sorted(str(each and each.refused) for each in told) == ["None"] * 5 + ["rate"] * 15
    assert min(each.rate.remaining for each in told if each and each.rate) == 0


async def test_two_processes_count_together_and_callers_and_releases_apart(redis: Redis, rates: RedisRates) -> None:
    async with open_redis(redis.url, "one") as link, open_redis(redis.url, "two") as of_another_release:
        other = RedisRates(link, 5)
        await hits(rates, ALICE, 3)
        await hits(other, ALICE, 2)

        assert [each and each.refused for each in await hits(rates, ALICE, 1)] == ["rate"]
        assert [each and each.refused for each in await hits(other, BOB, 1)] == [None]
        assert [each and each.refused for each in await hits(RedisRates(of_another_release, 5), ALICE, 1)] == [None]


async def test_while_redis_is_away_nothing_is_counted_there_and_nobody_waits_for_it_again(
    redis: Redis, rates: RedisRates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_link, "AWAY_SECONDS", 0.3)
    await hits(rates, ALICE, 1)
    await redis.stop()

    assert await hits(rates, ALICE, 2) == [None, None]
    await redis.start()
    assert await rates.hit(ALICE) is None  # it was away a moment ago
    async with asyncio.timeout(5):
        while await rates.hit(ALICE) is None:
            await asyncio.sleep(0.05)
