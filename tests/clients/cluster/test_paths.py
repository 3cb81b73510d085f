"""slipway_clients.cluster.paths: no name leads anywhere but to the object of that name, and no other object is taken for it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from slipway_clients.cluster import Cluster, InvalidName, Manifest, WrongAnswer
from slipway_clients.cluster.http_cluster import PAGE, HttpCluster, connect
from slipway_clients.cluster.kinds import ALERT_POLICY, NAMESPACE, POD, SECRET, SERVICE, Kind
from slipway_clients.cluster.paths import collection_path, label_selector, object_path, path_of, proxy_path
from tests.support.api_server import config_of
from tests.support.http_server import http_server

HOSTILE = [
    "../../victim/secrets/db",
    "..",
    ".",
    "...",
    "a/../b",
    "a/b",
    "%2e%2e%2fvictim",
    "a%2fb",
    "a?watch=true",
    "a#b",
    "a;b",
    "a:8080",
    "a\\..\\b",
    "a b",
    "a\n",
    "a\x00",
    "a\r\nHost: evil",
    "-a",
    "a-",
    ".a",
    "a.",
    "a..b",
    "a.-b",
    "UPPER",
    "ünïcode",
    "\u2024\u2024/x",
    "\uff0e\uff0e",
    "a\u200b",
    "a" * 254,
    "",
    None,
    7,
    True,
    ["a"],
    {"a": 1},
    b"a",
]


def secret(namespace: Any, name: Any, **more: Any) -> Manifest:
    metadata = {"namespace": namespace, "name": name, "resourceVersion": "1"}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, **more}


VERBS: dict[str, Callable[[Cluster, Any, Any], Awaitable[Any]]] = {
    "get": lambda cluster, namespace, name: cluster.get(SECRET, namespace, name),
    "delete": lambda cluster, namespace, name: cluster.delete(SECRET, namespace, name),
    "apply": lambda cluster, namespace, name: cluster.apply(secret(namespace, name)),
    "create": lambda cluster, namespace, name: cluster.create(secret(namespace, name)),
    "replace": lambda cluster, namespace, name: cluster.replace(secret(namespace, name)),
    "replace_status": lambda cluster, namespace, name: cluster.replace_status(secret(namespace, name)),
}


class Server:
    """Answers whatever it is told to, and counts."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: Any = None
        self.status = 200
        self.headers: dict[str, str] = {}

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(request.raw_path)
        return web.json_response(self.answer, status=self.status, headers=self.headers)


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, HttpCluster]]:
    handler = Server()
    async with http_server(handler.handle) as url, connect(config_of(url)) as cluster:
        yield handler, cluster


def test_paths_follow_group_scope_and_subresource() -> None:
    assert object_path(POD, "team", "a") == "/api/v1/namespaces/team/pods/a"
    assert object_path(ALERT_POLICY, "team", "a", "status") == "/apis/slipway.dev/v1alpha1/namespaces/team/alertpolicies/a/status"
    assert collection_path(ALERT_POLICY, None) == "/apis/slipway.dev/v1alpha1/alertpolicies"
    assert object_path(NAMESPACE, None, "team") == "/api/v1/namespaces/team"
    assert proxy_path(SERVICE, "team", "a.b", "http") == "/api/v1/namespaces/team/services/a.b:http/proxy"
    assert proxy_path(POD, "team", "a", 9090) == "/api/v1/namespaces/team/pods/a:9090/proxy"


@pytest.mark.parametrize("verb", VERBS)
async def test_a_hostile_name_or_namespace_is_refused_before_anything_is_asked(
    server: tuple[Server, HttpCluster], verb: str
) -> None:
    api, cluster = server
    for name in HOSTILE:
        with pytest.raises(InvalidName):
            await VERBS[verb](cluster, "team", name)
        with pytest.raises(InvalidName):
            await VERBS[verb](cluster, name, "db")
    with pytest.raises(InvalidName):
        await VERBS[verb](cluster, "a.b", "db")  # a subdomain is no namespace
    assert api.asked == []


async def test_a_list_and_a_proxy_are_refused_as_well(server: tuple[Server, HttpCluster]) -> None:
    api, cluster = server
    for name in HOSTILE:
        if name is not None:
            with pytest.raises(InvalidName):
                await cluster.list(SECRET, name)  # type: ignore[arg-type]  # hostile
        with pytest.raises(InvalidName):
            proxy_path(POD, "team", name, 9090)  # type: ignore[arg-type]  # hostile
        with pytest.raises(InvalidName):
            proxy_path(POD, name, "a", 9090)  # type: ignore[arg-type]  # hostile
    for port in [0, -1, 65536, 10**30, "0", "65536", "80/../x", "", None, True, "٣", "a" * 16, "1" * 5000]:
        with pytest.raises(InvalidName):
            proxy_path(POD, "team", "a", port)  # type: ignore[arg-type]  # hostile
    assert api.asked == []


