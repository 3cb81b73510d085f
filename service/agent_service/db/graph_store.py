"""LangGraph's long-term store on our pool: a node that reads or writes it waits for a database that is away."""

from collections.abc import Iterable

from langgraph.store.base import Op, Result
from langgraph.store.postgres import AsyncPostgresStore

from agent_service.db.pool import database_errors, until_database_answers


class GraphStore(AsyncPostgresStore):
    """AsyncPostgresStore that waits for the database."""

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """Every call of the store ends here. Doing them again is safe: reads, upserts, deletes."""
        kept = list(ops)
        return await until_database_answers(lambda: super(GraphStore, self).abatch(kept), "store")

    async def at_once(self, op: Op) -> Result:
        """One call that waits for no database: somebody waits for its answer. Raises DatabaseUnavailable."""
        with database_errors():
            return (await super().abatch([op]))[0]
