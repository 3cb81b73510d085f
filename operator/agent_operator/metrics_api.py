"""The API `custom.metrics.k8s.io` for agents: an HPA scales on their live concurrency, and no metrics adapter is needed.

The API server's aggregation layer asks by HTTPS, with its front proxy's certificate, for callers whom it has authorized. Figures
come from the pods themselves at the moment of the question. What is not known is an error and never 0: an HPA keeps its replicas.
"""

import asyncio
import json
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import structlog
from aiohttp import web
from pydantic import ValidationError

from agent_operator.reconcile.rotation.consumers import HttpPodClient, PodClient
from agent_operator.reconcile.tools import Tools
from slipway_clients.clock import Clock, timestamp
from slipway_clients.cluster import Cluster, ClusterError, Invalid, Manifest
from slipway_clients.cluster.kinds import CONFIG_MAP, POD
from slipway_clients.egress.text import plain
from slipway_doctor.checks.facts import PodStatus, agent_container
from slipway_doctor.checks.gather import component

GROUP, VERSION, METRIC = "custom.metrics.k8s.io", "v1beta2", "agent_concurrency"

AT_ONCE = 50
"""Pods that are asked at the same time, of all questions together. Each answers in a millisecond, or is given up after 3 s."""

QUESTIONS = 32
"""At a time: an HPA has one each 15 s. More are refused with 429."""

LISTS = 2
"""Lists of pods that are read at the same time: each may take 16 MiB, and the operator's pod has 256."""

OF_A_NAMESPACE = 4
"""Part, 1 in so many, of AT_ONCE and QUESTIONS that one namespace may take: pods that hang, or HPAs by the hundred, of one
namespace leave the others theirs."""

MOST_PODS = 200
"""Of one question: an agent has tens. They are asked in four rounds, of 3 s each if none answers."""

ANSWER_SECONDS = 10.0
"""Of one question. An HPA asks again after 15 s."""

CONNECTIONS = 100
"""At a time, of whoever reaches the port; each takes 300 kB as soon as it is there. The API server keeps a few."""

HANDSHAKE_SECONDS = 5.0
"""In which a connection has to show its certificate."""

REFRESH_SECONDS = 60.0
"""Between two looks at the certificates: the kubelet brings renewed ones within a minute or two, long before the old ones end."""

FRONT_PROXY = ("kube-system", "extension-apiserver-authentication")
"""The ConfigMap in which every cluster says by which authority and names the front proxy's certificate is known."""

log = structlog.stdlib.get_logger(__name__)


