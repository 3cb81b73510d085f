"""Crons in Postgres: what their owners do with them, and which are due."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_type_hints
from uuid import UUID

from psycopg.errors import ForeignKeyViolation
from psycopg.types.json import Jsonb

from agent_service.db.pool import Connection, Pool, connection
from agent_service.errors import InvalidRequest, NotFound
from agent_service.principal import Principal
from agent_service.runs.run_rows import one
from agent_service.runs.run_types import RunInput

MAX_CRONS = 100
"""Of one principal."""

CLAIM_SECONDS = 10.0
"""That a process has to begin what it has claimed, before another tries."""

CronSort = Literal["cron_id", "assistant_id", "thread_id", "created_at", "updated_at", "next_run_date", "end_time"]


@dataclass(frozen=True, slots=True)
class Cron:
    """A schedule with what each of its runs is given."""

    id: UUID
    tenant: str
    user_id: str
    graph: str
    assistant: UUID | None
    """A stored one of the owner's; None: the graph's own."""
    thread_id: UUID | None
    schedule: str
    timezone: str | None
    end_time: datetime | None
    enabled: bool
    keeps: bool
    by_key: bool | None
    """Its owner came by an API key as it was made, or changed last; None: it was not kept."""
    owner_seen: datetime
    """When its owner showed a valid credential, to the hour."""
    payload: dict[str, Any]
    input: RunInput
    metadata: dict[str, Any]
    next_run: datetime | None
    last_run_id: UUID | None
    last_error: str | None
    created_at: datetime
    updated_at: datetime

    @property
    def principal(self) -> Principal:
        return Principal(self.tenant, self.user_id)


@dataclass(frozen=True, slots=True)
class Tick:
    """A time of a cron, with the one that follows."""

    cron_id: UUID
    at: datetime
    following: datetime | None


async def take_tick(conn: Connection, tick: Tick, run_id: UUID) -> bool:
    """Moves the cron on, in the transaction that begins its run: whether this is the one process that does."""
    return await one(conn, ADVANCE, tick.following, run_id, None, tick.cron_id, tick.at) is not None


class CronStore:
    """What the API does with crons."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(self, principal: Principal, values: Mapping[str, Any]) -> Cron:
        """`values`: by the names of Cron's fields. Raises InvalidRequest: the principal has as many as one may."""
        row = {**_for_json(values), "tenant": principal.tenant, "user_id": principal.user, "most": MAX_CRONS}
        async with connection(self._pool) as conn, conn.transaction():
            await conn.execute(ONE_AT_A_TIME, (principal.label,))
            try:
                found = await (await conn.execute(CREATE.encode(), row)).fetchone()
            except ForeignKeyViolation:
                raise InvalidRequest("assistant_id: it was deleted just now", field="assistant_id") from None
        if found is None:
            raise InvalidRequest(
                f"schedule: {MAX_CRONS} crons are kept for you, and no more may be; delete some", field="schedule"
            )
        return Cron(**found)

    async def get(self, principal: Principal, cron_id: UUID) -> Cron:
        """Raises NotFound."""
        async with connection(self._pool) as conn:
            row = await one(conn, GET, cron_id, principal.tenant, principal.user)
        return Cron(**_there(row))

    async def replace(self, cron: Cron, values: Mapping[str, Any]) -> Cron:
        """With other values; `moved`: its next time is another, too. Raises NotFound."""
        async with connection(self._pool) as conn:
            row = await (await conn.execute(REPLACE.encode(), {**_for_json(values), "id": cron.id})).fetchone()
        return Cron(**_there(row))

    async def delete(self, principal: Principal, cron_id: UUID) -> None:
        """Its runs stay. Raises NotFound."""
        async with connection(self._pool) as conn:
            _there(await one(conn, DELETE, cron_id, principal.tenant, principal.user))

    async def all_of(self, principal: Principal, metadata: Mapping[str, Any]) -> list[Cron]:
        """The principal's, at most MAX_CRONS."""
        async with connection(self._pool) as conn:
            rows = await (await conn.execute(ALL_OF.encode(), (principal.tenant, principal.user, Jsonb(metadata)))).fetchall()
        return [Cron(**row) for row in rows]

    async def seen(self, owners: Iterable[tuple[str, str]]) -> None:
        """Tenants and users who were here just now."""
        tenants, users = zip(*owners, strict=True)
        async with connection(self._pool) as conn:
            await conn.execute(SEEN, (list(tenants), list(users)))

    # Due

    async def seconds_to_next(self) -> float | None:
        """Until something is due, less than 0 when it is."""
        async with connection(self._pool) as conn:
            row = await one(conn, NEXT)
        return row["seconds"] if row else None

    async def claim(self, graphs: Sequence[str], most: int) -> list[tuple[Cron, datetime]]:
        """Crons of these graphs that are due, with the time now; no other process has them for a while."""
        async with connection(self._pool) as conn:
            values = {"graphs": list(graphs), "most": most, "seconds": CLAIM_SECONDS}
            rows = await (await conn.execute(CLAIM.encode(), values)).fetchall()
        return [(Cron(**row), at) for row in rows for at in [row.pop("claimed_at")]]

    async def refused(self, tick: Tick, why: str | None) -> None:
        """The tick passes without a run."""
        async with connection(self._pool) as conn:
            await one(conn, ADVANCE, tick.following, None, why, tick.cron_id, tick.at)


