"""The database restarts, loses connections, fails over, takes no writes, runs out of disk: runs wait, streams stay open."""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest

from agent_service.db.migrate import migrate
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script, echo_tokens
from tests.support.postgres import Server, own_server, own_servers
from tests.support.reader import Reader
from tests.support.replicas import Replica, running_replicas
from tests.support.service import running_service

TOKENS = 100
RUNS = 4

Fault = Callable[[list[Replica], str], Awaitable[None]]
"""Comes and goes; is given the replicas, and a run that executes on the first."""


async def readers_through(
    fault: Fault, url: str, env: dict[str, str], model: FakeModel, client: httpx.AsyncClient, folder: Path
) -> list[Reader]:
    """Asks two replicas, lets the fault come and go while they answer, and returns the readers once they are at their end.

    Each run has two: one where it executes, fed from memory, and one at the other replica, fed from the log.
    """
    model.script = Script(token_count=TOKENS, tokens_per_second=20)
    patience = {"DATABASE_TIMEOUT": "1", "HEARTBEAT_SECONDS": "1", "DATABASE_POOL_SIZE": "4"}
    async with running_replicas(2, {**env, **patience, "DATABASE_URL": url}, folder) as replicas:
        asking = [Reader(lambda: [r.url for r in replicas], f"question {n}", offset=n) for n in range(RUNS)]
        tasks = [asyncio.create_task(reader.run(client)) for reader in asking]
        await all_speak(asking)
        joining = [Reader(r.urls, r.question, offset=r.offset + 1, run_id=r.run_id) for r in asking]
        tasks += [asyncio.create_task(reader.run(client)) for reader in joining]
        await all_speak(joining)
        await fault(replicas, asking[0].run_id)
        async with asyncio.timeout(30):
            await asyncio.gather(*tasks)
    return [*asking, *joining]


async def all_speak(readers: list[Reader]) -> None:
    async with asyncio.timeout(10):
        while not all(len(reader.text) > 20 for reader in readers):
            await asyncio.sleep(0.05)


def assert_nothing_was_lost_or_doubled(readers: list[Reader], url: str) -> None:
    assert [r.text for r in readers] == ["".join(echo_tokens(r.question, TOKENS)) for r in readers]
    assert [(r.outcome, r.visible_errors) for r in readers] == [("completed", [])] * 2 * RUNS
    with psycopg.connect(url) as conn:
        asked = "FROM slipway.runs r WHERE r.question LIKE 'question %'"
        runs = conn.execute(f"SELECT status, outcome, count(*) {asked} GROUP BY 1, 2".encode()).fetchall()
        billed = conn.execute(
            f"SELECT count(*) FROM slipway.ledger l WHERE (run_id, attempt) IN (SELECT id, attempt {asked})".encode()
        ).fetchone()
    assert runs == [("finished", "completed", RUNS)]
    assert billed == (RUNS,)


async def ask(client: httpx.AsyncClient, replica: Replica) -> httpx.Response:
    return await client.post(f"{replica.url}/chat", json={"question": "now?"}, headers={"Prefer": "respond-async"})


async def refused(client: httpx.AsyncClient, replicas: list[Replica]) -> None:
    """A question meanwhile gets an honest 503."""
    for response in await asyncio.gather(*(ask(client, replica) for replica in replicas)):
        assert response.status_code == 503, response.text
        assert response.json()["code"] == "database_unavailable"
        assert int(response.headers["Retry-After"]) >= 1


