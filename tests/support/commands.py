"""The commands of `slipway`, as they are typed."""

from collections.abc import Iterator

import click

from agent_service.cli import main


def command_paths(command: click.Command = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of each; not of those that other components bring."""
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from command_paths(child, (*path, name))
    else:
        yield path
