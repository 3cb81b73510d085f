"""Which graphs are served by some process: a run whose graph is served nowhere waits for one that does, but not for ever."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

import structlog

from agent_service.db.pool import Pool, connection
from agent_service.errors import DatabaseUnavailable

log = structlog.stdlib.get_logger(__name__)

SAY_SECONDS = 60.0
"""Between two times that a process says what it serves: one small statement."""

GONE_SECONDS = 900.0
"""A graph that nobody has served for so long is gone. A rollout, and one back, are over by then: a pod may take five minutes to
drain, and as long to start."""


class ServedGraphs:
    """What this process serves (`names`), and which graphs of unfinished runs are `gone`."""

    def __init__(self, pool: Pool, names: Sequence[str]) -> None:
        self._pool = pool
        self._names = list(names)
        self._since = time.monotonic()
        self.gone: list[str] = []

    @property
    def claimable(self) -> list[str]:
        """Whose runs this process takes: those of a graph that is gone, to end them."""
        return [*self._names, *self.gone]

    async def run_forever(self) -> None:
        """Says what is served here, and looks what is served nowhere."""
        while True:
            with suppress(DatabaseUnavailable):
                await self.look()
            await asyncio.sleep(SAY_SECONDS)

    async def look(self) -> None:
        """Once. A process that has just started knows nothing of who starts beside it."""
        async with connection(self._pool) as conn:
            rows = await (await conn.execute(LOOK, (self._names, self._names, GONE_SECONDS))).fetchall()
        gone = [row["graph"] for row in rows] if time.monotonic() - self._since >= GONE_SECONDS else []
        if new := sorted(set(gone) - set(self.gone)):
            log.warning("graphs_not_served", graphs=new, effect="their unfinished runs end as failed")
        self.gone = gone


LOOK = """
WITH said AS (
    INSERT INTO slipway.served_graphs (name) SELECT unnest(%s::text[])
    ON CONFLICT (name) DO UPDATE SET seen_at = now()
)
SELECT DISTINCT r.graph FROM slipway.runs r
WHERE r.status <> 'finished' AND r.graph <> ALL(%s::text[])
  AND NOT EXISTS (SELECT 1 FROM slipway.served_graphs g
                  WHERE g.name = r.graph AND g.seen_at > now() - %s * interval '1 second')
"""
