"""A person erases a session, and retention does, on the database and with the roles that the chart brings."""

import asyncio
import inspect
import json
from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from tests.e2e.agent import Agent, kit_values, running_agent
from tests.e2e.measure import eventually, words_at
from tests.support import traces
from tests.support.figures import Report

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

WRITTEN = {"slipway.runs", "slipway.run_events", "slipway.sessions", "slipway.feedback", "public.checkpoint_blobs"}
"""Tables that hold something of what a person said, answered or judged, while the session is there."""

DAYS = 30

PRUNED_SECONDS = 60
"""Passes come each 5 s here; a busy machine takes longer."""

SEARCH = f"""{inspect.getsource(traces)}
import json, os, sys
print(json.dumps([traces(os.environ["DATABASE_URL"], marker) for marker in sys.argv[1:]]))
"""

AGE = """
WITH aged AS (
    UPDATE slipway.sessions SET last_active_at = now() - interval '31 days'
    WHERE coalesce(external_id, id) = ANY(string_to_array(%s, ' ')) RETURNING id
)
UPDATE slipway.runs r SET finished_at = now() - interval '31 days' FROM aged WHERE r.session_id = aged.id RETURNING r.id
"""


@pytest.fixture(scope="module")
def forgetful() -> Iterator[Agent]:
    """Sessions are kept for 30 days, and the clean-up comes often."""
    values = kit_values(env={"HEARTBEAT_SECONDS": 2, "SESSION_RETENTION_DAYS": DAYS, "PRUNE_INTERVAL_SECONDS": 5})
    with running_agent("e2e-erase", values) as found:
        yield found


async def test_an_erased_session_is_in_no_table_and_the_others_are_whole(agent: Agent, report: Report) -> None:
    erased, kept = uuid4().hex, uuid4().hex
    async with agent.client() as client:
        first, second = await converse(agent, client, erased), await converse(agent, client, kept)
        before = await search(agent, erased, kept)
        gone = await client.delete(f"{agent.doors[0]}/sessions/{first}")
        after = await search(agent, erased, kept)
        again = await client.get(f"{agent.doors[0]}/sessions/{first}/messages")
        others = await client.get(f"{agent.doors[0]}/sessions/{second}/messages")
    rows = sum(before[0].values())
    report(f"erase: a session of two turns is in {rows} rows of {len(before[0])} tables, then in {after[0] or 'none'}")

    assert before[0].keys() >= WRITTEN
    assert (gone.status_code, again.status_code) == (204, 404)
    assert after == [{}, before[1]]
    assert len(others.json()["messages"]) == 4


async def test_the_command_prunes_what_is_too_old_and_nothing_else(agent: Agent) -> None:
    old, young = uuid4().hex, uuid4().hex
    async with agent.client() as client:
        agent.query(AGE, await converse(agent, client, old))
        await converse(agent, client, young)
    command = ("exec", agent.deployment, "--", "env", f"SESSION_RETENTION_DAYS={DAYS}", "slipway", "prune", "--json")
    pruned = json.loads(await asyncio.to_thread(agent.namespace.kubectl, *command))
    after = await search(agent, old, young)

    assert pruned["sessions"] == 1
    assert after[0] == {}
    assert after[1].keys() >= WRITTEN


async def test_the_retention_of_the_chart_erases_by_itself(forgetful: Agent, report: Report) -> None:
    old, young = uuid4().hex, uuid4().hex
    async with forgetful.client() as client:
        first, second = await converse(forgetful, client, old), await converse(forgetful, client, young)
        began = asyncio.get_running_loop().time()
        forgetful.query(AGE, first)
        await eventually(lambda: look(forgetful, old) == [{}], PRUNED_SECONDS)
        took = asyncio.get_running_loop().time() - began
        left = await client.get(f"{forgetful.doors[0]}/sessions")
    report(f"retention: a session of 31 days was in no table {took:.0f} s later (SESSION_RETENTION_DAYS={DAYS})")

    assert [each["session_id"] for each in left.json()["sessions"]] == [second]
    assert (await search(forgetful, young))[0].keys() >= WRITTEN


async def converse(agent: Agent, client: httpx.AsyncClient, marker: str) -> str:
    """Two turns whose questions, answers and comments hold `marker`; the session's id, which the ledger keeps, does not."""
    session = f"session-{uuid4().hex}"
    question = words_at(marker, words=3, pace=50)
    for number in range(2):
        body = {"question": question(number), "session_id": session}
        answer = (await client.post(f"{agent.doors[0]}/chat", json=body)).json()
        assert answer.get("outcome") == "completed", answer
        thumb = {"run_id": answer["run_id"], "score": 1, "comment": f"good, {marker}"}
        assert (await client.post(f"{agent.doors[0]}/feedback", json=thumb)).is_success
    return session


async def search(agent: Agent, *markers: str) -> list[dict[str, int]]:
    return await asyncio.to_thread(look, agent, *markers)


def look(agent: Agent, *markers: str) -> list[dict[str, int]]:
    """Rows that hold each marker, by table; searched by the service's own role, which owns the database."""
    found: list[dict[str, int]] = json.loads(agent.namespace.python(agent.deployment, SEARCH, *markers))
    return found
