"""Secrets of HS256 tokens in a folder that may change under the process: a token signed with any of them is good.

`current` signs; `next` will, as soon as every process accepts it; `previous` did, and its tokens still live.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

import jwt

from agent_service.logs import logger
from agent_service.settings import MIN_JWT_SECRET_BYTES

FILES = ("current", "next", "previous")

CHECK_SECONDS = 1.0
"""Least time between two looks at the folder."""

log = logger(__name__)


class SharedSecrets:
    """May be used from several threads: a look at the folder ends in one assignment."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = directory
        self._clock = clock
        self._found: tuple[tuple[str, ...], str] = ((), "")
        self._checked_at = float("-inf")

    def signer_of(self, token: str) -> str | None:
        """The secret that the token is signed with; `current` if it is none of them, None without any."""
        secrets, _ = self._current()
        return next((secret for secret in secrets if _signs(secret, token)), secrets[0] if secrets else None)

    def revision(self) -> str:
        """What the file `revision` says of the set that is accepted; empty without that file."""
        return self._current()[1]

    def _current(self) -> tuple[tuple[str, ...], str]:
        if self._clock() - self._checked_at >= CHECK_SECONDS:
            self._checked_at = self._clock()
            self._found = self._read()
        return self._found

    def _read(self) -> tuple[tuple[str, ...], str]:
        # A mounted Secret is swapped as a whole, by a link: resolved once, all files are of one revision.
        folder = Path(os.path.realpath(self._directory / "current")).parent
        secrets = [text for name in FILES if (text := _text(folder / name))]
        good = tuple(text for text in secrets if len(text.encode()) >= MIN_JWT_SECRET_BYTES)
        if len(good) < max(1, len(secrets)):
            log.warning("jwt_secrets_missing_or_short", directory=str(self._directory), good=len(good))
        return (good, _text(folder / "revision")) if good else self._found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _signs(secret: str, token: str) -> bool:
    try:
        jwt.PyJWS().decode(token, secret, algorithms=["HS256"])
    except (jwt.PyJWTError, ValueError):
        return False
    return True
