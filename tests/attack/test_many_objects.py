"""The attacker may write objects of our kinds, many, each as large as can be. The operator's memory is bounded.

The operator is a process of its own; what it takes at most is what the kernel says of it. Its pod has 256 MiB.
"""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.operator.test_main import KUBECONFIG, EmptyCluster, operator
from tests.support.ports import free_port

KIND, PATH = "AgentHealth", "/apis/slipway.dev/v1alpha1/agenthealths"

MOST = 200 << 20
"""Bytes of the process. 73 MiB are there before there is any object."""


class Flooded(EmptyCluster):
    """Has `count` objects with metadata of a stranger's; their specs are refused."""

    def __init__(self, count: int, metadata: dict[str, Any]) -> None:
        super().__init__()
        self.count = count
        self.metadata = metadata
        self.watching = asyncio.Event()
        self.read: set[str] = set()

    def object(self, number: int) -> dict[str, Any]:
        metadata = {"name": f"h-{number:06}", "namespace": "flood", "uid": f"u{number}", "generation": 1, "resourceVersion": "1"}
        return {"apiVersion": "slipway.dev/v1alpha1", "kind": KIND, "metadata": {**metadata, **self.metadata}, "spec": {}}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == PATH and "watch" in request.query:
            self.watching.set()  # kopf has its whole list
        elif request.path == PATH:
            first, limit = int(request.query.get("continue", 0)), int(request.query["limit"])
            last = min(first + limit, self.count)
            metadata = {"resourceVersion": "9"} | ({"continue": str(last)} if last < self.count else {})
            items = [self.object(number) for number in range(first, last)]
            return web.json_response(
                {"apiVersion": "slipway.dev/v1alpha1", "kind": f"{KIND}List", "metadata": metadata, "items": items}
            )
        elif "/namespaces/flood/agenthealths/" in request.path:
            if request.method == "PUT":
                return web.json_response(await request.json())
            self.read.add(request.path)
            return web.json_response(self.object(int(request.path.rpartition("-")[2])))
        return await super().answer(request)


def peak(pid: int) -> int:
    """The most bytes that the process has had in memory."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines() if "VmHWM" in line]
    return int(line.split()[1]) << 10


@pytest.mark.parametrize(
    ("count", "metadata"),
    [
        pytest.param(300, {"annotations": {"a": "x" * 200_000}}, id="large"),
        pytest.param(12, {"labels": {f"l{n}": "" for n in range(110_000)}}, id="many labels", marks=pytest.mark.chaos),
        pytest.param(20_000, {"annotations": {"a": "x" * 1_000}}, id="many", marks=pytest.mark.chaos),
    ],
)
async def test_objects_of_a_stranger_do_not_fill_the_memory(count: int, metadata: dict[str, Any], tmp_path: Path) -> None:
    cluster, app = Flooded(count, metadata), web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", cluster.answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG.format(url=f"http://127.0.0.1:{runner.addresses[0][1]}"), encoding="utf-8")
    try:
        async with operator(kubeconfig, free_port(), LOG_LEVEL="error") as process:
            async with asyncio.timeout(60):
                await cluster.watching.wait()
                while len(cluster.read) < min(count, 50):
                    assert process.returncode is None
                    await asyncio.sleep(0.05)
            most = peak(process.pid)
    finally:
        cluster.closing.set()
        with suppress(OSError):
            await runner.cleanup()

    print(f"{count} objects, {len(str(cluster.metadata)) >> 10} kB each: {most >> 20} MiB at most")
    assert most < MOST
