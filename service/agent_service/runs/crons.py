"""Begins the runs of crons that are due: each tick once, whichever process sees it, and however many of them die."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import uuid4

import structlog

from agent_service.errors import AlreadyExists, DatabaseUnavailable, Forbidden, NotFound, SlipwayError
from agent_service.metrics import CronTick, Metrics
from agent_service.runs.assistant import of_graph, run_input
from agent_service.runs.assistant_store import AssistantStore
from agent_service.runs.cron_owners import CronOwners
from agent_service.runs.cron_store import Cron, CronStore, Tick
from agent_service.runs.graphs import Graphs
from agent_service.runs.on_thread import OnThread
from agent_service.runs.schedules import next_after
from agent_service.runs.thread_runs import ThreadRuns
from agent_service.runs.thread_store import ThreadStore

log = structlog.stdlib.get_logger(__name__)

POLL_SECONDS = 15.0
"""The longest between two looks: a new cron may be another process's. One small query."""

LEAST_PAUSE_SECONDS = 0.5
"""Between two looks while something is due that others have, or nobody here serves."""

AT_ONCE = 20
"""Crons of one look; they begin one after another."""


class Crons:
    """The loop of one process. A tick that was missed, since nobody was there, is made up for once, with all that followed it."""

    def __init__(
        self,
        store: CronStore,
        runs: ThreadRuns,
        threads: ThreadStore,
        assistants: AssistantStore,
        graphs: Graphs,
        *,
        may_call: Callable[[Cron], bool],
        owners: CronOwners,
        owner_days: float,
        metrics: Metrics,
    ) -> None:
        """`may_call`: whether a cron's owner would be let in now. `owner_days`: that one may be away; 0: for ever."""
        self._store = store
        self._runs = runs
        self._threads = threads
        self._assistants = assistants
        self._graphs = graphs
        self._may_call = may_call
        self._owners = owners
        self._owner_days = owner_days
        self._ticks = metrics.cron_ticks

    async def run_forever(self) -> None:
        while True:
            pause = POLL_SECONDS
            try:
                await self._write_owners()
                seconds = await self._store.seconds_to_next()
                if seconds is not None and seconds <= 0:
                    began = await self._begin_due()
                    pause = LEAST_PAUSE_SECONDS if began else POLL_SECONDS
                elif seconds is not None:
                    pause = min(max(seconds, LEAST_PAUSE_SECONDS), POLL_SECONDS)
            except DatabaseUnavailable:
                pause = POLL_SECONDS
            await asyncio.sleep(pause)

    async def _write_owners(self) -> None:
        """Raises DatabaseUnavailable: they are written at the next look."""
        if owners := self._owners.take():
            try:
                await self._store.seen(owners)
            except DatabaseUnavailable:
                self._owners.put_back(owners)
                raise

    async def _begin_due(self) -> bool:
        """Whether there was any."""
        due = await self._store.claim(self._graphs.names, AT_ONCE)
        for cron, now in due:
            assert cron.next_run is not None  # noqa: S101  # it is due
            tick = Tick(cron.id, cron.next_run, next_after(cron.schedule, cron.timezone, now, cron.end_time))
            self._ticks.labels(await self._pass(cron, tick, now)).inc()
        return bool(due)

    async def _pass(self, cron: Cron, tick: Tick, now: datetime) -> CronTick:
        """What became of the tick. Raises DatabaseUnavailable: it is not known, and who claims it next sees."""
        if cron.end_time and now > cron.end_time:
            await self._store.refused(tick, "end_time had passed")
            return "refused"
        try:
            self._refuse_stranger(cron, now)
            await self._begin(cron, tick)
        except DatabaseUnavailable:
            raise
        except AlreadyExists:
            return "elsewhere"
        except SlipwayError as error:
            await self._store.refused(tick, f"{error.code}: {error.detail}")
            log.info("cron_refused", cron_id=str(cron.id), code=error.code)
            return "refused"
        except Exception:
            log.exception("cron_failed", cron_id=str(cron.id))
            await self._store.refused(tick, "internal: it could not be begun")
            return "failed"
        return "begun"

    def _refuse_stranger(self, cron: Cron, now: datetime) -> None:
        """Raises Forbidden: its owner may not call any more, or nobody knows whether."""
        if not self._may_call(cron):
            raise Forbidden("no API key of its owner is valid any more")
        if self._owner_days and not cron.by_key and now - cron.owner_seen > timedelta(days=self._owner_days):
            raise Forbidden(
                f"its owner has shown no valid token for {self._owner_days:g} days (CRON_OWNER_DAYS);"
                " it goes on when its owner makes any call"
            )

    async def _begin(self, cron: Cron, tick: Tick) -> None:
        thread = None
        if cron.thread_id:
            thread = await self._threads.named(cron.principal, cron.thread_id)
            if thread is None:
                raise NotFound("its thread was deleted")
        assistant = of_graph(cron.graph)
        if cron.assistant:
            stored = await self._assistants.get(cron.principal, cron.assistant)
            if stored is None:
                raise NotFound("its assistant was deleted")
            assistant = stored
        ephemeral = thread is None and not cron.keeps
        how = OnThread(
            strategy=cron.payload.get("multitask_strategy") or "enqueue",
            metadata={**assistant.ids, "cron_id": str(cron.id)},
            ephemeral=ephemeral,
            tick=tick,
        )
        await self._runs.start(
            cron.principal,
            thread.name if thread else str(uuid4()),
            run_input(assistant, cron.input, self._graphs.of_session(assistant.graph).context),
            graph=assistant.graph,
            how=how,
            listed=not ephemeral,
            written=cron.payload.get("input"),
        )
