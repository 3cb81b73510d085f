"""The Kubernetes API over HTTP. lightkube brings configuration, TLS and (rotating) credentials; the rest is plain REST."""

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx2
import structlog
from lightkube.config.client_adapter import AsyncClient, ConnectionParams
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.core.exceptions import ConfigError

from slipway_clients.clock import Clock, SystemClock, micro_timestamp
from slipway_clients.cluster.interface import (
    FIELD_MANAGER,
    Cluster,
    ClusterError,
    Conflict,
    Forbidden,
    Invalid,
    InvalidName,
    TooLarge,
    Unavailable,
    WrongAnswer,
)
from slipway_clients.cluster.kinds import EVENT, SECRET, Kind, Manifest, kind_of
from slipway_clients.cluster.paths import checked, checked_items, collection_path, object_path, path_of
from slipway_clients.egress.text import plain

TIMEOUT = 10.0
"""Seconds for one whole call. Writes of the operator take milliseconds; a page of a list below one second."""

LIST_SECONDS = 60.0
"""Seconds for all pages of a list together."""

PAGE = 100
"""Objects in one answer to a list. A pod is some 10 kB; etcd takes objects of up to 1.5 MB."""

BYTES = 16 << 20
"""Of one answer, and of all objects of a list together: the operator's pod has 256 MiB, and JSON takes a multiple of its text."""

VALUES = 400_000
"""Values in one answer, which Python turns into some 60 bytes each. A page of pods has 30,000."""

OBJECT_VALUES = 50_000
"""Values in one object that is read: a Deployment has some hundred. A megabyte of labels is not worth a worker's memory."""

SECRET_CHARS = 8
"""Of a Secret's value from which on it is taken out of messages; what is shorter, such as a revision, is no key."""

MESSAGE = 1000
"""Characters of the API server's words, which may be those of somebody's admission webhook."""

EVENT_BURST = 100
"""Events of one object at once: some ten rotations."""

EVENT_SECONDS = 20.0
"""For each further Event of an object: 180 an hour, which is how long the API server keeps one by default."""

EVENT_OBJECTS = 4096
"""Objects whose Events are counted: those that had one last. client-go keeps as many."""

NOTE_BYTES = 1024
"""The API's limit of an Event's note."""

Page = tuple[int, list[Manifest]]
"""Bytes of an answer, and the objects in it."""

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    phrase: str
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300  # noqa: PLR2004  # HTTP's


