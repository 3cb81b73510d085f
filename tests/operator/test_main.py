"""The operator as a process of its own, against an API server of ours that keeps the list of what it was asked."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from tests.support.http_server import http_server
from tests.support.ports import free_port

KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: test
clusters: [{{name: test, cluster: {{server: "{url}"}}}}]
users: [{{name: test, user: {{token: test}}}}]
contexts: [{{name: test, context: {{cluster: test, user: test}}}}]
"""


NAMES = [("keyrotations", "KeyRotation"), ("alertpolicies", "AlertPolicy"), ("agenthealths", "AgentHealth")]


def resource(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "singularName": "", "kind": kind, "namespaced": True, "verbs": ["list", "watch"]}


def group(name: str, version: str) -> dict[str, Any]:
    both = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "preferredVersion": both, "versions": [both]}


ANSWERS: dict[str, dict[str, Any]] = {
    "/api": {"versions": ["v1"]},
    "/apis": {"groups": [group("slipway.dev", "v1alpha1"), group("apiextensions.k8s.io", "v1")]},
    "/api/v1": {"resources": [resource("secrets", "Secret"), resource("namespaces", "Namespace"), resource("events", "Event")]},
    "/apis/apiextensions.k8s.io/v1": {"resources": [resource("customresourcedefinitions", "CustomResourceDefinition")]},
    "/apis/slipway.dev/v1alpha1": {"resources": [resource(*each) for each in NAMES]},
}


class EmptyCluster:
    """Knows the operator's kinds, and no object. Leases are taken, watches stay open and tell nothing."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.forbidden = False
        self.closing = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        if self.forbidden and "slipway.dev" in request.path and request.path.count("/") > 3:
            return web.json_response({"kind": "Status", "message": "alertpolicies is forbidden"}, status=403)
        if "watch" in request.query:
            response = web.StreamResponse()
            await response.prepare(request)
            await self.closing.wait()
            return response
        if request.method == "POST":
            return web.json_response(await request.json(), status=201)
        if "/leases/" in request.path:
            return web.json_response({"message": "not found"}, status=404)
        kind = dict(NAMES).get(request.path.rpartition("/")[2], "")
        head = {"apiVersion": "slipway.dev/v1alpha1", "kind": f"{kind}List", "metadata": {"resourceVersion": "1"}}
        empty = {**head, "versions": [], "groups": [], "resources": [], "items": []}
        return web.json_response(ANSWERS.get(request.path, empty))


@asynccontextmanager
async def empty_cluster() -> AsyncIterator[tuple[str, EmptyCluster]]:
    cluster = EmptyCluster()
    async with http_server(cluster.answer) as url:
        try:
            yield url, cluster
        finally:
            cluster.closing.set()


@asynccontextmanager
async def operator(kubeconfig: Path, port: int, **env: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """As the image starts it; killed at the end if it still lives."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "agent_operator.main",
        env={"KUBECONFIG": str(kubeconfig), "PATH": "", "PROBE_PORT": str(port), "METRICS_PORT": str(free_port()), **env},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def probe(process: asyncio.subprocess.Process, port: int) -> httpx.Response:
    """The first answer of the liveness probe after it has listed its objects."""
    async with httpx.AsyncClient() as client:
        while process.returncode is None:
            with suppress(httpx.ConnectError):
                response = await client.get(f"http://127.0.0.1:{port}/healthz")
                if response.status_code != 500:
                    return response
            await asyncio.sleep(0.05)
    raise AssertionError(f"the operator ended with {process.returncode}")


@dataclass(frozen=True)
class Server:
    kubeconfig: Path
    cluster: EmptyCluster


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with empty_cluster() as (url, cluster):
        path = tmp_path / "kubeconfig"
        path.write_text(KUBECONFIG.format(url=url), encoding="utf-8")
        yield Server(path, cluster)


# Each starts an interpreter: 1.2 s of CPU. `make test` has the two that show that it starts, serves and ends.


async def test_it_answers_its_probe_with_its_version_and_stops_on_sigterm(server: Server) -> None:
    port = free_port()
    async with operator(server.kubeconfig, port) as process:
        response = await probe(process, port)
        process.terminate()
        _, output = await process.communicate()

    assert response.status_code == 200
    assert set(response.json()) == {"version"}
    assert process.returncode == 0
    lines = [json.loads(line) for line in output.decode().splitlines()]
    assert all({"event", "level", "logger", "timestamp"} <= line.keys() for line in lines)
    # On a busy machine kopf asks again for what took long, and says so.
    assert not [line for line in lines if line["level"] == "error" and "will retry" not in line["event"]]


async def test_it_lists_and_watches_its_own_kinds_and_asks_for_nobodys_secrets(server: Server) -> None:
    """So its memory does not depend on what else the cluster holds: 10,000 foreign Secrets are never sent to it."""
    own = {f"GET /apis/slipway.dev/v1alpha1/{name}" for name, _ in NAMES}
    async with operator(server.kubeconfig, free_port()) as process:
        async with asyncio.timeout(20):
            while not all(server.cluster.asked.count(each) >= 2 for each in own):  # a list, and then the watch
                assert process.returncode is None
                await asyncio.sleep(0.05)

    assert not [each for each in server.cluster.asked if "secrets" in each]
    assert not [each for each in server.cluster.asked if "leases" in each], "one Lease per namespace that has objects"


@pytest.mark.slow
async def test_with_namespaces_it_asks_for_nothing_of_the_whole_cluster(server: Server) -> None:
    watched = "GET /apis/slipway.dev/v1alpha1/namespaces/team/alertpolicies"
    async with operator(server.kubeconfig, free_port(), WATCH_NAMESPACES="team") as process:
        async with asyncio.timeout(20):
            while server.cluster.asked.count(watched) < 2:
                assert process.returncode is None
                await asyncio.sleep(0.05)

    assert not [each for each in server.cluster.asked if each.startswith("GET /apis/slipway.dev/v1alpha1/alertpolicies")]
    assert {each for each in server.cluster.asked if each.startswith("POST")} == {
        "POST /apis/coordination.k8s.io/v1/namespaces/team/leases"
    }


@pytest.mark.slow
async def test_without_its_roles_it_is_not_ready_and_says_so(server: Server) -> None:
    server.cluster.forbidden = True
    port = free_port()
    async with operator(server.kubeconfig, port) as process, httpx.AsyncClient() as client:
        response = None
        while response is None:
            assert process.returncode is None
            with suppress(httpx.ConnectError):
                response = await client.get(f"http://127.0.0.1:{port}/healthz")
            await asyncio.sleep(0.05)
        process.kill()
        _, output = await process.communicate()

    assert response.status_code == 500
    assert b'"error": "alertpolicies is forbidden", "event": "objects_not_listed"' in output


@pytest.mark.slow
async def test_a_wrong_setting_ends_it_with_a_line_that_names_the_variable(server: Server) -> None:
    async with operator(server.kubeconfig, free_port(), OPERATOR_STANDALONE="maybe") as process:
        _, output = await process.communicate()

    assert (process.returncode, output) == (2, b"OPERATOR_STANDALONE: expected true or false, got 'maybe'\n")


@pytest.mark.slow
async def test_without_a_cluster_it_ends_with_a_line_that_says_so(tmp_path: Path) -> None:
    async with operator(tmp_path / "none", free_port()) as process:
        _, output = await process.communicate()

    assert process.returncode == 2
    assert output.startswith(b"no cluster is configured: ")
    assert output.count(b"\n") == 1
