"""What the probes say. A task on the event loop keeps a snapshot; the ops thread and the API only read it."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal, TypedDict

import structlog
from prometheus_client import Gauge

from agent_service.errors import SlipwayError
from agent_service.metrics import Metrics

log = structlog.stdlib.get_logger(__name__)

HEARTBEAT_SECONDS = 0.25
"""Between two beats of the loop; the lag is how late one comes."""

LAG_BEATS = 120
"""Beats of which the worst lag is told, 30 s: a scrape every 15 or 30 s must not miss a pause between two of them."""

DATABASE_SECONDS = 2.0
"""Between two checks of the database, of which each counts that finds something answered within that time: a load balancer may
be late by twice that. With its looks for work and its notices an idle process takes under a transaction a second of it."""

FAILING_SECONDS = 1.0
"""The most between two checks of what failed: how long it is called unfit after it is well again."""

REHEARSAL_SECONDS = 30.0
"""Between two runs of a turn's statements, taken back: each holds a connection meanwhile, and leaves dead rows behind."""

REHEARSAL_RETRY_SECONDS = 5.0
"""The same, while it fails."""

ENDPOINT_SECONDS = 15.0
"""Between two checks of the model endpoint, which may count or bill them."""

STALE_SECONDS = 10.0
"""Without a beat for so long the process takes no traffic; it is killed only after LIVENESS_TIMEOUT."""

Check = Callable[[], Awaitable[None]]


class DependencyReport(TypedDict):
    """What the last check of a dependency said; `checked_seconds_ago` is None before the first."""

    ok: bool
    detail: str
    checked_seconds_ago: float | None


class HealthReport(TypedDict):
    """The body of /health."""

    status: Literal["ok", "degraded"]
    version: str
    draining: bool
    dependencies: dict[str, DependencyReport]


class RunCounts(TypedDict):
    """Runs that execute in this process, and runs accepted by it that wait for a place."""

    runs_in_flight: int
    runs_queued: int


class ServerFacts(TypedDict):
    """Of PostgreSQL: connections that it takes from us, whether ours is encrypted, and whether it is a socket of this machine."""

    max_connections: int
    tls: bool
    local: bool


class StatusReport(RunCounts):
    """The body of /status. `keys` are revisions by key."""

    version: str
    draining: bool
    keys: dict[str, str]
    database: ServerFacts


@dataclass(slots=True)
class Dependency:
    """What a process needs, and what its last check said. `every`: seconds; `checked`: by the monotonic clock, 0 for never."""

    check: Check
    every: float
    ok: bool | None = None
    detail: str = "not checked yet"
    checked: float = 0.0


@dataclass
class Health:
    """Written on the event loop, read by any thread; each field is replaced whole."""

    version: str
    liveness_timeout: float
    dependencies: dict[str, Dependency] = field(default_factory=dict)
    draining: bool = False
    started: bool = False
    lags: deque[float] = field(default_factory=lambda: deque(maxlen=LAG_BEATS))
    last_beat: float = field(default_factory=time.monotonic)

    def add(self, name: str, check: Check, every: float) -> None:
        """Has `watch` check a dependency every so many seconds."""
        self.dependencies[name] = Dependency(check, every)

    @property
    def silent_seconds(self) -> float:
        """Since the event loop's last beat."""
        return time.monotonic() - self.last_beat

    @property
    def live(self) -> bool:
        return self.silent_seconds < self.liveness_timeout

    def unready_reason(self) -> str | None:
        """Why this process should get no new traffic; None if it should."""
        if self.draining:
            return "draining"
        if not self.started:
            return "starting"
        if self.silent_seconds > STALE_SECONDS:
            return "event loop blocked"
        database = self.dependencies.get("database")
        return None if database and database.ok else f"database: {database.detail}" if database else "database: not asked yet"

    def report(self) -> HealthReport:
        """Every dependency, whether it answers, and how old that knowledge is."""
        now = time.monotonic()
        checks: dict[str, DependencyReport] = {
            name: {"ok": bool(d.ok), "detail": d.detail, "checked_seconds_ago": round(now - d.checked, 1) if d.checked else None}
            for name, d in self.dependencies.items()
        }
        healthy = self.started and all(d.ok for d in self.dependencies.values())
        return {
            "status": "ok" if healthy else "degraded",
            "version": self.version,
            "draining": self.draining,
            "dependencies": checks,
        }

    async def look(self, name: str) -> None:
        """Checks one dependency now: a process that has just started need not wait for its first check."""
        await _check(name, self.dependencies[name])

    async def watch(self, metrics: Metrics) -> None:
        """Beats and checks for as long as the process lives."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._beat(metrics), name="heartbeat")
            for name, dependency in self.dependencies.items():
                checking = _keep_checking(name, dependency, metrics.dependency_up.labels(name))
                tasks.create_task(checking, name=f"check-{name}")

    async def _beat(self, metrics: Metrics) -> None:
        metrics.loop_lag_seconds.set_function(self.lag)
        while True:
            due = time.monotonic() + HEARTBEAT_SECONDS
            await asyncio.sleep(HEARTBEAT_SECONDS)
            self.last_beat = time.monotonic()
            self.lags.append(max(0.0, self.last_beat - due))

    def lag(self) -> float:
        """Seconds: the worst of the last 30 s, and of the beat that is due now. For the ops thread, whatever the loop does."""
        return max([*self.lags, self.silent_seconds - HEARTBEAT_SECONDS, 0.0])


def now_and_then(often: Check, rarely: Check, every: float = REHEARSAL_SECONDS, retry: float = REHEARSAL_RETRY_SECONDS) -> Check:
    """A check that does `often` each time and `rarely` when it is due; a failure of it stands until it has been done again."""
    due = 0.0
    failure: Exception | None = None

    async def check() -> None:
        nonlocal due, failure
        await often()
        if time.monotonic() >= due:
            try:
                await rarely()
            except Exception as error:  # kept for the checks until the next
                failure, due = error, time.monotonic() + retry
            else:
                failure, due = None, time.monotonic() + every
        if failure:
            raise failure

    return check


async def _keep_checking(name: str, dependency: Dependency, up: Gauge) -> None:
    while True:
        every = dependency.every if dependency.ok else min(dependency.every, FAILING_SECONDS)
        await asyncio.sleep(max(0.0, dependency.checked + every - time.monotonic()) if dependency.checked else 0)
        await _check(name, dependency)
        up.set(bool(dependency.ok))


async def _check(name: str, dependency: Dependency) -> None:
    before = dependency.ok
    try:
        await dependency.check()
        dependency.ok, dependency.detail = True, "ok"
    except SlipwayError as error:
        dependency.ok, dependency.detail = False, error.detail
    except Exception as error:  # a probe that raises anything is a failed probe
        dependency.ok, dependency.detail = False, type(error).__name__
    dependency.checked = time.monotonic()
    if before != dependency.ok:
        log.info("dependency_changed", dependency=name, ok=dependency.ok, detail=dependency.detail)
