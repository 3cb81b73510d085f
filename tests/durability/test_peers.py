"""What a peer does with a run whose process was killed, and what it does for one that lives elsewhere."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.durability.fleet import LEASE_SECONDS, Fleet, running_fleet, until
from tests.support.fake_script import Script, ToolCall, echo_tokens
from tests.support.reader import Reader

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("peers")]

MAX_ATTEMPTS = 2


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(admin_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    folder = tmp_path_factory.mktemp("peers")
    async with running_fleet(admin_url, folder, 3, MAX_ATTEMPTS=str(MAX_ATTEMPTS)) as fleet:
        yield fleet


@pytest_asyncio.fixture(loop_scope="module")
async def fleet(shared: Fleet) -> AsyncIterator[Fleet]:
    await shared.heal()
    yield shared
    # What a test leaves unfinished would be adopted in the next one, and act by its script.
    await shared.heal()
    shared.sql("UPDATE slipway.runs SET cancel_requested = true WHERE status <> 'finished'")
    await until(lambda: shared.sql("SELECT 1 FROM slipway.runs WHERE status <> 'finished'") == [])


def echo(question: str, count: int = 40) -> str:
    return "".join(echo_tokens(question, count))


# Nothing is killed in these


async def test_cancel_at_a_peer_stops_the_model_within_a_second_and_bills_what_was_said(fleet: Fleet) -> None:
    _, peer = fleet.alive()[:2]
    fleet.model.script = Script(token_count=2_000, tokens_per_second=20)
    before = len(fleet.model.requests)
    reader = fleet.reader("agent, count to 2000")
    reading = asyncio.create_task(reader.run(fleet.client))
    await until(lambda: len(reader.text) > 40)

    asked = time.monotonic()
    response = await fleet.client.post(f"{peer.url}/runs/{reader.run_id}/cancel")
    request = await fleet.model.request(before)
    await asyncio.wait_for(request.ended.wait(), 5)
    aborted = time.monotonic() - asked
    await reading

    assert response.status_code == 202
    assert request.disconnected
    assert aborted < 1
    assert (reader.outcome, reader.visible_errors, reader.attempts) == ("cancelled", [], 1)
    run = (await fleet.client.get(f"{peer.url}/runs/{reader.run_id}")).json()
    assert run["answer"] == reader.text
    assert run["usage"]["output_tokens"] >= 5
    assert run["cost_usd"] > 0
    assert fleet.sql("SELECT estimated, attempt FROM slipway.ledger WHERE run_id = %s", reader.run_id) == [(True, 1)]


async def test_one_idempotency_key_at_two_replicas_at_once_starts_one_run(fleet: Fleet) -> None:
    for key in (f"race-{n}" for n in range(10)):
        answers = await asyncio.gather(*(fleet.ask(replica, "agent, once", key) for replica in fleet.alive()[:2] * 2))
        assert [a.status_code for a in answers] == [202] * 4, [a.text for a in answers]
        assert len({a.json()["run_id"] for a in answers}) == 1
    assert fleet.sql("SELECT count(*) FROM slipway.runs WHERE question = 'agent, once'") == [(10,)]


async def test_one_idempotency_key_in_one_session_joins_instead_of_finding_it_busy(fleet: Fleet) -> None:
    for n in range(10):
        asks = (fleet.ask(r, "agent, in one session", f"s-{n}", session_id=f"session-{n}") for r in fleet.alive()[:2] * 2)
        answers = await asyncio.gather(*asks)
        assert [a.status_code for a in answers] == [202] * 4, [a.text for a in answers]
        assert len({a.json()["run_id"] for a in answers}) == 1


async def test_one_decision_sent_to_two_replicas_at_once_is_taken_once(fleet: Fleet) -> None:
    here, peer = fleet.alive()[:2]
    for n in range(5):
        run_id = (await fleet.ask(here, "ask me")).json()["run_id"]
        assert (await fleet.ended(here, run_id))["outcome"] == "interrupted"
        headers = {"Prefer": "respond-async", "Idempotency-Key": f"decision-{n}"}
        answers = await asyncio.gather(
            *(
                fleet.client.post(f"{r.url}/runs/{run_id}/resume", json={"value": "red"}, headers=headers)
                for r in [here, peer] * 2
            )
        )
        assert [a.status_code for a in answers] == [202] * 4, [a.text for a in answers]
        assert len({a.json()["run_id"] for a in answers}) == 1


async def test_a_reader_elsewhere_misses_nothing_while_the_listening_connections_are_cut(fleet: Fleet) -> None:
    here, peer = fleet.alive()[:2]
    run_id = (await fleet.ask(here, "agent, unheard")).json()["run_id"]
    reader = Reader(lambda: [peer.url], "agent, unheard", run_id=run_id)
    reading = asyncio.create_task(reader.run(fleet.client))
    cut = 0
    while not reading.done():
        cut += len(
            fleet.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'slipway-listen'"
            )
        )
        await asyncio.sleep(0.05)

    assert cut >= 2
    assert reader.text == echo("agent, unheard")
    assert (reader.outcome, reader.visible_errors, reader.errors) == ("completed", [], [])


# Here the process that executes is killed


async def test_a_tool_call_that_had_ended_is_not_run_again_beside_one_that_had_not(fleet: Fleet) -> None:
    here = fleet.replicas[0]
    calls = [ToolCall(name="pay", arguments={"order": "7"}), ToolCall(name="ship", arguments={"order": "7"})]
    fleet.model.script = Script(token_count=5, tool_calls=calls)
    reader = fleet.reader("agent, pay and ship")
    reading = asyncio.create_task(reader.run(fleet.client))
    await until(lambda: {"pay 7", "ship 7"} <= set(fleet.effects()))
    await until(lambda: fleet.sql(SAVED_WRITE, reader.run_id, "paid 7"))

    await here.kill()
    await reading

    assert (fleet.effects().count("pay 7"), fleet.effects().count("ship 7")) == (1, 2)
    assert reader.text == echo("agent, pay and ship", 5)
    assert (reader.outcome, reader.visible_errors, reader.attempts) == ("completed", [], 2)


# A write is of use once its checkpoint is there, too: LangGraph saves that while the step already runs.
SAVED_WRITE = """
SELECT 1 FROM public.checkpoint_writes w
JOIN public.checkpoints c USING (thread_id, checkpoint_ns, checkpoint_id)
JOIN slipway.runs r ON r.session_id = w.thread_id
WHERE r.id = %s AND w.channel = 'messages' AND position(%s::bytea IN w.blob) > 0
"""


async def test_the_text_of_a_node_that_had_ended_is_kept_beside_one_that_had_not(fleet: Fleet) -> None:
    here = fleet.replicas[0]
    reader = fleet.reader("fork")
    reading = asyncio.create_task(reader.run(fleet.client))
    await until(lambda: "quick is done" in reader.text and "hanging" in fleet.effects())
    await until(lambda: fleet.sql(SAVED_WRITE, reader.run_id, "quick is done"))

    await here.kill()
    await reading

    assert (fleet.effects().count("quick"), fleet.effects().count("hanging")) == (1, 2)
    assert reader.text == "quick is done\n\nhanging is done"
    assert (reader.outcome, reader.visible_errors, reader.attempts) == ("completed", [], 2)


async def test_a_finished_message_is_kept_and_the_broken_one_is_said_again(fleet: Fleet) -> None:
    here = fleet.replicas[0]
    preface = [f"word-{n} " for n in range(10)]
    booking = [ToolCall(name="book", arguments={"order": "9"})]
    fleet.model.script = Script(token_count=40, tokens_per_second=20, preface=preface, tool_calls=booking)
    question = "agent, book"
    reader = fleet.reader(question)
    reading = asyncio.create_task(reader.run(fleet.client))
    await until(lambda: echo_tokens(question)[5] in reader.text)

    await here.kill()
    await reading

    assert reader.text == "".join(preface) + "\n\n" + echo(question)
    assert reader.kept == ["".join(preface)]
    assert fleet.effects().count("book 9") == 1
    assert (reader.outcome, reader.visible_errors, reader.attempts) == ("completed", [], 2)


async def test_a_decision_a_day_later_at_a_peer_goes_on_where_the_dead_process_stopped(fleet: Fleet) -> None:
    here, peer = fleet.alive()[:2]
    run_id = (await fleet.ask(here, "ask me", session_id="patient")).json()["run_id"]
    assert (await fleet.ended(here, run_id))["outcome"] == "interrupted"
    await here.kill()
    day = "- interval '1 day'"
    fleet.sql(
        f"UPDATE slipway.runs SET created_at = created_at {day}, started_at = started_at {day}, finished_at = finished_at {day}"
        " WHERE session_id = 'patient'"
    )

    refused = await fleet.ask(peer, "and now?", session_id="patient")
    resumed = await fleet.client.post(f"{peer.url}/runs/{run_id}/resume", json={"value": "blue"})
    again = await fleet.client.post(f"{peer.url}/runs/{run_id}/resume", json={"value": "red"})

    assert (refused.status_code, refused.json()["code"]) == (409, "session_interrupted")
    assert (resumed.json()["outcome"], resumed.json()["answer"]) == ("completed", "You chose blue.")
    assert (again.status_code, again.json()["code"]) == (409, "not_interrupted")


async def test_a_run_that_kills_its_processes_ends_as_failed(fleet: Fleet) -> None:
    await until(lambda: len(fleet.alive()) == 3)
    reader = await fleet.reader("poison").run(fleet.client)

    [survivor] = fleet.alive()
    run = (await fleet.client.get(f"{survivor.url}/runs/{reader.run_id}")).json()
    assert (run["outcome"], run["error"]["code"], run["error"]["retryable"]) == ("failed", "too_many_attempts", False)
    assert reader.outcome == "failed"
    assert ["too_many_attempts" in error for error in reader.visible_errors] == [True]
    assert fleet.effects().count("poison") == MAX_ATTEMPTS
    assert fleet.sql("SELECT attempt, crashes FROM slipway.runs WHERE id = %s", reader.run_id) == [(3, MAX_ATTEMPTS)]
    assert reader.longest_silence < 3 * LEASE_SECONDS + 5
