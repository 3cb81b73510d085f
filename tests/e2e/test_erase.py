"""A person erases a session, and retention works, on the database that the chart brings: its role has the name of our schema."""

import asyncio
import json
from uuid import uuid4

import pytest

from tests.e2e.agent import Agent
from tests.e2e.conftest import Report
from tests.e2e.measure import words_at

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

COUNT = (
    "import os, psycopg; conn = psycopg.connect(os.environ['DATABASE_URL']);"
    "print(*conn.execute('SELECT (SELECT count(*) FROM public.checkpoints WHERE thread_id = %(s)s),"
    " (SELECT count(*) FROM public.checkpoint_blobs WHERE thread_id = %(s)s),"
    " (SELECT count(*) FROM slipway.sessions WHERE id = %(s)s)', {{'s': {session!r}}}).fetchone())"
)


async def test_a_session_is_erased_over_http_and_the_rest_is_pruned(agent: Agent, report: Report) -> None:
    erased, kept = f"erased-{uuid4().hex[:8]}", f"kept-{uuid4().hex[:8]}"
    question = words_at("erase", words=3, pace=10)
    async with agent.client() as client:
        for number, session in enumerate((erased, kept, kept)):
            body = {"question": question(number), "session_id": session}
            answer = await client.post(f"{agent.doors[0]}/chat", json=body)
            assert answer.json()["outcome"] == "completed", answer.text
        before = await rows(agent, erased), await rows(agent, kept)
        gone = await client.delete(f"{agent.doors[0]}/sessions/{erased}")
        again = await client.get(f"{agent.doors[0]}/sessions/{erased}/messages")
        pruned = json.loads(await kubectl(agent, "slipway", "prune", "--json"))
        after = await rows(agent, erased), await rows(agent, kept)
    report(f"erase: checkpoints, blobs, sessions {before} -> {after}; prune cut {pruned['threads']} threads")

    assert (gone.status_code, again.status_code) == (204, 404)
    assert min(before[0]) > 0
    assert after[0] == (0, 0, 0)
    assert (before[1][0] > 1, after[1][0]) == (True, 1)


async def rows(agent: Agent, session: str) -> tuple[int, ...]:
    return tuple(map(int, (await kubectl(agent, "python", "-c", COUNT.format(session=session))).split()))


async def kubectl(agent: Agent, *command: str) -> str:
    return await asyncio.to_thread(agent.namespace.kubectl, "exec", agent.deployment, "--", *command)
