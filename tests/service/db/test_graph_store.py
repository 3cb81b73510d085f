import asyncio

from agent_service.db.graph_store import GraphStore
from agent_service.db.pool import make_pool


async def test_the_store_waits_for_a_database_that_is_away(database_url: str) -> None:
    async with make_pool(database_url, size=1, timeout=0.05) as pool, GraphStore(pool) as store:
        await store.aput(("notes", "ann"), "colour", {"is": "blue"})
        only = await pool.getconn()
        reading = asyncio.create_task(store.aget(("notes", "ann"), "colour"))
        async with asyncio.timeout(10):
            while pool.get_stats().get("requests_errors", 0) < 2:
                await asyncio.sleep(0.01)
        waits = not reading.done()
        await pool.putconn(only)
        item = await reading

    assert waits
    assert item is not None
    assert item.value == {"is": "blue"}
