"""Budgets at three real replicas on one database: what many runs of one caller use together stays within the limit."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.durability.fleet import Fleet, running_fleet, until
from tests.support import sse
from tests.support.fake_script import Fault, Script, word_count
from tests.support.figures import Report
from tests.support.redis_server import SERVERS, counted_by
from tests.support.service import JWT_SECRET
from tests.support.tokens import bearer

pytestmark = pytest.mark.slow

ANSWER = 50
"""Tokens of an answer; the questions have a few more."""

ALICE = bearer("alice")


@asynccontextmanager
async def three_replicas(admin_url: str, folder: Path, **env: str) -> AsyncIterator[Fleet]:
    secured = {"AUTH": "required", "JWT_SECRET": JWT_SECRET, "AGENT_GRAPH": "tests.support.graphs:plain"}
    async with running_fleet(admin_url, folder, 3, each=(), **{**secured, **env}) as fleet:
        fleet.model.script = Script(token_count=ANSWER)
        yield fleet


async def ask(fleet: Fleet, number: int, who: dict[str, str], **body: Any) -> httpx.Response:
    url = f"{fleet.replicas[number % 3].url}/chat"
    return await fleet.client.post(url, json={"question": f"question {number}", **body}, headers=who, timeout=90)


def slipway(fleet: Fleet, *arguments: str) -> str:
    env = {**os.environ, "DATABASE_URL": fleet.database_url}
    command = [sys.executable, "-c", "from agent_service.cli import main; main()", *arguments]
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout


USED = {"tokens": "input_tokens + output_tokens", "usd": "(cost_usd * 100000000)::int"}
"""Of a call, in whole numbers."""

WHOLE = {"tokens": "tokens", "usd": "millionths of a cent"}


def spent(fleet: Fleet, who: str = "alice", unit: str = "tokens") -> tuple[int, int]:
    """What a user or tenant has used by the ledger, and what their dearest call has."""
    query = (
        "SELECT coalesce(sum(used), 0)::int, coalesce(max(used), 0)"
        f" FROM (SELECT {USED[unit]} AS used FROM slipway.ledger WHERE %s IN (user_id, tenant)) AS calls"
    )
    [(total, largest)] = fleet.sql(query, who)
    return total, largest


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(
    ("graph", "unit", "setting", "limit"),
    [("plain", "tokens", {"DAILY_TOKEN_LIMIT": "1000"}, 1_000), ("sync_plain", "usd", {"DAILY_USD_LIMIT": "0.01"}, 1_000_000)],
)
async def test_fifty_runs_of_one_user_at_once_use_no_more_than_the_day_allows_and_one_call(
    admin_url: str, tmp_path: Path, graph: str, unit: str, setting: dict[str, str], limit: int, server: str, report: Report
) -> None:
    env = {"AGENT_GRAPH": f"tests.support.graphs:{graph}", **setting}
    async with counted_by(server) as counter, three_replicas(admin_url, tmp_path, **env, **counter) as fleet:
        answers = await asyncio.gather(*(ask(fleet, number, ALICE) for number in range(50)))

        outcomes = Counter(a.json()["outcome"] if a.status_code == 200 else a.json()["code"] for a in answers)
        total, largest = spent(fleet, unit=unit)
        told = f"limit {limit} {WHOLE[unit]}: {total} used, {largest} by the dearest call; {dict(outcomes)}"
        report(f"budget, rate counted by {server}: 50 runs at once at 3 replicas, {told}")
        assert limit <= total <= limit + largest
        assert 1 <= outcomes["completed"] <= limit // largest + 1
        assert set(outcomes) <= {"completed", "budget", "budget_spent"}
        assert outcomes["budget"] >= 1
        assert (await ask(fleet, 0, bearer("bob"))).json()["outcome"] == "completed"

        again = await ask(fleet, 0, ALICE)
        if again.status_code == 200:  # this replica had not seen it, and has now
            again = await ask(fleet, 0, ALICE)
        assert (again.status_code, again.json()["code"]) == (429, "budget_spent")
        assert 1 <= int(again.headers["Retry-After"]) <= 86_400


async def test_a_month_of_a_tenant_holds_for_all_its_users_together(admin_url: str, tmp_path: Path, report: Report) -> None:
    async with three_replicas(admin_url, tmp_path) as fleet:
        slipway(fleet, "budgets", "set", "--tenant", "acme", "--tokens", "600")
        await every_replica_has_looked(fleet)

        answers = await asyncio.gather(*(ask(fleet, number, bearer(f"user-{number}", tenant="acme")) for number in range(30)))

        total, largest = spent(fleet, "acme")
        report(f"budget of a tenant: 30 users at once, limit 600 tokens: {total} used, {largest} by the dearest call")
        assert 600 <= total <= 600 + largest
        assert Counter(answer.status_code for answer in answers)[200] >= 10
        assert (await ask(fleet, 0, bearer("user-1", tenant="other"))).json()["outcome"] == "completed"


async def every_replica_has_looked(fleet: Fleet) -> None:
    """At the budgets that are set: then each refuses one who may use nothing."""
    slipway(fleet, "budgets", "set", "--tenant", "probe", "--tokens", "0")
    for number in range(3):
        async with asyncio.timeout(20):
            while not await _is_refused(fleet, number, bearer("probe", tenant="probe")):
                await asyncio.sleep(0.1)


async def _is_refused(fleet: Fleet, number: int, who: dict[str, str]) -> bool:
    answer = await ask(fleet, number, who)
    return answer.status_code == 429 or answer.json()["outcome"] == "budget"


async def test_a_run_that_a_budget_stopped_goes_on_after_a_raise_where_it_stopped(admin_url: str, tmp_path: Path) -> None:
    env = {"DAILY_TOKEN_LIMIT": "30", "AGENT_GRAPH": "tests.support.graphs:two_steps"}
    async with three_replicas(admin_url, tmp_path, **env) as fleet:
        stopped = (await ask(fleet, 0, ALICE, session_id="s")).json()
        assert (stopped["outcome"], stopped["error"]["code"]) == ("budget", "budget_spent")
        calls = len([r for r in fleet.model.requests if r.path.endswith("completions")])
        assert calls == 1

        slipway(fleet, "budgets", "set", "--user", "alice", "--tokens", "100000")
        url = f"{fleet.replicas[1].url}/runs/{stopped['run_id']}/resume"
        given = await fleet.client.post(url, json={"value": "yes"}, headers=ALICE)
        assert (given.status_code, given.json()["field"]) == (422, "value")
        going_on = await fleet.client.post(url, json={}, headers=ALICE)
        assert (going_on.status_code, going_on.json()["outcome"]) == (200, "completed")

        assert len([r for r in fleet.model.requests if r.path.endswith("completions")]) == 2  # the first step was not repeated
        history = await fleet.client.get(f"{fleet.replicas[1].url}/sessions/s/messages", headers=ALICE)
        assert [message["role"] for message in history.json()["messages"]] == ["user", "assistant", "assistant"]
        late = await fleet.client.post(url, json={}, headers=ALICE)
        assert (late.status_code, late.json()["code"]) == (409, "not_interrupted")


async def test_eighty_percent_is_told_once_to_the_reader_and_the_metrics(admin_url: str, tmp_path: Path) -> None:
    async with three_replicas(admin_url, tmp_path, DAILY_TOKEN_LIMIT="185") as fleet:
        told = []
        for number in range(4):
            stream = await sse.read(
                fleet.client, "POST", f"{fleet.replicas[0].url}/chat/stream", json={"question": f"q{number}"}, headers=ALICE
            )
            told.append([event["scope"] for event in stream.named("budget")])

        assert told == [[], [], [], ["user"]]
        metrics = (await fleet.client.get(f"{fleet.replicas[0].ops_url}/metrics")).text
        assert 'agent_budget_warnings_total{scope="user"} 1.0' in metrics


async def test_a_run_has_a_limit_of_its_own(admin_url: str, tmp_path: Path) -> None:
    env = {"MAX_RUN_TOKENS": "40", "AGENT_GRAPH": "tests.support.graphs:two_steps"}
    async with three_replicas(admin_url, tmp_path, **env) as fleet:
        stopped = (await ask(fleet, 0, ALICE)).json()

        assert stopped["outcome"] == "budget"
        assert "MAX_RUN_TOKENS" in stopped["error"]["message"]
        assert (await ask(fleet, 0, ALICE)).json()["outcome"] == "budget"  # the next run has one, too


async def test_what_cut_off_and_cancelled_answers_used_counts(admin_url: str, tmp_path: Path) -> None:
    async with three_replicas(admin_url, tmp_path, DAILY_TOKEN_LIMIT="100000", MODEL_MAX_RETRIES="0") as fleet:
        fleet.model.script = Script(token_count=ANSWER, faults=[Fault(kind="cut", after_tokens=20)])
        assert (await ask(fleet, 0, ALICE)).json()["outcome"] == "failed"
        fleet.model.script = Script(token_count=ANSWER, faults=[Fault(kind="hang", after_tokens=30)])
        accepted = await ask(fleet, 1, {**ALICE, "Prefer": "respond-async"})
        run_id = accepted.json()["run_id"]
        await until(lambda: any(request.tokens_sent >= 30 for request in fleet.model.requests))
        await fleet.client.post(f"{fleet.replicas[2].url}/runs/{run_id}/cancel", headers=ALICE)
        await until(lambda: fleet.sql("SELECT count(*) FROM slipway.runs WHERE status <> 'finished'") == [(0,)])

        ledger = fleet.sql("SELECT output_tokens >= 20, estimated FROM slipway.ledger ORDER BY id")
        assert ledger == [(True, True), (True, True)]
        shown = json.loads(slipway(fleet, "budgets", "show", "--json"))
        total, _ = spent(fleet)
        assert [(row["user"], row["period"], row["tokens"]) for row in shown] == [("", "month", total), ("alice", "day", total)]


async def test_fifty_runs_stay_within_the_day_while_the_replicas_that_make_their_calls_are_killed(
    admin_url: str, tmp_path: Path, report: Report
) -> None:
    limit, call = 600, 100
    env = {
        "DAILY_TOKEN_LIMIT": str(limit),
        "MAX_ATTEMPTS": "6",  # or those that were beside a dead one are taken over one by one
        "AGENT_GRAPH": "tests.support.graphs:sync_plain",  # without tools, whose definitions the fake endpoint does not count
    }
    async with three_replicas(admin_url, tmp_path, **env) as fleet:
        fleet.model.script = Script(tokens=["word "] * call, tokens_per_second=200)
        waiting = {**ALICE, "Prefer": "respond-async"}
        begun = await asyncio.gather(*(ask(fleet, number, waiting) for number in range(50)))
        assert {answer.status_code for answer in begun} == {202}
        alive = {
            fleet.sql("SELECT holder FROM slipway.runs WHERE id = %s", answer.json()["run_id"])[0][0]: replica
            for answer, replica in zip(begun, fleet.replicas, strict=False)
        }
        for _ in range(2):
            caller, run = (await until(lambda: fleet.sql(IN_THE_MIDDLE_OF_A_CALL, list(alive))))[0]
            await alive.pop(caller).kill()
            await until(partial(fleet.sql, "SELECT 1 FROM slipway.runs WHERE id = %s AND attempt > 1", run))
        await until(lambda: fleet.sql("SELECT count(*) FROM slipway.runs WHERE status <> 'finished'") == [(0,)], 60)

        total, largest = spent(fleet)
        [(cut_off,)] = fleet.sql("SELECT sum(output_tokens)::int FROM slipway.ledger WHERE estimated")
        sent = sum(r.tokens_sent + word_count(r.payload["messages"]) for r in fleet.model.requests if "messages" in r.payload)
        outcomes = dict(fleet.sql("SELECT outcome, count(*) FROM slipway.runs GROUP BY 1"))
        told = f"{total} used, {cut_off} of them billed by the log; {sent} sent by the endpoint; {outcomes}"
        report(f"budget, 2 of 3 replicas killed: 50 runs at once, limit {limit} tokens: {told}")
        assert limit <= total <= limit + largest
        assert 0 <= sent - total <= 2 * call * 0.5, "what a dead process had not yet logged is a tenth of a second of its call"
        assert set(outcomes) == {"completed", "budget"}
        assert fleet.sql("SELECT count(*) FROM slipway.runs WHERE status = 'running' AND open_calls > 0") == [(0,)]


IN_THE_MIDDLE_OF_A_CALL = """
SELECT r.holder, r.id FROM slipway.runs r JOIN slipway.run_events e ON e.run_id = r.id AND e.attempt = r.attempt
WHERE r.holder = ANY(%s) AND r.status = 'running' AND r.open_calls > 0 AND e.events::text LIKE '%%"text"%%'
"""


async def test_a_killed_replica_leaves_no_reservation_behind(admin_url: str, tmp_path: Path) -> None:
    async with three_replicas(admin_url, tmp_path, DAILY_TOKEN_LIMIT="6000") as fleet:
        fleet.model.script = Script(token_count=ANSWER, first_token_seconds=3600)
        await ask(fleet, 0, {**ALICE, "Prefer": "respond-async"})
        await until(lambda: fleet.sql("SELECT open_calls FROM slipway.runs") == [(1,)])
        waiting = asyncio.create_task(ask(fleet, 1, ALICE))  # another call of 4,096 and more does not fit beside it
        await until(lambda: fleet.sql("SELECT count(*) FROM slipway.runs WHERE status = 'running'") == [(2,)])

        fleet.model.script = Script(token_count=ANSWER)
        await fleet.replicas[0].kill()

        assert (await waiting).json()["outcome"] == "completed"
        await until(lambda: fleet.sql("SELECT count(*) FROM slipway.runs WHERE outcome = 'completed'") == [(2,)])
        assert fleet.sql("SELECT sum(open_calls)::int FROM slipway.runs") == [(0,)]
