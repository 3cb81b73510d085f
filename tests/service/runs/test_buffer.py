"""When a reader is woken: at once for what it waits for, else when a little has gathered."""

import asyncio
from functools import partial
from uuid import uuid4

import pytest

from agent_service.runs import buffer, events
from agent_service.runs.buffer import EventBuffer
from agent_service.runs.live_run import LiveRuns

SOON = 5.0
"""Seconds: more than any wake-up takes on a busy machine."""


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> EventBuffer:
    monkeypatch.setattr(buffer, "GATHER_SECONDS", 0.3)
    return EventBuffer(1)


async def test_news_that_follow_closely_wait_for_more(said: EventBuffer) -> None:
    loop = asyncio.get_running_loop()
    with said.watch() as watch:
        said.publish(events.gap("x"))
        assert await watch.changed(SOON)
        woken = loop.time()
        for _ in (2, 3):
            said.publish(events.gap("x"))
        assert await watch.changed(SOON)
        assert loop.time() - woken >= 0.29
        assert len(said.events) == 3
        said.publish_text("first ", "agent")
        said.publish_text("second", "agent")
        assert await watch.changed(SOON), "the second text woke nobody a second time meanwhile"
        watching = asyncio.create_task(watch.changed(0.05))
        assert not await watching


async def test_a_node_that_begins_wakes_nobody_before_the_text_that_it_comes_with(said: EventBuffer) -> None:
    with said.watch() as watch:
        said.publish(events.node_start("n", ()))
        watching = asyncio.create_task(watch.changed(SOON))
        await asyncio.sleep(0)
        said.publish_text("first", "agent")
        assert await watching
        assert [event.kind for event in said.since(events.START)] == ["node", "text"]
        assert watch._gathering is None, "and it wakes nobody afterwards"


async def test_a_node_that_begins_is_told_when_nothing_else_comes(said: EventBuffer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffer, "LATER_SECONDS", 0.3)
    loop = asyncio.get_running_loop()
    with said.watch() as watch:
        began = loop.time()
        said.publish(events.node_start("n", ()))
        assert await watch.changed(SOON)
        assert loop.time() - began >= 0.29


async def test_the_first_text_and_the_end_wait_for_nothing(said: EventBuffer) -> None:
    loop = asyncio.get_running_loop()
    with said.watch() as watch:
        for news in (
            partial(said.publish, events.gap("x")),
            partial(said.publish_text, "first", "agent"),
            partial(said.release, stored=True),
        ):
            asked = loop.time()
            news()
            assert await watch.changed(SOON)
            assert loop.time() - asked < 0.25


async def test_silence_is_told_when_it_is_due_whatever_came_before(said: EventBuffer) -> None:
    loop = asyncio.get_running_loop()
    with said.watch() as watch:
        said.publish(events.gap("x"))
        assert await watch.changed(0.2)
        began = loop.time()
        assert not await watch.changed(0.4)
        assert 0.39 <= loop.time() - began < SOON


async def test_a_reader_that_leaves_is_forgotten_with_its_timers(said: EventBuffer) -> None:
    with said.watch() as watch:
        said.publish(events.gap("x"))
        await watch.changed(SOON)
        said.publish(events.node_end("n", 1))
        timers = [watch._gathering, watch._silence]
    assert not said.watched
    assert all(timer and timer.cancelled() for timer in timers)


async def test_readers_of_the_log_are_woken_at_once() -> None:
    runs, run_id = LiveRuns(), uuid4()
    with runs.watch_log(run_id) as watch:
        for _ in range(3):
            runs.tell(run_id)
            async with asyncio.timeout(SOON):
                assert await watch.changed(SOON)
