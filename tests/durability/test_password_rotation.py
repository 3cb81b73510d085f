"""The database's password is replaced under load and the old one locked out, as docs/operations/database.md says."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psycopg
import pytest

from agent_service.db.migrate import migrate
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script, echo_tokens
from tests.support.postgres import Server, own_servers
from tests.support.reader import Reader
from tests.support.replicas import Replica, running_replicas

PAGE = Path(__file__).parents[2] / "docs" / "operations" / "database.md"

TOKENS = 60

STREAMS = 6

HBA = "local all postgres trust\nlocal all all scram-sha-256\n"

Rotation = Callable[[list[Replica]], Awaitable[None]]


@pytest.fixture
def server() -> Iterator[Server]:
    """It asks for passwords, and has the roles of the page."""
    with own_servers(1) as [found]:
        found.create()
        (found.data / "pg_hba.conf").write_text(HBA, encoding="utf-8")
        found.start()
        section = PAGE.read_text(encoding="utf-8").partition("## Rotate the password")[2]
        (statements,) = re.findall(r"```sql\n(.*?)```", section.partition("\n## ")[0], re.DOTALL)
        with psycopg.connect(found.url, autocommit=True) as admin:
            admin.execute("CREATE ROLE slipway_data_reader NOLOGIN")
            admin.execute("CREATE DATABASE slipway")
            for statement in statements.split(";\n"):
                admin.execute(statement.encode())
        migrate(address(found, "slipway_a", "first"))
        yield found


def address(server: Server, user: str, password: str) -> str:
    return f"postgresql://{user}:{password}@/slipway?host={server.socket}"


def run(server: Server, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(server.url, autocommit=True) as admin:
        cursor = admin.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def put(file: Path, text: str) -> None:
    """At once, as the kubelet does."""
    new = file.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.replace(file)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.05)


def logged(replicas: list[Replica], event: str) -> bool:
    return all(f'"{event}"' in replica.log.read_text(encoding="utf-8") for replica in replicas)


@asynccontextmanager
async def requests(replicas: list[Replica], client: httpx.AsyncClient) -> AsyncIterator[Counter[str]]:
    """Reads and writes at each replica without a pause; how they end is counted."""
    ended: Counter[str] = Counter()

    async def go_on(method: str, url: str) -> None:
        while True:
            response = await client.request(method, url, json={} if method == "POST" else None)
            ended[f"{method} {response.status_code}"] += 1

    calls = (("POST", "/threads"), ("GET", "/sessions"))
    tasks = [asyncio.create_task(go_on(method, f"{r.url}{path}")) for r in replicas for method, path in calls]
    try:
        yield ended
    finally:
        for task in tasks:
            task.cancel()
        left = await asyncio.gather(*tasks, return_exceptions=True)
    assert [error for error in left if not isinstance(error, asyncio.CancelledError)] == []


async def through(rotation: Rotation, file: Path, env: dict[str, str], model: FakeModel, client: httpx.AsyncClient) -> None:
    """Two replicas under load meanwhile: not a word is lost and not a request fails."""
    model.script = Script(token_count=TOKENS, tokens_per_second=20)
    env = {**env, "DATABASE_URL_FILE": str(file), "DATABASE_POOL_SIZE": "4", "RATE_LIMIT_PER_MINUTE": "0"}
    readers: list[Reader] = []
    rotated = asyncio.Event()

    async def go_on_asking(number: int) -> None:
        while not rotated.is_set():
            reader = Reader(lambda: [r.url for r in replicas], f"question {len(readers)}", offset=number)
            readers.append(reader)
            await reader.run(client)

    async with running_replicas(2, env, file.parent) as replicas, requests(replicas, client) as ended:
        asking = [asyncio.create_task(go_on_asking(number)) for number in range(STREAMS)]
        async with asyncio.timeout(20):
            while len(readers) < STREAMS or not all(reader.text for reader in readers):
                await asyncio.sleep(0.05)
        await rotation(replicas)
        rotated.set()
        async with asyncio.timeout(60):
            await asyncio.gather(*asking)

    assert set(ended) == {"POST 200", "GET 200"}
    assert [r.text for r in readers] == ["".join(echo_tokens(r.question, TOKENS)) for r in readers]
    assert {(r.outcome, *r.errors, *r.visible_errors, r.attempts) for r in readers} == {("completed", 1)}


async def test_a_second_user_takes_over_and_the_first_is_locked_out(
    server: Server, env: dict[str, str], model: FakeModel, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    file = tmp_path / "url"
    put(file, address(server, "slipway_a", "first"))

    def of_the_first() -> int:
        [[count]] = run(server, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'slipway_a'")
        return int(str(count))

    async def rotate(replicas: list[Replica]) -> None:
        assert of_the_first() >= 2 * 3
        put(file, address(server, "slipway_b", "wrong"))
        await until(lambda: logged(replicas, "database_address_refused"))
        assert of_the_first() >= 2 * 3, "a wrong address changes nothing"
        put(file, address(server, "slipway_b", "second"))
        await until(lambda: logged(replicas, "database_address_changed") and of_the_first() == 0)
        run(server, "ALTER ROLE slipway_a NOLOGIN")

    env.pop("DATABASE_URL")
    await through(rotate, file, env, model, client)


async def test_one_users_password_changes_in_the_secret_and_then_in_the_database(
    server: Server, env: dict[str, str], model: FakeModel, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    file = tmp_path / "url"
    put(file, address(server, "slipway_a", "first"))

    async def rotate(replicas: list[Replica]) -> None:
        put(file, address(server, "slipway_a", "new"))
        await until(lambda: logged(replicas, "database_address_refused"))
        run(server, "ALTER ROLE slipway_a PASSWORD 'new'")
        await until(lambda: logged(replicas, "database_address_changed"))

    await through(rotate, file, env, model, client)