def _there(row: dict[str, Any] | None) -> dict[str, Any]:
    if row is None:
        raise NotFound("no such cron")
    return row


def _for_json(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: Jsonb(value) if isinstance(value, dict) else value for name, value in values.items()}


COLUMNS = ", ".join(f"c.{name}" for name in get_type_hints(Cron))

ONE_AT_A_TIME = b"SELECT pg_advisory_xact_lock(hashtextextended('slipway.crons/' || %s, 0))"

CREATE = f"""
INSERT INTO slipway.crons AS c
    (id, tenant, user_id, graph, assistant, thread_id, schedule, timezone, end_time,
     enabled, keeps, by_key, payload, input, metadata, next_run)
SELECT %(id)s, %(tenant)s, %(user_id)s, %(graph)s, %(assistant)s, %(thread_id)s, %(schedule)s, %(timezone)s, %(end_time)s,
       %(enabled)s, %(keeps)s, %(by_key)s, %(payload)s, %(input)s, %(metadata)s, %(next_run)s
WHERE (SELECT count(*) FROM slipway.crons WHERE tenant = %(tenant)s AND user_id = %(user_id)s) < %(most)s
RETURNING {COLUMNS}
"""

GET = f"SELECT {COLUMNS} FROM slipway.crons c WHERE id = %s AND tenant = %s AND user_id = %s"

REPLACE = f"""
UPDATE slipway.crons AS c SET schedule = %(schedule)s, timezone = %(timezone)s, end_time = %(end_time)s, enabled = %(enabled)s,
    keeps = %(keeps)s, by_key = %(by_key)s, payload = %(payload)s, input = %(input)s, metadata = %(metadata)s,
    next_run = CASE WHEN %(moved)s THEN %(next_run)s ELSE c.next_run END, updated_at = now()
WHERE id = %(id)s RETURNING {COLUMNS}
"""

DELETE = "DELETE FROM slipway.crons WHERE id = %s AND tenant = %s AND user_id = %s RETURNING id"

ALL_OF = f"SELECT {COLUMNS} FROM slipway.crons c WHERE tenant = %s AND user_id = %s AND metadata @> %s"

SEEN = b"""
UPDATE slipway.crons AS c SET owner_seen = now()
FROM unnest(%s::text[], %s::text[]) AS owner (tenant, user_id)
WHERE c.tenant = owner.tenant AND c.user_id = owner.user_id
"""

# Crons of a graph that no process here serves stay due: who asks waits as long as for any other.
NEXT = """
SELECT extract(epoch FROM next_run - now())::float8 AS seconds FROM slipway.crons
WHERE enabled AND next_run IS NOT NULL AND (claimed IS NULL OR claimed < now()) ORDER BY next_run LIMIT 1
"""

CLAIM = f"""
UPDATE slipway.crons AS c SET claimed = now() + %(seconds)s * interval '1 second'
WHERE id IN (
    SELECT id FROM slipway.crons
    WHERE enabled AND next_run <= now() AND (claimed IS NULL OR claimed < now()) AND graph = ANY(%(graphs)s)
    ORDER BY next_run LIMIT %(most)s FOR UPDATE SKIP LOCKED)
RETURNING {COLUMNS}, now() AS claimed_at
"""

ADVANCE = """
UPDATE slipway.crons SET next_run = %s, last_run_id = coalesce(%s, last_run_id), last_error = %s, claimed = NULL
WHERE id = %s AND next_run = %s AND enabled RETURNING id
"""
