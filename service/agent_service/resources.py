"""The composition root: the only place that knows both what is built and from what."""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import structlog
from prometheus_client import disable_created_metrics

from agent_service.agents.context import AgentContext
from agent_service.agents.graph_import import put_on_path
from agent_service.agents.guardrails import RULES, make_input_check, own_rules
from agent_service.agents.models import ChatModels, open_models
from agent_service.auth.authenticator import Authenticator, build_authenticator
from agent_service.caller_limits import CountStart
from agent_service.child_processes import Workers, open_workers
from agent_service.data.data_reader import DataReader
from agent_service.db.address import Address
from agent_service.db.caller_store import CallerStore
from agent_service.db.faults import explain, explain_no_connection
from agent_service.db.graph_store import GraphStore
from agent_service.db.migrate import check_schema
from agent_service.db.pool import Pool, connection, describe_server, make_pool
from agent_service.db.session_settings import Url
from agent_service.documents.search import DocumentSearch
from agent_service.errors import DatabaseUnavailable
from agent_service.gauges import KeySource, watch_keys, watch_pool
from agent_service.graph_builder import GraphBuilder
from agent_service.health import DATABASE_SECONDS, ENDPOINT_SECONDS, Check, Health, StatusReport, now_and_then
from agent_service.metrics import Metrics
from agent_service.open_streams import Streams
from agent_service.prices import PriceFile
from agent_service.runs.assistant_store import AssistantStore
from agent_service.runs.billing import bill_embedding
from agent_service.runs.cron_owners import CronOwners
from agent_service.runs.cron_store import CronStore
from agent_service.runs.graphs import Graphs, graphs_with_files
from agent_service.runs.rehearsal import rehearse
from agent_service.runs.response_cache import cached_graphs
from agent_service.runs.runtime import open_runtime
from agent_service.runs.service import RunService
from agent_service.runs.session_store import SessionStore
from agent_service.runs.thread_runs import ThreadRuns
from agent_service.runs.thread_store import ThreadStore
from agent_service.runs.worker import Worker
from agent_service.settings import OFFLINE_MODEL, GraphSettings, Settings, check_folders, graph_settings
from agent_service.token_counts import count_tokens
from agent_service.tracing.export import open_tracing
from agent_service.tracing.langsmith import LangSmith, open_langsmith
from agent_service.tracing.spans import Tracing

if TYPE_CHECKING:
    from agent_service.redis_link import RedisLink

log = structlog.stdlib.get_logger(__name__)

VERSION = version("slipway")

RENDERED_AT_ONCE = 4
"""JSON answers of megabytes; each is in memory three times meanwhile. Small ones take a millisecond."""

DATABASE_WAIT_SECONDS = 2.0
"""Between attempts to reach the database at start; the ops port answers meanwhile."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What the API is given. Everything in it is open until the process ends."""

    settings: Settings
    health: Health
    metrics: Metrics
    pool: Pool
    runs: RunService
    worker: Worker
    streams: Streams
    sessions: SessionStore
    threads: ThreadStore
    store: CallerStore
    thread_runs: ThreadRuns
    crons: CronStore
    cron_owners: CronOwners
    assistants: AssistantStore
    graphs: Graphs
    reload_graphs: Callable[[Iterable[Path]], Mapping[str, str]]
    """By folders whose modules are read anew; see GraphBuilder.reload."""
    started_at: datetime
    authenticator: Authenticator
    langsmith: LangSmith | None
    tracing: Tracing
    status: Callable[[], StatusReport]
    rendering: asyncio.Semaphore
    """Held while an answer or a history is read and written as JSON: of 80 that are asked for at once, few are in memory."""


