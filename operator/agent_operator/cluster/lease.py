"""One operator at a time attends to a namespace: a Lease in it that is renewed, and proved right before what cannot be undone."""

import asyncio
from datetime import datetime, timedelta

from agent_operator.clock import Clock, micro_timestamp
from agent_operator.cluster import Cluster
from agent_operator.cluster.errors import ClusterError, Conflict
from agent_operator.cluster.kinds import LEASE, Manifest

DURATION = 30
"""Seconds without a renewal after which another operator may take the Lease. Longer than a restart of the API server."""

RENEWALS = 3
"""Renewals within one duration: two may fail."""

LEASE_NAME = "slipway-operator"
"""The same for every operator, whatever its release and its own namespace are called: it is what they exclude each other by."""


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
