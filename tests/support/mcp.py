"""MCP's own client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import mcp_types
from mcp.client.client import Client
from mcp.client.session import ElicitationFnT
from mcp.client.streamable_http import streamable_http_client


@asynccontextmanager
async def client_of(
    url: str,
    era: str = "auto",
    headers: dict[str, str] | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
    elicitation: ElicitationFnT | None = None,
) -> AsyncIterator[Client]:
    """`era`: `legacy` begins with a handshake, as up to 2025-11-25; `auto` finds out that it needs none."""
    async with httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(5, read=30), transport=transport) as http:
        streams = streamable_http_client(f"{url}/mcp", http_client=http)
        async with Client(streams, mode=era, cache=None, elicitation_callback=elicitation) as client:
            yield client


def said(result: mcp_types.CallToolResult) -> str:
    """The one text of a result."""
    (block,) = result.content
    assert isinstance(block, mcp_types.TextContent)
    return block.text
