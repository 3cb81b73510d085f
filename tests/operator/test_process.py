"""The operator as a process of its own, against an API server that knows no resource yet."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from aiohttp import web

KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: test
clusters: [{{name: test, cluster: {{server: "{url}"}}}}]
users: [{{name: test, user: {{token: test}}}}]
contexts: [{{name: test, context: {{cluster: test, user: test}}}}]
"""


async def _nothing(_: web.Request) -> web.Response:
    return web.json_response({"versions": [], "groups": [], "resources": [], "items": [], "metadata": {"resourceVersion": "1"}})


@asynccontextmanager
async def empty_cluster() -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/{path:.*}", _nothing)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@asynccontextmanager
async def operator(kubeconfig: Path, port: int, **env: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`kopf` as the image starts it; killed at the end if it still lives."""
    command = ["-m", "kopf", "run", "--module=agent_operator.main", "--all-namespaces"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        f"--liveness=http://127.0.0.1:{port}/healthz",
        env={"KUBECONFIG": str(kubeconfig), "PATH": "", **env},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def probe(process: asyncio.subprocess.Process, port: int) -> httpx.Response:
    """The first answer of the liveness probe."""
    async with httpx.AsyncClient() as client:
        while process.returncode is None:
            try:
                return await client.get(f"http://127.0.0.1:{port}/healthz")
            except httpx.ConnectError:
                await asyncio.sleep(0.05)
    raise AssertionError(f"the operator ended with {process.returncode}")


@pytest.fixture
async def kubeconfig(tmp_path: Path) -> AsyncIterator[Path]:
    async with empty_cluster() as url:
        path = tmp_path / "kubeconfig"
        path.write_text(KUBECONFIG.format(url=url), encoding="utf-8")
        yield path


async def test_it_answers_its_probe_with_its_version_and_stops_on_sigterm(kubeconfig: Path) -> None:
    port = free_port()
    async with operator(kubeconfig, port) as process:
        response = await probe(process, port)
        process.terminate()
        code = await process.wait()

    assert response.status_code == 200
    assert set(response.json()) == {"version"}
    assert code == 0


async def test_a_wrong_setting_ends_it_with_a_line_that_names_the_variable(kubeconfig: Path) -> None:
    async with operator(kubeconfig, free_port(), OPERATOR_STANDALONE="maybe") as process:
        _, output = await process.communicate()

    assert process.returncode != 0
    assert b"OPERATOR_STANDALONE: expected true or false" in output
