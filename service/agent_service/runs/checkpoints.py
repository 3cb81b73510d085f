"""LangGraph's checkpointer on our pool."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg import AsyncCursor
from psycopg.rows import DictRow, dict_row

from agent_service.db.pool import Pool, connection


class Checkpointer(AsyncPostgresSaver):
    """AsyncPostgresSaver without its lock: that one makes all runs of a process take turns at the database,
    though each takes a connection of its own from the pool (langgraph-checkpoint-postgres 3.2, aio.py `_cursor`).
    """

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self._pool = pool

    @asynccontextmanager
    async def _cursor(self, *, pipeline: bool = False) -> AsyncIterator[AsyncCursor[DictRow]]:
        async with connection(self._pool) as conn:
            if not pipeline:
                async with conn.cursor(binary=True, row_factory=dict_row) as cursor:
                    yield cursor
                return
            async with conn.transaction(), conn.pipeline(), conn.cursor(binary=True, row_factory=dict_row) as cursor:
                yield cursor
