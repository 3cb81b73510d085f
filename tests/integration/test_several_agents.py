"""Several graphs of one process as tools of MCP and as agents of A2A, by their own clients."""

from collections.abc import AsyncIterator

import httpx
import pytest
from a2a.client import create_client
from a2a.client.client import ClientConfig
from a2a.client.errors import AgentCardResolutionError
from a2a.utils.errors import A2AError

from tests.integration.test_several_graphs import PROJECT, _forget_the_project
from tests.support import a2a, mcp
from tests.support.service import RunningService, running_service

__all__ = ["_forget_the_project"]


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[RunningService]:
    async with running_service(database_url, LANGGRAPH_CONFIG=str(PROJECT)) as running:
        yield running


async def test_each_graph_that_takes_a_question_is_a_tool(service: RunningService) -> None:
    async with mcp.client_of(service.url) as client:
        tools = {tool.name: tool.description for tool in (await client.list_tools()).tools}
        assert tools.keys() == {"echo", "asking"}  # `counting` has no messages
        assert tools["echo"] == "Says a question again"
        first = await client.call_tool("asking", {"question": "no colour"})
        assert mcp.said(first) == "asking: none"
        session = first.structured_content["session_id"]
        assert mcp.said(await client.call_tool("asking", {"question": "no colour", "session_id": session})) == "asking: none+none"
        other = await client.call_tool("echo", {"question": "hi", "session_id": session})
        assert other.is_error is True
        assert "asking" in mcp.said(other)


async def test_each_graph_is_an_agent_with_a_card_of_its_own(service: RunningService) -> None:
    async with httpx.AsyncClient(timeout=30) as http:
        answers = {}
        for path in ("", "/a2a/echo", "/a2a/asking"):
            client = await create_client(f"{service.url}{path}", ClientConfig(httpx_client=http))
            answers[path] = (await a2a.told(client.send_message(a2a.message("no colour")))).answer
        assert answers == {"": "echo 1 hello: no colour", "/a2a/echo": "echo 1 hello: no colour", "/a2a/asking": "asking: none"}
        with pytest.raises(AgentCardResolutionError) as missing:
            await create_client(f"{service.url}/a2a/other", ClientConfig(httpx_client=http))
        assert missing.value.status_code == 404
        counting = await create_client(f"{service.url}/a2a/counting", ClientConfig(httpx_client=http))
        with pytest.raises(A2AError, match="takes no question"):
            await a2a.told(counting.send_message(a2a.message()))


async def test_a_context_belongs_to_its_graph(service: RunningService) -> None:
    async with httpx.AsyncClient(timeout=30) as http:
        echo, asking = [
            await create_client(f"{service.url}/a2a/{name}", ClientConfig(httpx_client=http)) for name in ("echo", "asking")
        ]
        context = (await a2a.told(asking.send_message(a2a.message("no colour")))).task.context_id
        again = await a2a.told(asking.send_message(a2a.message("no colour", context_id=context)))
        assert again.answer == "asking: none+none"
        with pytest.raises(Exception, match="belongs to graph asking"):
            await a2a.told(echo.send_message(a2a.message("hi", context_id=context)))
