"""Measures `rag_search` by words, and by meaning too (`make search-quality`).

Vectors are the recorded ones, or an endpoint's where EMBEDDING_MODEL, OPENAI_BASE_URL and OPENAI_API_KEY are set.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path

from agent_service.agents.models import open_models
from agent_service.child_processes import open_workers
from agent_service.db.migrate import migrate
from agent_service.db.pool import make_pool
from agent_service.development.embedded import embedded_postgres
from agent_service.documents.ingest import ingest
from agent_service.documents.search import DocumentSearch
from agent_service.settings import Settings, load_settings
from tools.search_quality.measure import HANDBOOK, HEAD, by_halves, table, unanswerable
from tools.search_quality.recorded import Recorder, recorded


async def main(url: str, settings: Settings, *, record: bool) -> None:
    """Prints a table; with `record` keeps the vectors."""
    async with make_pool(url, size=2, timeout=10) as pool, open_models(settings) as models, open_workers() as workers:
        asked = Recorder(models.embeddings, str(settings.embedding_model)) if models.embeddings else None
        embeddings = asked or recorded()
        report = await ingest([HANDBOOK], pool, workers, embeddings=embeddings)
        if report.failed:
            sys.exit(f"not ingested: {report.failed[0]}")
        print(HEAD)
        await _show("words", DocumentSearch(pool))
        await _show(f"words and meaning ({embeddings.model})", DocumentSearch(pool, embeddings))
    if record and asked:
        asked.save()
    elif record:
        sys.exit("--record needs an endpoint: set EMBEDDING_MODEL, OPENAI_BASE_URL and OPENAI_API_KEY")


async def _show(name: str, documents: DocumentSearch) -> None:
    rows, quality = await table(name, documents.search)
    print("\n".join(rows))
    for question in quality.missed:
        print(f"  not found: {question}", file=sys.stderr)
    chosen_on, held_out = await by_halves(documents.search)
    print(
        f"  recall in other words: {chosen_on.recall:.2f} in the half that constants are chosen on,"
        f" {held_out.recall:.2f} in the half held out",
        file=sys.stderr,
    )
    found = [await documents.search(question) for question in unanswerable()]
    only_weak = sum(bool(each) and all(passage.weak for passage in each) for each in found)
    nothing = sum(not each for each in found)
    print(
        f"  finds nothing for {nothing} of {len(unanswerable())} questions without an answer, only weak passages for {only_weak}",
        file=sys.stderr,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.search_quality", description=__doc__)
    parser.add_argument("--record", action="store_true", help="write vectors.json from the endpoint's answers")
    record = parser.parse_args().record
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # PostgreSQL, which as root runs as another user, has to get in
        with embedded_postgres(Path(folder)) as url:
            migrate(url)
            settings = load_settings({**os.environ, "DATABASE_URL": url, "AUTH": "disabled"})
            asyncio.run(main(url, settings, record=record))
