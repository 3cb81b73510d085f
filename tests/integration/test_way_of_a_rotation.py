"""The way of docs/developer/rotation.md is the one that calls take, from the queue to the provider."""

import sys
from pathlib import Path
from types import FrameType

import httpx

import agent_operator
import slipway_clients
from agent_operator.reconcile.controller import Controller
from tests.operator.reconcile.rotation.world import KEY, World
from tools.architecture_docs import ROTATION, listed

HOMES = (Path(agent_operator.__path__[0]), Path(slipway_clients.__path__[0]).parent)
"""What the page's names are relative to: the operator's own files, and those of another package with its name."""


class Watched(World):
    """Notes by which files each call to the provider came."""

    ways: dict[str, set[str]]

    async def _provide(self, request: httpx.Request) -> httpx.Response:
        frame: FrameType = sys._getframe()
        found: set[str] = set()
        while frame.f_back:
            frame = frame.f_back
            path = Path(frame.f_code.co_filename)
            found.update(path.relative_to(home).as_posix() for home in HOMES if path.is_relative_to(home))
        self.ways.setdefault(request.method, set()).update(found)
        return await super()._provide(request)


async def test_every_call_to_the_provider_comes_by_the_files_of_the_page_which_are_eight_at_most() -> None:
    world = Watched()
    world.ways = {}
    controller = Controller(world.tools, {KEY.kind: world.operator})
    async with controller.queue.running():
        for number in range(40):
            controller.changed(KEY, str(number))
            await controller.queue.idle()
            world.clock.pass_by(5)
            world.sync()
            if world.idle and world.status["revision"] == 1:
                world.annotate(rotate_now="1")

    way = [path for path, _ in listed(ROTATION.read_text(encoding="utf-8"))]
    assert world.status["revision"] == 2
    assert world.ways.keys() == {"GET", "POST", "DELETE"}
    assert set().union(*world.ways.values()) <= set(way)
    assert len(way) <= 8
    assert [each for each in way if not any((home / each).is_file() for home in HOMES)] == []
