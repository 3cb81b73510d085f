"""Which pods have loaded a key: the gate before anything is revoked."""

import asyncio
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from slipway_clients.cluster import Manifest
from slipway_clients.egress.read import ReadError, read

TIMEOUT = 3.0
"""Seconds for the whole of a pod's /status, which a thread of its own answers in a millisecond."""

LARGEST_ANSWER = 65536
"""Bytes of /status that are read. A pod of somebody else's must not fill the operator's memory."""

AT_ONCE = 20
"""Pods that are asked at the same time."""

REVISION = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""What a pod may report as a revision: its words end in the status."""

Accepts = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class PodReport:
    """`revision` is what the pod reports; None when it does not answer, or knows no such key."""

    name: str
    ready: bool
    answers: bool = False
    revision: str | None = None

    @property
    def counts(self) -> bool:
        """A pod that is not ready may still finish runs, while it drains or its database is away."""
        return self.ready or self.answers


@dataclass(frozen=True, slots=True)
class Gate:
    """`missing` names the pods that hold another revision, each with what it said."""

    missing: tuple[str, ...] = ()
    seen: int = 0
    wanted: int = 1

    @property
    def open(self) -> bool:
        """Enough pods count, and every one has the key."""
        return not self.missing and self.seen >= self.wanted

    @property
    def message(self) -> str:
        """For a condition: at most ten pods by name."""
        if self.missing:
            return f"{len(self.missing)} of {self.seen} pods have not loaded the key: {', '.join(self.missing[:10])}"
        return f"{self.seen} pods report the key" + ("" if self.open else f", at least {self.wanted} must")


class PodClient(Protocol):
    """Asks pods; replaced in tests."""

    async def status(self, address: str, port: int) -> dict[str, Any] | None:
        """`GET /status` of a pod's ops port; None when it does not answer with JSON. Never raises."""


class HttpPodClient(PodClient):
    """By HTTP, straight to the pod's address."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def status(self, address: str, port: int) -> dict[str, Any] | None:
        host = f"[{address}]" if ":" in address else address
        try:
            answer = await read(self._http, "GET", f"http://{host}:{port}/status", seconds=TIMEOUT, limit=LARGEST_ANSWER)
            found = answer.json() if answer.is_success else None
        except ReadError:
            return None
        return found if isinstance(found, dict) else None


def gate(reports: Iterable[PodReport], accepts: Accepts, min_pods: int) -> Gate:
    """Of the pods that count."""
    counted = [report for report in reports if report.counts]
    missing = tuple(_told(each) for each in counted if each.revision is None or not accepts(each.revision))
    return Gate(missing, len(counted), min_pods)


def at_least(revision: int, *, staged: bool = False) -> Accepts:
    """A pod reports this revision or a later one; with `staged`, it is enough that it accepts the key."""

    def accepts(reported: str) -> bool:
        number, _, rest = reported.partition("-")
        if not (number.isascii() and number.isdecimal()):
            return False
        return int(number) > revision or (int(number) == revision and (staged or not rest))

    return accepts


async def ask(pods: list[Manifest], client: PodClient, port: int, key: str) -> list[PodReport]:
    """One report for each pod that has not ended."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def report(pod: Manifest) -> PodReport:
        address, name, ready = pod["status"].get("podIP"), pod["metadata"]["name"], _ready(pod)
        if not address or not _is_its_own(pod, port):
            return PodReport(name, ready)
        async with limit:
            answer = await client.status(address, port)
        return PodReport(name, ready, answer is not None, _revision(answer, key))

    alive = [pod for pod in pods if pod.get("status", {}).get("phase") not in {None, "Succeeded", "Failed"}]
    return list(await asyncio.gather(*(report(pod) for pod in alive)))


def _is_its_own(pod: Manifest, port: int) -> bool:
    """A pod on its node's network has the node's address: any port but one that it declares is somebody else's."""
    spec = pod.get("spec") or {}
    declared = (each.get("containerPort") for container in spec.get("containers") or () for each in container.get("ports") or ())
    return not spec.get("hostNetwork") or port in declared


def _revision(answer: dict[str, Any] | None, key: str) -> str | None:
    keys = (answer or {}).get("keys")
    found = keys.get(key) if isinstance(keys, dict) else None
    return found if isinstance(found, str) and REVISION.fullmatch(found) else None


def _ready(pod: Manifest) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _told(report: PodReport) -> str:
    if not report.answers:
        return f"{report.name} (does not answer)"
    return f"{report.name} ({report.revision or 'no such key'})"
