"""slipway_clients.cluster.http_cluster against an HTTP server that answers as the API server does."""

import asyncio
import base64
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.config.models import Cluster as ClusterConfig
from lightkube.config.models import User

from slipway_clients.cluster import ClusterError, Conflict, Forbidden, Invalid, TooLarge, Unavailable, http_cluster
from slipway_clients.cluster.http_cluster import EVENT_BURST, EVENT_OBJECTS, EventAllowance, HttpCluster, connect
from slipway_clients.cluster.kinds import ALERT_POLICY, CONFIG_MAP, POD
from tests.support.api_server import config_of
from tests.support.clock import WallClock
from tests.support.http_server import http_server

POLICY = {
    "apiVersion": "slipway.dev/v1alpha1",
    "kind": "AlertPolicy",
    "metadata": {"name": "main", "namespace": "team", "uid": "u1", "resourceVersion": "7"},
    "spec": {"release": "demo"},
}

Answer = Callable[[web.Request], web.Response]


class Server:
    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.answer: Answer | None = None
        self.stream: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        self.requests.append((request.method, request.path, dict(request.query), body))
        if self.stream:
            return await self.stream(request)
        return self.answer(request) if self.answer else web.json_response(body)

    def refuse(self, status: int, message: str = "because") -> None:
        self.answer = lambda _: web.json_response({"kind": "Status", "message": message}, status=status)


@pytest.fixture
async def server() -> AsyncIterator[tuple[Server, SingleConfig]]:
    handler = Server()
    async with http_server(handler.handle) as url:
        yield handler, config_of(url)


@pytest.fixture
async def cluster(server: tuple[Server, SingleConfig]) -> AsyncIterator[HttpCluster]:
    async with connect(server[1]) as client:
        yield client


@pytest.fixture
def api(server: tuple[Server, SingleConfig]) -> Server:
    return server[0]


@pytest.mark.parametrize("filler", ["", "x" * 990])
async def test_a_refusal_that_quotes_a_secret_is_told_without_it(
    cluster: HttpCluster, server: tuple[Server, SingleConfig], filler: str
) -> None:
    """Also where its end would be cut off."""
    key, encoded = "sk-of-a-provider", base64.b64encode(b"sk-of-a-provider").decode()
    metadata = {"namespace": "team", "name": "key", "resourceVersion": "7"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"current": encoded, "revision": "Nw=="}}
    server[0].refuse(403, f'admission webhook "guard" denied the request: {filler} {encoded} ({key}) of revision 7')
    for write in (cluster.apply, cluster.create, cluster.replace):
        with pytest.raises(Forbidden, match="guard") as refused:
            await write(secret)
        assert not any(part in str(refused.value) for part in (key[:6], encoded[:6]))
        assert filler or "… (…) of revision 7" in str(refused.value)


async def test_what_is_not_there_is_none_and_false(api: Server, cluster: HttpCluster) -> None:
    api.refuse(404)

    assert await cluster.get(ALERT_POLICY, "team", "main") is None
    assert await cluster.delete(ALERT_POLICY, "team", "main") is False
    assert await cluster.list(ALERT_POLICY) == []


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, Forbidden),
        (403, Forbidden),
        (409, Conflict),
        (400, Invalid),
        (422, Invalid),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
async def test_each_refusal_is_an_error_of_ours_with_the_servers_words(
    api: Server, cluster: HttpCluster, status: int, error: type[ClusterError]
) -> None:
    api.refuse(status, "secrets is forbidden")

    with pytest.raises(error, match="secrets is forbidden"):
        await cluster.get(ALERT_POLICY, "team", "main")
    with pytest.raises(error):
        await cluster.apply(POLICY)


async def test_an_answer_that_is_no_json_is_told_by_its_status(api: Server, cluster: HttpCluster) -> None:
    api.answer = lambda _: web.Response(status=502, text="<html>bad gateway</html>")

    with pytest.raises(Unavailable, match="502 Bad Gateway"):
        await cluster.get(POD, "team", "a")


async def test_no_connection_is_unavailable() -> None:
    config = KubeConfig.from_one(cluster=ClusterConfig(server="http://127.0.0.1:1"), user=User(token="t")).get()
    async with connect(config) as cluster:
        with pytest.raises(Unavailable, match="GET /api/v1/namespaces/team/pods/a: ConnectError"):
            await cluster.get(POD, "team", "a")


