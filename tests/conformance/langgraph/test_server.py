import uuid

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError

from tests.conformance.langgraph.sites import Site
from tests.conformance.langgraph.wire import AGENT, ASSISTANT

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_info_names_the_version_and_what_is_there(http: httpx.AsyncClient) -> None:
    info = (await http.get("/info")).json()
    assert isinstance(info["version"], str)
    assert info["flags"]["assistants"] is True
    assert isinstance(info["flags"]["crons"], bool)


async def test_ok_says_ok(http: httpx.AsyncClient) -> None:
    response = await http.get("/ok")
    assert (response.status_code, response.json()["ok"]) == (200, True)


async def test_the_graph_is_an_assistant_with_the_id_that_the_platform_gives_it(sdk: LangGraphClient) -> None:
    assistant = await sdk.assistants.get(ASSISTANT)
    assert assistant["assistant_id"] == ASSISTANT
    assert (assistant["graph_id"], assistant["name"], assistant["version"]) == (AGENT, AGENT, 1)
    assert (assistant["config"], assistant["metadata"]) == ({}, {"created_by": "system"})
    assert assistant["created_at"] <= assistant["updated_at"]


async def test_assistants_are_found_by_their_graph(sdk: LangGraphClient) -> None:
    assert [each["assistant_id"] for each in await sdk.assistants.search(graph_id=AGENT)] == [ASSISTANT]


async def test_assistants_are_found_by_name_and_metadata(sdk: LangGraphClient) -> None:
    assert ASSISTANT in [each["assistant_id"] for each in await sdk.assistants.search(name="AGE")]
    assert await sdk.assistants.search(name="another") == []
    assert ASSISTANT in [each["assistant_id"] for each in await sdk.assistants.search(metadata={"created_by": "system"})]
    assert await sdk.assistants.search(metadata={"created_by": "another"}) == []


async def test_assistants_come_in_pages(sdk: LangGraphClient) -> None:
    every = await sdk.assistants.search(limit=100)
    assert len(await sdk.assistants.search(limit=1)) == 1
    assert await sdk.assistants.search(limit=1, offset=len(every)) == []


async def test_assistants_are_counted(sdk: LangGraphClient) -> None:
    assert await sdk.assistants.count() == len(await sdk.assistants.search(limit=100))
    assert await sdk.assistants.count(graph_id=AGENT) == 1
    assert await sdk.assistants.count(name="another") == 0


@pytest.mark.parametrize("name", [AGENT, ASSISTANT], ids=["name", "id"])
async def test_the_graph_is_drawn_by_name_and_by_id(sdk: LangGraphClient, name: str) -> None:
    graph = await sdk.assistants.get_graph(name)
    assert {"__start__", "gate", "chat", "child", "__end__"} <= {node["id"] for node in graph["nodes"]}
    assert {"source": "__start__", "target": "gate"} in graph["edges"]
    assert {"source": "gate", "target": "chat", "conditional": True} in graph["edges"]


async def test_xray_draws_what_is_in_a_subgraph(sdk: LangGraphClient) -> None:
    assert "child:think" in {node["id"] for node in (await sdk.assistants.get_graph(AGENT, xray=True))["nodes"]}


async def test_schemas_describe_input_state_and_context(sdk: LangGraphClient) -> None:
    schemas = await sdk.assistants.get_schemas(ASSISTANT)
    assert schemas["graph_id"] == AGENT
    assert {"messages", "note", "steps"} <= schemas["input_schema"]["properties"].keys()  # type: ignore[index]  # it is there
    assert {"messages", "note", "steps"} <= schemas["state_schema"]["properties"].keys()  # type: ignore[index]  # it is there
    assert schemas["output_schema"]
    assert schemas["context_schema"]["properties"].keys() == {"tone"}  # type: ignore[index]  # it is there
    assert "config_schema" in schemas


async def test_subgraphs_have_their_schemas(sdk: LangGraphClient) -> None:
    subgraphs = await sdk.assistants.get_subgraphs(ASSISTANT)
    assert subgraphs.keys() == {"child"}
    assert "messages" in subgraphs["child"]["state_schema"]["properties"]  # type: ignore[index]  # it is there
    assert (await sdk.assistants.get_subgraphs(ASSISTANT, namespace="child")).keys() == {"child"}


async def test_an_unknown_assistant_is_not_found(sdk: LangGraphClient) -> None:
    for call in (sdk.assistants.get, sdk.assistants.get_graph, sdk.assistants.get_schemas, sdk.assistants.get_subgraphs):
        with pytest.raises(NotFoundError):
            await call(str(uuid.uuid4()))


async def test_an_api_key_in_the_header_of_the_platform_is_taken(site: Site) -> None:
    async with get_client(url=site.url, api_key="any-key") as sdk:
        assert await sdk.assistants.count() > 0


async def test_a_path_that_is_none_says_so_in_json(http: httpx.AsyncClient) -> None:
    response = await http.get("/no-such-path")
    assert response.status_code == 404
    assert isinstance(response.json()["detail"], str)


@pytest.mark.parametrize(
    ("method", "path"), [("PATCH", "/assistants/{id}"), ("POST", "/assistants"), ("DELETE", "/assistants/{id}")]
)
async def test_an_assistant_that_is_none_is_not_made_changed_or_deleted_by_an_empty_body(
    http: httpx.AsyncClient, method: str, path: str
) -> None:
    response = await http.request(method, path.format(id=uuid.uuid4()), json={})
    assert response.status_code in {404, 422}
    assert response.json()["detail"]