class EventAllowance:
    """How many Events of one object are posted: a burst, and then one each so many seconds.

    Each Event is an object in etcd for an hour. What is changed back again and again by somebody else must not fill it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._spent: dict[str, tuple[float, datetime]] = {}

    def take(self, about: Manifest) -> bool:
        """Whether one more may be posted on the object, which counts it."""
        now = self._clock.now()
        key = str(about["metadata"].get("uid") or about["metadata"]["name"])
        spent, since = self._spent.pop(key, (0.0, now))
        spent = max(0.0, spent - (now - since).total_seconds() / EVENT_SECONDS)
        allowed = spent <= EVENT_BURST - 1
        self._spent[key] = (spent + 1 if allowed else spent, now)
        if len(self._spent) > EVENT_OBJECTS:
            del self._spent[next(iter(self._spent))]
        return allowed


class HttpCluster(Cluster):
    """The cluster over HTTP. Its methods are described in the protocol."""

    def __init__(self, http: httpx2.AsyncClient, clock: Clock) -> None:
        self._http = http
        self._clock = clock
        self._allowance = EventAllowance(clock)

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        if kind.namespaced and namespace is None:
            raise InvalidName(f"a {kind.kind} without a namespace")
        answer = await self._send("GET", object_path(kind, namespace, name))
        if answer.status == httpx2.codes.NOT_FOUND:
            return None
        return checked(_read_answer(answer, OBJECT_VALUES), kind, namespace, name)

    async def list(self, kind: Kind, namespace: str | None = None, labels: str | None = None) -> list[Manifest]:
        found: list[Manifest] = []
        size = 0
        async for page, items in self._pages(kind, namespace, labels, smallest=PAGE):
            size += page
            if size > BYTES:
                raise TooLarge(f"{_place(kind, namespace)}: more than {BYTES} bytes in {len(found) + len(items)} objects")
            found += items
        return found

    async def versions(self, kind: Kind, namespace: str | None = None) -> dict[tuple[str, str], str]:
        found: dict[tuple[str, str], str] = {}
        async for _, items in self._pages(kind, namespace, None, smallest=1):
            heads = (each["metadata"] for each in items)
            found |= {(head["namespace"], head["name"]): str(head.get("resourceVersion", "")) for head in heads}
        return found

    async def _pages(self, kind: Kind, namespace: str | None, labels: str | None, *, smallest: int) -> AsyncIterator[Page]:
        """Nothing where the kind is not installed. A page that is too large is asked for again with fewer objects."""
        where = collection_path(kind, namespace)
        params: dict[str, str | int] = {"limit": PAGE} | ({"labelSelector": labels} if labels else {})
        ends = asyncio.get_running_loop().time() + LIST_SECONDS
        while True:
            try:
                answer = await self._send("GET", where, params=params)
                if answer.status == httpx2.codes.NOT_FOUND:
                    return
                items, token = checked_items(_read_answer(answer), kind, namespace)
            except TooLarge:
                if params["limit"] == smallest:
                    raise
                params["limit"] = max(smallest, int(params["limit"]) // 10)
                continue
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
        answer = _read_answer(await self._send(method, where, json=manifest, **options), secret=_secret_values(manifest))
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
        _read_answer(answer)  # a Status, or the object with its deletionTimestamp
        return True

    async def event(self, about: Manifest, *, type: str, reason: str, message: str) -> None:  # noqa: A002  # the API's name
        metadata = about["metadata"]
        said = log.bind(kind=about["kind"], namespace=metadata.get("namespace"), name=metadata["name"], reason=reason)
        if not self._allowance.take(about):
            said.info("event_not_posted", error="more Events of this object than its allowance")
            return
        try:
            await self.create(_event(about, type, reason, message, micro_timestamp(self._clock.now())))
        except ClusterError as error:
            said.warning("event_not_posted", error=str(error))

    async def _send(self, method: str, where: str, headers: Mapping[str, str] | None = None, **options: Any) -> _Answer:
        # Compressed, a megabyte may be a thousand.
        asked = {**(headers or {}), "Accept-Encoding": "identity"}
        try:
            async with (
                asyncio.timeout(TIMEOUT),
                self._http.stream(method, where, headers=asked, follow_redirects=False, **options) as response,
            ):
                return _Answer(response.status_code, response.reason_phrase, await _body_of(response, f"{method} {where}"))
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


async def _body_of(response: httpx2.Response, call: str) -> bytes:
    """The whole body of the answer to `call`. Raises TooLarge or WrongAnswer."""
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise WrongAnswer(f"{call}: compressed, which was not asked for")
    parts, size = [], 0
    async for chunk in response.aiter_raw():
        size += len(chunk)
        if size > BYTES:
            raise TooLarge(f"{call}: an answer of more than {BYTES} bytes")
        parts.append(chunk)
    return b"".join(parts)


def _secret_values(manifest: Manifest) -> list[str]:
    """What a Secret holds, encoded and as it is, the longest first: an admission webhook may quote it in a refusal."""
    if kind_of(manifest) != SECRET:
        return []
    encoded = [str(value) for value in (manifest.get("data") or {}).values()]
    texts = [base64.b64decode(value).decode(errors="replace") for value in encoded]
    texts += map(str, (manifest.get("stringData") or {}).values())
    return sorted({value for value in (*encoded, *texts) if len(value) >= SECRET_CHARS}, key=len, reverse=True)


def _read_answer(answer: _Answer, values: int = VALUES, secret: Sequence[str] = ()) -> Any:
    """The JSON of a success. Raises ClusterError, whose message has nothing of `secret`."""
    if not answer.is_success:
        raise _error(answer, secret)
    return _json(answer.body, values)


def _json(body: bytes, values: int) -> Any:
    if sum(map(body.count, (b",", b"[", b"{"))) > values:
        raise TooLarge(f"an answer of more than {values} values")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WrongAnswer(f"an answer that is no JSON: {type(error).__name__}") from None


def _error(answer: _Answer, secret: Sequence[str]) -> ClusterError:
    message = _message(answer, secret)
    match answer.status:
        case 401 | 403:
            return Forbidden(message)
        case 409:
            return Conflict(message)
        case 400 | 405 | 413 | 415 | 422:
            return Invalid(message)
        case 404:
            return Invalid(f"{message} (a kind that is not installed, or a namespace that is gone)")
    return Unavailable(message)


def _message(answer: _Answer, secret: Sequence[str]) -> str:
    try:
        message = str(_json(answer.body, VALUES)["message"])
    except (ClusterError, KeyError, TypeError):
        return f"{answer.status} {answer.phrase}"
    for value in secret:
        message = message.replace(value, "…")
    return plain(message, MESSAGE)