async def test_a_list_follows_its_pages_and_every_item_knows_its_kind(api: Server, cluster: HttpCluster) -> None:
    def page(request: web.Request) -> web.Response:
        more = "continue" not in request.query
        name = "a" if more else "b"
        items = [{"metadata": {"name": name, "namespace": "team"}}]
        head = {"apiVersion": "v1", "kind": "PodList", "metadata": {"continue": "next"} if more else {}}
        return web.json_response({**head, "items": items})

    api.answer = page

    found = await cluster.list(POD, "team", labels="app=x")

    assert [(each["kind"], each["metadata"]["name"]) for each in found] == [("Pod", "a"), ("Pod", "b")]
    assert [query for _, _, query, _ in api.requests] == [
        {"limit": "100", "labelSelector": "app=x"},
        {"limit": "100", "labelSelector": "app=x", "continue": "next"},
    ]


def pods(count: int, *, annotation: str = "", more: bool = False) -> dict[str, Any]:
    metadata = {"namespace": "team", "resourceVersion": "1", "annotations": {"a": annotation}}
    items = [{"metadata": {**metadata, "name": f"p{number}"}} for number in range(count)]
    return {"apiVersion": "v1", "kind": "PodList", "metadata": {"continue": "next"} if more else {}, "items": items}


HUGE: dict[str, Callable[[], web.Response]] = {
    "a page of too many bytes": lambda: web.json_response(pods(100, annotation="x" * 200_000)),
    "pages without an end": lambda: web.json_response(pods(100, annotation="x" * 20_000, more=True)),
    "too many values": lambda: web.Response(text="[" + "[]," * 500_000 + "0]"),
}


@pytest.mark.parametrize("answer", HUGE.values(), ids=HUGE)
async def test_a_list_that_is_too_large_is_refused_before_it_fills_the_memory(
    api: Server, cluster: HttpCluster, answer: Callable[[], web.Response]
) -> None:
    api.answer = lambda _: answer()

    with pytest.raises(TooLarge, match="more than"):
        await cluster.list(POD, "team")
    assert len(api.requests) <= 10


@pytest.mark.parametrize("call", ["get", "apply", "delete"])
async def test_an_object_that_is_too_large_is_refused(api: Server, cluster: HttpCluster, call: str) -> None:
    api.answer = lambda _: web.json_response({**POLICY, "data": "x" * (17 << 20)})
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "get": lambda: cluster.get(ALERT_POLICY, "team", "main"),
        "apply": lambda: cluster.apply(POLICY),
        "delete": lambda: cluster.delete(ALERT_POLICY, "team", "main"),
    }

    with pytest.raises(TooLarge, match="an answer of more than"):
        await calls[call]()


async def test_a_compressed_answer_is_not_opened(api: Server, cluster: HttpCluster) -> None:
    bomb = gzip.compress(b"0" * (100 << 20))
    api.answer = lambda _: web.Response(body=bomb, headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})

    with pytest.raises(ClusterError, match="compressed"):
        await cluster.get(POD, "team", "a")


async def test_an_answer_that_never_ends_is_given_up(api: Server, cluster: HttpCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_cluster, "TIMEOUT", 0.3)

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.05)

    api.stream = drip

    with pytest.raises(Unavailable, match="TimeoutError"):
        await cluster.get(POD, "team", "a")


async def test_versions_of_more_objects_than_a_list_holds_are_told(api: Server, cluster: HttpCluster) -> None:
    def page(request: web.Request) -> web.Response:
        number = int(request.query.get("continue", "0"))
        items = [{"metadata": {"namespace": "team", "name": f"p{number}", "resourceVersion": f"{number}", "annotations": big}}]
        after = {"continue": f"{number + 1}"} if number < 20 else {}
        return web.json_response({"apiVersion": "v1", "kind": "PodList", "metadata": after, "items": items})

    big = {"a": "x" * 1_000_000}
    api.answer = page

    assert await cluster.versions(POD) == {("team", f"p{number}"): f"{number}" for number in range(21)}


