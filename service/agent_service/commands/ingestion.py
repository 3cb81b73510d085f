"""`slipway ingest`."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from langchain_core.embeddings import Embeddings

from agent_service.child_processes import open_workers
from agent_service.commands.database import command_pool
from agent_service.documents.ingest import IngestReport, ingest
from agent_service.settings import Settings

SHOWN_SKIPPED = 1_000
"""Paths that the JSON lists of what was skipped: a folder of pictures has more than anybody reads."""


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


def as_json(report: IngestReport) -> str:
    """The report as one object."""
    counts = {name: getattr(report, name) for name in ("ingested", "unchanged", "removed", "passages")}
    failed, skipped = (
        [{"path": path, "reason": reason} for path, reason in found] for found in (report.failed, report.skipped[:SHOWN_SKIPPED])
    )
    return json.dumps({**counts, "failed": failed, "skipped_count": len(report.skipped), "skipped": skipped})


def summary(report: IngestReport) -> Iterator[str]:
    """The counts, and a line for each reason to skip; what could not be read is left to the caller."""
    removed = f", {report.removed} removed" if report.removed else ""
    yield (
        f"{report.ingested} ingested ({report.passages} passages), {report.unchanged} unchanged{removed},"
        f" {len(report.skipped)} skipped, {len(report.failed)} failed"
    )
    for reason, count in Counter(reason for _, reason in report.skipped).most_common():
        yield f"  skipped {count}: {reason}"
