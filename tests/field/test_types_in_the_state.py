"""Types that come back from a checkpoint as something else: https://github.com/langchain-ai/langgraph/issues/6718 (an enum within
a class), https://github.com/langchain-ai/langgraph/issues/9021 (a dataclass with an `init=False` field),
https://github.com/langchain-ai/langgraph/issues/6970 (a class that is gone).

Here the first turn saw the object and the second a dict or a bare string, with no error. Siblings: pydantic models, dataclasses
and named tuples within a class, `__post_init__` that would count twice, frozen ones, sets of tuples, enums of strings and
numbers right in the state, all of these within each other, in what a `Send` carries and in an interrupt's answer.
"""

import dataclasses
from enum import Enum, IntEnum, StrEnum
from operator import add
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import psycopg
import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Send, interrupt
from pydantic import BaseModel

from tests.field.serving import ask, served

T = TypeVar("T")


class Booking:
    class Phase(Enum):
        OPEN = "open"

    class Guest(BaseModel):
        name: str
        phase: Any = None

    @dataclasses.dataclass
    class Room:
        number: int

    class Place(NamedTuple):
        row: int
        seat: str


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Box(BaseModel, Generic[T]):
    content: T


@dataclasses.dataclass
class Counter:
    start: int
    seen: int = dataclasses.field(init=False, default=0)


@dataclasses.dataclass
class Doubled:
    amount: int

    def __post_init__(self) -> None:
        self.amount *= 2


@dataclasses.dataclass(frozen=True)
class Sealed:
    text: str
    size: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", len(self.text))


@dataclasses.dataclass
class Order:
    phase: Any
    rooms: list[Any]


VALUES: dict[str, Any] = {
    "enum in a class": Booking.Phase.OPEN,
    "model in a class": Booking.Guest(name="Ada", phase=Booking.Phase.OPEN),
    "dataclass in a class": Booking.Room(7),
    "named tuple in a class": Booking.Place(1, "a"),
    "a field that is not given": Counter(1),
    "__post_init__": Doubled(2),
    "frozen": Sealed("abc"),
    "set of tuples": {(1, "a"), (2, "b")},
    "set of enums": frozenset({Booking.Phase.OPEN}),
    "generic": Box[Booking.Room](content=Booking.Room(7)),
    "within each other": Order({"now": Booking.Phase.OPEN}, [Booking.Room(1), {(1, 2)}, [Colour.RED, Level.HIGH]]),
    "as before": [Colour.RED, Level.HIGH, Box[int](content=1), {"plain": [1, None, "x"]}],
}


class State(MessagesState):
    many: Any
    colour: Any
    level: Any
    phase: Any
    sent: Annotated[list[str], add]


WHOLE: dict[str, Any] = {"colour": Colour.RED, "level": Level.HIGH, "phase": Booking.Phase.OPEN}
"""Right in the state, where LangGraph puts strings and numbers into the checkpoint's JSON."""


async def keep(state: State) -> dict[str, Any]:
    found = dict(state)
    if found.get("many") is None:
        return {"many": VALUES, **WHOLE}
    other = [name for name, value in VALUES.items() if shape(state["many"][name]) != shape(value)]
    other += [name for name, value in WHOLE.items() if shape(found[name]) != shape(value)]
    return {"messages": [AIMessage(", ".join(other) or "all the same")]}


def shape(value: Any) -> str:
    """With types, which `==` of enums of strings and of named tuples does not look at; sets in any order."""
    return repr(sorted(map(repr, value)) if isinstance(value, set | frozenset) else value) + type(value).__qualname__


def remembering(_: Any) -> StateGraph[State]:
    return StateGraph(State).add_node("keep", keep).add_edge(START, "keep")


async def test_the_next_turn_finds_the_types_that_this_one_stored(database_url: str) -> None:
    async with served(database_url, __name__, "remembering") as client:
        assert (await ask(client, session_id="s"))["outcome"] == "completed"
        assert (await ask(client, session_id="s"))["answer"] == "all the same"
    with psycopg.connect(database_url, autocommit=True) as conn:
        (thread,) = conn.execute("SELECT DISTINCT thread_id FROM checkpoints").fetchone() or ("",)
    with PostgresSaver.from_conn_string(database_url) as saver:  # LangGraph's own
        saved = saver.get_tuple({"configurable": {"thread_id": thread}})
    assert saved
    assert shape(saved.checkpoint["channel_values"]["many"]["within each other"]) == shape(VALUES["within each other"])


async def test_a_class_that_is_gone_leaves_its_data(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(database_url, __name__, "remembering") as client:
        await ask(client, session_id="s")
        monkeypatch.delattr(Booking, "Room")
        monkeypatch.setitem(VALUES, "dataclass in a class", {"number": 7})
        answer = (await ask(client, session_id="s"))["answer"]
    assert "dataclass in a class" not in answer


def sending(_: Any) -> StateGraph[State]:
    def fan_out(state: State) -> list[Send]:
        return [Send("worker", {"phase": Booking.Phase.OPEN, "room": Booking.Room(7)})]

    async def worker(given: dict[str, Any]) -> dict[str, Any]:
        answer = interrupt("go on?")
        return {"messages": [AIMessage(f"{given['phase']!r} {given['room']!r} {answer}")]}

    async def start(state: State) -> dict[str, Any]:
        return {}

    graph = StateGraph(State)
    graph.add_node("start", start).add_edge(START, "start").add_conditional_edges("start", fan_out, ["worker"])
    node: Any = worker  # which gets what the Send carries, and no State
    return graph.add_node("worker", node)


async def test_what_a_send_carries_is_the_same_after_an_approval(database_url: str) -> None:
    async with served(database_url, __name__, "sending") as client:
        run = await ask(client)
        resumed = await client.post(f"/runs/{run['run_id']}/resume", json={"value": "yes"})
        ended = (await client.get(f"/runs/{resumed.json()['run_id']}/stream")).text
    assert f"{Booking.Phase.OPEN!r} {Booking.Room(7)!r} yes" in ended
