"""One operator at a time attends to a namespace: a Lease in it that is renewed, and proved right before what cannot be undone.

`Fence` is the Lease of one namespace; `Fences` are those of all that one operator attends to, renewed side by side.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import structlog

from slipway_clients.clock import Clock, micro_timestamp
from slipway_clients.cluster import Cluster
from slipway_clients.cluster.interface import ClusterError, Conflict
from slipway_clients.cluster.kinds import LEASE, Manifest

DURATION = 30
"""Seconds without a renewal after which another operator may take the Lease. Longer than a restart of the API server."""

RENEWALS = 3
"""Renewals within one duration: two may fail."""

LEASE_NAME = "slipway-operator"
"""The same for every operator, whatever its release and its own namespace are called: it is what they exclude each other by."""


UNUSED = timedelta(minutes=15)
"""After which the Lease of a namespace without objects is given up. Every object is looked at within five minutes."""

AT_ONCE = 8
"""Renewals at one time: each is two small calls, and those of hundreds of namespaces must not hold up other calls."""

log = structlog.stdlib.get_logger(__name__)


class NotHolder(Exception):
    """Another operator holds the Lease, or that could not be found out. Nothing irreversible may be done now."""


class Fence:
    """The Lease of `namespace` for `holder`, which no other operator that lives at the time may be called."""

    def __init__(self, cluster: Cluster, clock: Clock, *, namespace: str, holder: str) -> None:
        self._cluster = cluster
        self._clock = clock
        self._namespace = namespace
        self._holder = holder
        self._seen: tuple[str, datetime] | None = None
        self._renewed: datetime | None = None
        self._writing = asyncio.Lock()  # a check beside the renewal would conflict with it and look like a loss

    async def check(self) -> None:
        """Renews the Lease now: the write succeeds only for who holds it, whatever a clock or a cache says.

        Raises:
            NotHolder: it did not.
        """
        try:
            if await self.renew():
                return
        except ClusterError as error:
            raise NotHolder(f"the Lease {self._namespace}/{LEASE_NAME} could not be renewed: {error}") from error
        raise NotHolder(f"another operator holds the Lease {self._namespace}/{LEASE_NAME}")

    @property
    def held_now(self) -> bool:
        """Whether the last renewal is younger than the Lease's duration: nobody can have taken it. Before a deed, `check`."""
        return self._renewed is not None and self._clock.now() - self._renewed < timedelta(seconds=DURATION)

    async def renew(self) -> bool:
        """Takes or renews the Lease; False while another operator holds it. Raises ClusterError."""
        async with self._writing:
            began = self._clock.now()
            try:
                held = await self._write()
            except Conflict:
                held = False  # somebody wrote in between
            self._renewed = began if held else None
            return held

    async def release(self) -> None:
        """Gives the Lease up if it is ours, so that the next one need not wait. Raises ClusterError."""
        async with self._writing:
            self._renewed = None
            lease = await self._cluster.get(LEASE, self._namespace, LEASE_NAME)
            if lease is not None and lease["spec"].get("holderIdentity") == self._holder:
                await self._cluster.replace({**lease, "spec": {**lease["spec"], "holderIdentity": ""}})

    async def _write(self) -> bool:
        now = self._clock.now()
        lease = await self._cluster.get(LEASE, self._namespace, LEASE_NAME)
        if lease is None:
            await self._cluster.create(self._lease(now))
            return True
        if not self._may_take(lease, now):
            return False
        await self._cluster.replace(self._taken(lease, now))
        return True

    def _may_take(self, lease: Manifest, now: datetime) -> bool:
        if lease["spec"].get("holderIdentity") in {self._holder, "", None}:
            return True
        # By how long we saw it unchanged, not by its renewTime: two machines' clocks differ.
        version = lease["metadata"]["resourceVersion"]
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, now)
        return now - self._seen[1] >= timedelta(seconds=lease["spec"].get("leaseDurationSeconds", DURATION))

    def _taken(self, lease: Manifest, now: datetime) -> Manifest:
        spec = lease["spec"]
        mine = spec.get("holderIdentity") == self._holder
        fresh = self._lease(now)["spec"]
        kept = {"acquireTime": spec.get("acquireTime", fresh["acquireTime"])} if mine else {}
        transitions = spec.get("leaseTransitions", 0) + (0 if mine else 1)
        return {**lease, "spec": {**fresh, **kept, "leaseTransitions": transitions}}

    def _lease(self, now: datetime) -> Manifest:
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": {"name": LEASE_NAME, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self._holder,
                "leaseDurationSeconds": DURATION,
                "acquireTime": micro_timestamp(now),
                "renewTime": micro_timestamp(now),
                "leaseTransitions": 0,
            },
        }


class Fences:
    """A Lease in each namespace, so that operators of any release, watching one namespace or all, exclude each other there.

    `namespaces` are held from the start; others from the first question about them, for an operator that watches all.
    """

    def __init__(self, cluster: Cluster, clock: Clock, *, holder: str, namespaces: Iterable[str] = ()) -> None:
        self._cluster = cluster
        self._clock = clock
        self._holder = holder
        self._kept = frozenset(namespaces)
        self._fences: dict[str, Fence] = {}
        self._asked: dict[str, datetime] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        for namespace in self._kept:
            self._of(namespace)

    async def check(self, namespace: str) -> None:
        """Proves by a write that this operator is the one of the namespace. Raises NotHolder."""
        await self._of(namespace).check()

    async def attends(self, namespace: str) -> bool:
        """Whether this operator is the one of the namespace, or has just become it. Raises ClusterError."""
        fence = self._of(namespace)
        return fence.held_now or await fence.renew()

    @property
    def held_now(self) -> bool:
        """Whether every Lease that is wanted is held: for a metric."""
        return all(fence.held_now for fence in self._fences.values())

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Takes Leases as soon as they are free and renews them meanwhile; gives them up at the end."""
        task = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await asyncio.gather(*(self._release(namespace) for namespace in [*self._fences]))

    def _of(self, namespace: str) -> Fence:
        self._asked[namespace] = self._clock.now()
        if namespace not in self._fences:
            self._fences[namespace] = Fence(self._cluster, self._clock, namespace=namespace, holder=self._holder)
        return self._fences[namespace]

    async def _keep(self) -> None:
        while True:
            await asyncio.gather(*(self._look_after(namespace) for namespace in [*self._fences]))
            await self._clock.sleep(DURATION / RENEWALS)

    async def _look_after(self, namespace: str) -> None:
        if namespace not in self._kept and self._clock.now() - self._asked[namespace] > UNUSED:
            await self._release(namespace)
            return
        async with self._slots:
            try:
                await self._fences[namespace].renew()
            except ClusterError as error:
                log.warning("lease_not_renewed", namespace=namespace, error=str(error))

    async def _release(self, namespace: str) -> None:
        # It stays in its place until then: a second Fence of ours would take the Lease and not learn that the first gave it up.
        async with self._slots:
            try:
                await self._fences[namespace].release()
            except ClusterError as error:
                log.warning("lease_not_released", namespace=namespace, error=str(error))
        if not self._fences[namespace].held_now:
            del self._fences[namespace]
