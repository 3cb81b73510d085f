"""What a principal keeps in LangGraph's store: under a namespace of its own, out of which no label leads."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from langgraph.store.base import GetOp, Item, PutOp, SearchItem, SearchOp

from agent_service.db.graph_store import GraphStore
from agent_service.db.pool import Pool, connection
from agent_service.db.store_namespaces import Wanted, namespaces
from agent_service.errors import InvalidRequest
from agent_service.principal import Principal

MAX_PLACE_BYTES = 2_500
"""Of a namespace with its owner's names and a key: the store's index takes rows of 2,704 bytes."""

MAX_ITEMS = 10_000
"""Of one principal, those of graphs under the same namespace counted. With 64 KiB each that is 640 MB."""

Namespace = Sequence[str]
"""Labels, of which none is empty or holds a dot."""


class CallerStore:
    """LangGraph's store, of which each principal sees what stands under its own namespace (Principal.namespace)."""

    def __init__(self, pool: Pool, store: GraphStore) -> None:
        self._pool = pool
        self._store = store

    async def put(self, principal: Principal, namespace: Namespace, key: str, value: dict[str, Any]) -> None:
        """Keeps a value, in place of the one that is there. Raises InvalidRequest: it is one too many, or its place too long."""
        place = _place(principal, namespace, key)
        await self._refuse_one_too_many(principal, place, key)
        await self._store.at_once(PutOp(place, key, value))

    async def get(self, principal: Principal, namespace: Namespace, key: str, *, refresh_ttl: bool) -> Item | None:
        """The item, None where there is none."""
        found = await self._store.at_once(GetOp(_place(principal, namespace, key), key, refresh_ttl=refresh_ttl))
        return cast("Item | None", found)

    async def delete(self, principal: Principal, namespace: Namespace, key: str) -> None:
        """Nothing happens where there is none."""
        await self._store.at_once(PutOp(_place(principal, namespace, key), key, None))

    async def search(
        self,
        principal: Principal,
        prefix: Namespace,
        *,
        matching: Mapping[str, Any] | None,
        limit: int,
        offset: int,
        refresh_ttl: bool,
    ) -> list[SearchItem]:
        """Items under a namespace, the newest first."""
        wanted = dict(matching) if matching else None
        place = (*principal.namespace, *prefix)
        found = await self._store.at_once(SearchOp(place, wanted, limit, offset, refresh_ttl=refresh_ttl))
        return cast("list[SearchItem]", found)

    async def namespaces(
        self,
        principal: Principal,
        *,
        prefix: Namespace,
        suffix: Namespace,
        max_depth: int | None,
        limit: int,
        offset: int,
    ) -> list[tuple[str, ...]]:
        """Namespaces that hold something; a `*` in `prefix` or `suffix` stands for any label.

        Raises InvalidRequest: too many would have to be looked at.
        """
        return await namespaces(self._pool, Wanted(principal.namespace, prefix, suffix, max_depth, limit, offset))

    async def _refuse_one_too_many(self, principal: Principal, place: tuple[str, ...], key: str) -> None:
        root = ".".join(principal.namespace)
        values = {"root": root, "first": root + ".", "after": root + "/", "place": ".".join(place), "key": key, "most": MAX_ITEMS}
        async with connection(self._pool) as conn:
            row = await (await conn.execute(IS_FULL, values)).fetchone()
        if row and row["is_full"]:
            raise InvalidRequest(f"key: {MAX_ITEMS} items are kept, and no more may be; delete some", field="key")


def own_part(principal: Principal, namespace: Namespace) -> list[str]:
    """The labels of a stored namespace as its owner knows them."""
    return list(namespace[len(principal.namespace) :])


def _place(principal: Principal, namespace: Namespace, key: str) -> tuple[str, ...]:
    place = (*principal.namespace, *namespace)
    size = len(".".join(place).encode()) + len(key.encode())
    if size > MAX_PLACE_BYTES:
        over = size - MAX_PLACE_BYTES
        raise InvalidRequest(f"namespace: with its key {over} bytes longer than it may be", field="namespace")
    return place


# A range of bytes: `/` is the one that follows `.`. So the index on prefixes (text_pattern_ops) counts.
IS_FULL = b"""
SELECT NOT EXISTS (SELECT 1 FROM public.store WHERE prefix = %(place)s AND key = %(key)s)
       AND %(most)s <= (SELECT count(*) FROM (
            SELECT 1 FROM public.store
            WHERE prefix = %(root)s OR (prefix ~>=~ %(first)s AND prefix ~<~ %(after)s) LIMIT %(most)s) AS kept) AS is_full
"""
