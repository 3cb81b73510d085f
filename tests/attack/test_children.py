"""Parsers' children that never end, eat memory, crash, or are killed from outside: each costs its own answer, and says why."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_service.child_processes import Allowance, Busy, GivenUp, Workers
from agent_service.data.data_reader import DataReader, QueryRefused
from agent_service.data.statement import prepare
from agent_service.db.pool import make_pool
from agent_service.documents.ingest import READING, _read, ingest
from agent_service.errors import Overloaded
from agent_service.principal import Principal
from tests.attack import children
from tests.durability.fleet import until
from tests.service.documents.pdf import make_pdf

PATIENT = Allowance(seconds=60, cpu_seconds=60)
SHORT = Allowance(seconds=0.3, cpu_seconds=60)
LITTLE_CPU = Allowance(seconds=60, cpu_seconds=1)


@pytest.mark.parametrize(
    ("work", "allowance", "said"),
    [
        (children.stand_still, SHORT, "longer than 0.3 s"),
        (children.forever_in_c, SHORT, "longer than 0.3 s"),
        (children.forever_in_c, LITTLE_CPU, "more than 1 s of CPU time"),
        (children.devour, PATIENT, "more than 2048 MB of memory"),
        (children.crash, PATIENT, "its process (crashed .SIGSEGV.|died)"),
        (children.leave, PATIENT, "its process died"),
    ],
)
async def test_a_child_that_dies_says_of_what_and_the_next_call_works(
    work: Callable[[], object], allowance: Allowance, said: str, workers: Workers
) -> None:
    began = time.monotonic()
    with pytest.raises(GivenUp, match=said):
        await workers.call(allowance, work)
    assert await workers.call(PATIENT, len, "four") == 4
    assert time.monotonic() - began < 30


async def test_cpu_time_is_counted_for_each_call_anew(workers: Workers) -> None:
    first = await workers.call(PATIENT, children.pid)
    for _ in range(3):
        await workers.call(LITTLE_CPU, sum, range(15_000_000))
    assert await workers.call(PATIENT, children.pid) == first


async def test_an_idle_child_that_is_killed_costs_no_answer(workers: Workers) -> None:
    victim = await workers.call(PATIENT, children.pid)
    os.kill(victim, signal.SIGKILL)
    await until(lambda: _gone(victim), 20)  # on a busy machine it may live to take the call, and is then killed at work
    assert await workers.call(PATIENT, len, "four") == 4


async def test_a_child_killed_at_work_is_told_from_one_that_took_too_long(tmp_path: Path, workers: Workers) -> None:
    victim = await workers.call(PATIENT, children.pid)
    call = asyncio.create_task(workers.call(PATIENT, children.forever_after_a_word, tmp_path / "begun"))
    await until(lambda: (tmp_path / "begun").exists() or None, 20)
    os.kill(victim, signal.SIGKILL)
    with pytest.raises(GivenUp, match="killed, as happens where memory runs out"):
        await call


async def test_a_stopped_child_is_given_up_at_the_deadline(workers: Workers) -> None:
    victim = await workers.call(PATIENT, children.pid)
    os.kill(victim, signal.SIGSTOP)
    with pytest.raises(GivenUp, match="longer than"):
        await workers.call(SHORT, len, "four")
    assert await workers.call(PATIENT, len, "four") == 4
    await until(lambda: _gone(victim), 20)


async def test_a_call_that_is_cancelled_ends_its_child(tmp_path: Path, workers: Workers) -> None:
    victim = await workers.call(PATIENT, children.pid)
    call = asyncio.create_task(workers.call(PATIENT, children.forever_after_a_word, tmp_path / "begun"))
    await until(lambda: (tmp_path / "begun").exists() or None, 20)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await until(lambda: _gone(victim), 20)
    assert await workers.call(PATIENT, len, "four") == 4


async def test_whoever_finds_no_place_is_told_to_try_again_and_not_to_write_another_query(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_service.child_processes.WAIT_SECONDS", 0.2)
    workers = Workers()
    stuck = [asyncio.create_task(workers.call(PATIENT, children.forever)) for _ in range(2)]
    try:
        async with make_pool(database_url, size=1, timeout=10) as pool:
            reader = DataReader(pool, workers, schemas=("slipway_data",), timeout=5, row_limit=10)
            await asyncio.sleep(0)  # both have their places
            with pytest.raises(Busy):
                await workers.call(PATIENT, len, "four")
            with pytest.raises(Overloaded, match="try the same one again") as refused:
                await reader.query("SELECT 1", principal=Principal("t", "u"))
        assert (refused.value.status, refused.value.retryable) == (503, True)
    finally:
        for call in stuck:
            call.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
        workers.close()


async def test_queries_that_held_both_places_are_refused_before_the_parser(database_url: str, workers: Workers) -> None:
    nested = "SELECT 1::" + "numeric(" * 22 + "1" + ")" * 22
    async with make_pool(database_url, size=2, timeout=10) as pool:
        reader = DataReader(pool, workers, schemas=("slipway_data",), timeout=5, row_limit=10)
        await reader.query("SELECT 1", principal=Principal("t", "u"))
        began = time.monotonic()
        hostile = await asyncio.gather(
            *(reader.query(nested, principal=Principal("t", "u")) for _ in range(20)), return_exceptions=True
        )
        plain = await reader.query("SELECT 1 AS one", principal=Principal("t", "u"))
        seconds = time.monotonic() - began
    print(f"20 nested queries at once: {seconds:.2f} s, {hostile[0]}")
    assert {str(error) for error in hostile} == {
        "the query is too large to be read: types and arrays are nested 22 deep; 4 are allowed"
    }
    assert all(isinstance(error, QueryRefused) for error in hostile)
    assert plain.rows == ((1,),)
    assert seconds < 5


async def test_a_document_whose_reader_dies_is_reported_with_the_cause_and_the_rest_goes_in(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: Workers
) -> None:
    (tmp_path / "a.pdf").write_bytes(make_pdf("So many words. " * 20))
    (tmp_path / "b.md").write_text("# Words\n\nSo many.", encoding="utf-8")
    said = {}
    async with make_pool(database_url, size=2, timeout=10) as pool:
        for allowance in (Allowance(0.001, 60), READING):
            monkeypatch.setattr("agent_service.documents.ingest.READING", allowance)
            report = await ingest([tmp_path], pool, workers)
            said[allowance.seconds] = [reason for _, reason in report.failed], report.ingested
    assert said[0.001][0] == ["not read: it takes longer than 0.001 s"] * 2
    assert said[READING.seconds] == ([], 2)


async def test_memory_of_a_child() -> None:
    workers = Workers()
    new = _megabytes(await workers.call(PATIENT, children.pid))
    await workers.call(PATIENT, prepare, "SELECT 1", ("slipway_data",))
    after_sql = _megabytes(await workers.call(PATIENT, children.pid))
    await workers.call(PATIENT, _read, "a.pdf", make_pdf("Words."))
    after_pdf = _megabytes(await workers.call(PATIENT, children.pid))
    workers.close()
    print(f"memory of a child's own: {new} MB when it is new, {after_sql} MB with SQL read, {after_pdf} MB with a PDF, too")
    assert after_pdf < 150


def _megabytes(pid: int) -> int:
    """Memory that nobody shares."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty"))) // 1024


def _gone(pid: int) -> bool | None:
    return not Path(f"/proc/{pid}").exists() or None