class NotKnown(Exception):
    """There is no figure: `code` is the answer's HTTP status, `reason` Kubernetes' word for it."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class Places:
    """So many at a time, of which one namespace takes a part; others of it wait, and nobody waits for them."""

    def __init__(self, every: int, each: int) -> None:
        self._every = asyncio.Semaphore(every)
        self._each = each
        self._of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, namespace: str) -> AsyncIterator[None]:
        own = self._of.setdefault(namespace, asyncio.Semaphore(self._each))
        async with own, self._every:
            yield


class Concurrency:
    """What agents' pods say of themselves. `namespaces` are those that may be asked for; empty: all."""

    def __init__(self, cluster: Cluster, pods: PodClient, namespaces: Sequence[str]) -> None:
        self._cluster = cluster
        self._pods = pods
        self._namespaces = namespaces
        self._slots = Places(AT_ONCE, AT_ONCE // OF_A_NAMESPACE)
        self._lists = Places(LISTS, 1)

    async def of(self, namespace: str, name: str, labels: str | None) -> dict[str, int]:
        """By pod: runs that it executes, or has accepted and not begun; 0 while it drains. Pods that do not answer are left out.

        Args:
            name: of a pod; `*` for all that `labels` select.

        Raises:
            NotKnown: there is no such agent, or none answers.
        """
        if self._namespaces and namespace not in self._namespaces:
            raise NotKnown(404, "NotFound", f"namespace {namespace} is none of this operator's (watch.namespaces)")
        found = [pod for pod in await self._agents(namespace, labels) if name in {"*", pod["metadata"]["name"]}]
        if not found:
            raise NotKnown(404, "NotFound", f"no running pod of an agent in namespace {namespace} is meant")
        if len(found) > MOST_PODS:
            raise NotKnown(503, "ServiceUnavailable", f"more than {MOST_PODS} pods are meant")
        answers = dict(zip((pod["metadata"]["name"] for pod in found), await asyncio.gather(*map(self._ask, found)), strict=True))
        known = {name: value for name, value in answers.items() if value is not None}
        if not known:
            raise NotKnown(503, "ServiceUnavailable", f"none of {len(found)} pods answers on its ops port")
        return known

    async def _agents(self, namespace: str, labels: str | None) -> list[Manifest]:
        try:
            async with self._lists.of(namespace):
                pods = await self._cluster.list(POD, namespace, labels or None)
        except Invalid as error:
            raise NotKnown(400, "BadRequest", str(error)) from None
        except ClusterError as error:
            raise NotKnown(503, "ServiceUnavailable", f"pods cannot be listed: {error}") from None
        return [pod for pod in pods if component(pod) == "agent" and pod.get("status", {}).get("phase") == "Running"]

    async def _ask(self, pod: Manifest) -> int | None:
        address, ports = pod["status"].get("podIP"), agent_container(pod).get("ports") or ()
        port = next((each["containerPort"] for each in ports if each.get("name") == "ops"), None)
        if not address or port is None:
            return None
        async with self._slots.of(pod["metadata"]["namespace"]):
            answer = await self._pods.status(address, port)
        try:
            status = PodStatus.model_validate(answer)
        except ValidationError:
            return None
        return 0 if status.draining else status.runs_in_flight + status.runs_queued


class MetricsApi:
    """Answers the requests of one listener. `names` are those that the front proxy's certificate may carry; empty: any."""

    def __init__(self, concurrency: Concurrency, clock: Clock) -> None:
        self.names: Sequence[str] = ()
        self._concurrency = concurrency
        self._clock = clock
        self._asked = 0
        self._asked_of: Counter[str] = Counter()

    def routes(self) -> list[web.RouteDef]:
        base = f"/apis/{GROUP}"
        return [
            web.get(base, self._group),
            web.get(f"{base}/{VERSION}", self._resources),
            web.get(f"{base}/{VERSION}/namespaces/{{namespace}}/pods/{{name}}/{{metric}}", self._values),
        ]

    @web.middleware
    async def guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Only for the front proxy; errors as Kubernetes has them."""
        subject = (request.get_extra_info("peercert") or {}).get("subject", ())
        name = next((value for part in subject for key, value in part if key == "commonName"), "")
        if self.names and name not in self.names:
            return failure(403, "Forbidden", "the client certificate is not the front proxy's")
        if self._asked >= QUESTIONS:
            return failure(429, "TooManyRequests", "too many questions at once")
        self._asked += 1
        try:
            found: web.StreamResponse = await handler(request)
        except NotKnown as error:
            return failure(error.code, error.reason, str(error))
        except web.HTTPException as error:
            return failure(error.status, (error.reason or "").replace(" ", ""), f"{request.method} {plain(request.path, 200)}")
        finally:
            self._asked -= 1
        return found

    async def _group(self, _: web.Request) -> web.Response:
        version = {"groupVersion": f"{GROUP}/{VERSION}", "version": VERSION}
        return web.json_response(
            {"kind": "APIGroup", "apiVersion": "v1", "name": GROUP, "versions": [version], "preferredVersion": version}
        )

    async def _resources(self, _: web.Request) -> web.Response:
        pods = {"name": f"pods/{METRIC}", "singularName": "", "namespaced": True, "kind": "MetricValueList", "verbs": ["get"]}
        return web.json_response(
            {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/{VERSION}", "resources": [pods]}
        )

    async def _values(self, request: web.Request) -> web.Response:
        asked = request.match_info
        if asked["metric"] != METRIC or request.query.get("metricLabelSelector"):
            raise NotKnown(404, "NotFound", f"the only metric is {METRIC}, without labels of its own")
        namespace = asked["namespace"]
        if self._asked_of[namespace] >= QUESTIONS // OF_A_NAMESPACE:
            raise NotKnown(429, "TooManyRequests", f"too many questions at once about namespace {plain(namespace, 63)}")
        self._asked_of[namespace] += 1
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                found = await self._concurrency.of(namespace, asked["name"], request.query.get("labelSelector"))
        except TimeoutError:
            raise NotKnown(503, "ServiceUnavailable", f"no whole answer within {ANSWER_SECONDS:.0f} s") from None
        finally:
            self._asked_of[namespace] -= 1
            self._asked_of += Counter()  # forgets namespaces at 0: whoever may ask can make names up
        return web.json_response(value_list(namespace, found, timestamp(self._clock.now())))


def value_list(namespace: str, found: Mapping[str, int], now: str) -> dict[str, Any]:
    """A MetricValueList of pods."""
    items = [
        {
            "describedObject": {"kind": "Pod", "namespace": namespace, "name": name, "apiVersion": "/v1"},
            "metric": {"name": METRIC, "selector": None},
            "timestamp": now,
            "value": str(value),
        }
        for name, value in sorted(found.items())
    ]
    return {"kind": "MetricValueList", "apiVersion": f"{GROUP}/{VERSION}", "metadata": {}, "items": items}


def failure(code: int, reason: str, message: str) -> web.Response:
    """A Status."""
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return web.json_response({**status, "message": message, "reason": reason, "code": code}, status=code)


@asynccontextmanager
async def metrics_api(tools: Tools, host: str | None = None) -> AsyncIterator[None]:
    """Serves it during the block, on every address without `host`, if the settings have a port for it.

    Without certificates there is no listener, and they are looked for again.
    """
    if not tools.settings.metrics_api_port:
        yield
        return
    serving = asyncio.create_task(_serve(tools, host))
    try:
        yield
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def _serve(tools: Tools, host: str | None) -> None:
    api = MetricsApi(Concurrency(tools.cluster, HttpPodClient(tools.http), tools.settings.namespaces), tools.clock)
    app = web.Application(middlewares=[api.guard])
    app.add_routes(api.routes())
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    listener = _Listener(runner)
    try:
        while True:
            try:
                listener.context, api.names = await _load(tools)
                listener.open(host, tools.settings.metrics_api_port)
            except (ClusterError, OSError, ValueError, TypeError, LookupError) as error:
                log.warning("metrics_api_not_served", error=plain(error, 500), listens=listener.is_open)
            await tools.clock.sleep(REFRESH_SECONDS)
    finally:
        await listener.close()
        await runner.cleanup()


class _Listener:
    """Takes connections, by the certificates of the moment. aiohttp's own has no limit, neither of them nor of a handshake."""

    def __init__(self, runner: web.AppRunner) -> None:
        self.context: ssl.SSLContext | None = None
        self._runner = runner
        self._accepting: asyncio.Task[None] | None = None
        self._handshakes: set[asyncio.Task[None]] = set()

    @property
    def is_open(self) -> bool:
        return self._accepting is not None

    def open(self, host: str | None, port: int) -> None:
        """On every address without `host`. Raises OSError: the address cannot be had."""
        if self._accepting:
            return
        both = host is None and socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both or ":" in (host or "") else socket.AF_INET
        listening = socket.create_server((host or "", port), family=family, dualstack_ipv6=both)
        listening.setblocking(False)
        self._accepting = asyncio.create_task(self._accept(listening))

    async def close(self) -> None:
        tasks = [*self._handshakes, *([self._accepting] if self._accepting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, listening: socket.socket) -> None:
        loop, server = asyncio.get_running_loop(), self._runner.server
        with listening:
            while server:
                try:
                    connection, _ = await loop.sock_accept(listening)
                except OSError:  # the client has gone again, or the process has no file left
                    await asyncio.sleep(0.1)
                    continue
                if len(self._handshakes) + len(server.connections) >= CONNECTIONS:
                    connection.close()
                    continue
                shaking = asyncio.create_task(self._shake_hands(connection, server))
                self._handshakes.add(shaking)
                shaking.add_done_callback(self._handshakes.discard)

    async def _shake_hands(self, connection: socket.socket, server: web.Server) -> None:
        # TimeoutError and SSLError are OSErrors
        with suppress(OSError):
            await asyncio.get_running_loop().connect_accepted_socket(
                server, connection, ssl=self.context, ssl_handshake_timeout=HANDSHAKE_SECONDS
            )


async def _load(tools: Tools) -> tuple[ssl.SSLContext, list[str]]:
    """The certificates as they are now, in a context of their own: one that was loaded again would keep the old authority, too;
    and the names that the front proxy's certificate may carry."""
    found = await tools.cluster.get(CONFIG_MAP, *FRONT_PROXY)
    if found is None:
        raise LookupError(f"there is no ConfigMap {'/'.join(FRONT_PROXY)}")
    names = json.loads(found["data"].get("requestheader-allowed-names", "[]")) or []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    folder = Path(tools.settings.metrics_api_certificates)
    context.load_verify_locations(cadata=found["data"]["requestheader-client-ca-file"])
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    return context, [str(name) for name in names]
