"""What commands show: tables, rows, a bar while documents are read."""

import asyncio
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from agent_service.settings import Settings

if TYPE_CHECKING:
    from agent_service.documents.ingest import IngestReport

PIPE_COLUMNS = 200
"""Width of a table that goes to a file or a pipe, where rich would take 80 and fold most of them."""


def print_table(columns: Iterable[str], rows: Iterable[Sequence[str]]) -> None:
    """Names are folded and never cut, so that they can be copied."""
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS).print(table)


def print_rows(rows: Sequence[dict[str, Any]], *, truncated: bool, as_json: bool, nothing: str) -> None:
    """Rows of the database, as a table or as JSON."""
    if truncated:
        click.echo(f"only the first {len(rows)} rows are shown", err=True)
    if as_json:
        click.echo(json.dumps(rows, default=plain))
        return
    cells = [["" if value is None else str(plain(value)) for value in row.values()] for row in rows]
    print_table(rows[0] if rows else [nothing], cells)


def plain(value: object) -> object:
    """As JSON has it."""
    return float(value) if isinstance(value, Decimal) else value.isoformat() if isinstance(value, date) else value


def read_documents(settings: Settings, paths: Sequence[Path], *, quiet: bool = False) -> "IngestReport":
    """Brings documents in, with a bar on standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as progress:
        task = progress.add_task("reading", total=None)

        def show(done: int, total: int, name: str) -> None:
            progress.update(task, completed=done, total=total, description=name)

        from agent_service.commands.ingestion import ingest_paths  # noqa: PLC0415  # half a second; the bar is seen meanwhile

        return asyncio.run(ingest_paths(settings, paths, show))
