"""A graph for replicas that die at a certain statement of their writer; DIES_AT numbers it, or is `commit`: after the first one
that ends a run, before anyone has been told."""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import psycopg

from agent_service.runs.writer import Writer
from tests.durability import graphs


def build(context: Any) -> Any:
    if at := os.environ.get("DIES_AT"):
        _arm(at)
    return graphs.agent(context)


def _arm(at: str) -> None:
    if at == "commit":
        _before(Writer, "_report", lambda args: _is_writer() and bool(args[1].endings))
        return
    left = int(at)

    def is_due(_: Any) -> bool:
        nonlocal left
        left -= _is_writer()
        return left == 0

    _before(psycopg.AsyncConnection, "execute", is_due)


def _is_writer() -> bool:
    """And not the rehearsal of a turn, which has a writer of its own."""
    task = asyncio.current_task()
    return bool(task and task.get_name() == "writer")


def _before(owner: Any, name: str, dies: Callable[[Any], bool]) -> None:
    """The process is gone before that call, when `dies` says so of its arguments."""
    call = getattr(owner, name)

    def dying(self: Any, *args: Any, **options: Any) -> Any:
        if dies(args):
            os.kill(os.getpid(), signal.SIGKILL)
        return call(self, *args, **options)

    setattr(owner, name, dying)
