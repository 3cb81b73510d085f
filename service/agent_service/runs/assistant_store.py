"""Assistants in Postgres: a graph with the config and context that its owner has chosen, in versions."""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from agent_service.db.pool import Connection, Pool, connection
from agent_service.errors import AlreadyExists, InvalidRequest, NotFound
from agent_service.principal import Principal
from agent_service.runs.assistant import Assistant
from agent_service.runs.run_rows import one

MAX_ASSISTANTS = 200
"""Of one principal. A search reads them all, with at most 32 KiB each."""

MAX_VERSIONS = 50
"""Of one assistant; the oldest goes when one more is made."""


class AssistantStore:
    """Assistants by owner: another's is one that does not exist."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(self, principal: Principal, made: Assistant, *, join: bool) -> Assistant:
        """A new one. With `join` one that is there is returned as it is.

        Raises:
            AlreadyExists: it is there, and not to be joined.
            InvalidRequest: the principal has as many as one may.
        """
        values = _values(principal, made)
        async with connection(self._pool) as conn, conn.transaction():
            await conn.execute(ONE_AT_A_TIME, (principal.label,))
            if found := await _find(conn, principal, made.id):
                if join:
                    return found
                raise AlreadyExists(f"assistant_id: an assistant {made.id} exists already", field="assistant_id")
            if not (await conn.execute(CREATE, {**values, "most": MAX_ASSISTANTS})).rowcount:
                raise InvalidRequest(
                    f"assistant_id: {MAX_ASSISTANTS} assistants are kept for you, and no more may be; delete some",
                    field="assistant_id",
                )
            await conn.execute(ADD_VERSION, values)
            return _there(await _find(conn, principal, made.id), made.id)

    async def get(self, principal: Principal, assistant_id: UUID) -> Assistant | None:
        """As runs take it; None when there is none."""
        async with connection(self._pool) as conn:
            return await _find(conn, principal, assistant_id)

    async def all_of(self, principal: Principal, metadata: Mapping[str, Any]) -> list[Assistant]:
        """The principal's, at most MAX_ASSISTANTS."""
        values = {"tenant": principal.tenant, "user": principal.user, "metadata": Jsonb(metadata)}
        async with connection(self._pool) as conn:
            rows = await (await conn.execute(ALL_OF.encode(), values)).fetchall()
        return [Assistant(**row) for row in rows]

    async def change(self, principal: Principal, assistant_id: UUID, changed: Callable[[Assistant], Assistant]) -> Assistant:
        """A new version, which runs take from now on. Raises NotFound, and what `changed` does."""
        async with connection(self._pool) as conn, conn.transaction():
            version = 1 + await _lock(conn, principal, assistant_id)
            current = _there(await _find(conn, principal, assistant_id), assistant_id)
            values = {**_values(principal, changed(current)), "version": version}
            await conn.execute(ADD_VERSION, values)
            await conn.execute(FORGET_OLDEST, {**values, "most": MAX_VERSIONS})
            return await _choose(conn, principal, assistant_id, values)

    async def choose(self, principal: Principal, assistant_id: UUID, version: int) -> Assistant:
        """Makes a version the one that runs take. Raises NotFound."""
        values = {"tenant": principal.tenant, "user": principal.user, "id": assistant_id, "version": version}
        async with connection(self._pool) as conn, conn.transaction():
            await _lock(conn, principal, assistant_id)
            return await _choose(conn, principal, assistant_id, values)

    async def versions(
        self, principal: Principal, assistant_id: UUID, metadata: Mapping[str, Any], *, limit: int, offset: int
    ) -> list[Assistant]:
        """The newest first. Raises NotFound."""
        values = {
            "tenant": principal.tenant, "user": principal.user, "id": assistant_id, "metadata": Jsonb(metadata),
            "limit": limit, "offset": offset,
        }  # fmt: skip
        async with connection(self._pool) as conn:
            _there(await _find(conn, principal, assistant_id), assistant_id)
            rows = await (await conn.execute(VERSIONS.encode(), values)).fetchall()
        return [Assistant(**row) for row in rows]

    async def delete(self, principal: Principal, assistant_id: UUID) -> None:
        """With its versions and its crons; its runs and their threads stay. Raises NotFound."""
        async with connection(self._pool) as conn:
            if await one(conn, DELETE, *_key(principal, assistant_id)) is None:
                raise _none(assistant_id)


async def _find(conn: Connection, principal: Principal, assistant_id: UUID) -> Assistant | None:
    row = await one(conn, GET, *_key(principal, assistant_id))
    return Assistant(**row) if row else None


async def _lock(conn: Connection, principal: Principal, assistant_id: UUID) -> int:
    """The number of its newest version; nobody else changes it before the transaction's end. Raises NotFound."""
    row = await one(conn, LOCK, *_key(principal, assistant_id))
    if row is None:
        raise _none(assistant_id)
    return int(row["newest"])


