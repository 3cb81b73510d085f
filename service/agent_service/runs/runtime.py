"""Puts the parts of durable runs together, and keeps their tasks going."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog
from langchain_core.callbacks import BaseCallbackHandler

from agent_service.caller_limits import CountStart
from agent_service.db.address import Address
from agent_service.db.pool import Pool, make_pool
from agent_service.errors import GuardrailBlocked
from agent_service.metrics import Metrics
from agent_service.prices import PriceTable
from agent_service.runs.answers import Answers, PostgresAnswers
from agent_service.runs.assistant_store import AssistantStore
from agent_service.runs.budgets import Budgets
from agent_service.runs.checkpoints import Checkpointer
from agent_service.runs.cron_owners import CronOwners
from agent_service.runs.cron_store import Cron, CronStore
from agent_service.runs.crons import Crons
from agent_service.runs.event_log import EventLog
from agent_service.runs.executor import Executor
from agent_service.runs.graphs import Graphs
from agent_service.runs.live_run import LiveRuns
from agent_service.runs.notices import Notices
from agent_service.runs.prune import Retention, prune_forever
from agent_service.runs.response_cache import ResponseCache, cached_graphs
from agent_service.runs.run_leases import Leases
from agent_service.runs.run_store import QueueLimits, RunStore
from agent_service.runs.served_graphs import ServedGraphs
from agent_service.runs.service import RunService
from agent_service.runs.session_store import KNOWS_GRAPHS, VERSION_MARK
from agent_service.runs.thread_runs import ThreadRuns
from agent_service.runs.thread_store import ThreadStore
from agent_service.runs.undo import forget_forever, roll_back
from agent_service.runs.usage import billed_before
from agent_service.runs.watchdog import Watchdog
from agent_service.runs.webhooks import deliver_forever
from agent_service.runs.worker import Worker
from agent_service.runs.writer import Writer
from agent_service.setting_types import split_names
from agent_service.settings import Settings
from agent_service.threads import LaneThreads
from agent_service.tracing.spans import Tracing

if TYPE_CHECKING:
    from agent_service.redis_link import RedisLink

log = structlog.stdlib.get_logger(__name__)

KEEPING_POOL_SIZE = 2
"""Connections apart for the writer and for claims: requests that take all others must not cost this process its runs."""

RESTART_SECONDS = 1.0
"""Before a failed background loop starts again."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """Runs of one process: `service` for the API, `worker` to be drained."""

    service: RunService
    worker: Worker
    threads: ThreadStore
    thread_runs: ThreadRuns
    crons: CronStore
    cron_owners: CronOwners
    assistants: AssistantStore
    graphs: Graphs


@asynccontextmanager
async def open_runtime(
    settings: Settings,
    pool: Pool,
    address: Address,
    compile_graphs: Callable[[Checkpointer], Graphs],
    *,
    metrics: Metrics,
    prices: Callable[[], PriceTable],
    check_input: Callable[[str], GuardrailBlocked | None],
    tracing: Tracing,
    tracer: Callable[[], BaseCallbackHandler] | None,
    count_start: CountStart | None,
    may_call: Callable[[Cron], bool],
    takes_tokens: bool,
    redis: "RedisLink | None",
) -> AsyncIterator[Runtime]:
    """Executes runs until it is closed; drain the worker first."""
    holder = f"{socket.gethostname()}-{uuid4().hex[:12]}{KNOWS_GRAPHS}{VERSION_MARK}{metrics.graph_version}"
    live = LiveRuns()
    threads = LaneThreads()
    asyncio.get_running_loop().set_default_executor(threads)

    pooler = settings.database_pooler
    keeping = make_pool(address, size=KEEPING_POOL_SIZE, timeout=settings.database_timeout, name="slipway-keeping", pooler=pooler)
    address.on_change(keeping.drain)
    notices = Notices(address, live, pooler)
    writer = Writer(keeping, live, holder=holder, lease_seconds=settings.lease_seconds, heard=lambda: notices.heard)
    events = EventLog(pool)
    graphs = compile_graphs(Checkpointer(pool, writer))
    served = ServedGraphs(pool, graphs.names)
    budgets = Budgets(pool, writer, limits=settings.budget_limits, prices=prices, metrics=metrics, model=settings.model)
    store = RunStore(
        pool,
        writer,
        holder=holder,
        lease_seconds=settings.lease_seconds,
        limits=QueueLimits(
            max_queued=settings.max_queued_runs,
            of_session=settings.max_queued_per_session,
            of_principal=settings.queued_of_principal,
        ),
        on_busy=settings.on_busy,
    )
    worker = Worker(
        budgets=budgets,
        leases=Leases(
            keeping,
            holder=holder,
            lease_seconds=settings.lease_seconds,
            max_attempts=settings.max_attempts,
            graphs=lambda: served.claimable,
        ),
        writer=writer,
        live=live,
        executor=Executor(
            graphs=graphs,
            metrics=metrics,
            prices=prices,
            max_turn_seconds=settings.max_turn_seconds,
            max_steps=settings.max_steps,
            max_attempts=settings.max_attempts,
            budgets=budgets,
            log_content=settings.log_content == "on",
            tell_developer=settings.developer_mode == "on",
            history=events.before,
            billed=partial(billed_before, pool),
            roll_back=partial(roll_back, pool),
            tracer=tracer,
            cache=_response_cache(settings, pool, metrics, redis, cached_graphs(settings, graphs.names)),
        ),
        notices=notices,
        metrics=metrics,
        tracing=tracing,
        max_concurrent=settings.max_concurrent_runs,
        lease_seconds=settings.lease_seconds,
    )
    of_clients = ThreadStore(pool, writer, graphs)
    service = RunService(
        store=store,
        events=events,
        live=live,
        worker=worker,
        notices=notices,
        metrics=metrics,
        tracing=tracing,
        check_input=check_input,
        graphs=graphs,
        limits=settings.caller_limits,
        budgets=budgets,
        count_start=count_start,
    )
    thread_runs = ThreadRuns(pool, service, live, events, writer, of_clients.values_at)
    loops: dict[str, Callable[[], Coroutine[None, None, None]]] = {
        "writer": writer.run_forever,
        "notices": notices.run_forever,
        "claims": worker.claim_forever,
        "graphs": served.run_forever,
        "prune": partial(prune_forever, pool, Retention.of(settings), settings.prune_interval_seconds, metrics),
    }
    crons, assistants = CronStore(pool), AssistantStore(pool)
    loops["undone"] = partial(forget_forever, pool)
    loops["crons"] = Crons(
        crons,
        thread_runs,
        of_clients,
        assistants,
        graphs,
        may_call=may_call,
        owners=(owners := CronOwners()),
        owner_days=settings.cron_owner_days if takes_tokens else 0.0,
        metrics=metrics,
    ).run_forever
    if hosts := split_names(settings.webhook_hosts):
        loops["webhooks"] = partial(deliver_forever, pool, of_clients.values_after, hosts)
    watchdog = Watchdog(address, live, threads, settings.lease_seconds)
    async with keeping:
        watchdog.start()
        tasks = [asyncio.create_task(_keep_going(name, loop), name=name) for name, loop in loops.items()]
        try:
            yield Runtime(service, worker, of_clients, thread_runs, crons, owners, assistants, graphs)
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError):
                    await task
            writer.close()
            watchdog.stop()


def _response_cache(
    settings: Settings, pool: Pool, metrics: Metrics, redis: "RedisLink | None", graphs: frozenset[str]
) -> ResponseCache | None:
    if not graphs:
        return None
    seconds = settings.response_cache_seconds
    answers: Answers = PostgresAnswers(pool, seconds=seconds)
    if redis:
        from agent_service.runs.redis_answers import RedisAnswers  # noqa: PLC0415  # only with REDIS_URL

        answers = RedisAnswers(redis, pool, answers, seconds=seconds, lease_seconds=settings.lease_seconds)
    models = (settings.openai_base_url, settings.model, settings.cheap_model, settings.fallback_model)
    version = (metrics.graph_version, *(str(each) for each in models))
    return ResponseCache(answers, metrics, graphs=graphs, scope=settings.response_cache_scope, version=version)


async def _keep_going(name: str, loop: Callable[[], Coroutine[None, None, None]]) -> None:
    """Without one of its loops a process would hold runs that nobody renews or writes: a failed one starts again."""
    while True:
        try:
            await loop()
        except Exception:
            log.exception("background_loop_failed", loop=name)
        await asyncio.sleep(RESTART_SECONDS)