@pytest.mark.parametrize(
    "kind",
    [Kind("v1/../..", "secrets", "Secret"), Kind("v1", "../secrets", "Secret"), Kind("a/b/v1", "x", "X"), Kind("", "x", "X")],
)
def test_a_kind_is_held_to_the_same_grammar(kind: Kind) -> None:
    with pytest.raises(InvalidName):
        object_path(kind, "team", "a")
    with pytest.raises(InvalidName):
        object_path(SECRET, "team", "a", "../x")


@given(st.text(max_size=300), st.text(max_size=80))
def test_whatever_the_text_the_path_has_its_own_segments_and_no_others(name: str, namespace: str) -> None:
    try:
        path = object_path(SECRET, namespace, name)
    except InvalidName:
        return
    assert unquote(path).split("/") == ["", "api", "v1", "namespaces", namespace, "secrets", name]
    assert not {".", ".."} & set(path.split("/"))


def test_a_manifest_without_a_namespace_is_none_of_the_whole_cluster() -> None:
    with pytest.raises(InvalidName):
        path_of({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}})


@pytest.mark.parametrize(
    "labels",
    [
        {"app": "x,y=z"},
        {"app in (a,b)": "x"},
        {"app": "x)"},
        {"!app": "x"},
        {"": "x"},
        {"app": None},
        {"app": 1},
        {"a/b/c": "x"},
        {"../a": "x"},
        {"app": "x\n"},
        {"app": "x" * 64},
        {"a" * 64: "x"},
        {},
        "app=x",
        None,
    ],
)
def test_labels_that_would_be_another_selector_are_refused(labels: Any) -> None:
    with pytest.raises(InvalidName):
        label_selector(labels)


def test_labels_become_a_selector() -> None:
    assert label_selector({"b.io/x_y": "1.0", "a": ""}) == "a=,b.io/x_y=1.0"


WRONG: list[Any] = [
    secret("victim", "db"),
    secret("team", "other"),
    {**secret("team", "db"), "kind": "ConfigMap"},
    {**secret("team", "db"), "apiVersion": "v2"},
    secret(None, "db"),
    {"apiVersion": "v1", "kind": "Secret"},
    {"apiVersion": "v1", "kind": "Status", "status": "Success"},
    [],
    "db",
    None,
    7,
]


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "delete"])
async def test_another_object_than_the_one_that_was_asked_for_is_not_taken(server: tuple[Server, HttpCluster], verb: str) -> None:
    api, cluster = server
    for answer in WRONG:
        api.answer = answer
        with pytest.raises(WrongAnswer):
            await VERBS[verb](cluster, "team", "db")
    api.answer = secret("team", "db")
    assert await VERBS[verb](cluster, "team", "db") == api.answer


@pytest.mark.parametrize(
    "item",
    [
        {"metadata": {"name": "a", "namespace": "victim"}},
        {"metadata": {"name": "a"}},
        {"metadata": {"name": "../a", "namespace": "team"}},
        {"metadata": {"namespace": "team"}},
        {"kind": "ConfigMap", "metadata": {"name": "a", "namespace": "team"}},
        {},
        7,
    ],
)
async def test_a_list_holds_what_was_asked_for_and_nothing_else(server: tuple[Server, HttpCluster], item: Any) -> None:
    api, cluster = server
    api.answer = {"apiVersion": "v1", "kind": "SecretList", "metadata": {}, "items": [item]}
    with pytest.raises(WrongAnswer):
        await cluster.list(SECRET, "team")


@pytest.mark.parametrize("answer", [{"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": []}, {}, [], None, "x"])
async def test_a_list_of_something_else_is_not_taken(server: tuple[Server, HttpCluster], answer: Any) -> None:
    api, cluster = server
    api.answer = answer
    with pytest.raises(WrongAnswer):
        await cluster.list(SECRET, "team")


async def test_a_selector_and_a_token_are_values_of_the_query_whatever_is_in_them(server: tuple[Server, HttpCluster]) -> None:
    api, cluster = server
    api.answer = {"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": []}
    await cluster.list(POD, "team", "a=b&watch=true#x")
    assert api.asked == [f"/api/v1/namespaces/team/pods?limit={PAGE}&labelSelector=a%3Db%26watch%3Dtrue%23x"]


async def test_a_redirect_is_not_followed(server: tuple[Server, HttpCluster]) -> None:
    api, cluster = server
    api.status, api.headers, api.answer = 307, {"Location": "/api/v1/namespaces/victim/secrets/db"}, {}
    with pytest.raises(Exception, match="307"):
        await cluster.get(SECRET, "team", "db")
    assert len(api.asked) == 1
