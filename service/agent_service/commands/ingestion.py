"""`slipway ingest`."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from langchain_core.embeddings import Embeddings

from agent_service.child_processes import open_workers
from agent_service.commands.database import command_pool
from agent_service.documents.ingest import IngestReport, ingest
from agent_service.settings import Settings


async def ingest_paths(settings: Settings, paths: Sequence[Path], on_progress: Callable[[int, int, str], None]) -> IngestReport:
    """With EMBEDDING_MODEL set, passages get vectors too."""
    async with command_pool(settings) as pool, _open_embeddings(settings) as embeddings, open_workers() as workers:
        return await ingest(paths, pool, workers, embeddings=embeddings, on_progress=on_progress)


@asynccontextmanager
async def _open_embeddings(settings: Settings) -> AsyncIterator[Embeddings | None]:
    if not settings.embedding_model:
        yield None
        return
    from agent_service.agents.models import open_models  # noqa: PLC0415  # a second of CPU, which words alone need not wait for

    async with open_models(settings) as models:
        yield models.embeddings