async def _choose(conn: Connection, principal: Principal, assistant_id: UUID, values: Mapping[str, Any]) -> Assistant:
    """Its crons go on with the graph of that version."""
    if not (await conn.execute(CHOOSE, values)).rowcount:
        raise NotFound(f"assistant {assistant_id} has no version {values['version']}", field="version")
    await conn.execute(MOVE_CRONS, values)
    return _there(await _find(conn, principal, assistant_id), assistant_id)


def _there(found: Assistant | None, assistant_id: UUID) -> Assistant:
    if found is None:
        raise _none(assistant_id)
    return found


def _none(assistant_id: UUID) -> NotFound:
    return NotFound(f"Assistant {assistant_id} not found", field="assistant_id")


def _key(principal: Principal, assistant_id: UUID) -> tuple[str, str, UUID]:
    return principal.tenant, principal.user, assistant_id


def _values(principal: Principal, assistant: Assistant) -> dict[str, Any]:
    return {
        "tenant": principal.tenant,
        "user": principal.user,
        "id": assistant.id,
        "version": assistant.version,
        "graph": assistant.graph,
        "name": assistant.name,
        "description": assistant.description,
        "config": Jsonb(assistant.config),
        "context": Jsonb(assistant.context),
        "metadata": Jsonb(assistant.metadata),
    }


ONE_AT_A_TIME = b"SELECT pg_advisory_xact_lock(hashtextextended('slipway.assistants/' || %s, 0))"

SHOWN = """
SELECT v.id, v.graph, v.name, v.description, v.config, v.context, v.metadata, v.version, {created_at}, {updated_at}
FROM slipway.assistants a JOIN slipway.assistant_versions v
    ON v.tenant = a.tenant AND v.user_id = a.user_id AND v.id = a.id
"""

CURRENT = SHOWN.format(created_at="a.created_at", updated_at="a.updated_at") + " AND v.version = a.version"

GET = f"{CURRENT} WHERE a.tenant = %s AND a.user_id = %s AND a.id = %s"

ALL_OF = f"{CURRENT} WHERE a.tenant = %(tenant)s AND a.user_id = %(user)s AND v.metadata @> %(metadata)s"

VERSIONS = f"""
{SHOWN.format(created_at="v.created_at", updated_at="v.created_at AS updated_at")}
WHERE a.tenant = %(tenant)s AND a.user_id = %(user)s AND a.id = %(id)s AND v.metadata @> %(metadata)s
ORDER BY v.version DESC LIMIT %(limit)s OFFSET %(offset)s
"""

CREATE = b"""
INSERT INTO slipway.assistants (tenant, user_id, id, version, newest)
SELECT %(tenant)s, %(user)s, %(id)s, %(version)s, %(version)s
WHERE (SELECT count(*) FROM slipway.assistants WHERE tenant = %(tenant)s AND user_id = %(user)s) < %(most)s
"""

ADD_VERSION = b"""
INSERT INTO slipway.assistant_versions (tenant, user_id, id, version, graph, name, description, config, context, metadata)
VALUES (%(tenant)s, %(user)s, %(id)s, %(version)s, %(graph)s, %(name)s, %(description)s, %(config)s, %(context)s, %(metadata)s)
"""

LOCK = "SELECT newest FROM slipway.assistants WHERE tenant = %s AND user_id = %s AND id = %s FOR UPDATE"

CHOOSE = b"""
UPDATE slipway.assistants a SET version = %(version)s, newest = greatest(newest, %(version)s), updated_at = now()
WHERE a.tenant = %(tenant)s AND a.user_id = %(user)s AND a.id = %(id)s AND EXISTS (
    SELECT 1 FROM slipway.assistant_versions v
    WHERE v.tenant = a.tenant AND v.user_id = a.user_id AND v.id = a.id AND v.version = %(version)s)
"""

MOVE_CRONS = b"""
UPDATE slipway.crons c SET graph = v.graph FROM slipway.assistant_versions v
WHERE c.tenant = %(tenant)s AND c.user_id = %(user)s AND c.assistant = %(id)s AND c.graph <> v.graph
  AND v.tenant = c.tenant AND v.user_id = c.user_id AND v.id = %(id)s AND v.version = %(version)s
"""

FORGET_OLDEST = b"""
DELETE FROM slipway.assistant_versions WHERE tenant = %(tenant)s AND user_id = %(user)s AND id = %(id)s AND version IN (
    SELECT version FROM slipway.assistant_versions WHERE tenant = %(tenant)s AND user_id = %(user)s AND id = %(id)s
    ORDER BY version DESC OFFSET %(most)s)
"""

DELETE = "DELETE FROM slipway.assistants WHERE tenant = %s AND user_id = %s AND id = %s RETURNING id"
