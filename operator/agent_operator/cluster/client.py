"""The Kubernetes API over HTTP. lightkube brings configuration, TLS and (rotating) credentials; the rest is plain REST."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import structlog
from lightkube.config.client_adapter import AsyncClient, ConnectionParams
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.core.exceptions import ConfigError

from agent_operator.clock import Clock, SystemClock, micro_timestamp
from agent_operator.cluster import FIELD_MANAGER
from agent_operator.cluster.answers import BYTES, MESSAGE, Answer, body_of, read_answer
from agent_operator.cluster.errors import ClusterError, Invalid, InvalidName, TooLarge, Unavailable
from agent_operator.cluster.kinds import EVENT, Kind, Manifest, kind_of
from agent_operator.cluster.paths import checked, checked_items, collection_path, object_path, path_of
from agent_operator.egress.text import plain

TIMEOUT = 10.0
"""Seconds for one whole call. Writes of the operator take milliseconds; a page of a list below one second."""

LIST_SECONDS = 60.0
"""Seconds for all pages of a list together."""

PAGE = 100
"""Objects in one answer to a list. A pod is some 10 kB; etcd takes objects of up to 1.5 MB."""

NOTE_BYTES = 1024
"""The API's limit of an Event's note."""

Page = tuple[int, list[Manifest]]
"""Bytes of an answer, and the objects in it."""

log = structlog.stdlib.get_logger(__name__)


class HttpCluster:
    def __init__(self, http: httpx2.AsyncClient, clock: Clock) -> None:
        self._http = http
        self._clock = clock

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        if kind.namespaced and namespace is None:
            raise InvalidName(f"a {kind.kind} without a namespace")
        answer = await self._send("GET", object_path(kind, namespace, name))
        if answer.status == httpx2.codes.NOT_FOUND:
            return None
        return checked(read_answer(answer), kind, namespace, name)

    async def list(self, kind: Kind, namespace: str | None = None, labels: str | None = None) -> list[Manifest]:
        found: list[Manifest] = []
        size = 0
        async for page, items in self._pages(kind, namespace, labels):
            size += page
            if size > BYTES:
                raise TooLarge(f"{_place(kind, namespace)}: more than {BYTES} bytes in {len(found) + len(items)} objects")
            found += items
        return found

    async def versions(self, kind: Kind, namespace: str | None = None) -> dict[tuple[str, str], str]:
        found: dict[tuple[str, str], str] = {}
        async for _, items in self._pages(kind, namespace, None):
            heads = (each["metadata"] for each in items)
            found |= {(head["namespace"], head["name"]): str(head.get("resourceVersion", "")) for head in heads}
        return found

    async def _pages(self, kind: Kind, namespace: str | None, labels: str | None) -> AsyncIterator[Page]:
        """None where the kind is not installed."""
        where = collection_path(kind, namespace)
        params: dict[str, str | int] = {"limit": PAGE} | ({"labelSelector": labels} if labels else {})
        ends = asyncio.get_running_loop().time() + LIST_SECONDS
        while True:
            answer = await self._send("GET", where, params=params)
            if answer.status == httpx2.codes.NOT_FOUND:
                return
            items, token = checked_items(read_answer(answer), kind, namespace)
            yield len(answer.body), items
            if not token:
                return
            if asyncio.get_running_loop().time() > ends:
                raise Unavailable(f"{_place(kind, namespace)}: no whole list within {LIST_SECONDS:g} s")
            params["continue"] = token

    async def apply(self, manifest: Manifest, *, force: bool = False) -> Manifest:
        params = {"fieldManager": FIELD_MANAGER, "force": str(force).lower(), "fieldValidation": "Strict"}
        headers = {"Content-Type": "application/apply-patch+yaml"}
        return await self._write("PATCH", path_of(manifest), manifest, params=params, headers=headers)

    async def create(self, manifest: Manifest) -> Manifest:
        kind, metadata = kind_of(manifest), manifest["metadata"]
        namespace, name = metadata.get("namespace"), metadata.get("name")
        if kind.namespaced and (namespace is None or name is None):
            raise InvalidName(f"a {kind.kind} without metadata.namespace or metadata.name")
        where = collection_path(kind, namespace) if name is None else object_path(kind, namespace, name).rpartition("/")[0]
        return await self._write("POST", where, manifest, params={"fieldManager": FIELD_MANAGER})

    async def replace(self, manifest: Manifest) -> Manifest:
        return await self._put(path_of(manifest), manifest)

    async def replace_status(self, manifest: Manifest) -> Manifest:
        return await self._put(path_of(manifest, "status"), manifest)

    async def _put(self, where: str, manifest: Manifest) -> Manifest:
        if not manifest["metadata"].get("resourceVersion"):
            raise Invalid("a replace without metadata.resourceVersion would overwrite whatever is there")
        return await self._write("PUT", where, manifest, params={"fieldManager": FIELD_MANAGER})

    async def _write(self, method: str, where: str, manifest: Manifest, **options: Any) -> Manifest:
        answer = read_answer(await self._send(method, where, json=manifest, **options))
        metadata = manifest["metadata"]
        return checked(answer, kind_of(manifest), metadata.get("namespace"), metadata.get("name"))

    async def delete(self, kind: Kind, namespace: str | None, name: str, *, uid: str | None = None) -> bool:
        if kind.namespaced and namespace is None:
            raise InvalidName(f"a {kind.kind} without a namespace")
        options: Manifest = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        answer = await self._send("DELETE", object_path(kind, namespace, name), json=options)
        if answer.status == httpx2.codes.NOT_FOUND:
            return False
        read_answer(answer)  # a Status, or the object with its deletionTimestamp
        return True

    async def event(self, about: Manifest, *, type: str, reason: str, message: str) -> None:  # noqa: A002  # the API's name
        try:
            await self.create(_event(about, type, reason, message, micro_timestamp(self._clock.now())))
        except ClusterError as error:
            log.warning("event_not_posted", reason=reason, error=str(error))

    async def _send(self, method: str, where: str, headers: Mapping[str, str] | None = None, **options: Any) -> Answer:
        # Compressed, a megabyte may be a thousand.
        asked = {**(headers or {}), "Accept-Encoding": "identity"}
        try:
            async with (
                asyncio.timeout(TIMEOUT),
                self._http.stream(method, where, headers=asked, follow_redirects=False, **options) as response,
            ):
                return Answer(response.status_code, response.reason_phrase, await body_of(response, f"{method} {where}"))
        except (httpx2.HTTPError, httpx2.StreamError, ConfigError, OSError) as error:  # TimeoutError is an OSError
            raise Unavailable(f"{method} {where}: {type(error).__name__} {plain(error)}".rstrip()) from error


@asynccontextmanager
async def connect(config: SingleConfig | None = None, clock: Clock | None = None) -> AsyncIterator[HttpCluster]:
    """The cluster of the pod's service account; elsewhere of KUBECONFIG, or `~/.kube/config`.

    Raises:
        Unavailable: there is no configuration, or it is wrong.
    """
    try:
        found = config or KubeConfig.from_env().get()
    except (ConfigError, KeyError, OSError) as error:
        raise Unavailable(f"no cluster is configured: {error}") from error
    if found is None:
        raise Unavailable("no cluster is configured: the kubeconfig has no current context")
    async with AsyncClient(found, ConnectionParams(timeout=httpx2.Timeout(TIMEOUT))) as http:
        yield HttpCluster(http, clock or SystemClock())


def _place(kind: Kind, namespace: str | None) -> str:
    return f"{kind.plural} of {namespace or 'all namespaces'}"


def _event(about: Manifest, type_: str, reason: str, message: str, now: str) -> Manifest:
    metadata = about["metadata"]
    # Events of something that has no namespace stand in `default`, as kubelet's of nodes do.
    namespace = metadata.get("namespace") or "default"
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {"name": f"{metadata['name'][:200].rstrip('-.')}.{uuid.uuid4().hex[:16]}", "namespace": namespace},
        "eventTime": now,
        "type": type_,
        "reason": reason,
        "action": "Reconcile",
        "note": plain(message, MESSAGE).encode()[:NOTE_BYTES].decode(errors="ignore"),
        "reportingController": "slipway.dev/operator",
        "reportingInstance": FIELD_MANAGER,
        "regarding": {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "name": metadata["name"],
            "namespace": metadata.get("namespace"),
            "uid": metadata.get("uid"),
            "resourceVersion": metadata.get("resourceVersion"),
        },
    }
