"""The cluster in memory behind HTTP, as the API server speaks: for the operator's real client. It notes what it is asked."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import unquote

from aiohttp import web
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.config.models import Cluster as ClusterConfig
from lightkube.config.models import User

from slipway_clients.cluster import Conflict, Kind, Manifest
from slipway_clients.cluster.kinds import ALL
from tests.support.fake_cluster import FakeCluster
from tests.support.http_server import http_server

READS = frozenset({"GET", "HEAD"})


class Asked(NamedTuple):
    """One request; `namespace` is None for one of the whole cluster, `kind` for a path that leads to none of the known kinds."""

    method: str
    kind: str | None
    namespace: str | None
    name: str | None
    path: str


class ApiServer:
    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.asked: list[Asked] = []

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[SingleConfig]:
        """How the client is to connect."""
        async with http_server(self._handle) as url:
            yield config_of(url)

    async def _handle(self, request: web.Request) -> web.Response:
        path = request.raw_path.partition("?")[0]
        kind, namespace, name, subresource = route(path)
        self.asked.append(Asked(request.method, kind.kind if kind else None, namespace, name, path))
        if kind is None:
            return refused(404, "no such path")
        body = await request.json() if request.can_read_body else {}
        try:
            return await self._answer(request, kind, namespace, name, subresource, body)
        except Conflict as error:
            return refused(409, str(error))

    async def _answer(
        self, request: web.Request, kind: Kind, namespace: str | None, name: str | None, subresource: str, body: Manifest
    ) -> web.Response:
        cluster = self.cluster
        if request.method == "POST":
            return web.json_response(await cluster.create(body), status=201)
        if name is None:
            found = await cluster.list(kind, namespace, request.query.get("labelSelector"))
            head: Manifest = {"apiVersion": kind.api_version, "kind": f"{kind.kind}List", "metadata": {}}
            return web.json_response({**head, "items": found})
        done: Any = None
        match request.method:
            case "GET":
                done = await cluster.get(kind, namespace, name)
            case "DELETE":
                done = {"kind": "Status"} if await cluster.delete(kind, namespace, name) else None
            case "PATCH":
                done = await cluster.apply(body, force=request.query["force"] == "true")
            case "PUT":
                write: Callable[[Manifest], Any] = cluster.replace_status if subresource == "status" else cluster.replace
                done = await write(body)
        return web.json_response(done) if done else refused(404, "not found")


def config_of(url: str) -> SingleConfig:
    """How a client connects to an API server there."""
    config = KubeConfig.from_one(cluster=ClusterConfig(server=url), user=User(token="t0ken")).get()
    assert config is not None
    return config


def route(path: str) -> tuple[Kind | None, str | None, str | None, str]:
    """Kind, namespace, name and subresource that a path leads to."""
    steps = [unquote(each) for each in path.split("/")[1:]]
    take = 2 if steps[0] == "api" else 3
    version, rest = "/".join(steps[1:take]), steps[take:]
    namespace = rest[1] if rest[:1] == ["namespaces"] and len(rest) > 2 else None
    plural, *names = rest[2:] if namespace is not None else rest or [""]
    kind = next((each for each in ALL if (each.api_version, each.plural) == (version, plural)), None)
    return kind, namespace, names[0] if names else None, "/".join(names[1:])


def refused(status: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "message": message}, status=status)
