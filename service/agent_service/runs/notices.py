"""LISTEN: one connection a process that wakes readers, claims and cancels. Everything also works without it, slower."""

import asyncio
from uuid import UUID, uuid4

import psycopg
import structlog
from psycopg.rows import dict_row

from agent_service.db.pool import Connection, prepare
from agent_service.db.session_settings import Pooler, Url, connect_string
from agent_service.runs.live_run import LiveRuns

log = structlog.stdlib.get_logger(__name__)

WORK_CHANNEL = "slipway_work"
"""A run waits for a process with a free place."""

CANCEL_CHANNEL = "slipway_cancel"
"""Payload: the id of a run that is to stop."""

EVENTS_CHANNEL = "slipway_events"
"""Payload: ids of runs with new events in the log, separated by spaces."""

ECHO_CHANNEL = "slipway_echo"
"""Payload: a name of our own. It comes back where notices work."""

ECHO_SECONDS = 10.0
"""Between two such tests, and how long the answer may take. Until one fails, what should have come is polled for."""

RECONNECT_SECONDS = 1.0

POOLER_SECONDS = 60.0
"""Behind a pooler: until the next look whether there still is one."""

POLL_SECONDS = 5.0
"""How often to look where notices work: one may still be lost. Runs that begin elsewhere are seen well within their lease."""

FAST_POLL_SECONDS = 0.2
"""How often to look where they do not."""


class Notices:
    """The process's ear. `work` is set when a run may wait for a place; `heard` says whether notices come at all."""

    def __init__(self, url: Url, live: LiveRuns, pooler: Pooler = "auto") -> None:
        self._url = url
        self._pooler = pooler
        self._live = live
        self._name = uuid4().hex
        self.work = asyncio.Event()
        self.heard = False
        self._away = False

    @property
    def poll_seconds(self) -> float:
        """How long a reader or a claim may sleep without looking for itself."""
        return POLL_SECONDS if self.heard else FAST_POLL_SECONDS

    async def run_forever(self) -> None:
        """Listens, and listens again a second after each break."""
        while True:
            try:
                await self._listen()
            except psycopg.Error as error:
                if self._newly_away():
                    log.warning("notices_lost", error=type(error).__name__, effect="polling")
            self.heard = False
            await asyncio.sleep(RECONNECT_SECONDS)

    def _newly_away(self) -> bool:
        """Whether notices came until now: each gap is told once."""
        newly, self._away = not self._away, True
        return newly

    async def _listen(self) -> None:
        address = connect_string(self._url)
        async with await psycopg.AsyncConnection.connect(
            address, autocommit=True, row_factory=dict_row, application_name="slipway-listen"
        ) as conn:
            shared = (await prepare(conn, self._pooler)).shared
            if not shared:
                await self._hear(conn, address)
                return
        # LISTEN would succeed, stay behind in the server's connection, and nothing would ever come here.
        if self._newly_away():
            log.warning("no_notices_behind_pooler", setting="DATABASE_POOLER", effect="polling")
        await asyncio.sleep(POOLER_SECONDS)

    async def _hear(self, conn: Connection, address: str) -> None:
        """Returns when the address has changed."""
        for channel in (WORK_CHANNEL, CANCEL_CHANNEL, EVENTS_CHANNEL, ECHO_CHANNEL):
            await conn.execute(f"LISTEN {channel}".encode())
        if self._away:
            log.info("notices_restored")
        self._away = False
        self._wake_all()
        while connect_string(self._url) == address:
            await conn.execute("SELECT pg_notify(%s, %s)", (ECHO_CHANNEL, self._name))
            echoed = False
            async for notice in conn.notifies(timeout=ECHO_SECONDS):
                echoed = echoed or (notice.channel == ECHO_CHANNEL and notice.payload == self._name)
                self.heard = self.heard or echoed
                self._dispatch(notice.channel, notice.payload)
            self.heard = echoed

    def _dispatch(self, channel: str, payload: str) -> None:
        match channel:
            case "slipway_work":
                self.work.set()
            case "slipway_cancel":
                if live := self._live.get(UUID(payload)):
                    live.halt("cancel")
            case "slipway_events":
                for run_id in payload.split():
                    self._live.tell(UUID(run_id))

    def _wake_all(self) -> None:
        """After a gap in listening anything may have happened."""
        self.work.set()
        self._live.tell_all()
