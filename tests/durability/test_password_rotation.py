"""The database's password is replaced under load and the old one locked out, as docs/operations/database.md says."""

import asyncio
import configparser
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

import httpx
import psycopg
import pytest
import yaml
from psycopg.conninfo import make_conninfo

from agent_service.db.migrate import migrate
from tests.field.test_database_tls import Certificate
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script, echo_tokens
from tests.support.pgbouncer import pgbouncer
from tests.support.postgres import Server, own_servers
from tests.support.reader import Reader
from tests.support.replicas import Replica, running_replicas

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "operations" / "database.md"
EXAMPLE = ROOT / "k8s" / "database"

TOKENS = 60

STREAMS = 4

PATIENCE = 100
"""Seconds for what takes some on an idle machine."""

pytestmark = pytest.mark.timeout(3 * PATIENCE)

HBA = "local all postgres trust\nlocal all all scram-sha-256\n"

Rotation = Callable[[list[Replica]], Awaitable[None]]


@pytest.fixture
def server() -> Iterator[Server]:
    """It asks for passwords, and has the roles of the page."""
    with own_servers(1) as [found]:
        found.create()
        (found.data / "pg_hba.conf").write_text(HBA, encoding="utf-8")
        found.start()
        for statement in ("CREATE ROLE slipway_data_reader NOLOGIN", "CREATE DATABASE slipway"):
            run(found, statement)
        for statement in statements(PAGE, "## Rotate the password"):
            run(found, statement)
        migrate(address(found, "slipway_a", "first"))
        yield found


def statements(page: Path, after: str) -> list[str]:
    """Of the first block of SQL after that heading."""
    text = page.read_text(encoding="utf-8").partition(after)[2] if after else page.read_text(encoding="utf-8")
    block = text.partition("```sql\n")[2].partition("```")[0]
    return [statement for statement in block.split(";\n") if statement]


def address(server: Server, user: str, password: str) -> str:
    return f"postgresql://{user}:{password}@/slipway?host={server.socket}"


@asynccontextmanager
async def pooler(server: Server) -> AsyncIterator[str]:
    """Address of slipway_a through the PgBouncer of k8s/database: other names and paths, and no TLS to the server's socket."""
    [map_, *_] = yaml.safe_load_all((EXAMPLE / "pgbouncer.yaml").read_text(encoding="utf-8"))
    config = configparser.ConfigParser(interpolation=None)
    config.read_string(map_["data"]["pgbouncer.ini"])
    options = {name: value for name, value in config["pgbouncer"].items() if not name.startswith(("listen_", "server_tls_"))}
    certificate = Certificate("pgbouncer.agents.svc", by=Certificate("authority"))
    files = {
        "auth_file": '"pgbouncer" "pooler"',
        "client_tls_cert_file": certificate.pem,
        "client_tls_key_file": certificate.private_pem,
    }
    mode = options.pop("pool_mode")
    assert mode == "transaction"
    own = {**{name: value for name, value in options.items() if name not in files}, "server_idle_timeout": "1"}
    database = config["databases"]["slipway"].replace("db.internal", str(server.socket))
    for statement in statements(EXAMPLE / "README.md", ""):
        run(server, statement, "slipway")
    async with pgbouncer(address(server, "slipway_a", "first"), "transaction", files, database, **own) as pooled:
        yield pooled


def run(server: Server, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
    with psycopg.connect(server.url, dbname=database, autocommit=True) as admin:
        cursor = admin.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def put(file: Path, text: str) -> None:
    """At once, as the kubelet does."""
    new = file.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.replace(file)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.05)


def logged(replicas: list[Replica], event: str) -> bool:
    return all(f'"{event}"' in replica.log.read_text(encoding="utf-8") for replica in replicas)


@asynccontextmanager
async def requests(replicas: list[Replica], client: httpx.AsyncClient) -> AsyncIterator[Counter[str]]:
    """Reads and writes at each replica all the while; how they end is counted."""
    ended: Counter[str] = Counter()

    async def go_on(method: str, url: str) -> None:
        while True:
            response = await client.request(method, url, json={} if method == "POST" else None)
            ended[f"{method} {response.status_code}"] += 1
            await asyncio.sleep(0.02)

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
        async with asyncio.timeout(PATIENCE):
            while len(readers) < STREAMS or not all(reader.text for reader in readers):
                await asyncio.sleep(0.05)
        await rotation(replicas)
        rotated.set()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*asking)

    assert set(ended) == {"POST 200", "GET 200"}
    assert [r.text for r in readers] == ["".join(echo_tokens(r.question, TOKENS)) for r in readers]
    assert {(r.outcome, *r.errors, *r.visible_errors, r.attempts) for r in readers} == {("completed", 1)}


@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "pooler"])
async def test_a_second_user_takes_over_and_the_first_is_locked_out(
    server: Server, env: dict[str, str], model: FakeModel, client: httpx.AsyncClient, tmp_path: Path, *, pooled: bool
) -> None:
    file = tmp_path / "url"

    def of_the_first() -> int:
        [[count]] = run(server, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'slipway_a'")
        return int(str(count))

    env.pop("DATABASE_URL")
    async with pooler(server) if pooled else nullcontext(address(server, "slipway_a", "first")) as url:

        async def rotate(replicas: list[Replica]) -> None:
            put(file, make_conninfo(url, user="slipway_b", password="wrong"))
            await until(lambda: logged(replicas, "database_address_refused"))
            assert of_the_first() >= 1, "a wrong address changes nothing"
            put(file, make_conninfo(url, user="slipway_b", password="second"))
            await until(lambda: logged(replicas, "database_address_changed") and of_the_first() == 0)
            run(server, "ALTER ROLE slipway_a NOLOGIN")
            with pytest.raises(psycopg.OperationalError):
                await psycopg.AsyncConnection.connect(url)

        put(file, url)
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
