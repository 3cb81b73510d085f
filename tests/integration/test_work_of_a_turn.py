"""How much work a turn is: counted, as time tells nothing on a busy machine. Work that comes back fails here, not in a bench.

From the model's endpoint to the client's socket. A limit or a copy that is added for each token, a row or a task for each
turn shows here.
"""

import asyncio
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from agent_service.runs.buffer import EventBuffer
from agent_service.runs.writer import Writer
from agent_service.server.protocol import _Outlet
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script
from tests.support.figures import Report
from tests.support.service import running_service
from tests.support.statements import count_statements

CALLS = 85
"""Of the service's functions for one token that arrives alone: 80 when this was written, each resumed coroutine counted."""

TOKENS_PER_SECOND = 60.0
"""So that none waits for the next: the reader passes on together what comes faster than 100 a second."""


BYTES = 250
"""That a token leaves in memory until its run has ended: its event, and the piece of the answer; 189 when this was written."""

TURNS, CLIENTS = 6, 6

MOST = {"statements": 2, "commits": 2, "rows of events": 1, "states": 1, "results": 0, "tasks": 26, "writes": 4}
"""Of a turn that is alone, the least of some. When this was written: 2 statements, 1 row, 1 state, no result, 22 tasks, of
which LangGraph and langchain make 14 and the fake model one, and 4 writes to the client: the head with the run, the node with
the first text, the rest, and the end once it is committed."""

MOST_TOGETHER = {"statements": 1.5, "commits": 1.5}
"""Of each of so many that are asked at once."""


class Profile:
    """Counts calls of functions in `agent_service` on this thread, which has the service's loop."""

    def __init__(self) -> None:
        self.calls = Counter[str]()

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        name = frame.f_code.co_filename
        if event == "call" and "agent_service" in name:
            self.calls[f"{name.rpartition('agent_service/')[2]}:{frame.f_code.co_name}"] += 1


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """What goes to the database, and the tasks of the service, whose client in this process makes none."""
    counts = Counter[str]()
    transact, flush = Writer._transact, _Outlet.flush
    loop = asyncio.get_running_loop()
    make = loop.get_task_factory()
    assert make

    async def transacting(self: Writer, group: Any) -> Any:
        counts["commits"] += 1
        counts["rows of events"] += len({run.run.id for run in group.runs if run.logged_events < len(run.said.events)})
        counts["states"] += sum(len(run.steps.checkpoints) for run in group.runs)
        counts["results"] += sum(len(run.steps.writes) for run in group.runs)
        return await transact(self, group)

    def flushing(self: _Outlet) -> None:
        counts["writes"] += bool(self._pieces)
        flush(self)

    def making(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
        counts["tasks"] += 1
        return make(loop, coro, **options)

    with monkeypatch.context() as patch:
        count_statements(patch, counts)
        patch.setattr(Writer, "_transact", transacting)
        patch.setattr(_Outlet, "flush", flushing)
        loop.set_task_factory(making)
        try:
            yield counts
        finally:
            loop.set_task_factory(make)


async def test_a_turn_is_so_much_work_and_together_turns_are_less(
    database_url: str, monkeypatch: pytest.MonkeyPatch, report: Report
) -> None:
    env = {"MODEL": "fake-1", "OPENAI_API_KEY": "sk-1", "AGENT_GRAPH": "tests.support.graphs:plain"}
    async with (
        FakeModel(Script(token_count=50)) as fake,
        running_service(database_url, OPENAI_BASE_URL=fake.url, **env) as service,
        service.client() as client,
    ):

        async def ask() -> None:
            response = await client.post("/chat/stream", json={"question": "hello"})
            assert response.text.rstrip().endswith("[DONE]")

        await ask()
        alone = list[Counter[str]]()
        for _ in range(TURNS):
            with counted(monkeypatch) as counts:
                await ask()
            alone.append(counts)
        least = {name: min(counts[name] for counts in alone) for name in MOST}
        with counted(monkeypatch) as counts:
            await asyncio.gather(*(ask() for _ in range(CLIENTS)))
        together = {name: counts[name] / CLIENTS for name in MOST_TOGETHER}
    report("a turn alone: " + ", ".join(f"{number} {name}" for name, number in least.items()))
    report(f"each of {CLIENTS} turns at once: " + ", ".join(f"{number:.1f} {name}" for name, number in together.items()))
    assert {name: number for name, number in least.items() if number > MOST[name]} == {}
    assert {name: number for name, number in together.items() if number > MOST_TOGETHER[name]} == {}


def test_a_token_leaves_so_many_bytes_until_its_run_has_ended(report: Report) -> None:
    count = 10_000
    tokens = [f"word{number} " for number in range(count)]
    buffer = EventBuffer(1)
    tracemalloc.start()
    try:
        for token in tokens:
            buffer.publish_text(token, "agent#1")
        each = tracemalloc.get_traced_memory()[0] / count
    finally:
        tracemalloc.stop()
    report(f"a token leaves {each:.0f} bytes in memory until its run has ended")
    assert each < BYTES


async def calls_of(database_url: str, fake: FakeModel, tokens: int) -> Counter[str]:
    """Of one turn with so many tokens."""
    fake.script = Script(tokens=["word "] * tokens, tokens_per_second=TOKENS_PER_SECOND)
    env = {"MODEL": "fake-1", "OPENAI_BASE_URL": fake.url, "OPENAI_API_KEY": "sk-1", "AGENT_GRAPH": "tests.support.graphs:plain"}
    async with running_service(database_url, **env) as service, service.client() as client:
        profile = Profile()
        sys.setprofile(profile)
        try:
            response = await client.post("/chat/stream", json={"question": "hello"})
        finally:
            sys.setprofile(None)
    assert response.text.count("word") == tokens
    return profile.calls


async def test_a_token_costs_so_many_calls(database_url: str, report: Report) -> None:
    async with FakeModel() as fake:
        few, many = await calls_of(database_url, fake, 30), await calls_of(database_url, fake, 130)
    more = Counter({name: (many[name] - few[name]) / 100 for name in many})
    each = sum(more.values())
    report(f"a token that arrives alone: {each:.1f} calls of the service's functions")
    print(*(f"{n} {c:.2f}" for n, c in more.most_common(12)), sep="\n  ")
    assert each < CALLS
