"""Tells whoever asked that a run of theirs has ended: by a POST, at least once, also after the death of every process here."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import structlog

from agent_service.db.pool import Pool, connection
from agent_service.errors import DatabaseUnavailable, InvalidRequest
from agent_service.runs.run_rows import WITHOUT_ANSWER
from agent_service.runs.run_types import Run
from agent_service.runs.run_view import error_view, run_error, run_view
from agent_service.runs.state_json import state_bytes

if TYPE_CHECKING:
    import aiohttp

log = structlog.stdlib.get_logger(__name__)

POLL_SECONDS = 5.0
"""Between two looks for runs that have ended."""

TIMEOUT_SECONDS = 10.0
"""Of one request: who takes longer is asked again."""

TRIES = 8
"""With pauses that double from FIRST_PAUSE_SECONDS: over about 20 minutes."""

FIRST_PAUSE_SECONDS = 10.0

OF_HOST = 4
"""Requests of one process to one host at a time: one that does not answer keeps no other's waiting."""

OTHER = ""
"""Stands for all hosts that no setting allows any more: their requests are given up after TRIES."""


def allowed(url: str, hosts: tuple[str, ...]) -> str:
    """The URL, if it leads to one of the hosts. Raises InvalidRequest, which says what to set."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        parts, host = urlsplit(""), ""
    if parts.scheme not in {"http", "https"} or "@" in parts.netloc or host not in hosts:
        known = ", ".join(hosts) or "none is allowed here"
        raise InvalidRequest(f"webhook: expected an http or https URL of a host in WEBHOOK_HOSTS ({known})", field="webhook")
    return url


async def deliver_forever(pool: Pool, values_after: Callable[[Run], Awaitable[Any]], hosts: tuple[str, ...]) -> None:
    """Delivers what is due; another process delivers other runs meanwhile."""
    import aiohttp  # noqa: PLC0415  # 0.1 s, which a process without webhooks does without

    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    busy = Counter[str]()
    freed = asyncio.Event()
    loop = asyncio.get_running_loop()
    look_for_others = loop.time()

    async def deliver(http: "aiohttp.ClientSession", run: Run, url: str, host: str) -> None:
        try:
            await _deliver(pool, http, run, url, values_after, hosts)
        finally:
            busy[host] -= 1
            freed.set()

    async with (
        aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=True) as http,
        asyncio.TaskGroup() as requests,
    ):
        while True:
            freed.clear()
            room = {host: OF_HOST - busy[host] for host in (*hosts, OTHER)}
            # No index finds them: whatever waits for the others is looked at, so not each time that a place gets free.
            if loop.time() < look_for_others:
                room[OTHER] = 0
            else:
                look_for_others = loop.time() + POLL_SECONDS
            for run, url, host in await _take(pool, room):
                busy[host] += 1
                requests.create_task(deliver(http, run, url, host), name=f"webhook-{run.id}")
            # A place that is free again is filled at once where its host had more than places.
            full = any(count >= OF_HOST for count in busy.values())
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await (freed.wait() if full else asyncio.Event().wait())


async def _take(pool: Pool, room: Mapping[str, int]) -> list[tuple[Run, str, str]]:
    """Runs to tell of now, with URL and host, of each host as many as there is room. Each is due again after a pause, should
    this process die; none while the database is away.
    """
    hosts = [host for host in room if host != OTHER]
    values = {
        "pause": FIRST_PAUSE_SECONDS, "tries": TRIES, "other": OTHER, "spare": room[OTHER],
        "hosts": hosts, "free": [room[host] for host in hosts],
    }  # fmt: skip
    with suppress(DatabaseUnavailable):
        async with connection(pool) as conn:
            rows = await (await conn.execute(TAKE.encode(), values)).fetchall()
        return [(Run(**row), url, host) for row in rows for url, host in [(row.pop("webhook"), row.pop("host"))]]
    return []


async def _deliver(
    pool: Pool,
    http: "aiohttp.ClientSession",
    run: Run,
    url: str,
    values_after: Callable[[Run], Awaitable[Any]],
    hosts: tuple[str, ...],
) -> None:
    try:
        allowed(url, hosts)  # they may have changed since
        error = run_error(run)
        told = {**run_view(run), "values": await values_after(run), "error": error_view(error) if error else None}
        headers = {"Content-Type": "application/json"}
        async with http.post(url, data=state_bytes(told), headers=headers, allow_redirects=False) as answer:
            status = answer.status
    except DatabaseUnavailable:
        return
    except Exception as failure:  # a state that cannot be read must not hold up the others
        log.warning("webhook_failed", **run.ids, error=type(failure).__name__)
        return
    if status < 300:  # noqa: PLR2004  # HTTP
        with suppress(DatabaseUnavailable):  # it is told again
            async with connection(pool) as conn:
                await conn.execute(DONE, (run.id,))
    else:
        log.warning("webhook_failed", **run.ids, status=status)


# Of each host those that have waited longest. What another process has locked just then is looked at by it.
TAKE = f"""
WITH known AS (
    SELECT mine.id, room.host FROM unnest(%(hosts)s::text[], %(free)s::integer[]) AS room (host, free) CROSS JOIN LATERAL (
        SELECT r.id FROM slipway.runs r
        WHERE r.webhook_due <= now() AND r.status = 'finished' AND slipway.webhook_host(r.input) = room.host
        ORDER BY r.webhook_due LIMIT room.free FOR UPDATE SKIP LOCKED) AS mine
), unknown AS (
    SELECT r.id, %(other)s AS host FROM slipway.runs r
    WHERE r.webhook_due <= now() AND r.status = 'finished' AND slipway.webhook_host(r.input) <> ALL(%(hosts)s)
    ORDER BY r.webhook_due LIMIT %(spare)s FOR UPDATE SKIP LOCKED
), due AS (SELECT * FROM known UNION ALL SELECT * FROM unknown)
UPDATE slipway.runs r SET webhook_tries = webhook_tries + 1,
    webhook_due = CASE WHEN webhook_tries + 1 < %(tries)s THEN now() + %(pause)s * 2 ^ webhook_tries * interval '1 second' END
FROM due WHERE r.id = due.id
RETURNING {WITHOUT_ANSWER}, r.input->'wire'->>'webhook' AS webhook, due.host
"""

DONE = "UPDATE slipway.runs SET webhook_due = NULL WHERE id = %s"