def make_metrics(settings: Settings) -> Metrics:
    """The metrics of a process with these settings, the limits that they name already set. Raises SettingsError."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # of the whole process: a second series for each counter and histogram, that no query reads
    models = {m for m in (settings.model, settings.cheap_model, settings.fallback_model, settings.embedding_model) if m}
    rules = (*RULES, *(rule.name for rule in own_rules(settings)))  # a wrong one is told before the ops port opens
    named = graph_settings(settings).sources
    metrics = Metrics(
        models=models,
        version=VERSION,
        graph=named[0].target,
        graphs=[source.name for source in named],
        guardrail_rules=rules,
        graph_version=settings.graph_version,
    )
    metrics.runs_in_flight_limit.set(settings.max_concurrent_runs)
    metrics.runs_queued_limit.set(settings.max_queued_runs)
    metrics.pool_connections_limit.set(settings.database_pool_size)
    metrics.drain_limit_seconds.set(settings.drain_seconds)
    return metrics


@asynccontextmanager
async def open_resources(settings: Settings, health: Health, metrics: Metrics) -> AsyncIterator[Resources]:
    """Opens everything in order and closes it in reverse; waits for the database as long as it takes.

    Raises:
        SettingsError, SchemaMismatch: with one line for whoever starts the process.
    """
    check_folders(settings)
    named = graph_settings(settings)
    # What is wrong is told at once, not when the database is there.
    cached_graphs(settings, [source.name for source in named.sources])
    graphs_with_files(settings, [source.name for source in named.sources])
    _prepare(named)
    prices = PriceFile.open(settings.price_file)
    async with AsyncExitStack() as stack:
        address = Address.of(settings)
        pool = make_pool(
            address,
            size=settings.database_pool_size,
            timeout=settings.database_timeout,
            pooler=settings.database_pooler,
        )
        await pool.open()
        stack.push_async_callback(pool.close)
        health.add("database", database_check(pool, address), DATABASE_SECONDS)
        address.on_change(pool.drain)
        _background(stack, "database-address", address.follow_forever())

        def count_request(model: str, status: str) -> None:
            metrics.model_requests.labels(metrics.model_label(model), status).inc()

        models = await stack.enter_async_context(open_models(settings, count_request, metrics.count_circuit, bill_embedding))
        if models.ping:
            health.add("model_endpoint", models.ping, ENDPOINT_SECONDS)
        langsmith = await stack.enter_async_context(open_langsmith(settings))
        tracing = await stack.enter_async_context(open_tracing(settings, VERSION))
        workers = await stack.enter_async_context(open_workers())
        store = GraphStore(pool)
        builder = GraphBuilder(named, _context(settings, models, pool, workers), store, metrics)
        await _until_database_answers(pool)
        await stack.enter_async_context(store)
        secret = await _stream_secret(pool)
        redis = await stack.enter_async_context(_open_redis(settings, secret, metrics))
        authenticator = build_authenticator(settings, secret)
        keys = _key_sources(authenticator, models)
        database = await describe_server(pool)
        runtime = await stack.enter_async_context(
            open_runtime(
                settings,
                pool,
                address,
                builder.compiled,
                metrics=metrics,
                prices=prices.current,
                check_input=make_input_check(settings),
                tracing=tracing,
                tracer=langsmith.tracer if langsmith else None,
                count_start=_count_start(settings, redis),
                may_call=lambda cron: authenticator.still_admits(cron.tenant, cron.user_id, by_key=cron.by_key),
                takes_tokens=settings.auth != "disabled" and bool(authenticator.jwt or authenticator.sign_in),
                redis=redis,
            )
        )
        await health.look("database")
        metrics.dependency_up.labels("database").set(bool(health.dependencies["database"].ok))
        _background(stack, "health", health.watch(metrics))
        _background(stack, "pool-gauges", watch_pool(pool, metrics))
        _background(stack, "key-gauges", watch_keys(pool, metrics, keys))
        _background(stack, "prices", prices.watch(lambda result: metrics.price_reloads.labels(result).inc()))
        if OFFLINE_MODEL in {settings.model, settings.cheap_model}:  # it counts each message; elsewhere few texts are counted
            await asyncio.to_thread(count_tokens, "")  # reads its vocabulary, which would make the first turn wait
        health.started = True

        def status() -> StatusReport:
            revisions = {name: source.revision() for name, source in keys.items()}
            counts = runtime.service.counts()
            return {"version": VERSION, "draining": health.draining, "keys": revisions, "database": database, **counts}

        yield Resources(
            settings=settings,
            health=health,
            metrics=metrics,
            pool=pool,
            runs=runtime.service,
            worker=runtime.worker,
            streams=Streams(metrics, most_of_one=settings.streams_of_principal),
            sessions=SessionStore(pool),
            threads=runtime.threads,
            store=CallerStore(pool, store),
            thread_runs=runtime.thread_runs,
            crons=runtime.crons,
            cron_owners=runtime.cron_owners,
            assistants=runtime.assistants,
            graphs=runtime.graphs,
            reload_graphs=builder.reload,
            started_at=datetime.now(UTC),
            authenticator=authenticator,
            langsmith=langsmith,
            tracing=tracing,
            status=status,
            rendering=asyncio.Semaphore(RENDERED_AT_ONCE),
        )


@asynccontextmanager
async def _open_redis(settings: Settings, secret: bytes, metrics: Metrics) -> AsyncIterator["RedisLink | None"]:
    """`secret`: of the database, from which the release's name in Redis is made."""
    if settings.redis_url is None:
        yield None
        return
    from agent_service.redis_link import open_redis  # noqa: PLC0415  # only with REDIS_URL

    release = hashlib.sha256(b"redis" + secret).hexdigest()[:16]
    url = settings.redis_url.get_secret_value()
    async with open_redis(url, release, lambda use: metrics.redis_fallbacks.labels(use).inc()) as link:
        yield link


