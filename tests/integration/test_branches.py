"""What a session's history shows beside branches: all that the state knows, and nothing that was left behind."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.support.fake_model import FakeModel
from tests.support.fake_script import Fault
from tests.support.service import RunningService, running_service
from tests.support.thread_reader import asking


@pytest.fixture
async def service(database_url: str, model: FakeModel) -> AsyncIterator[RunningService]:
    """One run at a time: what comes beside it waits in the queue."""
    model.script.tokens = ["An", " answer", "."]
    env = {"AGENT_GRAPH": "tests.support.graphs:plain", "MODEL": "gpt-4o", "OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "k"}
    async with running_service(database_url, AUTH="disabled", MAX_CONCURRENT_RUNS="1", **env) as service:
        yield service


class Session:
    """One that has three turns, as clients of LangGraph and of the page see it."""

    def __init__(self, sdk: LangGraphClient, http: httpx.AsyncClient, model: FakeModel) -> None:
        self.sdk = sdk
        self.http = http
        self.model = model
        self.thread = str(uuid4())
        self.ends: list[str] = []
        """Checkpoints at which the first turns ended."""
        self.held = ""
        """The run that holds the only place."""

    async def talk(self) -> None:
        for question in ("one", "two", "three"):
            await self.chat(question)
            state: Any = await self.sdk.threads.get_state(self.thread)
            self.ends.append(state["checkpoint"]["checkpoint_id"])

    async def chat(self, question: str, **more: object) -> dict[str, Any]:
        answer = await self.http.post("/chat", json={"question": question, "session_id": self.thread, **more})
        assert answer.status_code == 200, answer.text
        run: dict[str, Any] = answer.json()
        return run

    async def begin(self, question: str | None, checkpoint: str, **more: Any) -> str:
        """A run there; its id."""
        given = asking(question) if question else None
        run = await self.sdk.runs.create(self.thread, "agent", input=given, checkpoint_id=checkpoint, **more)
        return run["run_id"]

    async def go(self, question: str | None, checkpoint: str, **more: Any) -> str:
        """The same, to its end."""
        run = await self.begin(question, checkpoint, **more)
        await self.sdk.runs.join(self.thread, run)
        return run

    async def copied(self) -> Any:
        """A thread with the same states: what the SDK says of it has no type."""
        return (await self.http.post(f"/threads/{self.thread}/copy")).json()

    async def change(self, checkpoint: str | None = None, **more: Any) -> str:
        """The state there, by hand; the new checkpoint."""
        said = {"messages": [{"role": "assistant", "content": "by hand"}]}
        made: Any = await self.sdk.threads.update_state(self.thread, more.pop("values", said), checkpoint_id=checkpoint, **more)
        found: str = made["checkpoint_id"]
        return found

    async def release(self) -> None:
        """The place."""
        await self.http.post(f"/runs/{self.held}/cancel")

    async def shown(self, role: str = "user") -> list[str]:
        """Questions of the history."""
        messages = (await self.http.get(f"/sessions/{self.thread}/messages")).json()["messages"]
        return [message["content"] for message in messages if message["role"] == role and message["content"]]

    async def known(self) -> list[str]:
        """Questions in the state."""
        values: Any = (await self.sdk.threads.get_state(self.thread))["values"]
        return [message["content"] for message in values["messages"] if message["type"] == "human"]


@pytest.fixture
async def session(service: RunningService, model: FakeModel) -> AsyncIterator[Session]:
    async with get_client(url=service.url) as sdk, service.client() as http:
        session = Session(sdk, http, model)
        await session.talk()
        yield session


@pytest.fixture
async def busy(service: RunningService, session: Session) -> AsyncIterator[None]:
    """Another session holds the only place, so that a run of this one waits."""
    session.model.script.faults.append(Fault(kind="hang", asked="hold the place"))
    async with service.client() as http:
        held = await http.post("/chat", json={"question": "hold the place"}, headers={"Prefer": "respond-async"})
        session.held = held.json()["run_id"]
        yield
        await session.release()


@pytest.mark.usefixtures("busy")
async def test_a_branch_that_was_cancelled_in_the_queue_hides_nothing(session: Session) -> None:
    branch = await session.begin("another two", session.ends[0])
    assert await session.shown() == ["one", "another two"]

    await session.sdk.runs.cancel(session.thread, branch, wait=True)

    assert await session.shown() == ["one", "two", "three", "another two"]
    assert await session.known() == ["one", "two", "three"]
    await session.release()
    await session.chat("four")
    assert await session.shown() == ["one", "two", "three", "another two", "four"]


@pytest.mark.usefixtures("busy")
async def test_a_branch_that_waits_shows_where_it_is_to_begin_and_its_question_asked_anew_begins_there(session: Session) -> None:
    branch = await session.begin("another two", session.ends[0])
    waiting = await session.shown()
    await session.sdk.runs.cancel(session.thread, branch, wait=True)
    session.model.script.faults.clear()

    await session.release()
    await session.chat("yet another two", replaces=branch)

    assert waiting == ["one", "another two"]
    assert await session.shown() == await session.known() == ["one", "yet another two"]


async def test_a_branch_that_was_cancelled_while_it_answered_stays_one(session: Session) -> None:
    session.model.script.faults.append(Fault(kind="hang", after_tokens=2, asked="another two"))
    branch = await session.begin("another two", session.ends[0])
    async with asyncio.timeout(20):
        while "another two" not in await session.known():
            await asyncio.sleep(0.02)

    await session.sdk.runs.cancel(session.thread, branch, wait=True)

    assert await session.shown() == await session.known() == ["one", "another two"]


async def test_a_change_of_an_earlier_state_leaves_behind_what_was_said_after_it(session: Session) -> None:
    await session.change(session.ends[0])
    assert await session.shown() == await session.known() == ["one"]

    await session.chat("another two")
    assert await session.shown() == await session.known() == ["one", "another two"]

    await session.go("four", session.ends[2])  # the fork is left behind in its turn
    assert await session.shown() == await session.known() == ["one", "two", "three", "four"]


async def test_of_two_changes_without_a_turn_between_the_later_one_counts(session: Session) -> None:
    for end in (0, 1, 0, 1):  # by chance it was right in half of them
        await session.change(session.ends[end])
        assert await session.shown() == await session.known() == ["one", "two", "three"][: end + 1]


async def test_a_change_of_the_latest_state_leaves_nothing_behind(session: Session) -> None:
    changed = await session.change()
    changed = await session.change(changed)
    await session.go("four", changed)

    assert await session.shown() == await session.known() == ["one", "two", "three", "four"]


async def test_a_run_begins_at_a_state_that_was_changed_by_hand(session: Session) -> None:
    changed = await session.change(session.ends[1])
    await session.chat("another three")

    await session.go("yet another three", changed)

    assert await session.shown() == await session.known() == ["one", "two", "yet another three"]


async def test_a_change_in_the_midst_of_a_turn_keeps_its_question_and_leaves_its_answer_behind(session: Session) -> None:
    await session.go("four", session.ends[2])  # for a client of LangGraph all states are kept
    states = await session.sdk.threads.get_history(session.thread, limit=100)
    asks = next(state for state in states if state["next"] == ["model"])["checkpoint"]["checkpoint_id"]
    assert asks
    before = await session.shown("assistant")

    await session.change(asks, as_node="model")

    assert await session.shown() == await session.known() == ["one", "two", "three", "four"]
    assert await session.shown("assistant") == before[:3]


async def test_a_copy_of_a_state_keeps_what_it_had_known(session: Session) -> None:
    await session.change(session.ends[1], values=None, as_node="__copy__")

    assert await session.shown() == await session.known() == ["one", "two"]


async def test_a_command_at_an_earlier_state_begins_a_branch(session: Session) -> None:
    said = {"messages": [{"role": "user", "content": "commanded"}]}
    run = await session.sdk.runs.create(
        session.thread, "agent", command={"update": said, "goto": "model"}, checkpoint_id=session.ends[0]
    )
    await session.sdk.runs.join(session.thread, run["run_id"])

    assert await session.known() == ["one", "commanded"]
    assert await session.shown() == ["one"]
    assert len(await session.shown("assistant")) == 2


async def test_before_all_turns_there_is_a_state_too(session: Session) -> None:
    """Of a copied thread all states are others' runs', and none is of its own."""
    session.thread = str((await session.copied())["thread_id"])
    copied: Any = (await session.sdk.threads.get_state(session.thread))["checkpoint"]
    await session.chat("four")
    assert await session.shown() == ["four"]

    await session.go("another four", copied["checkpoint_id"])

    assert await session.shown() == ["another four"]
    assert await session.known() == ["one", "two", "three", "another four"]


async def test_a_run_whose_row_was_deleted_hides_none_before_it(session: Session) -> None:
    runs = await session.sdk.runs.list(session.thread)
    await session.sdk.runs.delete(session.thread, runs[1]["run_id"])

    await session.change(session.ends[1])

    assert await session.shown() == ["one"]


@pytest.mark.usefixtures("busy")
async def test_a_run_at_the_latest_state_leaves_behind_what_is_asked_there_already(session: Session) -> None:
    """Two clients ask at once, the second one at the state that it sees."""
    first = await session.begin("four", session.ends[2])
    second = await session.begin("another four", session.ends[2])
    await session.release()
    for run in (first, second):
        await session.sdk.runs.join(session.thread, run)

    assert await session.shown() == await session.known() == ["one", "two", "three", "another four"]


async def test_forks_are_erased_with_their_session(service: RunningService, session: Session) -> None:
    await session.change(session.ends[0])
    async with service.resources.pool.connection() as conn:
        kept = await (await conn.execute("SELECT session_id FROM slipway.forks")).fetchall()
        assert len(kept) == 1
        assert (await session.http.delete(f"/sessions/{session.thread}")).status_code == 204
        assert await (await conn.execute("SELECT 1 FROM slipway.forks")).fetchall() == []


async def test_a_question_that_is_replaced_takes_changes_by_hand_behind_it_along(session: Session, model: FakeModel) -> None:
    two = (await session.http.get(f"/sessions/{session.thread}/messages")).json()["messages"][2]["run_id"]
    await session.change()

    await session.chat("another two", replaces=two)

    heard = [message["content"] for message in model.requests[-1].payload["messages"] if message["role"] == "user"]
    assert heard == ["one", "another two"]
    assert await session.shown() == await session.known() == ["one", "another two"]


async def test_a_fork_goes_with_the_question_that_is_replaced_before_it(session: Session) -> None:
    three = (await session.http.get(f"/sessions/{session.thread}/messages")).json()["messages"][4]["run_id"]
    await session.change(session.ends[0])

    await session.chat("another three", replaces=three)  # as a page does that was opened before

    assert await session.shown() == await session.known() == ["one", "two", "another three"]
