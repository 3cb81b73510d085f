"""`.slipway`, the folder of `slipway dev`: a lock that whoever runs there holds, and how other commands reach what runs."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO

NAME = Path(".slipway")

LOCK = "lock"
"""Held, shared, by each `slipway dev` of the folder; the kernel lets go of it with the process, also after `kill -9`."""

RECORD = "running.json"

PID = "pid"
"""Of the one that started last, a line of digits: `kill -9 $(cat .slipway/pid)` ends it and nothing else."""


@dataclass(frozen=True, slots=True)
class Running:
    """What a `slipway dev` has to be reached by. The addresses are empty until it is ready."""

    database_url: str
    api_keys_dir: str
    variables: Mapping[str, str]
    """That it read from files: settings of an ingest too."""
    url: str = ""
    ops_url: str = ""


@contextmanager
def held(folder: Path) -> Iterator[BinaryIO]:
    """This process runs in the folder. Waits while a server that nobody uses any more is being stopped there."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+b") as lock:
        fcntl.lockf(lock, fcntl.LOCK_SH)
        yield lock


def is_last(lock: BinaryIO) -> bool:
    """Whether nobody else holds what this process holds."""
    with suppress(BlockingIOError):
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _in_use(folder: Path) -> bool:
    """Whether another process holds the folder. Not for one that holds it itself: to look would let go of it."""
    try:
        with (folder / LOCK).open("r+b") as lock:
            return not is_last(lock)
    except OSError:
        return False


def write_record(folder: Path, running: Running) -> None:
    """For this user alone: the database's address may hold a password."""
    with NamedTemporaryFile("w", dir=folder, delete=False, encoding="utf-8") as file:
        json.dump(asdict(running), file)
    Path(file.name).replace(folder / RECORD)
    (folder / PID).write_text(f"{os.getpid()}\n", encoding="utf-8")


def find_running(start: Path | None = None) -> Running | None:
    """The `slipway dev` that runs in this folder or in one above it, as a repository is found."""
    folder = find_folder(start)
    if folder is None or not _in_use(folder):
        return None
    with suppress(OSError, ValueError, TypeError):
        return Running(**json.loads((folder / RECORD).read_text(encoding="utf-8")))
    return None


def find_folder(start: Path | None = None) -> Path | None:
    """The nearest `.slipway` of this user, running or not. Another user's, in /tmp say, would get this user's commands."""
    here = (start or Path.cwd()).resolve()
    for above in (here, *here.parents):
        folder = above / NAME
        with suppress(OSError):
            if (folder / LOCK).stat().st_uid == os.getuid():
                return folder
    return None


def is_set(environ: Mapping[str, str], name: str) -> bool:
    """As settings are read: in any letter case, and an empty variable is none."""
    return any(key.upper() == name and value for key, value in environ.items())
