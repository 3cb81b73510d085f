"""The fake must be a good OpenAI endpoint: what other tests prove with it rests on that."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import openai
import pytest

from tests.support.fake_model import FakeModel
from tests.support.fake_script import Fault, Script, echo_tokens

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def process() -> AsyncIterator[str]:
    """Base URL of a fake model in a process of its own."""
    command = [sys.executable, "-m", "tests.support.fake_model", "--port", "0"]
    child = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    assert child.stdout
    yield (await child.stdout.readline()).decode().strip()
    child.kill()
    await child.communicate()


async def test_openais_own_client_streams_from_it() -> None:
    async with FakeModel() as fake, openai.AsyncOpenAI(base_url=fake.url, api_key="sk-1", max_retries=0) as client:
        stream = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hello"}], stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "".join(echo_tokens("hello"))
    assert chunks[-1].usage
    assert chunks[-1].usage.completion_tokens == 50


async def test_a_process_of_its_own_is_scripted_and_questioned_over_http(process: str) -> None:
    root = process.removesuffix("/v1")
    async with httpx.AsyncClient() as http:
        await http.post(
            f"{root}/_control",
            content=Script(tokens=["hi"], faults=[Fault(kind="rate_limited", retry_after="3")]).model_dump_json(),
        )
        request = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
        first = await http.post(f"{process}/chat/completions", json=request, headers={"Authorization": "Bearer sk-1"})
        second = await http.post(f"{process}/chat/completions", json=request)
        records = (await http.get(f"{root}/_requests")).json()
    assert (first.status_code, first.headers["Retry-After"]) == (429, "3")
    assert second.json()["choices"][0]["message"]["content"] == "hi"
    assert [(r["key"], r["payload"], r["ended"]) for r in records] == [("sk-1", request, True), ("", request, True)]
