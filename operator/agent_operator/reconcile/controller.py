"""Attends to objects: a queue of their keys, what becomes of an error, and the look at all objects once a minute."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

import structlog

from agent_operator.reconcile.liveness import Liveness
from agent_operator.reconcile.tools import Key, Reconcile, Tools, refuse
from slipway_clients.clock import Clock
from slipway_clients.cluster import (
    ClusterError,
    Conflict,
    Forbidden,
    Invalid,
    InvalidName,
    Kind,
    TooLarge,
    Unavailable,
    WrongAnswer,
)
from slipway_clients.cluster.kinds import OWN

AFTER_REFUSAL = 300.0
"""Seconds until something that the API server refused is tried again: a person has to change a role or an object first."""

PER_NAMESPACE = 1000
"""Objects of one namespace that are attended to. Whoever may write in it must not take the workers away from all others: more are
left alone until some are gone."""

NOT_OURS = 10.0
"""Seconds until an object is looked at again whose namespace another operator attends to: its Lease may have run out by then."""

FIRST_BACKOFF = 1.0
"""Seconds after the first failure of a key; each further failure doubles it."""

LONGEST_BACKOFF = 300.0
"""Seconds: a cluster that was ill for an hour is seen well again within five minutes."""

REASONS: Mapping[type[Exception], str] = {
    Conflict: "conflict",
    Forbidden: "forbidden",
    Invalid: "invalid",
    InvalidName: "invalid",
    TooLarge: "too_large",
    WrongAnswer: "wrong_answer",
    Unavailable: "unavailable",
}
"""Label values of `reconcile_errors_total`; anything else is `internal`, a fault of ours."""

log = structlog.stdlib.get_logger(__name__)


class Controller:
    """`reconcilers` by kind; objects of other kinds are left alone."""

    def __init__(self, tools: Tools, reconcilers: Mapping[str, Reconcile]) -> None:
        self.liveness = Liveness(tools.clock)
        self.queue = WorkQueue(self._attend, tools.clock, workers=tools.settings.workers)
        self._tools = tools
        self._reconcilers = reconcilers
        self._kinds: Mapping[str, Kind] = {kind.kind: kind for kind in OWN if kind.kind in reconcilers}
        self._known: dict[Key, str] = {}
        self._admitted: dict[str, set[Key]] = {}
        self._crowded: set[str] = set()
        self._deaf = False
        tools.metrics.queue_depth.set_function(lambda: len(self.queue))
        tools.metrics.watch_stale.set_function(self.liveness.deaf)

    def changed(self, key: Key, version: str) -> None:
        """The watch told of an object."""
        if key.kind in self._kinds:
            self.liveness.heard(key, version)
            self._add(key)

    def ended(self, key: Key) -> None:
        """The watch told that an object is gone."""
        if key.kind in self._kinds:
            self.liveness.heard_end(key)
            self._forget(key)
            self.queue.add(key)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Attends to objects until the end of the block, which begins after the first look at all of them."""
        async with self.queue.running():
            await self.look()
            looks = asyncio.create_task(self._look_again())
            try:
                yield
            finally:
                looks.cancel()
                await asyncio.gather(looks, return_exceptions=True)

    async def look(self) -> None:
        """Puts every object that changed on the queue, and compares with what the watch told of."""
        try:
            listed = await self._list()
        except ClusterError as error:
            log.warning("objects_not_listed", error=str(error))
            self.liveness.looked(None)
            self._deaf = True
            return
        known, self._known = self._known, listed
        deaf, self._deaf = self._deaf, False
        for key in known.keys() - listed.keys():
            self._forget(key)
        # The watch may have told of objects whose end it did not tell of.
        self._admitted = {place: kept for place, keys in self._admitted.items() if (kept := keys & listed.keys())}
        self._crowded = {place for place in self._crowded if len(self._admitted.get(place, ())) >= PER_NAMESPACE}
        self.liveness.looked(listed)
        for key, version in listed.items():
            # Else its own timer is right, which may be a long one after a refusal; after an outage it is one of the outage.
            if deaf or known.get(key) != version or not self._is_admitted(key):
                self._add(key)

    def _add(self, key: Key) -> None:
        """Puts an object on the queue, unless its namespace has more than is attended to."""
        admitted = self._admitted.setdefault(key.namespace, set())
        if key in admitted or len(admitted) < PER_NAMESPACE:
            admitted.add(key)
            self.queue.add(key)
        elif key.namespace not in self._crowded:
            self._crowded.add(key.namespace)
            log.warning("namespace_has_too_many_objects", namespace=key.namespace, attended=PER_NAMESPACE)

    def _is_admitted(self, key: Key) -> bool:
        return key in self._admitted.get(key.namespace, ())

    def _forget(self, key: Key) -> None:
        """The object is gone: its series end, and another one may take its place."""
        self._tools.metrics.forget(*key)
        self._admitted.get(key.namespace, set()).discard(key)

    async def _look_again(self) -> None:
        while True:
            await self._tools.clock.sleep(self._tools.settings.resync_seconds)
            await self.look()

    async def _list(self) -> dict[Key, str]:
        found: dict[Key, str] = {}
        for kind in self._kinds.values():
            for namespace in self._tools.settings.namespaces or (None,):
                versions = await self._tools.cluster.versions(kind, namespace)
                found |= {Key(kind.kind, *where): version for where, version in versions.items()}
        return found

    async def _attend(self, key: Key) -> float | None:
        metrics = self._tools.metrics
        self.liveness.began(key)
        began = time.perf_counter()
        try:
            if not await self._tools.fences.attends(key.namespace):
                return NOT_OURS
            due = await self._reconcilers[key.kind](key)
        except Exception as error:
            return await self._after(error, key)
        finally:
            self.liveness.ended(key)
            metrics.reconcile_duration.labels(key.kind).observe(time.perf_counter() - began)
        metrics.last_success.labels(key.kind).set(self._tools.clock.now().timestamp())
        return due

    async def _after(self, error: Exception, key: Key) -> float:
        """The one place where errors end. Raises those that are to be tried again soon."""
        reason = REASONS.get(type(error), "internal")
        self._tools.metrics.reconcile_errors.labels(key.kind, reason).inc()
        if isinstance(error, Forbidden | Invalid | TooLarge):
            log.warning("reconcile_refused", **key._asdict(), reason=reason, error=str(error), retry_seconds=AFTER_REFUSAL)
            await self._say(key, type(error).__name__, str(error))
            return AFTER_REFUSAL
        log.warning("reconcile_failed", **key._asdict(), reason=reason, error=str(error), exc_info=reason == "internal")
        raise error

    async def _say(self, key: Key, reason: str, message: str) -> None:
        with suppress(ClusterError):  # what was forbidden may be this very write
            about = await self._tools.cluster.get(self._kinds[key.kind], key.namespace, key.name)
            if about is not None:
                await refuse(self._tools, about, reason, message)


