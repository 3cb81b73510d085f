"""Every route by every caller who must not: another user, another tenant, nobody, a stream token."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi.routing import APIRoute

from agent_service.api import probes
from agent_service.api.app import ROUTERS, create_app
from agent_service.api.langgraph import server_routes
from tests.service.api.conftest import plain_service
from tests.support import sse
from tests.support.fake_model import FakeModel
from tests.support.problems import check_problem
from tests.support.service import JWT_SECRET, RunningService
from tests.support.tokens import bearer

UNKNOWN_RUN = UUID("5f0e4a9c-8f4b-4d5e-9a54-0c5b8f0d2a11")
UNKNOWN = "5f0e4a9c-8f4b-4d5e-9a54-0c5b8f0d2a12"
HERS = "0f3c1b5e-6a7d-4c8e-9b10-2d4f6a8c0e12"
"""The owner's session: clients of LangGraph name a thread by a UUID only."""

OWNER = bearer("alice", "acme")
OTHERS = {
    "other user": bearer("bob", "acme"),
    "other tenant": bearer("alice", "globex"),
    "admin": bearer("root", "acme", "admin"),
}

ASKED = {"assistant_id": "agent", "input": {"messages": [{"role": "user", "content": "hi"}]}}

BODIES: dict[str, Any] = {
    "/chat": {"question": "hi", "session_id": "{session_id}"},
    "/chat/stream": {"question": "hi", "session_id": "{session_id}"},
    "/runs/{run_id}/resume": {"value": 1},
    "/runs/{run_id}/feedback": {"score": 1},
    "/threads/prune": {"thread_ids": [UNKNOWN]},
    "/feedback": {"run_id": "{run_id}", "score": 1},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/mcp": {"jsonrpc": "2.0", "id": 1, "method": "tools/list"},
    "/a2a": {"jsonrpc": "2.0", "id": 1, "method": "GetTask", "params": {"id": "{run_id}"}},
    "/assistants": {"graph_id": "agent"},
    "/assistants/{assistant_id}": {},
    "/assistants/{assistant_id}/versions": {},
    "/assistants/{assistant_id}/latest": {"version": 1},
    "/assistants/search": {},
    "/assistants/count": {},
    "/threads": {},
    "/threads/search": {},
    "/threads/count": {},
    "/threads/{thread_id}": {"metadata": {"mine": True}},
    "/threads/{thread_id}/state": {"values": {"messages": [{"role": "user", "content": "hi"}]}},
    "/threads/{thread_id}/state/checkpoint": {"checkpoint": {"checkpoint_id": str(UNKNOWN_RUN)}},
    "/threads/{thread_id}/history": {},
    **{f"/threads/{{thread_id}}/runs{way}": ASKED for way in ("", "/stream", "/wait")},
    **{f"/runs{way}": ASKED for way in ("", "/stream", "/wait")},
    "/runs/batch": [ASKED],
    "/runs/crons": {"assistant_id": "agent", "schedule": "0 0 1 1 *"},
    "/threads/{thread_id}/runs/crons": {"assistant_id": "agent", "schedule": "0 0 1 1 *"},
    "/runs/crons/search": {},
    "/runs/crons/count": {},
    "/runs/crons/{cron_id}": {},
    "/store/items": {"namespace": ["a"], "key": "k", "value": {}},
    "/store/items/search": {"namespace_prefix": ["a"]},
    "/store/namespaces": {},
    "/sessions/{session_id}": {"title": "x"},
    "/runs/cancel": {"thread_id": "{thread_id}", "run_ids": ["{run_id}"]},
    "/a2a/{graph}": {"jsonrpc": "2.0", "id": 1, "method": "CancelTask", "params": {"id": "{run_id}"}},
}
"""Of the routes that take one, with every id that they can take."""

QUERIES = {"/chat/stream": {"question": "hi", "session_id": "{session_id}"}}

