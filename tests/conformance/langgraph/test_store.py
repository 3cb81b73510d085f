"""The store, by the SDK. Each test has a namespace of its own: one store serves all."""

import uuid

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def root() -> str:
    return f"root-{uuid.uuid4().hex}"


async def test_an_item_is_kept_read_replaced_and_deleted(sdk: LangGraphClient, root: str) -> None:
    await sdk.store.put_item([root, "a"], "one", {"n": 1, "deep": {"list": [1, None, "ü"]}})
    first = await sdk.store.get_item([root, "a"], "one")
    await sdk.store.put_item([root, "a"], "one", {"n": 2})
    second = await sdk.store.get_item([root, "a"], "one")
    await sdk.store.delete_item([root, "a"], "one")

    assert (first["namespace"], first["key"]) == ([root, "a"], "one")
    assert first["value"] == {"n": 1, "deep": {"list": [1, None, "ü"]}}
    assert second["value"] == {"n": 2}
    assert second["updated_at"] >= first["updated_at"]
    assert await sdk.store.get_item([root, "a"], "one") is None
    await sdk.store.delete_item([root, "a"], "one")


async def test_items_are_searched_under_a_prefix_of_whole_labels(sdk: LangGraphClient, root: str) -> None:
    for namespace in ([root, "a"], [root, "a", "b"], [root, "ab"], [f"{root}x", "a"]):
        await sdk.store.put_item(namespace, "k", {"at": "/".join(namespace)})

    async def found(*prefix: str) -> set[str]:
        return {item["value"]["at"] for item in (await sdk.store.search_items(prefix))["items"]}

    assert await found(root) == {f"{root}/a", f"{root}/a/b", f"{root}/ab"}
    assert await found(root, "a") == {f"{root}/a", f"{root}/a/b"}
    assert await found(root, "_") == set()
    assert await found("nowhere") == set()


async def test_items_are_searched_by_what_is_in_them(sdk: LangGraphClient, root: str) -> None:
    for key, color in (("1", "red"), ("2", "blue"), ("3", "red")):
        await sdk.store.put_item([root], key, {"color": color})

    found = await sdk.store.search_items([root], filter={"color": "red"})
    others = await sdk.store.search_items([root], filter={"color": {"$ne": "red"}})

    assert {item["key"] for item in found["items"]} == {"1", "3"}
    assert {item["key"] for item in others["items"]} == {"2"}


async def test_items_come_in_pages(sdk: LangGraphClient, root: str) -> None:
    for number in range(5):
        await sdk.store.put_item([root], str(number), {"number": number})
    pages = [await sdk.store.search_items([root], limit=2, offset=offset) for offset in (0, 2, 4, 6)]

    assert [len(page["items"]) for page in pages] == [2, 2, 1, 0]
    assert {item["key"] for page in pages for item in page["items"]} == {"0", "1", "2", "3", "4"}


async def test_namespaces_are_listed_by_prefix_suffix_and_depth(sdk: LangGraphClient, root: str) -> None:
    for namespace in ([root, "a", "x"], [root, "b", "x"], [root, "b", "y"]):
        await sdk.store.put_item(namespace, "k", {})

    async def listed(**options: object) -> list[list[str]]:
        return (await sdk.store.list_namespaces(prefix=[root], **options))["namespaces"]  # type: ignore[arg-type]  # as given

    assert await listed() == [[root, "a", "x"], [root, "b", "x"], [root, "b", "y"]]
    assert await listed(suffix=["x"]) == [[root, "a", "x"], [root, "b", "x"]]
    assert await listed(max_depth=2) == [[root, "a"], [root, "b"]]
    assert await listed(limit=1, offset=1) == [[root, "b", "x"]]


@pytest.mark.parametrize("label", ["", "a.b"])
async def test_a_label_that_is_none_is_refused(http: httpx.AsyncClient, root: str, label: str) -> None:
    body = {"namespace": [root, label], "key": "k", "value": {}}
    put = await http.put("/store/items", json=body)
    search = await http.post("/store/items/search", json={"namespace_prefix": [root, label]})
    assert (put.status_code, search.status_code) == (422, 422)
