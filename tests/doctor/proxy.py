"""A proxy as found in front of services: it may buffer whole answers, drop headers, or compress."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx
from aiohttp import web

from tests.support.http_server import http_server

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

        async with http_server(carry) as url:
            yield url
