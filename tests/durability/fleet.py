"""A few replicas on one database with one fake model, shared by the tests of a module and healed between them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import psycopg

from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script
from tests.support.postgres import fresh_database
from tests.support.reader import Reader
from tests.support.replicas import Replica, running_replicas, stop_all

T = TypeVar("T")

LEASE_SECONDS = 2
"""Short, so that tests are; long enough for two busy cores not to lose a lease by accident."""

START_SECONDS = 60.0
"""A replica takes 2 s of one core to start; 20 s were seen on two cores that others used, too."""

SCRIPT = Script(token_count=40, tokens_per_second=20)


@dataclass
class Fleet:
    replicas: list[Replica]
    model: FakeModel
    client: httpx.AsyncClient
    database_url: str
    effects_file: Path
    starting: dict[Replica, asyncio.Task[None]] = field(default_factory=dict)
    grown: list[Replica] = field(default_factory=list)

    async def heal(self, script: Script = SCRIPT) -> None:
        """Two replicas are up, others that died are on their way, and the model is back at its usual pace."""
        self.model.script = script
        for replica in self.replicas:
            if replica.dead and replica not in self.starting:
                self.starting[replica] = asyncio.create_task(replica.start())
        await until(lambda: len(self.alive()) >= 2, START_SECONDS)
        self.replicas.sort(key=lambda replica: replica in self.starting)

    async def grow(self) -> Replica:
        """One more replica, ready; it is not asked anything yet."""
        model = self.replicas[0]
        replica = Replica(model.env, model.log.with_name(f"replica-{uuid4().hex[:8]}.log"))
        self.grown.append(replica)
        await replica.start()
        return replica

    def urls(self) -> list[str]:
        return [replica.url for replica in self.replicas]

    def alive(self) -> list[Replica]:
        for replica in [replica for replica, task in self.starting.items() if task.done()]:
            self.starting.pop(replica).result()
        return [replica for replica in self.replicas if not replica.dead and replica not in self.starting]

    def reader(self, question: str) -> Reader:
        """Asks the first replica, reads there, and goes round when it is gone."""
        return Reader(self.urls, question)

    async def ask(self, replica: Replica, question: str, key: str | None = None, **body: Any) -> httpx.Response:
        """Starts a run and does not wait for it."""
        headers = {"Prefer": "respond-async", **({"Idempotency-Key": key} if key else {})}
        return await self.client.post(f"{replica.url}/chat", json={"question": question, **body}, headers=headers)

    async def ended(self, replica: Replica, run_id: str) -> dict[str, Any]:
        """The run, once it has ended."""

        async def look() -> dict[str, Any] | None:
            run: dict[str, Any] = (await self.client.get(f"{replica.url}/runs/{run_id}")).json()
            return run if run["outcome"] else None

        return await until(look)

    def sql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url, autocommit=True) as conn:
            cursor = conn.execute(query.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def effects(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return self.effects_file.read_text().splitlines()
        return []


async def until(look: Callable[[], Awaitable[T | None] | T | None], seconds: float = 20.0) -> T:
    """Waits until what is looked at is true, and returns it."""
    async with asyncio.timeout(seconds):
        while True:
            found = look()
            value = await found if isinstance(found, Awaitable) else found
            if value:
                return value
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running_fleet(
    admin_url: str, folder: Path, count: int, *, each: Sequence[dict[str, str]] = (), **env: str
) -> AsyncIterator[Fleet]:
    limits = httpx.Limits(max_connections=1000, max_keepalive_connections=0)
    with fresh_database(admin_url) as database_url:
        async with FakeModel(SCRIPT) as model, httpx.AsyncClient(timeout=httpx.Timeout(5, read=20), limits=limits) as client:
            everything = {
                "DATABASE_URL": database_url,
                "AGENT_GRAPH": "tests.durability.graphs:build",
                "MODEL": "gpt-4o",
                "OPENAI_BASE_URL": model.url,
                "OPENAI_API_KEY": "sk-test",
                "LEASE_SECONDS": str(LEASE_SECONDS),
                "DRAIN_SECONDS": "20",
                "SIDE_EFFECTS": str(folder / "effects"),
                **env,
            }
            async with running_replicas(count, everything, folder, each) as replicas:
                fleet = Fleet(replicas, model, client, database_url, folder / "effects")
                try:
                    yield fleet
                finally:
                    await asyncio.gather(*fleet.starting.values(), return_exceptions=True)
                    await stop_all(fleet.grown)
