"""k8s/nginx/nginx.conf, but for addresses and folders as it is, in front of three real replicas."""

import asyncio
import itertools
import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.support import sse
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script, echo_tokens
from tests.support.ports import free_port
from tests.support.reader import Reader
from tests.support.replicas import Replica, running_replicas

CONF = Path(__file__).parent.parent.parent / "k8s/nginx/nginx.conf"
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"

pytestmark = pytest.mark.skipif(not Path(NGINX).exists(), reason="nginx is not installed (Debian: apt install nginx-light)")


def here(conf: str, replicas: list[Replica], port: int, folder: Path) -> str:
    """The file with this machine's addresses; each name in it must be there to be replaced."""
    changes = {f"slipway-{n}:8000": f"127.0.0.1:{replica.port}" for n, replica in enumerate(replicas, 1)}
    changes |= {"listen 8080;": f"listen 127.0.0.1:{port};", "/tmp/": f"{folder}/", "/dev/stdout": f"{folder}/access.log"}
    for old, new in changes.items():
        assert old in conf, old
        conf = conf.replace(old, new)
    return f"user root;\n{conf}" if os.geteuid() == 0 else conf


@asynccontextmanager
async def running_nginx(replicas: list[Replica], folder: Path) -> AsyncIterator[str]:
    port = free_port()
    conf = folder / "nginx.conf"
    conf.write_text(here(CONF.read_text(), replicas, port, folder))
    with (folder / "nginx.log").open("wb") as log:
        options = ["-p", str(folder), "-c", str(conf), "-e", "stderr", "-g", "daemon off;"]
        process = await asyncio.create_subprocess_exec(NGINX, *options, stderr=log)
    try:
        async with httpx.AsyncClient() as client, asyncio.timeout(10):
            while not await answers(client, f"http://127.0.0.1:{port}/live"):
                assert process.returncode is None, (folder / "nginx.log").read_text()
                await asyncio.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).status_code == 200
    except httpx.HTTPError:
        return False


async def test_streams_pass_unbuffered_and_outlive_a_replica(
    env: dict[str, str], model: FakeModel, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    model.script = Script(token_count=60, tokens_per_second=20)
    async with running_replicas(3, env, tmp_path) as replicas, running_nginx(replicas, tmp_path) as url:
        await tokens_come_at_their_pace(client, url)

        readers = [Reader(lambda: [url], f"question {n}") for n in range(9)]
        reading = asyncio.gather(*(reader.run(client) for reader in readers))
        while not all(len(reader.text) > 20 for reader in readers):
            await asyncio.sleep(0.05)
        await replicas[0].kill()
        new = [Reader(lambda: [url], f"asked after the kill {n}") for n in range(6)]
        await asyncio.gather(reading, *(reader.run(client) for reader in new))

    everyone = [*readers, *new]
    assert [r.text for r in everyone] == ["".join(echo_tokens(r.question, 60)) for r in everyone]
    assert [(r.outcome, r.visible_errors) for r in everyone] == [("completed", [])] * 15
    assert any(r.attempts == 2 for r in readers), "the killed replica had no run"
    log = (tmp_path / "access.log").read_text()
    assert all(f"127.0.0.1:{replica.port}" in log for replica in replicas)
    assert "?" not in log


async def tokens_come_at_their_pace(client: httpx.AsyncClient, url: str) -> None:
    """60 tokens at 20 a second: buffered, they would come in a few lumps."""
    stream = sse.iterate(client, "GET", f"{url}/chat/stream?question=pace&token=secret")
    arrivals = [time.monotonic() async for event in stream if event.event == "message"]
    gaps = [later - earlier for earlier, later in itertools.pairwise(arrivals)]

    assert arrivals[-1] - arrivals[0] > 2
    assert len([gap for gap in gaps if gap > 0.02]) > 30, gaps
    assert max(gaps) < 1, gaps
