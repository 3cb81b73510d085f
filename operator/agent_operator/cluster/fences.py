"""The Leases of all namespaces that one operator attends to, renewed side by side."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import structlog

from agent_operator.clock import Clock
from agent_operator.cluster import Cluster
from agent_operator.cluster.errors import ClusterError
from agent_operator.cluster.lease import DURATION, RENEWALS, Fence

UNUSED = timedelta(minutes=15)
"""After which the Lease of a namespace without objects is given up. Every object is looked at within five minutes."""

AT_ONCE = 8
"""Renewals at one time: each is two small calls, and those of hundreds of namespaces must not hold up other calls."""

log = structlog.stdlib.get_logger(__name__)


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