NO_IDS = {
    ("GET", "/sessions"),
    ("GET", "/usage"),
    ("GET", "/budgets"),
    ("GET", "/auth/me"),
    ("POST", "/auth/stream-token"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{model}"),
    ("POST", "/v1/chat/completions"),
    *(("POST", f"/assistants{way}") for way in ("", "/search", "/count")),
    *((method, "/assistants/{assistant_id}") for method in ("GET", "PATCH", "DELETE")),  # theirs: test_langgraph_assistants.py
    *(("POST", f"/assistants/{{assistant_id}}/{way}") for way in ("versions", "latest")),
    *(("GET", f"/assistants/{{assistant_id}}/{way}") for way in ("graph", "schemas", "subgraphs", "subgraphs/{namespace}")),
    *(("POST", f"/threads{way}") for way in ("", "/search", "/count", "/prune")),
    *(("POST", f"/runs{way}") for way in ("", "/stream", "/wait", "/batch")),
    *((method, "/store/items") for method in ("GET", "PUT", "DELETE")),
    *(("POST", f"/store/{way}") for way in ("items/search", "namespaces")),
    *(("POST", f"/runs/crons{way}") for way in ("", "/search", "/count")),
    *((method, "/runs/crons/{cron_id}") for method in ("GET", "PATCH", "DELETE")),  # test_langgraph_wire.py
    ("POST", "/mcp"),
    ("GET", "/mcp"),  # by Last-Event-ID: tests/service/api/test_mcp.py
    ("GET", "/.well-known/agent-card.json"),
    ("GET", "/a2a/{graph}/.well-known/agent-card.json"),
}
"""Routes without an id of a run or session; what they show is the caller's own."""


FREE = {"/chat", "/chat/stream", "/threads/{thread_id}/commands", "/threads/{thread_id}/stream/events"}
"""Where an id of hers is as one that nobody has yet, for everyone else: test_tenant.py, and of the latter two
test_langgraph_wire.py."""


def check_refusal(call: "Call", response: httpx.Response, status: int, code: str) -> dict[str, object]:
    """A problem, or where JSON-RPC is spoken an error object that says the same; A2A has 200 for what is no matter of HTTP."""
    if call.path not in {"/mcp", "/a2a", "/a2a/{graph}"}:
        return check_problem(response, status, code)
    error: dict[str, Any] = response.json()["error"]
    told = error["data"]["code"] if call.path == "/mcp" else error["data"][0]["reason"].lower()
    assert (response.status_code, told) == (status if status == 401 or call.path == "/mcp" else 200, code)
    assert ("www-authenticate" in response.headers) == (status == 401)
    return error


NAMES = {
    "model": "slipway",
    "graph": "agent",
    "assistant_id": "agent",
    "namespace": "a",
    "checkpoint_id": str(UNKNOWN_RUN),
    "cron_id": str(UNKNOWN_RUN),
    "number": "0",
}


def unnamed(problem: dict[str, object], *ids: str) -> str:
    """Without the ids that were sent: some answers say which one they have not found."""
    return re.sub("|".join(ids), "*", str(problem))


@dataclass(frozen=True, slots=True)
class Call:
    method: str
    path: str

    async def send(self, client: httpx.AsyncClient, run_id: object, session_id: str, **options: Any) -> httpx.Response:
        def fill(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: fill(item) for key, item in value.items()}
            if isinstance(value, list):
                return [fill(item) for item in value]
            names = {"run_id": run_id, "session_id": session_id, "thread_id": session_id, **NAMES}
            return value.format_map(names) if isinstance(value, str) else value

        params = fill(QUERIES.get(self.path, {})) if self.method == "GET" else {}
        body = fill(BODIES[self.path]) if self.method in {"POST", "PATCH"} and self.path in BODIES else None
        more = options.pop("params", {})
        return await client.request(self.method, fill(self.path), json=body, params={**params, **more}, **options)


def calls() -> Iterator[Call]:
    for route in (route for router in ROUTERS for route in router.routes):
        assert isinstance(route, APIRoute)
        yield from (Call(method, route.path) for method in route.methods or ())


ALL = sorted(calls(), key=lambda call: (call.path, call.method))


@pytest.fixture
async def service(database_url: str, model: FakeModel) -> AsyncIterator[RunningService]:
    async with plain_service(database_url, model, AUTH="required", JWT_SECRET=JWT_SECRET) as running:
        yield running


@pytest.fixture
async def run_id(client: httpx.AsyncClient) -> str:
    """A finished run of the owner in her session."""
    answer = await client.post("/chat", json={"question": "mine", "session_id": HERS}, headers=OWNER)
    return str(answer.json()["run_id"])


async def test_the_lists_here_know_every_route(service: RunningService) -> None:
    documented = create_app(service.resources).openapi()["paths"]
    open_to_all = [*probes.router.routes, *server_routes.router.routes]
    listed = {call.path for call in ALL} | {route.path for route in open_to_all if isinstance(route, APIRoute)} - {"/"}
    assert set(documented) == listed
    for call in ALL:
        takes_ids = re.search(r"{(run|session|thread)_id}", call.path + str(BODIES.get(call.path, QUERIES.get(call.path))))
        assert bool(takes_ids) != ((call.method, call.path) in NO_IDS), f"{call}: new here? add it to the lists"


async def test_anothers_id_is_answered_as_an_unknown_one(client: httpx.AsyncClient, run_id: str) -> None:
    before = (await client.get(f"/runs/{run_id}", headers=OWNER)).json()
    for call in ALL:
        if (call.method, call.path) in NO_IDS:
            continue
        for who, headers in OTHERS.items():
            if call.path in FREE:
                continue
            problem = check_refusal(call, await call.send(client, run_id, HERS, headers=headers), 404, "not_found")
            unknown = await call.send(client, UNKNOWN_RUN, UNKNOWN, headers=headers)
            refused = check_refusal(call, unknown, 404, "not_found")
            assert unnamed(problem, HERS, run_id) == unnamed(refused, UNKNOWN, str(UNKNOWN_RUN)), (call, who)

    assert (await client.get(f"/runs/{run_id}", headers=OWNER)).json() == before
    assert len((await client.get(f"/sessions/{HERS}/messages", headers=OWNER)).json()["messages"]) == 2


async def test_anothers_last_event_id_is_answered_as_an_unknown_one(client: httpx.AsyncClient, run_id: str) -> None:
    for headers in OTHERS.values():
        bodies = []
        for run in (run_id, UNKNOWN_RUN):
            last = {**headers, "Last-Event-ID": f"{run}-1-1"}
            for answer in (
                await client.get("/chat/stream", params={"question": "x"}, headers=last),
                await client.post("/chat/stream", json={"question": "x"}, headers=last),
                await client.get(f"/runs/{run}/stream", headers=last),
            ):
                bodies.append(check_problem(answer, 404, "not_found"))  # noqa: PERF401  # reads better than nested
        assert all(body == bodies[0] for body in bodies)


async def test_lists_show_the_callers_own(client: httpx.AsyncClient, run_id: str) -> None:
    assert run_id
    for headers in OTHERS.values():
        assert (await client.get("/sessions", headers=headers)).json() == {"sessions": []}
    for who, name in (("other user", "acme/bob"), ("other tenant", "globex/alice")):
        report = (await client.get("/usage?group_by=user", headers=OTHERS[who])).json()
        assert (report["rows"], report["unpriced"], report["month"]["spent_usd"]) == ([], [], 0)
        assert not any(report["total"].values())
        (own,) = (await client.get("/budgets", headers=OTHERS[who])).json()["budgets"]
        assert (f"{own['tenant']}/{own['user']}", own["tokens"]) == (name, 0)


async def test_an_admin_sees_the_usage_of_the_own_tenant_and_the_platform_of_all(client: httpx.AsyncClient) -> None:
    for tenant, user in (("acme", "alice"), ("globex", "alice"), ("a/b", "c"), ("a", "b/c"), ("a%2Fb", "c")):
        body = {"question": "hi", "session_id": "hers"}
        assert (await client.post("/chat", json=body, headers=bearer(user, tenant))).status_code == 200

    async def users(headers: dict[str, str], groups: str = "user") -> list[str]:
        rows = (await client.get(f"/usage?group_by={groups}", headers=headers)).json()["rows"]
        return [row["user"] for row in rows]

    everyone = ["a%252Fb/c", "a%2Fb/c", "a/b%2Fc", "acme/alice", "globex/alice"]
    assert sorted(await users(bearer("ops", "acme", "platform"))) == everyone
    assert sorted(await users(bearer("ops", "acme", "platform"), "session")) == everyone  # each has a session of this id
    assert await users(bearer("root", "acme", "admin")) == ["acme/alice"]
    assert await users(bearer("root", "acme", "admin"), "session") == ["acme/alice"]
    assert await users(bearer("root", "nobody", "admin")) == []
    mine = (await client.get("/usage?group_by=session", headers=OWNER)).json()["rows"]
    assert [row["session"] for row in mine] == ["hers"]
    assert "user" not in mine[0]


async def test_an_idempotency_key_is_the_callers_own(client: httpx.AsyncClient) -> None:
    runs = set()
    for headers in (OWNER, *OTHERS.values()):
        answer = await client.post("/chat", json={"question": "same"}, headers={**headers, "Idempotency-Key": "one"})
        runs.add(answer.json()["run_id"])
    assert len(runs) == 4


async def test_the_same_name_on_the_openai_wire_is_another_session_for_another_caller(
    client: httpx.AsyncClient, model: FakeModel
) -> None:
    for headers in (OWNER, *OTHERS.values()):
        body = {"messages": [{"role": "user", "content": "hi"}], "metadata": {"session_id": "same name"}}
        assert (await client.post("/v1/chat/completions", json=body, headers=headers)).status_code == 200
    told = [r.payload["messages"] for r in model.requests if r.path == "/v1/chat/completions"]
    assert [len(messages) for messages in told] == [1, 1, 1, 1]


BAD_CREDENTIALS = [
    {},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer nonsense"},
    {"Authorization": "Bearer slw_aaaaaaaa_" + "a" * 43},
    {"Authorization": "Basic YTpi"},
    {"Authorization": "Bearer " + "x" * 9_000},
]


async def test_nobody_gets_401_everywhere(client: httpx.AsyncClient, run_id: str) -> None:
    for call in ALL:
        for headers in BAD_CREDENTIALS:
            check_refusal(call, await call.send(client, run_id, HERS, headers=headers), 401, "unauthenticated")
    for open_path in ("/", "/live", "/ready", "/health", "/openapi.json"):
        assert (await client.get(open_path)).status_code == 200


async def token_of(client: httpx.AsyncClient, headers: dict[str, str], run_id: str | None = None) -> str:
    params = {"run_id": run_id} if run_id else {}
    return str((await client.post("/auth/stream-token", params=params, headers=headers)).json()["token"])


async def test_a_stream_token_opens_the_stream_of_its_run_and_nothing_else(client: httpx.AsyncClient, run_id: str) -> None:
    token = await token_of(client, OWNER, run_id)
    for call in ALL:
        in_query = await call.send(client, run_id, HERS, params={"token": token})
        in_header = await call.send(client, run_id, HERS, headers={"Authorization": f"Bearer {token}"})
        check_refusal(call, in_header, 401, "unauthenticated")
        match (call.method, call.path):
            case ("GET", "/runs/{run_id}/stream"):
                assert in_query.status_code == 200
            case ("GET", "/chat/stream"):
                check_problem(in_query, 403, "forbidden")
            case _:
                check_refusal(call, in_query, 401, "unauthenticated")
    other = (await client.post("/chat", json={"question": "another of hers"}, headers=OWNER)).json()["run_id"]
    answers = [await client.get(f"/runs/{run}/stream", params={"token": token}) for run in (other, UNKNOWN_RUN)]
    assert check_problem(answers[0], 403, "forbidden") == check_problem(answers[1], 403, "forbidden")


async def test_a_stream_token_is_its_owners(client: httpx.AsyncClient, run_id: str) -> None:
    params = {"run_id": run_id}
    for headers in OTHERS.values():
        check_problem(await client.post("/auth/stream-token", params=params, headers=headers), 404, "not_found")
    mine = await token_of(client, OWNER, run_id)
    assert (await sse.read(client, "GET", f"/runs/{run_id}/stream", params={"token": mine})).done
    check_problem(await client.get(f"/runs/{run_id}/stream", params={"token": mine[:-2]}), 401, "unauthenticated")


async def test_a_stream_token_starts_one_run_however_often_it_is_sent(client: httpx.AsyncClient, model: FakeModel) -> None:
    async def ask(question: str, **more: str) -> httpx.Response:
        return await client.get("/chat/stream", params={"question": question, "token": token, **more})

    token = await token_of(client, OWNER)
    answers = await asyncio.gather(*(ask("once") for _ in range(6)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    check_problem(await ask("twice"), 409, "idempotency_conflict", field="Idempotency-Key")
    check_problem(await ask("once", session_id="another"), 409, "idempotency_conflict", field="Idempotency-Key")
    assert len([r for r in model.requests if r.path == "/v1/chat/completions"]) == 1

    (session,) = (await client.get("/sessions", headers=OWNER)).json()["sessions"]
    assert (await client.delete(f"/sessions/{session['session_id']}", headers=OWNER)).status_code == 204
    check_problem(await ask("once"), 401, "unauthenticated")
