"""A proxy as found in front of services: it may buffer whole answers, drop headers, or compress."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx
from aiohttp import web

HOP_HEADERS = {"connection", "transfer-encoding", "content-length", "keep-alive"}


@asynccontextmanager
async def running_proxy(
    upstream: str, *, drop: str = "", add: Mapping[str, str] | None = None, compress: bool = False
) -> AsyncIterator[str]:
    """Base URL of a proxy that waits for the whole answer before it passes it on. `drop` names a request header."""
    async with httpx.AsyncClient(base_url=upstream, timeout=30) as client:

        async def carry(request: web.Request) -> web.Response:
            headers = {name: value for name, value in request.headers.items() if name.lower() not in {drop.lower(), "host"}}
            answer = await client.request(request.method, request.raw_path, headers=headers, content=await request.read())
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_HEADERS}
            made = web.Response(status=answer.status_code, body=answer.content, headers={**kept, **(add or {})})
            if compress:
                made.enable_compression()  # for who takes it
            return made

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", carry)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()
