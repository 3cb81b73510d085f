"""Tells whoever asked that a run of theirs has ended: by a POST, at least once, also after the death of every process here."""

import asyncio
from collections.abc import Awaitable, Callable
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

AT_ONCE = 10
"""Requests of one process."""


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
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=True) as http:
        while True:
            try:
                due = await _take(pool)
                await asyncio.gather(*(_deliver(pool, http, run, url, values_after, hosts) for run, url in due))
            except DatabaseUnavailable:
                due = []
            if len(due) < AT_ONCE:
                await asyncio.sleep(POLL_SECONDS)


async def _take(pool: Pool) -> list[tuple[Run, str]]:
    """Runs to tell of now. Each is due again after a pause, should this process die."""
    async with connection(pool) as conn:
        rows = await (
            await conn.execute(TAKE.encode(), {"pause": FIRST_PAUSE_SECONDS, "tries": TRIES, "most": AT_ONCE})
        ).fetchall()
    return [(Run(**row), url) for row in rows for url in [row.pop("webhook")]]


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
        async with connection(pool) as conn:
            await conn.execute(DONE, (run.id,))
    else:
        log.warning("webhook_failed", **run.ids, status=status)


TAKE = f"""
WITH due AS (
    SELECT id FROM slipway.runs WHERE webhook_due <= now() AND status = 'finished'
    ORDER BY webhook_due LIMIT %(most)s FOR UPDATE SKIP LOCKED
)
UPDATE slipway.runs r SET webhook_tries = webhook_tries + 1,
    webhook_due = CASE WHEN webhook_tries + 1 < %(tries)s THEN now() + %(pause)s * 2 ^ webhook_tries * interval '1 second' END
FROM due WHERE r.id = due.id
RETURNING {WITHOUT_ANSWER}, r.input->'wire'->>'webhook' AS webhook
"""

DONE = "UPDATE slipway.runs SET webhook_due = NULL WHERE id = %s"
