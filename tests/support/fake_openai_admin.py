"""A fake OpenAI: the Admin API of a project, and a model endpoint that accepts the keys it issued and no others.

    python -m tests.support.fake_openai_admin --host 0.0.0.0 --port 8080

prints its base URL, then serves until it is killed. `transport` is the same without a socket. `GET /_state` lists keys by
id and name and counts refused model calls; `POST /_faults` takes `[[method, kind], ...]`.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import orjson
from aiohttp import web

from tests.support.fake_model import FakeModel
from tests.support.fake_openai_state import LostAnswer, OpenAIState
from tests.support.fake_script import Script

ADMIN = "/v1/organization/projects/"


def transport(state: OpenAIState) -> httpx.MockTransport:
    """For an httpx client: the Admin API under any host, and `GET /v1/models` as the endpoint that tries a key."""

    async def handle(request: httpx.Request) -> httpx.Response:
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not request.url.path.startswith(ADMIN):
            return httpx.Response(200 if state.accepts(key) else 401, json={"object": "list", "data": []})
        _, _, path = request.url.path.removeprefix(ADMIN).partition("/")
        body = orjson.loads(request.content) if request.content else {}
        try:
            status, answer = state.answer(request.method, path, dict(request.url.params), body, key)
        except LostAnswer:
            raise httpx.ReadTimeout("no answer", request=request) from None
        return httpx.Response(status, json=answer)

    return httpx.MockTransport(handle)


class IssuedKeysModel(FakeModel):
    """A fake model that asks the project whether a key is good."""

    def __init__(self, state: OpenAIState, script: Script) -> None:
        super().__init__(script)
        self.state = state
        self.refused = 0

    def _accepts(self, key: str) -> bool:
        accepted = self.state.accepts(key)
        self.refused += not accepted
        del self.requests[:-100]  # it may serve for hours
        return accepted


class FakeOpenAI:
    """The server."""

    def __init__(self, state: OpenAIState, script: Script) -> None:
        self.state = state
        self.model = IssuedKeysModel(state, script)

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", ADMIN + "{project}/{path:.*}", self._admin)
        app.router.add_post("/v1/chat/completions", self.model._completions)
        app.router.add_get("/v1/models", self.model._models)
        app.router.add_get("/_state", self._show)
        app.router.add_post("/_faults", self._faults)
        return app

    async def _admin(self, request: web.Request) -> web.Response:
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        body = orjson.loads(await request.read()) if request.can_read_body else {}
        try:
            status, answer = self.state.answer(request.method, request.match_info["path"], dict(request.query), body, key)
        except LostAnswer:
            assert request.transport
            request.transport.close()
            return web.Response()
        return web.json_response(answer, status=status)

    async def _show(self, _: web.Request) -> web.Response:
        keys = [{"id": key.id, "name": key.name, "account": key.account} for key in self.state.keys.values()]
        accounts = [{"id": each.id, "name": each.name} for each in self.state.accounts.values()]
        return web.json_response(
            {"keys": keys, "accounts": accounts, "refused": self.model.refused, "calls": len(self.state.calls)}
        )

    async def _faults(self, request: web.Request) -> web.Response:
        self.state.faults += [(method, kind) for method, kind in orjson.loads(await request.read())]
        return web.json_response({})


@asynccontextmanager
async def serving(fake: FakeOpenAI, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """The base URL, which ends in /v1."""
    runner = web.AppRunner(fake.app(), handler_cancellation=True, access_log=None, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    try:
        yield f"http://{host}:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


async def serve(host: str, port: int, script: Script) -> None:
    async with serving(FakeOpenAI(OpenAIState(page=100), script), host, port) as url:
        print(url, flush=True)  # noqa: T201  # how a parent process learns the port
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A fake OpenAI: Admin API and a model that accepts the keys it issued.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=20)
    parser.add_argument("--tokens-per-second", type=float, default=20)
    given = parser.parse_args()
    asyncio.run(serve(given.host, given.port, Script(token_count=given.tokens, tokens_per_second=given.tokens_per_second)))