async def test_versions_of_objects_that_fill_a_page_are_asked_for_in_smaller_ones(api: Server, cluster: HttpCluster) -> None:
    """As large as etcd takes them, by text or by the number of values; one page of a hundred would be 120 MB."""
    labels = {f"l{n}": "" for n in range(100_000)}
    bad = [json.dumps({"annotations": {"a": "x" * 1_200_000}})] * 13 + [json.dumps({"labels": labels})] * 5
    objects = [
        f'{{"metadata": {{"namespace": "team", "name": "p{n}", "resourceVersion": "1", {each[1:-1]}}}}}'
        for n, each in enumerate(bad)
    ]

    def page(request: web.Request) -> web.Response:
        first, limit = int(request.query.get("continue", "0")), int(request.query["limit"])
        after = json.dumps({"continue": f"{first + limit}"} if first + limit < len(objects) else {})
        items = ",".join(objects[first : first + limit])
        return web.Response(text=f'{{"apiVersion": "v1", "kind": "PodList", "metadata": {after}, "items": [{items}]}}')

    api.answer = page

    assert len(await cluster.versions(POD)) == len(objects)
    with pytest.raises(TooLarge, match="more than"):
        await cluster.list(POD)


def test_an_object_that_is_changed_back_again_and_again_has_an_allowance_of_events() -> None:
    clock = WallClock()
    allowance, other = EventAllowance(clock), {"metadata": {"name": "other", "uid": "u2"}}

    posted = sum(allowance.take(POLICY) for _ in range(10 * EVENT_BURST))
    beside = allowance.take(other)
    clock.pass_by(3600)
    again = sum(allowance.take(POLICY) for _ in range(10 * EVENT_BURST))

    assert (posted, beside, again) == (EVENT_BURST, True, EVENT_BURST)
    hour = 0
    for _ in range(360):  # each 10 s, as a policy is looked at
        clock.pass_by(10)
        hour += allowance.take(POLICY)
    assert hour == 180


def test_allowances_are_kept_for_a_bounded_number_of_objects() -> None:
    allowance = EventAllowance(WallClock())
    for number in range(3 * EVENT_OBJECTS):
        allowance.take({"metadata": {"name": "x", "uid": f"u{number}"}})

    assert len(allowance._spent) == EVENT_OBJECTS


async def test_events_beyond_the_allowance_are_not_posted(api: Server, cluster: HttpCluster) -> None:
    for _ in range(EVENT_BURST + 20):
        await cluster.event(POLICY, type="Normal", reason="RulesUpdated", message="again")

    assert len(api.requests) == EVENT_BURST


async def test_an_apply_is_server_side_with_our_field_manager(api: Server, cluster: HttpCluster) -> None:
    await cluster.apply(POLICY)
    await cluster.apply(POLICY, force=True)

    (method, where, query, body), (_, _, forced, _) = api.requests
    assert (method, where) == ("PATCH", "/apis/slipway.dev/v1alpha1/namespaces/team/alertpolicies/main")
    assert query == {"fieldManager": "slipway-operator", "force": "false", "fieldValidation": "Strict"}
    assert forced["force"] == "true"
    assert body == POLICY


async def test_a_status_goes_to_its_subresource(api: Server, cluster: HttpCluster) -> None:
    await cluster.replace_status(POLICY)

    assert api.requests[0][:2] == ("PUT", "/apis/slipway.dev/v1alpha1/namespaces/team/alertpolicies/main/status")


async def test_nothing_is_replaced_without_the_version_that_was_read(api: Server, cluster: HttpCluster) -> None:
    blind = {**POLICY, "metadata": {"name": "main", "namespace": "team"}}

    with pytest.raises(Invalid, match="resourceVersion"):
        await cluster.replace(blind)
    assert api.requests == []


async def test_a_delete_may_insist_on_the_uid(api: Server, cluster: HttpCluster) -> None:
    assert await cluster.delete(CONFIG_MAP, "team", "a", uid="u1") is True

    assert api.requests[0][3]["preconditions"] == {"uid": "u1"}


async def test_an_event_is_posted_on_the_object_and_never_fails(api: Server, cluster: HttpCluster) -> None:
    await cluster.event(POLICY, type="Warning", reason="Late", message="x" * 5000)
    await cluster.event(POLICY, type="Warning", reason="Late", message="a\x1b[31m\r\nb\u202e" + "\u00e9" * 5000)
    api.refuse(403)
    await cluster.event(POLICY, type="Warning", reason="Late", message="not allowed")

    method, where, _, body = api.requests[0]
    assert (method, where) == ("POST", "/apis/events.k8s.io/v1/namespaces/team/events")
    assert (body["regarding"]["uid"], body["reason"], len(body["note"].encode())) == ("u1", "Late", 1002)
    note = api.requests[1][3]["note"]
    assert note.startswith("a [31m b ")
    assert 1000 < len(note.encode()) <= 1024
    assert len(api.requests) == 3
