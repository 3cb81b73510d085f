"""What is on disk of API keys: a file per key, named by its id, with the hash as JSON.

Plain SHA-256 is enough: a key has 256 random bits, so there is no dictionary to try and nothing for a slow hash to slow
down, while each request would pay for it.
"""

import hashlib
import json
import re
import stat
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from agent_service.auth.claims import Name
from agent_service.logs import logger
from agent_service.principal import Role

KEY_PREFIX = "slw_"
"""Tells a key from a JWT, and lets secret scanners find a leaked one."""

KEY_ID = re.compile(r"[a-z0-9]{8}")

KEY_TEXT = re.compile(rf"{KEY_PREFIX}(?P<id>{KEY_ID.pattern})_[A-Za-z0-9_-]{{43}}")

log = logger(__name__)


class KeyRecord(BaseModel):
    """What is kept of a key. The file is named by `id` and holds the rest as JSON."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(pattern=f"^{KEY_ID.pattern}$")
    hash: str = Field(pattern=r"^[0-9a-f]{64}$", repr=False)
    tenant: Name
    user: Name
    role: Role
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None

    def expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A file as it was when last read; `record` is None if it is no key."""

    stamp: tuple[int, ...]
    record: KeyRecord | None


def key_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def read_changed(directory: Path, known: dict[str, KeyFile]) -> dict[str, KeyFile]:
    """The folder's files by name. Only new and changed ones are read, so a bad one is logged once.

    An unreadable folder keeps what is known; a missing one has no keys.
    """
    try:
        # In a Secret's mount, `..data` is a link to the folder of the current version: names with a dot are not keys.
        names = [path.name for path in directory.iterdir() if not path.name.startswith(".")]
    except FileNotFoundError:
        if known:
            log.warning("api_keys_folder_missing", directory=str(directory))
        return {}
    except OSError as error:
        log.warning("api_keys_folder_unreadable", directory=str(directory), error=repr(error))
        return known
    files = {}
    for name in names:
        stamp = _stamp(directory / name)
        if stamp is None:
            continue
        old = known.get(name)
        files[name] = old if old and old.stamp == stamp else KeyFile(stamp, _read(directory / name))
    return files


def _stamp(path: Path) -> tuple[int, ...] | None:
    """Differs when the file was written or replaced, also through a swapped link; None if it is no regular file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_ino, found.st_dev, found.st_size) if stat.S_ISREG(found.st_mode) else None


def _read(path: Path) -> KeyRecord | None:
    try:
        return KeyRecord.model_validate({**json.loads(path.read_bytes()), "id": path.name})
    except (OSError, ValueError, TypeError, RecursionError) as error:
        log.warning("api_key_file_skipped", file=path.name, error=type(error).__name__)
        return None
