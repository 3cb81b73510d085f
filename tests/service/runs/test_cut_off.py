"""A process dies in the middle of a model call: whoever takes its run over bills what the call is known to have used, once.

The dead process is a service that writes no more while its leases have run out, as in test_recovery.py.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from langchain_core.messages import SystemMessage
from langgraph.graph import END, START, MessagesState, StateGraph

from agent_service.runs.callback_handler import UNSEEN_TOKENS
from agent_service.runs.cut_off import cut_off
from agent_service.runs.events import Event, EventKind
from agent_service.token_counts import count_tokens
from tests.service.runs.conftest import Database, Serve, begin, expire_leases, silenced, until
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Fault, Script, ToolCall, echo_tokens
from tests.support.graphs import plain
from tests.support.service import RunningService

OWN_LEASE = "60"
"""Seconds: the first process's leases end by SQL only."""

ADOPTS_AFTER = "0.5"

SAID = 20
"""Tokens of an answer after which its call hangs."""


def log(*events: tuple[int, EventKind, str, Any]) -> list[Event]:
    return [Event(attempt, seq, kind, node, payload) for seq, (attempt, kind, node, payload) in enumerate(events, 1)]


def call(attempt: int, source: str, prompt: int = 5) -> tuple[int, EventKind, str, Any]:
    return attempt, "call", source, {"model": "m", "prompt_tokens": prompt}


def found(history: list[Event], *billed: tuple[int, int]) -> list[tuple[int, int, str, int, str, int]]:
    return [(c.attempt, c.number, c.node, c.prompt_tokens, c.text, c.unseen_tokens) for c in cut_off(history, billed)]


def test_what_is_billed_is_left_out_by_attempt_and_number() -> None:
    history = log(call(1, "a#1"), call(1, "a#2"), call(2, "a#1"), call(2, "a#2"))
    assert [each[:2] for each in found(history, (1, 1), (2, 2))] == [(1, 2), (2, 1)]


def test_text_that_waited_for_its_turn_counts_once_and_what_was_thought_counts_too() -> None:
    history = log(
        call(1, "a#1"),
        call(1, "b#2"),
        (1, "text", "a#1", "one "),
        (1, "reasoning", "b#2", {"source": "b#2", "text": "hm "}),
        (1, "partial", "b#2", {"source": "b#2", "text": "two "}),
        (1, "source", "b#2", {"source": "b#2"}),
        (1, "text", "b#2", "two "),
        (1, "text", "b#2", "three"),
    )
    assert [each[4] for each in found(history)] == ["one ", "hm two three"]
    assert [each[4] for each in found(history[:5])] == ["one ", "hm two "]


def test_text_that_was_taken_back_was_produced_all_the_same() -> None:
    history = log(call(1, "a#1"), (1, "text", "a#1", "said"), (1, "reset", "a#1", {"text": ""}))
    assert found(history) == [(1, 1, "a", 5, "said", 0)]


def test_a_node_s_name_may_hold_the_mark_that_parts_it_from_the_number() -> None:
    assert found(log(call(1, "a#b#7"), (1, "call", "a#b#7", {"unseen_tokens": 3}))) == [(1, 7, "a#b", 5, "", 3)]


def test_events_of_a_version_before_and_of_a_run_whose_content_was_refused_bill_nothing() -> None:
    assert found(log((1, "text", "a#1", "x"), (1, "call", "a#1", {}), (1, "text", "cache", "y"))) == []


# Taken over


def hidden(context: Any) -> StateGraph[MessagesState]:
    """Its first call of the model is no part of the answer."""

    async def plan(state: MessagesState) -> dict[str, Any]:
        model = context.chat_model.with_config(tags=["nostream"])
        await model.ainvoke([SystemMessage("plan"), *state["messages"]])
        return {"messages": [await context.chat_model.ainvoke(state["messages"])]}

    return StateGraph(MessagesState).add_node("plan", plan).add_edge(START, "plan").add_edge("plan", END)


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel() as fake:
        yield fake


