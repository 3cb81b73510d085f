import asyncio
import signal
import time
from pathlib import Path

import httpx
import psycopg

from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script, echo_tokens
from tests.support.reader import Reader
from tests.support.replicas import running_replicas


async def test_a_run_goes_on_at_a_peer_after_kill_9(env: dict[str, str], client: httpx.AsyncClient, tmp_path: Path) -> None:
    async with running_replicas(2, env, tmp_path) as replicas:
        first = replicas[0]
        readers = [Reader(lambda: [r.url for r in replicas], f"question {n}") for n in range(5)]
        reading = asyncio.gather(*(reader.run(client) for reader in readers))
        while not all(len(reader.text) > 20 for reader in readers):
            await asyncio.sleep(0.05)

        await first.kill()
        killed = time.monotonic()
        await reading

        assert [r.text for r in readers] == ["".join(echo_tokens(r.question, 40)) for r in readers]
        assert [(r.outcome, r.visible_errors, r.attempts, r.resets) for r in readers] == [("completed", [], 2, 1)] * 5
        assert max(r.longest_silence for r in readers) < 2 + 1 + 2, time.monotonic() - killed


async def test_a_paused_and_revived_process_writes_nothing_more(
    env: dict[str, str], client: httpx.AsyncClient, tmp_path: Path
) -> None:
    async with running_replicas(2, env, tmp_path) as replicas:
        first = replicas[0]
        reader = Reader(lambda: [r.url for r in replicas], "zombie")
        reading = asyncio.create_task(reader.run(client))
        with psycopg.connect(env["DATABASE_URL"], autocommit=True) as conn:
            said = "SELECT 1 FROM slipway.run_events WHERE events::text LIKE '%\"text\"%'"
            while not (
                reader.text and conn.execute(said).fetchone()
            ):  # what is not in the log yet is billed by the endpoint alone
                await asyncio.sleep(0.05)

            first.send(signal.SIGSTOP)
            while conn.execute("SELECT attempt FROM slipway.runs").fetchone() != (2,):
                await asyncio.sleep(0.05)
            before = conn.execute("SELECT count(*), max(last_seq) FROM slipway.run_events WHERE attempt = 1").fetchone()
            first.send(signal.SIGCONT)
            await reading
            after = conn.execute("SELECT count(*), max(last_seq) FROM slipway.run_events WHERE attempt = 1").fetchone()
            ledger = conn.execute("SELECT attempt, count(*) FROM slipway.ledger GROUP BY 1 ORDER BY 1").fetchall()
            crashes = conn.execute("SELECT crashes FROM slipway.runs").fetchone()

        assert after == before
        assert crashes == (0,), "a process that was only slow counts as dead"
        assert ledger == [(1, 1), (2, 1)], "what the paused process had used is billed, once"
        assert reader.text == "".join(echo_tokens("zombie", 40))
        assert (reader.outcome, reader.visible_errors) == ("completed", [])


async def test_sigterm_hands_runs_over_and_exits_0(
    env: dict[str, str], client: httpx.AsyncClient, model: FakeModel, tmp_path: Path
) -> None:
    model.script = Script(token_count=160, tokens_per_second=20)
    async with running_replicas(2, {**env, "DRAIN_SECONDS": "0.2"}, tmp_path) as replicas:
        first = replicas[0]
        readers = [Reader(lambda: [r.url for r in replicas], f"roll {n}") for n in range(5)]
        reading = asyncio.gather(*(reader.run(client) for reader in readers))
        while not all(len(reader.text) > 20 for reader in readers):
            await asyncio.sleep(0.05)

        assert await first.stop() == 0
        await reading

        assert [r.text for r in readers] == ["".join(echo_tokens(r.question, 160)) for r in readers]
        assert [(r.outcome, r.visible_errors, r.attempts) for r in readers] == [("completed", [], 2)] * 5


async def test_while_draining_ready_says_503_and_runs_finish(
    env: dict[str, str], client: httpx.AsyncClient, tmp_path: Path
) -> None:
    async with running_replicas(1, env, tmp_path) as [only]:
        reader = Reader(lambda: [only.url], "finish here")
        reading = asyncio.create_task(reader.run(client))
        while len(reader.text) < 20:
            await asyncio.sleep(0.05)

        only.send(signal.SIGTERM)
        while (ready := await client.get(f"{only.url}/ready")).status_code == 200:
            await asyncio.sleep(0.02)
        assert ready.json()["reason"] == "draining"
        assert "agent_draining 1.0" in (await client.get(f"{only.ops_url}/metrics")).text
        await reading

        assert await only.wait() == 0
        assert reader.text == "".join(echo_tokens("finish here", 40))
        assert (reader.attempts, reader.errors) == (1, [])