class WorkQueue:
    """Each key at most once, and never by two workers at a time.

    A key that is added while its worker is at it comes round once more afterwards.
    """

    def __init__(self, reconcile: Reconcile, clock: Clock, *, workers: int = 4) -> None:
        self._reconcile = reconcile
        self._clock = clock
        self._workers = workers
        self._ready: asyncio.Queue[Key] = asyncio.Queue()
        self._waiting: set[Key] = set()
        self._active: set[Key] = set()
        self._timers: dict[Key, asyncio.Task[None]] = {}
        self._failures: dict[Key, int] = {}

    def __len__(self) -> int:
        """Keys that are due and have no worker yet."""
        return len(self._waiting)

    def add(self, key: Key) -> None:
        """The key is due now."""
        if key in self._waiting:
            return
        self._waiting.add(key)
        if key not in self._active:
            self._ready.put_nowait(key)

    def add_after(self, key: Key, seconds: float) -> None:
        """Replaces an earlier timer of the key."""
        self._stop_timer(key)
        self._timers[key] = asyncio.get_running_loop().create_task(self._add_later(key, seconds))

    async def idle(self) -> None:
        """Returns when no key is due or at work; timers may be running."""
        await self._ready.join()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Workers that end with the block: a reconcile under way is cancelled at its next await."""
        tasks = [asyncio.create_task(self._work()) for _ in range(self._workers)]
        try:
            yield
        finally:
            tasks += self._timers.values()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            self._active.add(key)
            try:
                await self._attend(key)
            finally:
                self._active.discard(key)
                if key in self._waiting:
                    self._ready.put_nowait(key)
                self._ready.task_done()

    async def _attend(self, key: Key) -> None:
        self._stop_timer(key)
        try:
            due = await self._reconcile(key)
        except Exception:  # whatever it is, the other objects are still attended to
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            due = backoff(failures)
            log.debug("reconcile_retried", **key._asdict(), failures=failures, retry_seconds=round(due, 1), exc_info=True)
        else:
            self._failures.pop(key, None)
        if due is not None:
            self.add_after(key, due)

    async def _add_later(self, key: Key, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._timers.pop(key, None)
        self.add(key)

    def _stop_timer(self, key: Key) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row: doubled each time, capped, and spread by a fifth."""
    whole = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(failures - 1, 16))
    return whole * random.uniform(0.8, 1.0)  # noqa: S311  # spreads load, guards nothing