class Takeover:
    """A run whose model call hangs while its process dies, and what a peer makes of it."""

    def __init__(self, serve: Serve, database: Database, model: FakeModel) -> None:
        self._serve = serve
        self._database = database
        self._model = model

    def serve(self, graph: Callable[[Any], Any], **env: str) -> Any:
        endpoint = {"MODEL": "gpt-4o", "OPENAI_BASE_URL": self._model.url, "OPENAI_API_KEY": "sk-1"}
        return self._serve(graph, **{**endpoint, **env})

    async def hung(self, dying: RunningService, tokens: int, question: str = "hello", *, seen: str = "") -> str:
        """A run whose first call hangs after so many tokens, all of which are in the log. `seen`: the text that they are."""
        before = len(self._model.requests)
        run_id = await begin(dying, question=question)
        await until(lambda: len(self._model.requests) > before and self._model.requests[before].tokens_sent == tokens)
        await until(lambda: self.known(run_id))
        (live,) = dying.resources.worker._jobs.values()
        if seen:  # what the model has sent may still be on its way
            await until(lambda: "".join(e.payload for e in live.said.events if e.kind == "text") == seen)
        await dying.resources.worker._writer.settled(live)
        return run_id

    def known(self, run_id: str) -> list[str]:
        """Models of the calls that the log knows of."""
        return [payload["model"] for payload in self._database.payloads(run_id, "call") if "model" in payload]

    def unseen(self, run_id: str) -> int:
        return sum(payload.get("unseen_tokens", 0) for payload in self._database.payloads(run_id, "call"))

    def ledger(self) -> list[tuple[Any, ...]]:
        rows = self._database.rows("SELECT * FROM slipway.ledger ORDER BY attempt, call")
        return [(r["attempt"], r["call"], r["input_tokens"] > 0, r["output_tokens"], r["estimated"]) for r in rows]


@pytest.fixture
def takeover(serve: Serve, database: Database, model: FakeModel) -> Takeover:
    return Takeover(serve, database, model)


@pytest.mark.parametrize("said", [0, SAID])
async def test_a_call_of_a_dead_process_is_billed_with_what_the_log_has_of_it(
    takeover: Takeover, database: Database, model: FakeModel, said: int
) -> None:
    model.script = Script(token_count=30, faults=[Fault(kind="hang", after_tokens=said)])
    async with takeover.serve(plain, LEASE_SECONDS=OWN_LEASE) as dying:
        text = "".join(echo_tokens("hello", said))
        run_id = await takeover.hung(dying, said, seen=text)
        async with silenced(dying), takeover.serve(plain, LEASE_SECONDS=ADOPTS_AFTER) as peer:
            expire_leases(database)
            await database.finished(run_id)
            async with peer.client() as client:
                run = (await client.get(f"/runs/{run_id}")).json()
            spent = await peer.metric("agent_tokens_total", model="gpt-4o", type="output")

    assert takeover.ledger() == [(1, 1, True, count_tokens(text), True), (2, 1, True, 30, False)]
    (told,) = database.payloads(run_id, "usage")
    assert told["output_tokens"] == run["usage"]["output_tokens"] == spent == count_tokens(text) + 30
    assert told["cost_usd"] == pytest.approx(run["cost_usd"])


@pytest.mark.parametrize(
    ("setting", "outcome"), [("cancel_requested = true", "cancelled"), ("crashes = 5", "failed")], ids=["cancelled", "poisoned"]
)
async def test_a_run_that_ends_when_it_is_taken_over_is_billed_as_well(
    takeover: Takeover, database: Database, model: FakeModel, setting: Any, outcome: str
) -> None:
    model.script = Script(token_count=30, faults=[Fault(kind="hang", after_tokens=SAID)])
    async with takeover.serve(plain, LEASE_SECONDS=OWN_LEASE) as dying:
        run_id = await takeover.hung(dying, SAID)
        async with silenced(dying), takeover.serve(plain, LEASE_SECONDS=ADOPTS_AFTER, MAX_ATTEMPTS="5"):
            database.rows(f"UPDATE slipway.runs SET {setting}")
            expire_leases(database)
            assert (await database.finished(run_id))["outcome"] == outcome

    assert [(attempt, number, estimated) for attempt, number, _, _, estimated in takeover.ledger()] == [(1, 1, True)]


