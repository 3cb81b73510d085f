"""A turn on a database that has stored a thousand runs, and a million."""

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import replace

import psycopg

from bench.scenarios.compare import Comparison, TurnFigures, turns
from bench.servers import SHARED, server_process
from bench.stage import FULL, Stage

GROWTH = TurnFigures("growth", "stored runs, c=16")

SESSION_RUNS, USERS = 5, 10_000


async def growth(stage: Stage) -> None:
    """Both with statistics as autovacuum leaves them."""
    sizes = (1_000, 1_000_000) if stage.effort is FULL else (1_000, 20_000)
    async with AsyncExitStack() as stack:
        servers = []
        for size in sizes:
            database = stack.enter_context(stage.postgres.database(migrated=True))
            started = time.perf_counter()
            await asyncio.to_thread(fill, database, size)
            name = f"{size:,} stored runs"
            stage.say(f"{name}, filled in {time.perf_counter() - started:.0f} s")
            server = await stack.enter_async_context(server_process(SHARED, database, stage.model_url))
            servers.append(replace(server, name=name))
        await (await Comparison.of(stage, servers)).measure(GROWTH, turns(16, stage.effort.seconds))


def fill(database: str, runs: int) -> None:
    """Runs that have ended, each with its events, its row of the ledger and its graph's state."""
    with psycopg.connect(database) as conn:
        conn.execute("SET session_replication_role = replica")  # what is made here refers to what is made here
        conn.execute("SET synchronous_commit = off")
        values = {"runs": runs, "sessions": runs // SESSION_RUNS, "users": USERS}
        for statement in FILL:
            conn.execute(statement, values)
        conn.execute("ANALYZE")


FILL = (
    """
    INSERT INTO slipway.sessions (id, tenant, user_id, title, compacted_at, last_active_at)
    SELECT 's' || s, 'default', 'u' || s %% %(users)s, 'What is a lease?', at, at
    FROM generate_series(1, %(sessions)s) AS s, LATERAL (SELECT now() - s * interval '5 seconds' AS at) AS t
    """,
    """
    INSERT INTO slipway.runs (id, session_id, tenant, user_id, question, input, status, outcome, attempt, answer,
                              created_at, started_at, finished_at)
    SELECT gen_random_uuid(), 's' || s, 'default', 'u' || s %% %(users)s, 'What is a lease?', '{}', 'finished', 'completed', 1,
           repeat('word ', 50), at, at, at
    FROM generate_series(1, %(runs)s) AS r,
         LATERAL (SELECT 1 + r %% %(sessions)s AS s, now() - r * interval '1 second' AS at) AS t
    """,
    """
    INSERT INTO slipway.run_events (run_id, attempt, first_seq, last_seq, events)
    SELECT id, 1, 1, 3, ('[["run","",{}],["text","answer","' || answer || '"],["end","",{}]]')::json
    FROM (SELECT id, answer FROM slipway.runs) AS r
    """,
    """
    INSERT INTO slipway.ledger (run_id, attempt, call, session_id, tenant, user_id, node, model, input_tokens, cached_tokens,
                                output_tokens, cost_usd, estimated, created_at)
    SELECT id, 1, 1, session_id, tenant, user_id, 'answer', 'gpt-4.1-mini', 100, 0, 50, 0.0001, false, created_at
    FROM slipway.runs
    """,
    """
    INSERT INTO checkpoints (thread_id, checkpoint_id, type, checkpoint, metadata)
    SELECT id, gen_random_uuid()::text, NULL, '{"v": 4, "channel_values": {}}', '{}' FROM slipway.sessions
    """,
    """
    INSERT INTO checkpoint_blobs (thread_id, channel, version, type, blob)
    SELECT id, 'messages', '1', 'msgpack', convert_to(repeat('word ', 200), 'UTF8') FROM slipway.sessions
    """,
)
