"""Gauges that are looked up now and then: the connection pool, and which keys are in use since when."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent_service.db.pool import Pool, connection
from agent_service.errors import SlipwayError
from agent_service.logs import logger
from agent_service.metrics import Metrics

WATCH_SECONDS = 1.0
"""Between two looks: well under a scrape interval. A key costs one `stat` of its file."""

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class KeySource:
    """`revision` is the name people gave it, `identity` a hash that changes with the key itself; either may be empty."""

    revision: Callable[[], str]
    identity: Callable[[], str]


async def watch_pool(pool: Pool, metrics: Metrics) -> None:
    """Tells how the pool's connections are used, for as long as it is asked to."""
    while True:
        stats = pool.get_stats()
        idle = stats.get("pool_available", 0)
        metrics.pool_connections.labels("idle").set(idle)
        metrics.pool_connections.labels("in_use").set(stats.get("pool_size", 0) - idle)
        metrics.pool_connections.labels("waiting").set(stats.get("requests_waiting", 0))
        await asyncio.sleep(WATCH_SECONDS)


async def watch_keys(pool: Pool, metrics: Metrics, sources: Mapping[str, KeySource]) -> None:
    """Tells the revision in use and since when any process of this database has used the key, for as long as it is asked to."""
    known: dict[str, tuple[str, str]] = {}
    while True:
        for name, source in sources.items():
            seen = (source.revision(), source.identity())
            if seen != known.get(name):
                try:
                    await _take_up(pool, metrics, name, *seen)
                except SlipwayError:
                    continue  # the database is away: the next look tries again
                if name in known:
                    log.info("key_changed", key=name, revision=seen[0])
                known[name] = seen
        await asyncio.sleep(WATCH_SECONDS)


async def _take_up(pool: Pool, metrics: Metrics, name: str, revision: str, identity: str) -> None:
    since = await _first_seen(pool, name, identity)
    metrics.key_revision.remove_by_labels({"key": name})
    metrics.key_revision.labels(name, revision).set(1)
    metrics.key_loaded.labels(name).set(since)


async def _first_seen(pool: Pool, name: str, identity: str) -> float:
    async with connection(pool) as conn:
        row = await (await conn.execute(FIRST_SEEN, (name, identity))).fetchone()
    return float(row["since"]) if row else 0.0


FIRST_SEEN = """
INSERT INTO slipway.key_revisions AS k (key, identity) VALUES (%s, %s)
ON CONFLICT (key, identity) DO UPDATE SET identity = k.identity
RETURNING extract(epoch FROM k.first_seen) AS since
"""
