"""agent_operator.reconcile.controller: the queue."""

import asyncio
from collections.abc import Callable

import pytest

from agent_operator.reconcile.controller import LONGEST_BACKOFF, WorkQueue, backoff
from agent_operator.reconcile.tools import Key
from tests.support.clock import WallClock, settle

A = Key("AlertPolicy", "team", "a")
B = Key("AlertPolicy", "team", "b")


class Work:
    """A reconcile that counts, and stands still while its gate is closed."""

    def __init__(self, answer: Callable[[Key], float | None] = lambda _: None) -> None:
        self.done: list[Key] = []
        self.active: list[Key] = []
        self.together = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self._answer = answer

    async def __call__(self, key: Key) -> float | None:
        self.active.append(key)
        self.together = max(self.together, self.active.count(key))
        await self.gate.wait()
        self.active.remove(key)
        self.done.append(key)
        return self._answer(key)


async def test_a_key_that_is_added_often_is_attended_to_once() -> None:
    work = Work()
    queue = WorkQueue(work, WallClock())
    for _ in range(5):
        queue.add(A)

    async with queue.running():
        await queue.idle()

    assert work.done == [A]


async def test_a_key_has_one_worker_at_a_time_and_comes_round_when_it_changed_meanwhile() -> None:
    work = Work()
    work.gate.clear()
    queue = WorkQueue(work, WallClock(), workers=3)
    async with queue.running():
        queue.add(A)
        await settle()
        queue.add(A)
        queue.add(A)
        await settle()
        assert work.active == [A]

        work.gate.set()
        await queue.idle()

    assert work.done == [A, A]
    assert work.together == 1


async def test_other_keys_do_not_wait_for_a_slow_one() -> None:
    work = Work()
    work.gate.clear()
    queue = WorkQueue(work, WallClock(), workers=2)
    async with queue.running():
        queue.add(A)
        queue.add(B)
        await settle()

        assert work.active == [A, B]


async def test_a_key_comes_back_when_its_reconcile_asked_for_it_and_not_before() -> None:
    clock, work = WallClock(), Work(lambda _: 10.0)
    queue = WorkQueue(work, clock)
    async with queue.running():
        queue.add(A)
        await clock.advance(9.9)
        assert work.done == [A]

        await clock.advance(0.2)
        assert work.done == [A, A]


async def test_an_event_replaces_the_timer() -> None:
    clock, work = WallClock(), Work(lambda _: 10.0)
    queue = WorkQueue(work, clock)
    async with queue.running():
        queue.add(A)
        await clock.advance(8)
        queue.add(A)
        await clock.advance(8)

        assert work.done == [A, A]


async def test_failures_are_tried_again_later_and_later_until_one_success() -> None:
    def fail_thrice(_: Key) -> None:
        if len(work.done) <= 3:
            raise RuntimeError("no")

    clock, work = WallClock(), Work(fail_thrice)
    queue = WorkQueue(work, clock)
    async with queue.running():
        queue.add(A)
        await clock.advance(0.7)
        assert len(work.done) == 1
        await clock.advance(1 + 2 + 4)

        assert len(work.done) == 4
        await clock.advance(LONGEST_BACKOFF)
        assert len(work.done) == 4


@pytest.mark.parametrize(
    ("failures", "most"), [(1, 1), (2, 2), (5, 16), (9, 256), (10, LONGEST_BACKOFF), (10_000, LONGEST_BACKOFF)]
)
def test_the_wait_doubles_up_to_a_cap_and_is_spread(failures: int, most: float) -> None:
    waits = {backoff(failures) for _ in range(50)}

    assert 0.8 * most <= min(waits) < max(waits) <= most


async def test_the_end_leaves_no_task_behind() -> None:
    clock, work = WallClock(), Work(lambda _: 10.0)
    queue = WorkQueue(work, clock)
    before = asyncio.all_tasks()
    async with queue.running():
        queue.add(A)
        await settle()
        work.gate.clear()
        queue.add(B)
        await settle()

    assert asyncio.all_tasks() == before
    assert work.done == [A]