async def test_over_several_deaths_each_attempt_is_billed_once(takeover: Takeover, database: Database, model: FakeModel) -> None:
    model.script = Script(token_count=30, faults=[Fault(kind="hang", after_tokens=SAID, times=2)])
    async with takeover.serve(plain, LEASE_SECONDS=OWN_LEASE) as first:
        run_id = await takeover.hung(first, SAID)
        async with silenced(first), takeover.serve(plain, LEASE_SECONDS="2") as second:
            expire_leases(database)
            await until(lambda: len(takeover.known(run_id)) == 2)
            await until(lambda: len(model.requests) == 2 and model.requests[1].tokens_sent == SAID)
            assert [row[:2] for row in takeover.ledger()] == [(1, 1)]
            async with silenced(second), takeover.serve(plain, LEASE_SECONDS=ADOPTS_AFTER):
                expire_leases(database)
                await database.finished(run_id)

    assert [(attempt, number, estimated) for attempt, number, _, _, estimated in takeover.ledger()] == [
        (1, 1, True),
        (2, 1, True),
        (3, 1, False),
    ]


async def test_hidden_text_is_billed_to_the_last_250_tokens(takeover: Takeover, database: Database, model: FakeModel) -> None:
    words = ["word "] * 1_000
    all_of_it = 900 * 5 // 4  # four characters to a token
    model.script = Script(tokens=words, faults=[Fault(kind="hang", after_tokens=900)])
    async with takeover.serve(hidden, LEASE_SECONDS=OWN_LEASE) as dying:
        run_id = await takeover.hung(dying, 900)
        await until(lambda: takeover.unseen(run_id) >= all_of_it - UNSEEN_TOKENS)
        async with silenced(dying), takeover.serve(hidden, LEASE_SECONDS=ADOPTS_AFTER):
            expire_leases(database)
            await database.finished(run_id)
    assert all_of_it - UNSEEN_TOKENS <= takeover.ledger()[0][3] <= all_of_it


@pytest.mark.parametrize("dies", [True, False], ids=["killed", "cancelled"])
async def test_arguments_of_a_tool_that_a_call_was_writing_are_billed(
    takeover: Takeover, database: Database, model: FakeModel, dies: bool
) -> None:
    pieces = 1_000  # of seven characters; the first has the name
    writing = ToolCall(name="lookup", arguments={"query": "word " * 2_000})
    model.script = Script(tool_calls=[writing], faults=[Fault(kind="hang", after_tokens=pieces)])
    all_of_it = 7 * (pieces - 1) // 4
    async with takeover.serve(plain, LEASE_SECONDS=OWN_LEASE) as dying:
        run_id = await takeover.hung(dying, pieces)
        await until(lambda: takeover.unseen(run_id) >= all_of_it - UNSEEN_TOKENS)
        if dies:
            model.script = Script(token_count=5)
            async with silenced(dying), takeover.serve(plain, LEASE_SECONDS=ADOPTS_AFTER):
                expire_leases(database)
                await database.finished(run_id)
        else:
            async with dying.client() as client:
                await client.post(f"/runs/{run_id}/cancel")
            await database.finished(run_id)

    attempt, number, prompt, billed, estimated = takeover.ledger()[0]
    assert (attempt, number, prompt, estimated) == (1, 1, True, True)
    assert all_of_it - UNSEEN_TOKENS <= billed <= all_of_it + 10
