"""The Kubernetes API over HTTP. lightkube brings configuration, TLS and (rotating) credentials; the rest is plain REST."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import structlog
from lightkube.config.client_adapter import AsyncClient, ConnectionParams
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.core.exceptions import ConfigError

from agent_operator.clock import Clock, SystemClock, micro_timestamp
from agent_operator.cluster import FIELD_MANAGER
from agent_operator.cluster.errors import ClusterError, Conflict, Forbidden, Invalid, InvalidName, Unavailable, WrongAnswer
from agent_operator.cluster.kinds import EVENT, Kind, Manifest, kind_of
from agent_operator.cluster.paths import checked, checked_items, collection_path, object_path, path_of
from agent_operator.egress.text import plain

TIMEOUT = 10.0
"""Seconds for one call. Writes of the operator take milliseconds; a list of 500 objects below one second."""

PAGE = 500
"""Objects in one answer to a list, as kubectl asks for: bounds the memory that one call takes."""

MESSAGE = 1000
"""Characters of the API server's words, which may be those of somebody's admission webhook."""

NOTE_BYTES = 1024
"""The API's limit of an Event's note."""

log = structlog.stdlib.get_logger(__name__)


class HttpCluster:
    def __init__(self, http: httpx2.AsyncClient, clock: Clock) -> None:
        self._http = http
        self._clock = clock

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        if kind.namespaced and namespace is None:
            raise InvalidName(f"a {kind.kind} without a namespace")
        response = await self._send("GET", object_path(kind, namespace, name))
        if response.status_code == httpx2.codes.NOT_FOUND:
            return None
        return checked(_body(response), kind, namespace, name)

    async def list(self, kind: Kind, namespace: str | None = None, labels: str | None = None) -> list[Manifest]:
        found: list[Manifest] = []
        where = collection_path(kind, namespace)
        params: dict[str, str | int] = {"limit": PAGE} | ({"labelSelector": labels} if labels else {})
        while True:
            response = await self._send("GET", where, params=params)
            if response.status_code == httpx2.codes.NOT_FOUND:
                return found  # the kind is not installed
            items, token = checked_items(_body(response), kind, namespace)
            found += items
            if not token:
                return found
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
        answer = _body(await self._send(method, where, json=manifest, **options))
        metadata = manifest["metadata"]
        return checked(answer, kind_of(manifest), metadata.get("namespace"), metadata.get("name"))

    async def delete(self, kind: Kind, namespace: str | None, name: str, *, uid: str | None = None) -> bool:
        if kind.namespaced and namespace is None:
            raise InvalidName(f"a {kind.kind} without a namespace")
        options: Manifest = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        response = await self._send("DELETE", object_path(kind, namespace, name), json=options)
        if response.status_code == httpx2.codes.NOT_FOUND:
            return False
        _body(response)  # a Status, or the object with its deletionTimestamp
        return True

    async def event(self, about: Manifest, *, type: str, reason: str, message: str) -> None:  # noqa: A002  # the API's name
        try:
            await self.create(_event(about, type, reason, message, micro_timestamp(self._clock.now())))
        except ClusterError as error:
            log.warning("event_not_posted", reason=reason, error=str(error))

    async def _send(self, method: str, where: str, **options: Any) -> httpx2.Response:
        try:
            return await self._http.request(method, where, follow_redirects=False, **options)
        except (httpx2.HTTPError, ConfigError, OSError) as error:
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


def _body(response: httpx2.Response) -> Any:
    if not response.is_success:
        raise _error(response)
    try:
        return response.json()
    except (ValueError, RecursionError) as error:
        raise WrongAnswer(f"an answer that is no JSON: {type(error).__name__}") from None


def _error(response: httpx2.Response) -> ClusterError:
    message = _message(response)
    match response.status_code:
        case 401 | 403:
            return Forbidden(message)
        case 409:
            return Conflict(message)
        case 400 | 405 | 413 | 415 | 422:
            return Invalid(message)
        case 404:
            return Invalid(f"{message} (a kind that is not installed, or a namespace that is gone)")
    return Unavailable(message)


def _message(response: httpx2.Response) -> str:
    try:
        return plain(response.json()["message"], MESSAGE)
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"{response.status_code} {response.reason_phrase}"


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
