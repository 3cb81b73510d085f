"""`slipway dev --reload`: a file that changes is served by the next run."""

import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent_service.errors import SettingsError
from agent_service.settings import GraphSettings

if TYPE_CHECKING:
    from agent_service.resources import Resources

SUFFIXES = (".py", ".md", ".txt", ".json", ".yaml", ".yml", ".toml", ".j2", ".jinja")
"""Code, and what code reads when it is imported: prompts, tables."""

RESTART = (".env", "langgraph.json")
"""Read when the process starts."""

GENERATED = frozenset({".slipway", ".venv", "venv", "node_modules", "site-packages", "__pycache__"})
"""Folders of files that nobody writes by hand; others that begin with a dot are left out too."""

DEBOUNCE_MS = 300
"""An editor that saves several files, or one in several steps, makes one reload."""


def folders_to_watch(graphs: GraphSettings, default: str) -> list[Path]:
    """Raises SettingsError: there is no graph of the user's own."""
    if all(source.target == default for source in graphs.sources):
        raise SettingsError("--reload: expected a graph of your own, by langgraph.json or AGENT_GRAPH (`slipway init` makes one)")
    return [folder.resolve() for folder in graphs.folders] or [Path.cwd()]


async def reload_forever(resources: "Resources", folders: list[Path]) -> None:
    """Until it is cancelled."""
    from watchfiles import awatch  # noqa: PLC0415  # an optional extra

    click.echo(f"  reload    on changes below {', '.join(map(str, folders))}")
    changes = awatch(*folders, watch_filter=lambda _, path: is_wanted(Path(path), folders), debounce=DEBOUNCE_MS)
    async for found in changes:
        names = sorted({Path(path).name for _, path in found})
        if restart := [name for name in names if name in RESTART]:
            click.echo(f"{', '.join(restart)}: read at start only; start `slipway dev` again to take it")
        errors = await asyncio.to_thread(resources.reload_graphs, folders)
        for name, error in errors.items():
            click.secho(f"graph {name} is broken, and answers so until it is mended:\n  {error}", err=True, fg="red")
        if not errors:
            click.echo(f"reloaded ({', '.join(names)})")


def is_wanted(path: Path, folders: Iterable[Path]) -> bool:
    """Whether a change of this file is one of the graph's."""
    base = next((folder for folder in folders if path.is_relative_to(folder)), None)
    if base is None:
        return False
    inside = path.relative_to(base).parts
    if any(part in GENERATED or part.startswith(".") for part in inside[:-1]):
        return False
    return path.name in RESTART or (path.suffix in SUFFIXES and not path.name.startswith("."))


def prepare() -> None:
    """Before the graphs are imported first. Bytecode is found by whole seconds and sizes: of two changes within one second the
    second would not be seen."""
    sys.dont_write_bytecode = True
