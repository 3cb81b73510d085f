"""Where the database is and as whom we speak: DATABASE_URL, or a file that may change under the process (a mounted Secret).

A new address counts once a connection by it has found our schema. Until then the one before stays, so a wrong one breaks
nothing. Then each connection is replaced when it is back in its pool: nothing is cut off in the middle of its work.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import psycopg
from psycopg.rows import dict_row
from pydantic import SecretStr

from agent_service.db.faults import explain
from agent_service.db.migrate import check_schema
from agent_service.db.session_settings import connect_string
from agent_service.errors import SchemaMismatch, SettingsError
from agent_service.logs import logger
from agent_service.setting_types import check_conninfo
from agent_service.settings import Settings

CHECK_SECONDS = 1.0
"""Between two looks at the file, and between two tries of an address that is refused. With the Secret first and the
password in the database after it, no new connection is to be had for so long."""

Renew = Callable[[], Awaitable[None]]
"""Replaces a holder's connections."""

log = logger(__name__)


class Address:
    """Called, it is the connection string that counts. One object for a process, as all its connections change together."""

    def __init__(self, url: str, file: Path | None = None) -> None:
        self._url = url
        self._file = file
        self._refused = ("", "")
        self._holders: list[Renew] = []

    @classmethod
    def of(cls, settings: Settings) -> "Address":
        """By DATABASE_URL_FILE or DATABASE_URL. Raises SettingsError: the file has no address."""
        file = settings.database_url_file
        if file is None:
            return cls(settings.database_url.get_secret_value())
        try:
            return cls(_read(file), file)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise SettingsError(f"DATABASE_URL_FILE={file}: {reason}") from None

    def __call__(self) -> str:
        return self._url

    def on_change(self, renew: Renew) -> None:
        """Has this called after each change."""
        self._holders.append(renew)

    async def follow_forever(self) -> None:
        """Looks at the file as long as the process lives; returns at once without one."""
        while self._file:
            await asyncio.sleep(CHECK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Takes the address of the file if it is another one that works."""
        if self._file is None:
            return
        url = ""
        try:
            url = _read(self._file)
            if url == self._url:
                return
            await _try(url)
        except (OSError, ValueError, SchemaMismatch, psycopg.Error) as error:
            self._tell_refused(url, explain(error))
            return
        self._url, self._refused = url, ("", "")
        log.info("database_address_changed")
        for renew in self._holders:
            await renew()

    def _tell_refused(self, url: str, reason: str) -> None:
        """Each reason once: the next look is in a second."""
        if self._refused != (url, reason):
            log.warning("database_address_refused", reason=reason, effect="the address before stays")
        self._refused = (url, reason)


def _read(file: Path) -> str:
    """Raises OSError, or ValueError for what is no address: never with the text, which has a password."""
    try:
        text = file.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise ValueError("is no text") from None
    if not text:
        raise ValueError("is empty")
    return check_conninfo(SecretStr(text)).get_secret_value()


async def _try(url: str) -> None:
    """Raises psycopg.Error or SchemaMismatch when runs could not go on there."""
    async with await psycopg.AsyncConnection.connect(
        connect_string(url), autocommit=True, row_factory=dict_row, prepare_threshold=None, application_name="slipway-address"
    ) as conn:
        await check_schema(conn)
