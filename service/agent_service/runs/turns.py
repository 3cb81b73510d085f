"""Turns: starts that are to wait for a place are counted in the queue one after another, of all processes.

Else all that come at one instant would see the same room in it. A commit of the writer takes its turn by slipway.in_turn.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from psycopg import errors

from agent_service.db.pool import Connection
from agent_service.errors import Overloaded

TURN_SECONDS = 10
"""How long a start waits for its turn, first in its process and then among processes, before it is refused. A turn takes some
10 ms, and who stands still in one loses it after 3 s (db/session_settings.py)."""

NOT_COME = "too many wait to be counted in the queue"


class Turns:
    """Of one process: one start at a time waits at the database, so that the others keep no connection meanwhile."""

    def __init__(self) -> None:
        self._next = asyncio.Lock()

    @asynccontextmanager
    async def next(self) -> AsyncIterator[None]:
        """The next one of this process. Raises Overloaded."""
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await self._next.acquire()
        except TimeoutError:
            raise Overloaded(NOT_COME) from None
        try:
            yield
        finally:
            self._next.release()

    async def take(self, conn: Connection) -> None:
        """The turn of this transaction, until it ends. Raises Overloaded."""
        try:
            await conn.execute("SELECT slipway.await_turn(%s)", (f"{TURN_SECONDS}s",))
        except errors.LockNotAvailable:
            raise Overloaded(NOT_COME) from None
