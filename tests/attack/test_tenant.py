"""One tenant against another over HTTP: two real replicas, real Postgres, every id that is not the attacker's own.

An attack succeeds when it reads, changes, starts or costs something of somebody else, or tells a foreign id from a free one:
those two answers are compared byte by byte, but for the id that was sent. The attempts are counted and printed.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from tests.attack.tenants import SECRET_WORD, Attacks, World, replicas_of_two_tenants, victim_of
from tests.support.postgres import fresh_database

MIN_ATTACKS = 160


pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("tenants"), pytest.mark.timeout(300)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(admin_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    with fresh_database(admin_url) as url:
        async with replicas_of_two_tenants(url, tmp_path_factory.mktemp("tenants")) as opened:
            yield opened


Send = Callable[[httpx.AsyncClient, dict[str, str], str], Awaitable[httpx.Response]]


def rpc(method: str, params: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def said(role: str, **ids: str) -> dict[str, object]:
    """A question, or a decision where `ids` has a task."""
    return {"message": {"messageId": "m", "role": role, "parts": [{"text": "say red"}], **ids}}


BY_RUN: dict[str, Send] = {
    "state": lambda c, h, i: c.get(f"/runs/{i}", headers=h),
    "stream": lambda c, h, i: c.get(f"/runs/{i}/stream", headers=h),
    "re-join": lambda c, h, i: c.get(f"/runs/{i}/stream", headers={**h, "Last-Event-ID": f"{i}-1-1"}),
    "re-join by query": lambda c, h, i: c.get(f"/runs/{i}/stream?last_event_id={i}-1-1", headers=h),
    "question with its event id": lambda c, h, i: c.get("/chat/stream?question=q", headers={**h, "Last-Event-ID": f"{i}-1-1"}),
    "posted with its event id": lambda c, h, i: c.post(
        "/chat/stream", json={"question": "q"}, headers={**h, "Last-Event-ID": f"{i}-1-1"}
    ),
    "resume": lambda c, h, i: c.post(f"/runs/{i}/resume", json={"value": "red"}, headers=h),
    "resume, streamed": lambda c, h, i: c.post(
        f"/runs/{i}/resume", json={"value": "red"}, headers={**h, "Accept": "text/event-stream"}
    ),
    "resume by id": lambda c, h, i: c.post(f"/runs/{i}/resume", json={"values": {"x": 1}}, headers=h),
    "approve": lambda c, h, i: c.post(f"/runs/{i}/resume", json={"decisions": [{"type": "approve"}]}, headers=h),
    "cancel": lambda c, h, i: c.post(f"/runs/{i}/cancel", headers=h),
    "feedback": lambda c, h, i: c.post("/feedback", json={"run_id": i, "score": 0, "comment": "x"}, headers=h),
    "file of the question": lambda c, h, i: c.get(f"/runs/{i}/files/0", headers=h),
    "model calls": lambda c, h, i: c.get(f"/runs/{i}/calls", headers=h),
    "stream token": lambda c, h, i: c.post(f"/auth/stream-token?run_id={i}", headers=h),
}

A2A: dict[str, Send] = {
    f"A2A {method}": partial(lambda m, params, c, h, i: c.post("/a2a", json=rpc(m, params(i)), headers=h), method, params)
    for method, params in {
        "GetTask": lambda i: {"id": i},
        "tasks/get": lambda i: {"id": i},
        "CancelTask": lambda i: {"id": i},
        "SubscribeToTask": lambda i: {"id": i},
        "tasks/resubscribe": lambda i: {"id": i},
        "SendMessage": lambda i: said("ROLE_USER", taskId=i),
        "SendStreamingMessage": lambda i: said("ROLE_USER", taskId=i),
        "message/send": lambda i: said("user", taskId=i),
    }.items()
}
"""Errors of calls have status 200 there."""

BY_RUN |= A2A
BY_RUN["MCP's stream"] = lambda c, h, i: c.get("/mcp", headers={**h, "Last-Event-ID": f"{i}-1-1.WzEsbnVsbCxmYWxzZV0="})

BY_SESSION: dict[str, Send] = {
    "history": lambda c, h, i: c.get(f"/sessions/{i}/messages", headers=h),
    "erase": lambda c, h, i: c.delete(f"/sessions/{i}", headers=h),
}

STARTS: dict[str, Send] = {
    "chat": lambda c, h, i: c.post("/chat", json={"question": "say hi", "session_id": i}, headers=h),
    "stream": lambda c, h, i: c.post("/chat/stream", json={"question": "say hi", "session_id": i}, headers=h),
    "stream by GET": lambda c, h, i: c.get(f"/chat/stream?question=say+hi&session_id={i}", headers=h),
    "same key": lambda c, h, i: c.post("/chat", json={"question": "say hi"}, headers={**h, "Idempotency-Key": f"{i}-key"}),
    "v1 session": lambda c, h, i: c.post(
        "/v1/chat/completions",
        json={"messages": [{"role": "user", "content": "say hi"}], "metadata": {"session_id": i}},
        headers=h,
    ),
    "MCP tool": lambda c, h, i: c.post(
        "/mcp", json=rpc("tools/call", {"name": "agent", "arguments": {"question": "say hi", "session_id": i}}), headers=h
    ),
    "A2A context": lambda c, h, i: c.post("/a2a", json=rpc("SendMessage", said("ROLE_USER", contextId=i)), headers=h),
}


async def test_no_id_of_another_opens_changes_or_betrays_anything(world: World) -> None:
    victim, attacks = await victim_of(world), Attacks()
    before = await victim.everything(world.any())
    # Each starts anew: what one of them begins is no longer free for the next kind of call.
    attackers = {
        "other tenant, same user": (victim.user, "evil", "user"),
        "same tenant, other user": ("mallory", "acme", "user"),
        "admin of her tenant": ("root", "acme", "admin"),
        "the platform": ("ops", "platform", "platform"),
        "a label like hers": (victim.user, "acme/", "user"),
        "a label like hers, too": (f"/{victim.user}", "acme", "user"),
    }
    for who, (user, tenant, role) in attackers.items():
        headers = world.bearer(user, tenant, role)
        for name, send in BY_RUN.items():
            for run in (victim.run, victim.waiting_run):
                free = str(uuid4())
                found, unknown = await asyncio.gather(send(world.any(), headers, run), send(world.any(), headers, free))
                attacks.refused(f"{who}: {name}", found, 200 if name in A2A else 404)
                attacks.same(f"{who}: {name}, foreign or free", (run, found), (free, unknown))
        for name, send in BY_SESSION.items():
            found, unknown = await send(world.any(), headers, victim.session), await send(world.any(), headers, "free")
            attacks.refused(f"{who}: {name}", found, 404)
            attacks.same(f"{who}: {name}, foreign or free", (victim.session, found), ("free", unknown))
        for number, (name, send) in enumerate(STARTS.items()):
            caller = world.bearer(f"{user}-{number}", tenant, role)
            taken, fresh = await send(world.any(), caller, victim.session), await send(world.any(), caller, "unused")
            attacks.same(f"{who}: {name} in an id of hers or a free one", (victim.session, taken), ("unused", fresh))
    assert await victim.everything(world.any()) == before
    decided = await world.any().post(f"/runs/{victim.waiting_run}/resume", json={"value": "red"}, headers=victim.headers)
    assert decided.json()["answer"] == "You chose red."
    print(f"\ntenancy: {attacks.tried} attacks, {len(attacks.succeeded)} succeeded")
    assert attacks.succeeded == []
    assert attacks.tried >= MIN_ATTACKS


async def test_an_id_cannot_be_taken_before_its_owner_comes(world: World) -> None:
    names = [f"likely-{uuid4().hex[:8]}" for _ in range(10)]
    squatter, owner = world.bearer("mallory", "evil"), world.bearer("ann", "acme")

    async def say(headers: dict[str, str], name: str, words: str) -> httpx.Response:
        return await world.any().post("/chat", json={"question": f"say {words}", "session_id": name}, headers=headers)

    await asyncio.gather(*(say(squatter, name, "mine") for name in names))
    answers = await asyncio.gather(*(say(owner, name, SECRET_WORD) for name in names))
    assert [answer.status_code for answer in answers] == [200] * len(names)
    for name in names:
        history = (await world.any().get(f"/sessions/{name}/messages", headers=squatter)).text
        assert SECRET_WORD not in history
        assert (await world.any().delete(f"/sessions/{name}", headers=squatter)).status_code == 204
        assert len((await world.any().get(f"/sessions/{name}/messages", headers=owner)).json()["messages"]) == 2
    print(f"\nsquatting: {len(names)} ids taken first, 0 kept from their owner")


async def test_a_foreign_id_takes_no_other_time_than_a_free_one(world: World) -> None:
    """A class of time: another statement, a wait or a retry would show. The median of either is within twice the other's."""
    victim, headers = await victim_of(world), world.bearer("mallory", "evil")
    client = world.replicas[0]

    async def seconds(path: str) -> float:
        began = time.perf_counter()
        await client.get(path, headers=headers)
        return time.perf_counter() - began

    for path, foreign in (("/runs/{}", victim.run), ("/sessions/{}/messages", victim.session)):
        pairs = [(await seconds(path.format(foreign)), await seconds(path.format(uuid4()))) for _ in range(40)]
        found, unknown = (sorted(column)[20] for column in zip(*pairs, strict=True))
        print(f"\n{path}: foreign {found * 1000:.1f} ms, free {unknown * 1000:.1f} ms")
        assert max(found, unknown) < 2 * min(found, unknown) + 0.005