def _count_start(settings: Settings, redis: "RedisLink | None") -> CountStart | None:
    """Where runs that begin are counted, if not in PostgreSQL."""
    limit = settings.caller_limits.per_minute
    if redis is None or limit is None:
        return None
    from agent_service.redis_rates import RedisRates  # noqa: PLC0415  # only with REDIS_URL

    return RedisRates(redis, limit).hit


def database_check(pool: Pool, url: Url) -> Check:
    """Does the database answer, and now and then: would it take a turn? What it has just answered to anybody is not asked."""

    async def ping() -> None:
        if time.monotonic() - pool.answered < DATABASE_SECONDS:
            return
        async with connection(pool) as conn:
            await conn.execute("SELECT 1")

    async def check() -> None:
        try:
            await both()
        except DatabaseUnavailable as error:
            raise DatabaseUnavailable(await explain_no_connection(error.__cause__, url)) from error
        except psycopg.Error as error:
            raise DatabaseUnavailable(explain(error)) from error

    both = now_and_then(ping, lambda: rehearse(pool))
    return check


async def _until_database_answers(pool: Pool) -> None:
    waiting = False
    while True:
        try:
            async with connection(pool) as conn:
                await check_schema(conn)
        except DatabaseUnavailable:
            if not waiting:
                log.warning("waiting_for_database")
            waiting = True
            await asyncio.sleep(DATABASE_WAIT_SECONDS)
        else:
            return


async def _stream_secret(pool: Pool) -> bytes:
    async with connection(pool) as conn:
        row = await (await conn.execute("SELECT value FROM slipway.instance_secrets WHERE name = 'stream_token'")).fetchone()
    assert row is not None  # noqa: S101  # the first migration inserts it
    return bytes(row["value"])


def _key_sources(authenticator: Authenticator, models: ChatModels) -> dict[str, KeySource]:
    sources: dict[str, KeySource] = {}
    if clients := authenticator.api_keys:
        sources["api_keys"] = KeySource(clients.revision, clients.revision)  # its revision is a hash of the whole set
    if authenticator.jwt and (signers := authenticator.jwt.shared):
        sources["jwt"] = KeySource(signers.revision, signers.revision)
    if ours := models.keys:
        sources["openai"] = KeySource(ours.revision, ours.identity)
    return sources


def _prepare(named: GraphSettings) -> None:
    """What the graphs' modules find when they are imported: variables that are not set already, and the module path."""
    if file := named.file:
        for name, value in file.env.items():
            os.environ.setdefault(name, value)
        if file.ignored or file.unknown:
            log.warning("langgraph_json_keys_without_effect", file=str(file.path), ignored=file.ignored, unknown=file.unknown)
    put_on_path(named.folders)


def _context(settings: Settings, models: ChatModels, pool: Pool, workers: Workers) -> AgentContext:
    return AgentContext(
        chat_model=models.chat,
        cheap_model=models.cheap,
        settings=settings,
        documents=DocumentSearch(pool, models.embeddings),
        database=DataReader(
            pool, workers, schemas=settings.data_schema_names, timeout=settings.data_timeout, row_limit=settings.data_row_limit
        ),
    )


def _background(stack: AsyncExitStack, name: str, work: Awaitable[None]) -> None:
    task = asyncio.ensure_future(work)
    if isinstance(task, asyncio.Task):
        task.set_name(name)

    async def stop() -> None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(stop)
