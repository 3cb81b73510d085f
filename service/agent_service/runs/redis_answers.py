"""Answers of the response cache in Redis; in PostgreSQL while that is away.

Whose session was erased is known to PostgreSQL alone, so that it is asked before an answer is given: an erased one never is, and
Redis forgets its text when its time is over.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from agent_service.db.pool import Pool, connection, until_database_answers
from agent_service.redis_link import RedisLink
from agent_service.runs.answers import WHAT, Answers, Found, Made
from agent_service.runs.live_run import LiveRun
from agent_service.runs.run_rows import one

HEIR_SECONDS = 10.0
"""After the lease of a dead maker: so long whoever takes the run over may make the answer before another does; as
slipway.find_answer has it."""

RENEWALS = 3
"""In the time for which a run is taken to be making its answer."""


class RedisAnswers:
    """`seconds`: for which an answer is given. `lease_seconds`: of a run."""

    def __init__(self, link: RedisLink, pool: Pool, instead: Answers, *, seconds: float, lease_seconds: float) -> None:
        self._link = link
        self._pool = pool
        self._instead = instead
        self._kept_ms = max(1, round(seconds * 1000))
        self._making_seconds = lease_seconds + HEIR_SECONDS
        self._scripts = {text: link.client.register_script(text) for text in (FIND, HOLD, KEEP, LEAVE)}

    async def find(self, live: LiveRun, key: bytes, *, again: bool) -> Found:
        if not again and not await self._is(IS_FIRST, live.run.thread_id, live.run.id):
            return Found("none")
        told = await self._run(FIND, live, key, self._making_ms)
        if told is None:
            return await self._instead.find(live, key, again=again)
        state, *kept = told
        if state != b"hit":
            return Found("make" if state == b"make" else "wait")
        row = _read(kept[0])
        if row and await self._is(GIVE, live.run.id, row["maker"]):
            return Found("hit", row["answer"], row["shown"], row["route"])
        await self._link.ask("answers", lambda: self._link.client.delete(self._keys(key)[0]))
        return Found("wait")

    @asynccontextmanager
    async def making(self, live: LiveRun, key: bytes) -> AsyncIterator[None]:
        holding = asyncio.create_task(self._hold(live, key), name=f"making-{live.run.id}")
        try:
            yield
        finally:
            holding.cancel()
            await asyncio.gather(holding, return_exceptions=True)  # or its last renewal might come behind this
            await self._run(LEAVE, live, key)

    async def _hold(self, live: LiveRun, key: bytes) -> None:
        while True:
            await self._run(HOLD, live, key, self._making_ms)
            await asyncio.sleep(self._making_seconds / RENEWALS)

    async def keep(self, live: LiveRun, key: bytes, made: Made) -> None:
        row = {"maker": str(live.run.id), "answer": made.answer, "shown": made.shown, "route": made.route}
        if not await self._run(KEEP, live, key, self._kept_ms, json.dumps(row)):
            await self._instead.keep(live, key, made)  # there it was told to make it, if anywhere

    @property
    def _making_ms(self) -> int:
        return round(self._making_seconds * 1000)

    def _keys(self, key: bytes) -> list[str]:
        """Of the answer, and of the run that makes it. In braces is what Redis Cluster places them by."""
        name = f"{self._link.prefix}:answer:{{{key.hex()}}}"
        return [name, f"{name}:maker"]

    async def _run(self, script: str, live: LiveRun, key: bytes, *values: Any) -> Any:
        """What the script says; None while Redis is away."""
        arguments = [str(live.run.id), *values]
        return await self._link.ask("answers", lambda: self._scripts[script](keys=self._keys(key), args=arguments))

    async def _is(self, query: str, *values: Any) -> bool:
        """Whether PostgreSQL has a row for it."""

        async def look() -> bool:
            async with connection(self._pool) as conn:
                return await one(conn, query, *values) is not None

        return await until_database_answers(look, WHAT)


def _read(kept: bytes) -> dict[str, Any] | None:
    """None: somebody else has written there."""
    try:
        row = json.loads(kept)
        return {name: row[name] for name in ("answer", "shown", "route")} | {"maker": UUID(row["maker"])}
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


IS_FIRST = "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM slipway.runs WHERE session_id = %s AND id <> %s)"

GIVE = """
UPDATE slipway.runs SET cached = true WHERE id = %s AND EXISTS (SELECT 1 FROM slipway.runs WHERE id = %s) RETURNING 1
"""

# Scripts, each at once as a whole. KEYS: of the answer, of its maker. ARGV: the run's id, milliseconds, the answer.

FIND = """
local answer = redis.call('GET', KEYS[1])
if answer then return {'hit', answer} end
local maker = redis.call('GET', KEYS[2])
if maker and maker ~= ARGV[1] then return {'wait'} end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return {'make'}
"""

HOLD = """
local maker = redis.call('GET', KEYS[2])
if maker and maker ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return 1
"""

KEEP = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[2])
return 1
"""

LEAVE = """
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
return 1
"""
