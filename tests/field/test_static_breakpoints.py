"""Static breakpoints: https://github.com/ibbybuilds/aegra/issues/442.

A compiled graph with `interrupt_before=["pay"]` was compiled again without it, and the node ran. Siblings: `interrupt_after`,
`"*"`, a breakpoint in a subgraph, two in a row, a factory that compiles, and a process that dies at the breakpoint: the peer
must not pass it.
"""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from langgraph.graph import MessagesState

from tests.service.runs.conftest import Database, Serve, begin, database, effects, expire_leases, serve, unfinished, until
from tests.service.runs.graphs import Effects, Update, chain
from tests.support.problems import check_problem

__all__ = ["database", "effects", "serve"]

Make = Callable[[Effects], Any]


def steps(effects: Effects, *names: str) -> Any:
    def node(name: str) -> Any:
        async def run(_: MessagesState) -> Update:
            effects.add(name)
            return {}

        return run

    return chain(*((name, node(name)) for name in names))


def before(effects: Effects) -> Any:
    return steps(effects, "order", "pay", "ship").compile(interrupt_before=["pay"])


def after(effects: Effects) -> Any:
    return steps(effects, "order", "pay", "ship").compile(interrupt_after=["order"])


def first(effects: Effects) -> Any:
    return steps(effects, "pay", "ship").compile(interrupt_before=["pay"])


def factory(effects: Effects) -> Any:
    return lambda _: before(effects)


def in_subgraph(effects: Effects) -> Any:
    inner = steps(effects, "order", "pay").compile(interrupt_before=["pay"])
    return chain(("sub", inner), ("ship", steps(effects, "ship").compile()))


def after_in_subgraph(effects: Effects) -> Any:
    inner = steps(effects, "order", "pay").compile(interrupt_after=["order"])
    return chain(("sub", inner), ("ship", steps(effects, "ship").compile()))


ONCE: list[tuple[Make, list[str]]] = [
    (before, ["order"]),
    (after, ["order"]),
    (first, []),
    (factory, ["order"]),
    (in_subgraph, ["order"]),
    (after_in_subgraph, ["order"]),
]


async def ask(client: httpx.AsyncClient, path: str = "/chat", **body: Any) -> dict[str, Any]:
    answer = await client.post(path, json={"question": "q"} if path == "/chat" else body)
    assert answer.status_code == 200, answer.text
    run: dict[str, Any] = answer.json()
    return run


@pytest.mark.parametrize("body", [{}, {"value": None}], ids=["empty", "null"])
@pytest.mark.parametrize(("make", "done"), ONCE, ids=lambda made: getattr(made, "__name__", None))
async def test_a_run_stops_at_the_breakpoint_and_a_plain_resume_goes_on(
    serve: Serve, effects: Effects, make: Make, done: list[str], body: dict[str, Any]
) -> None:
    async with serve(make(effects)) as service, service.client() as client:
        stopped = await ask(client)
        assert (stopped["outcome"], effects) == ("interrupted", done)
        assert stopped["interrupts"] == [{"id": "breakpoint", "value": {"next": ["pay"]}}]
        history = (await client.get(f"/sessions/{stopped['session_id']}/messages")).json()
        assert history["interrupted"]["run_id"] == stopped["run_id"]

        resumed = await ask(client, f"/runs/{stopped['run_id']}/resume", **body)

    assert resumed["outcome"] == "completed"
    assert effects == [*done, "pay", "ship"]


async def test_a_breakpoint_before_every_node_stops_before_every_node(serve: Serve, effects: Effects) -> None:
    async with serve(steps(effects, "a", "b", "c").compile(interrupt_before="*")) as service, service.client() as client:
        run = await ask(client)
        seen = [list(effects)]
        while run["outcome"] == "interrupted":
            run = await ask(client, f"/runs/{run['run_id']}/resume")
            seen.append(list(effects))
    assert seen == [[], ["a"], ["a", "b"], ["a", "b", "c"]]
    assert run["outcome"] == "completed"


@pytest.mark.parametrize(
    "body", [{"decisions": [{"type": "reject"}]}, {"value": False}, {"value": "no"}, {"values": {"breakpoint": "no"}}]
)
async def test_a_breakpoint_takes_no_answer_that_it_would_not_heed(serve: Serve, effects: Effects, body: dict[str, Any]) -> None:
    async with serve(before(effects)) as service, service.client() as client:
        stopped = await ask(client)
        refused = await client.post(f"/runs/{stopped['run_id']}/resume", json=body)
    check_problem(refused, 422, "invalid_request", field=next(iter(body)))
    assert effects == ["order"]


@pytest.mark.parametrize("make", [before, after, in_subgraph, after_in_subgraph])
async def test_a_peer_does_not_pass_the_breakpoint_of_a_process_that_died_at_it(
    serve: Serve, effects: Effects, database: Database, monkeypatch: pytest.MonkeyPatch, make: Make
) -> None:
    """The breakpoint is reached and its checkpoint stored; the process dies before the outcome is."""
    async with serve(make(effects), LEASE_SECONDS="60") as dying, unfinished(dying, monkeypatch) as ends:
        run_id = await begin(dying, question="q")
        await until(lambda: ends)
        async with serve(make(effects), LEASE_SECONDS="0.5") as peer:
            expire_leases(database)
            run = await database.finished(run_id)
            assert (run["attempt"], run["outcome"]) == (2, "interrupted")
            assert "pay" not in effects
            last = await database.finished(await begin(peer, f"/runs/{run_id}/resume"))

    assert last["outcome"] == "completed"
    assert effects == ["order", "pay", "ship"]