async def test_a_restart_of_postgres_ends_no_run_and_no_stream(
    env: dict[str, str], model: FakeModel, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    with own_server() as server:

        async def restart(replicas: list[Replica], run_id: str) -> None:
            async with client.stream("GET", f"{replicas[1].url}/runs/{run_id}/stream") as elsewhere:
                lines = elsewhere.aiter_lines()
                await asyncio.to_thread(server.stop, "immediate")
                await refused(client, replicas)
                async with asyncio.timeout(5):
                    while await anext(lines) != ": heartbeat":
                        pass
            await asyncio.to_thread(server.start)

        readers = await readers_through(restart, server.url, env, model, client, tmp_path)

        assert_nothing_was_lost_or_doubled(readers, server.url)
        assert [(r.errors, r.attempts, r.resets) for r in readers] == [([], 1, 0)] * 2 * RUNS
        assert max(r.longest_silence for r in readers[:RUNS]) < 2, "what executes here comes from memory"


async def test_requests_that_find_no_connection_get_503_while_streams_and_runs_go_on(
    env: dict[str, str], model: FakeModel
) -> None:
    model.script = Script(token_count=60, tokens_per_second=20)
    env |= {"DATABASE_POOL_SIZE": "3", "DATABASE_TIMEOUT": "0.5", "LEASE_SECONDS": "1"}
    async with running_service(env.pop("DATABASE_URL"), **env) as service, service.client() as client:
        reader = Reader(lambda: [service.url], "wait for it")
        reading = asyncio.create_task(reader.run(client))
        while len(reader.text) < 20:
            await asyncio.sleep(0.02)

        taken = [await service.resources.pool.getconn() for _ in range(3)]
        response = await client.post("/chat", json={"question": "now?"}, headers={"Idempotency-Key": "k"})
        plain = await client.post("/chat", json={"question": "now?"}, headers={"Prefer": "respond-async"})
        begun, heard = time.monotonic(), len(reader.text)
        while not reading.done() and time.monotonic() - begun < 2:
            await asyncio.sleep(0.05)
        still_speaking = len(reader.text) > heard
        for conn in taken:
            await service.resources.pool.putconn(conn)
        await reading

    assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
    assert "Retry-After" in response.headers
    assert plain.status_code == 202, "a plain start goes with the process's own writing"
    assert still_speaking
    assert reader.text == "".join(echo_tokens("wait for it", 60))
    assert (reader.outcome, reader.errors, reader.attempts) == ("completed", [], 1)


@pytest.mark.chaos
async def test_connections_that_are_cut_again_and_again_cost_nothing(
    env: dict[str, str], model: FakeModel, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    url = env["DATABASE_URL"]

    async def cut(replicas: list[Replica], run_id: str) -> None:  # noqa: ARG001  # a Fault's signature
        with psycopg.connect(url, autocommit=True) as conn:
            for _ in range(12):
                conn.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                await asyncio.sleep(0.25)

    readers = await readers_through(cut, url, env, model, client, tmp_path)

    assert_nothing_was_lost_or_doubled(readers, url)
    assert [r.errors for r in readers] == [[]] * 2 * RUNS


@pytest.mark.chaos
async def test_a_server_that_takes_no_writes_for_a_while_is_waited_for(
    env: dict[str, str], model: FakeModel, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    with own_server() as server:

        def read_only(state: str) -> None:
            with psycopg.connect(server.url, autocommit=True) as conn:
                conn.execute(f"ALTER SYSTEM SET default_transaction_read_only = {state}".encode())
                conn.execute("SELECT pg_reload_conf()")

        async def freeze(replicas: list[Replica], _: str) -> None:
            read_only("on")
            await asyncio.sleep(0.5)
            await refused(client, replicas)
            await asyncio.sleep(3)
            read_only("off")

        readers = await readers_through(freeze, server.url, env, model, client, tmp_path)

        assert_nothing_was_lost_or_doubled(readers, server.url)
        assert [(r.errors, r.attempts) for r in readers] == [([], 1)] * 2 * RUNS


@pytest.mark.chaos
@pytest.mark.parametrize("by", ["several hosts", "a name that moves"])
async def test_a_failover_to_another_address_ends_no_run(
    env: dict[str, str], model: FakeModel, client: httpx.AsyncClient, tmp_path: Path, by: str
) -> None:
    with own_server() as primary, own_servers(1) as [standby]:
        await asyncio.to_thread(standby.copy_of, primary)
        await asyncio.to_thread(standby.start)
        with psycopg.connect(primary.url, autocommit=True) as conn:
            conn.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            conn.execute("SELECT pg_reload_conf()")

        async def fail_over(replicas: list[Replica], _: str) -> None:
            await asyncio.to_thread(primary.stop, "immediate")
            await refused(client, replicas)
            with psycopg.connect(standby.url, autocommit=True) as conn:
                conn.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
            await asyncio.to_thread(standby.promote)
            name.unlink()
            name.symlink_to(standby.socket)

        name = tmp_path / "rw"  # a link to a socket's folder is to libpq what a Service's name is
        name.symlink_to(primary.socket)
        hosts = {"several hosts": f"{primary.socket},{standby.socket}", "a name that moves": str(name)}
        url = f"postgresql://postgres@/postgres?host={hosts[by]}"
        readers = await readers_through(fail_over, url, env, model, client, tmp_path)

        assert_nothing_was_lost_or_doubled(readers, standby.url)
        assert [r.errors for r in readers] == [[]] * 2 * RUNS


@contextmanager
def small_disk(server: Server) -> Iterator[Path]:
    """A migrated server on a file system of 200 MB of its own. Yields the path of a file that may fill it."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=200m", "slipway-test", str(server.data)]
    done = subprocess.run(mount, check=False, capture_output=True)
    if done.returncode:
        pytest.skip(f"a disk that can be filled needs the right to mount one: {done.stderr.decode().strip()}")
    try:
        server.create(max_wal_size="32MB", min_wal_size="32MB")
        server.start()
        migrate(server.url)
        yield server.data / "ballast"
        server.stop()
    finally:
        subprocess.run(["umount", "--lazy", str(server.data)], check=True)


def fill_up(file: Path) -> None:
    with file.open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while ballast.write(bytes(8192)):
            pass


def revive(server: Server) -> None:
    """Without room for its log PostgreSQL stops altogether; an operator starts it again."""
    try:
        server.run("pg_ctl", "-D", str(server.data), "status")
    except RuntimeError:
        server.start()


@pytest.mark.chaos
@pytest.mark.skipif(sys.platform != "linux", reason="fills a file system that Linux mounts")
async def test_a_full_disk_is_waited_for(
    env: dict[str, str], model: FakeModel, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    with own_servers(1) as [server], small_disk(server) as ballast:

        async def fill(replicas: list[Replica], _: str) -> None:
            fill_up(ballast)
            async with asyncio.timeout(20):
                # What fits into pages that are there already is taken still.
                while (response := await ask(client, replicas[0])).status_code == 202:
                    await asyncio.sleep(0.01)
            assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
            await asyncio.sleep(2)
            ballast.unlink()
            await asyncio.to_thread(revive, server)

        readers = await readers_through(fill, server.url, env, model, client, tmp_path)

        assert_nothing_was_lost_or_doubled(readers, server.url)
        assert [r.errors for r in readers] == [[]] * 2 * RUNS
