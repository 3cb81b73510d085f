"""A caller who lets runs wait: behind an interrupt, in one session, in many. Nobody else's run is refused or kept waiting."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from langgraph.graph import MessagesState
from langgraph.types import interrupt

from agent_service.principal import Principal, Role
from tests.service.runs import graphs
from tests.service.runs.conftest import Database, Serve, database, effects, serve, until
from tests.service.runs.graphs import Effects, says
from tests.support.service import JWT_SECRET, RunningService
from tests.support.tokens import bearer

__all__ = ["database", "effects", "serve"]

WAITING = 10
QUEUE = 4
PER_PRINCIPAL = 12
PER_SESSION = 10


def gated(effects: Effects) -> graphs.Graph:
    """`ask` interrupts, once its gate is open; `hold` waits for its gate; everything else ends at once."""

    async def node(state: MessagesState) -> dict[str, Any]:
        text = graphs.question(state)
        if text in {"ask", "hold"}:
            await effects.gates[text].wait()
        if text == "ask":
            interrupt("may I?")
        return says(text)

    return graphs.chain(("node", node))


@pytest.fixture
async def service(serve: Serve, effects: Effects) -> AsyncIterator[RunningService]:
    async with serve(
        gated(effects),
        AUTH="required",
        JWT_SECRET=JWT_SECRET,
        ON_BUSY="enqueue",
        MAX_CONCURRENT_RUNS="2",
        MAX_QUEUED_RUNS=str(QUEUE),
        MAX_QUEUED_PER_PRINCIPAL=str(PER_PRINCIPAL),
        MAX_QUEUED_PER_SESSION=str(PER_SESSION),
    ) as running:
        yield running


async def ask(service: RunningService, user: str, question: str, session: str | None = None) -> httpx.Response:
    headers = {**bearer(user), "Prefer": "respond-async"}
    body = {"question": question, **({"session_id": session} if session else {})}
    async with service.client(headers=headers) as client:
        return await client.post("/chat", json=body)


async def wait_behind_an_interrupt(service: RunningService, effects: Effects, database: Database) -> None:
    """Mallory's first run asks; the others of her session can never begin."""
    first = (await ask(service, "mallory", "ask", "s")).json()["run_id"]
    answers = Counter([(await ask(service, "mallory", f"q{n}", "s")).status_code for n in range(WAITING + 2)])
    assert answers == {202: WAITING, 409: 2}, "the session's own limit"
    effects.gates["ask"].set()
    assert (await database.finished(first))["outcome"] == "interrupted"


async def test_ten_runs_behind_an_interrupt_keep_nobody_waiting(
    service: RunningService, effects: Effects, database: Database
) -> None:
    await wait_behind_an_interrupt(service, effects, database)
    await until(lambda: service.resources.runs.counts()["runs_queued"] == 0)
    started = Counter([(await ask(service, f"user-{n}", "hold")).json()["status"] for n in range(2)])
    queued = Counter([(await ask(service, f"user-{n}", "hold")).status_code for n in range(QUEUE + 2)])
    print(f"{WAITING} behind an interrupt: others {dict(started)}, then {dict(queued)} with room for {QUEUE}")
    assert started == {"running": 2}
    assert queued == {202: QUEUE, 503: 2}

    effects.gates["hold"].set()
    rows = database.rows("SELECT count(*) FROM slipway.runs WHERE user_id <> 'mallory'")
    assert rows == [{"count": 2 + QUEUE}]
    done = "SELECT count(*) FROM slipway.runs WHERE user_id <> 'mallory' AND outcome = 'completed'"
    await until(lambda: database.rows(done) == rows)


async def test_one_principal_has_its_share_of_what_may_wait(
    service: RunningService, effects: Effects, database: Database
) -> None:
    await wait_behind_an_interrupt(service, effects, database)
    held = [await ask(service, "ann", "hold") for _ in range(2)]
    assert [answer.json()["status"] for answer in held] == ["running"] * 2

    mine = [await ask(service, "mallory", "hold") for _ in range(4)]
    others = [await ask(service, "bob", "hold") for _ in range(2)]

    print(f"mallory {[answer.status_code for answer in mine]}, bob {[answer.status_code for answer in others]}")
    assert [answer.status_code for answer in mine] == [202] * (PER_PRINCIPAL - WAITING) + [429] * 2
    assert mine[-1].json()["code"] == "too_many_queued"
    assert int(mine[-1].headers["retry-after"]) >= 1
    assert [answer.status_code for answer in others] == [202, 202]
    effects.gates["hold"].set()


async def test_who_waits_keeps_nobody_else_from_a_free_place(service: RunningService) -> None:
    """Every other place: the queue is served, too."""
    worker = service.resources.worker
    worker._queue = Counter({("default", "mallory"): 3})

    def has_place(user: str, role: Role = "user") -> bool:
        with worker.place(Principal("default", user, role)) as place:
            return place.here

    assert not has_place("mallory", "admin")
    with worker.place(Principal("default", "bob")) as bobs:
        assert bobs.here
        assert not has_place("carol")
    worker._queue.clear()
    assert has_place("carol")
