"""A watch that stays open and tells nothing any more: https://github.com/nolar/kopf/pull/860, https://github.com/nolar/kopf/issues/1276,
https://github.com/nolar/kopf/issues/698; and one that another operator's peering stopped: https://github.com/nolar/kopf/issues/734.

The operator looks at all objects by a list, too, whatever its watches say, and asks for nobody's peering. Siblings: a watch that
the server ends at once, again and again, and an answer that is cut off in the middle of an event.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from tests.operator.test_main import KUBECONFIG, NAMES, EmptyCluster, operator
from tests.support.http_server import http_server
from tests.support.ports import free_port

pytestmark = pytest.mark.slow  # an operator each, for 6 s and more

KINDS = [f"/apis/slipway.dev/v1alpha1/{name}" for name, _ in NAMES]


class BadWatches(EmptyCluster):
    """Its watches are `silent`, `ended` at once, or `cut` in the middle of an event."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.watched: list[str] = []
        self.listed: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path not in KINDS:
            return await super().answer(request)
        if "watch" not in request.query:
            self.listed.append(request.path)
            return await super().answer(request)
        self.watched.append(request.path)
        if self.kind == "silent":
            return await super().answer(request)
        response = web.StreamResponse()
        await response.prepare(request)
        if self.kind == "cut":
            await response.write(b'{"type": "ADDED", "object": {"metadata": {"na')
            assert request.transport
            request.transport.close()
        return response


@asynccontextmanager
async def serving(cluster: BadWatches, folder: Path) -> AsyncIterator[Path]:
    async with http_server(cluster.answer) as url:
        path = folder / "kubeconfig"
        path.write_text(KUBECONFIG.format(url=url), encoding="utf-8")
        try:
            yield path
        finally:
            cluster.closing.set()


@pytest.mark.parametrize("kind", ["silent", "ended", "cut"])
async def test_objects_are_looked_at_whatever_the_watches_do(tmp_path: Path, kind: str) -> None:
    cluster = BadWatches(kind)
    async with serving(cluster, tmp_path) as kubeconfig, operator(kubeconfig, free_port(), RESYNC_SECONDS="1") as process:
        async with asyncio.timeout(60):
            # One list is a watch's beginning; the others are looks at all objects. A watch that ended is begun again.
            again = 1 if kind == "silent" else 2
            while not all(cluster.listed.count(each) >= 4 and cluster.watched.count(each) >= again for each in KINDS):
                assert process.returncode is None
                await asyncio.sleep(0.05)
    assert not [each for each in cluster.asked if "peering" in each]
