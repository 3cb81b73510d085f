"""Work that is cut short when its client goes, or its process does; and the places that it takes."""

import asyncio

import pytest

from agent_service.errors import TooManyStreams
from agent_service.metrics import Metrics
from agent_service.open_streams import Streams
from agent_service.principal import Principal

ANN, BOB = Principal("acme", "ann"), Principal("acme", "bob")


async def never() -> None:
    await asyncio.Event().wait()


async def at_once() -> None:
    return


class Work:
    """Goes on until it is let go, and tells whether it was cancelled."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.cancelled = False

    async def __call__(self) -> str:
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return "done"


@pytest.fixture
async def streams() -> Streams:
    return Streams(Metrics(models=(), version="", graph="", guardrail_rules=()), most_of_one=2)


async def test_work_whose_client_stays_is_done(streams: Streams) -> None:
    work = Work()
    work.go_on.set()
    assert await streams.unless(never(), work()) == "done"


async def test_work_whose_client_goes_has_ended_by_then(streams: Streams) -> None:
    work = Work()

    async def gone() -> None:
        await asyncio.sleep(0)  # the work has begun

    assert await streams.unless(gone(), work()) is None
    assert work.cancelled


async def test_work_that_fails_as_its_client_goes_is_nobodys_error(streams: Streams) -> None:
    async def breaks() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("the database broke meanwhile")

    async def gone() -> None:
        await asyncio.sleep(0)

    assert await streams.unless(gone(), breaks()) is None


async def test_work_that_ends_although_it_was_cut_short_is_done(streams: Streams) -> None:
    async def ends() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "done"
        return "never"

    async def gone() -> None:
        await asyncio.sleep(0)

    assert await streams.unless(gone(), ends()) == "done"


async def test_work_of_a_process_that_leaves_has_ended_by_then(streams: Streams) -> None:
    work = Work()
    waiting = asyncio.create_task(streams.unless(never(), work()))
    await asyncio.sleep(0)
    await streams.close(1.0)
    assert await waiting is None
    assert await streams.unless(never(), work()) is None  # what comes later does not wait either
    assert work.cancelled


async def test_what_the_work_raises_is_raised(streams: Streams) -> None:
    async def fail() -> None:
        raise RuntimeError("of the work")

    with pytest.raises(RuntimeError, match="of the work"):
        await streams.unless(never(), fail())


async def test_a_wait_that_is_cancelled_takes_its_work_along(streams: Streams) -> None:
    work = Work()
    waiting = asyncio.create_task(streams.unless(never(), work()))
    await asyncio.sleep(0)  # it waits
    await asyncio.sleep(0)  # and its work has begun
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert work.cancelled
    await streams.close(1.0)  # which waits for those that are open


async def test_a_time_limit_around_it_is_not_taken_for_its_clients_leave(streams: Streams) -> None:
    work = Work()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await streams.unless(never(), work())
    assert work.cancelled


async def test_no_task_is_left_of_it(streams: Streams) -> None:
    before = asyncio.all_tasks()
    work = Work()
    work.go_on.set()
    await streams.unless(never(), work())
    await streams.unless(at_once(), Work()())
    assert asyncio.all_tasks() == before


async def test_each_caller_has_so_many_places_and_gets_them_back(streams: Streams) -> None:
    give_back = streams.admit(ANN)
    streams.admit(ANN)
    streams.admit(BOB)
    with pytest.raises(TooManyStreams):
        streams.admit(ANN)
    give_back()
    streams.admit(ANN)
