import uuid

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import APIStatusError

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def place() -> list[str]:
    """A namespace that no other test has."""
    return [uuid.uuid4().hex, "notes"]


async def test_an_item_is_kept_found_replaced_and_deleted(sdk: LangGraphClient, place: list[str]) -> None:
    await sdk.store.put_item(place, key="a", value={"text": "one"})
    item = await sdk.store.get_item(place, key="a")
    assert (item["namespace"], item["key"], item["value"]) == (place, "a", {"text": "one"})
    assert item["created_at"] <= item["updated_at"]
    await sdk.store.put_item(place, key="a", value={"text": "two"})
    assert (await sdk.store.get_item(place, key="a"))["value"] == {"text": "two"}
    await sdk.store.delete_item(place, key="a")
    await sdk.store.delete_item(place, key="a")
    assert (await sdk.store.search_items(place))["items"] == []


async def test_items_are_searched_by_place_value_and_page(sdk: LangGraphClient, place: list[str]) -> None:
    for number in range(3):
        await sdk.store.put_item(place, key=str(number), value={"number": number, "kind": "odd" if number % 2 else "even"})
    await sdk.store.put_item([*place, "deep"], key="x", value={"kind": "odd"})
    found = (await sdk.store.search_items(place[:1], filter={"kind": "odd"}))["items"]
    assert {item["key"] for item in found} == {"1", "x"}
    pages = [(await sdk.store.search_items(place, limit=2, offset=offset))["items"] for offset in (0, 2)]
    assert sorted(item["key"] for page in pages for item in page) == ["0", "1", "2", "x"]


async def test_namespaces_are_listed_to_a_depth(sdk: LangGraphClient, place: list[str]) -> None:
    await sdk.store.put_item(place, key="a", value={})
    await sdk.store.put_item([place[0], "other", "deep"], key="a", value={})
    assert sorted((await sdk.store.list_namespaces(prefix=place[:1]))["namespaces"]) == sorted(
        [place, [place[0], "other", "deep"]]
    )
    shallow = (await sdk.store.list_namespaces(prefix=place[:1], max_depth=2))["namespaces"]
    assert sorted(shallow) == sorted([place, [place[0], "other"]])


async def test_a_label_with_a_dot_is_refused(http: httpx.AsyncClient, sdk: LangGraphClient) -> None:
    with pytest.raises((APIStatusError, ValueError)):
        await sdk.store.put_item(["a.b"], key="k", value={})
    response = await http.put("/store/items", json={"namespace": ["a.b"], "key": "k", "value": {}})
    assert response.status_code in {400, 422}
