"""What the probes say of a process in each state."""

import asyncio
import time
from collections.abc import Callable

import pytest

from agent_service.errors import DatabaseUnavailable
from agent_service.health import Health
from agent_service.metrics import Metrics


def healthy() -> Health:
    health = Health("1", liveness_timeout=60)

    async def ok() -> None: ...

    health.add("database", ok, 0.01)
    health.dependencies["database"].ok = True
    health.started = True
    return health


def drain(health: Health) -> None:
    health.draining = True


def unstart(health: Health) -> None:
    health.started = False


def block(health: Health) -> None:
    health.last_beat = time.monotonic() - 11


def lose_database(health: Health) -> None:
    health.dependencies["database"].ok = False


def check_nothing(health: Health) -> None:
    health.dependencies["database"].ok = None


def test_a_started_process_with_a_database_is_ready() -> None:
    assert healthy().unready_reason() is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drain, "draining"),
        (unstart, "starting"),
        (block, "event loop blocked"),
        (lose_database, "database: not checked yet"),
        (check_nothing, "database: not checked yet"),
    ],
)
def test_readiness_names_what_is_missing(change: Callable[[Health], None], reason: str) -> None:
    health = healthy()
    change(health)
    assert health.unready_reason() == reason


def test_only_a_long_silence_fails_liveness() -> None:
    health = healthy()
    for change in (drain, unstart, lose_database, block):
        change(health)
    assert health.live
    health.last_beat = time.monotonic() - 61
    assert not health.live


async def test_a_check_that_fails_or_raises_anything_is_reported_and_recovers() -> None:
    health = healthy()
    failures: list[Exception | None] = [DatabaseUnavailable("it is away"), ZeroDivisionError("secret"), None]
    seen: list[str] = []

    async def check() -> None:
        if (error := failures.pop(0) if failures else None) is not None:
            raise error

    health.add("database", check, 0.01)
    watching = asyncio.create_task(health.watch(Metrics(models=[], version="1", graph="g", guardrail_rules=[])))
    async with asyncio.timeout(10):
        while not health.dependencies["database"].ok:
            if (detail := health.report()["dependencies"]["database"]["detail"]) not in seen:
                seen.append(detail)
            await asyncio.sleep(0)
    watching.cancel()
    assert seen == ["not checked yet", "it is away", "ZeroDivisionError"]
    report = health.report()
    assert (report["status"], report["dependencies"]["database"]["detail"]) == ("ok", "ok")
    age = report["dependencies"]["database"]["checked_seconds_ago"]
    assert age is not None
    assert age < 10
