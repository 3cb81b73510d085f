"""Answers to identical first questions, kept for a while: opt-in, as only who wrote the graph knows that they stay true.

The same question of the same scope to the same version of the graph and model, at the start of a session. One run makes the
answer, however many ask at once on however many processes; the others wait for it, and take over if it fails.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakValueDictionary

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.constants import END, START
from psycopg.types.json import Jsonb

from agent_service.db.pool import Pool, connection
from agent_service.metrics import Metrics
from agent_service.runs.events import News, storable
from agent_service.runs.live_run import LiveRun
from agent_service.runs.recovery import Graph
from agent_service.runs.run_types import Ending

Scope = Literal["principal", "tenant", "everyone"]

FIRST_WAIT_SECONDS, MOST_WAIT_SECONDS = 0.05, 0.5
"""Between two looks for the answer that a run on another process makes; doubled each time."""

SOURCE = "cache"
"""Where the text of such an answer comes from, in the place of a node."""


@dataclass(frozen=True, slots=True)
class Found:
    """What to do, and the answer on a hit; `shown` are events beside its text: kind, node, payload."""

    state: Literal["none", "hit", "make", "wait"]
    answer: str | None
    shown: list[tuple[Any, str, Any]] | None
    route: str | None


class ResponseCache:
    """Of one process.

    Args:
        version: of the graph and its model; another one has answers of its own.
    """

    def __init__(
        self, pool: Pool, graph: Graph, metrics: Metrics, *, seconds: float, scope: Scope, version: tuple[str, ...]
    ) -> None:
        self._pool = pool
        self._graph = graph
        self._metrics = metrics
        self._seconds = seconds
        self._scope = scope
        self._version = version
        self._turns: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        """Runs of this process that want one key take turns, so that one of them asks the database."""

    async def through(self, live: LiveRun, config: RunnableConfig, drive: Callable[[], Awaitable[Ending]]) -> Ending:
        """The run's ending, by the cache or by `drive`."""
        key = self._key(live)
        if key is None:
            return await drive()
        if live.run.attempt > 1:
            return await self._kept(live, key, await drive())
        turn = self._turns.setdefault(key, asyncio.Lock())
        async with turn:
            found, waited = await self._find(live, key)
            if found.state == "make":
                self._metrics.cache_requests.labels("miss").inc()
                return await self._kept(live, key, await drive())
        if found.state == "none":
            return await drive()
        self._metrics.cache_requests.labels("waited" if waited else "hit").inc()
        return await self._say(live, config, found)

    def _key(self, live: LiveRun) -> bytes | None:
        """None for what is no question alone, as a decision or a history of messages is."""
        run = live.run
        if run.input.get("messages") != [{"role": "user", "content": run.question}] or "messages" not in self._graph.channels:
            return None
        scope = {"principal": (run.tenant, run.user_id), "tenant": (run.tenant,), "everyone": ()}[self._scope]
        asked = [self._scope, *scope, *self._version, run.question, run.input.get("context")]
        return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).digest()

    async def _find(self, live: LiveRun, key: bytes) -> tuple[Found, bool]:
        """What to do, and whether that took waiting."""
        pause, waited = FIRST_WAIT_SECONDS, False
        while True:
            async with connection(self._pool) as conn:
                row = await (await conn.execute(FIND, (key, live.run.id, live.run.thread_id))).fetchone()
            assert row is not None  # noqa: S101  # a function without a set has one
            if row["state"] != "wait":
                return Found(**row), waited
            waited = True
            await asyncio.sleep(pause)
            pause = min(2 * pause, MOST_WAIT_SECONDS)

    async def _kept(self, live: LiveRun, key: bytes, ending: Ending) -> Ending:
        """Keeps the answer of a run that was to make it and has; for any other there is nothing to keep."""
        if ending.outcome == "completed" and (answer := live.said.answer):
            shown = [(e.kind, e.node, e.payload) for e in live.said.events if e.kind in {"tool_start", "tool_end"}]
            values = (answer, Jsonb(shown), storable(live.route), self._seconds, key, live.run.id)
            async with connection(self._pool) as conn:
                await conn.execute(KEEP, values)
        return ending

    async def _say(self, live: LiveRun, config: RunnableConfig, found: Found) -> Ending:
        """Tells the answer as if it had been made, and puts it into the session, for the questions that follow."""
        live.cached, live.route = True, found.route
        for kind, node, payload in found.shown or ():
            live.said.publish(News(kind, payload, node))
        answer = found.answer or ""
        live.said.publish_text(answer, SOURCE)
        question = {"role": "user", "content": live.run.question}
        said = {"messages": [question, AIMessage(answer, id=f"cached-{live.run.id}")]}
        saved = await self._graph.aupdate_state(config, said, START)
        here: RunnableConfig = {**config, "configurable": {**config["configurable"], **saved["configurable"]}}
        await self._graph.aupdate_state(here, None, END)  # or the graph would be about to answer, as after any input
        return Ending("completed")


FIND = "SELECT state, answer, shown, route FROM slipway.find_answer(%s, %s, %s)"

KEEP = """
UPDATE slipway.answers SET answer = %s, shown = %s, route = %s, expires_at = now() + %s * interval '1 second'
WHERE key = %s AND maker = %s
"""
