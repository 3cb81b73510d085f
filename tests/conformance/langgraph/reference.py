"""The reference server, `langgraph dev`, from an environment of its own: REFERENCE_LANGGRAPH names its program."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from tests.support.ports import free_port

GRAPHS = """
from langchain_openai import ChatOpenAI
import graphs
agent = graphs.agent(ChatOpenAI(model="gpt-4o", stream_usage=True)).compile()
"""


def prepared(folder: Path, port: int, model_url: str, graphs: dict[str, str], *, jobs: int) -> tuple[list[str], dict[str, str]]:
    """Writes langgraph.json into `folder`, out of which it is to be started. Returns its arguments and its environment.

    `jobs`: runs that it executes at a time.
    """
    (folder / "langgraph.json").write_text(json.dumps({"dependencies": ["."], "graphs": graphs}), encoding="utf-8")
    options = ["--no-browser", "--no-reload", "--host", "127.0.0.1", "--port", str(port), "--n-jobs-per-worker", str(jobs)]
    env = {
        **{name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"},
        "OPENAI_BASE_URL": model_url,
        "OPENAI_API_KEY": "sk-test",
        "LANGSMITH_TRACING": "false",
        "LANGGRAPH_CLI_NO_ANALYTICS": "1",
    }
    return ["dev", *options], env


@asynccontextmanager
async def reference_server(program: str, folder: Path, model_url: str) -> AsyncIterator[str]:
    """Serves the suite's graphs out of `folder`, on loopback; yields its base URL."""
    shutil.copy(Path(__file__).with_name("graphs.py"), folder / "graphs.py")
    (folder / "served.py").write_text(GRAPHS, encoding="utf-8")
    served = {"agent": "./served.py:agent", "counter": "./graphs.py:counter"}
    port = free_port()
    arguments, env = prepared(folder, port, model_url, served, jobs=10)
    with (folder / "log").open("w") as log:
        child = await asyncio.create_subprocess_exec(program, *arguments, cwd=folder, env=env, stdout=log, stderr=log)
    try:
        await _until_ready(f"http://127.0.0.1:{port}", child)
        yield f"http://127.0.0.1:{port}"
    finally:
        if child.returncode is None:
            child.terminate()
            await child.wait()


async def _until_ready(url: str, child: asyncio.subprocess.Process) -> None:
    async with httpx.AsyncClient(base_url=url) as http:
        while child.returncode is None:
            try:
                if (await http.get("/ok")).is_success:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.2)
    raise RuntimeError(f"the reference server ended with {child.returncode}")
