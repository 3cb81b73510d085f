"""API keys: telling whose a key is, and making, listing and revoking them. A file per key, named by its id, has the hash as JSON.

Plain SHA-256 is enough: a key has 256 random bits, so there is no dictionary to try and nothing for a slow hash to slow
down, while each request would pay for it.
"""

import hashlib
import hmac
import json
import os
import re
import secrets
import stat
import string
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from agent_service.errors import InvalidRequest, NotFound, Unauthenticated
from agent_service.logs import logger
from agent_service.principal import Name, Principal, Role

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
        """Whether its time is over at `now`."""
        return self.expires_at is not None and self.expires_at <= now


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A file as it was when last read; `record` is None if it is no key."""

    stamp: tuple[int, ...]
    record: KeyRecord | None


def key_hash(text: str) -> str:
    """What is stored of a key: SHA-256 in hexadecimal digits."""
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


CHECK_SECONDS = 1.0
"""Least time between two looks at the folder: half of the 2 s within which a revoked key must stop."""

NO_HASH = "0" * 64
"""Compared with when there is no such key, so that an unknown id takes as long as a wrong secret."""

ID_ALPHABET = string.ascii_lowercase + string.digits

SECRET_BYTES = 32
"""256 bits, in 43 characters of base64url."""


class ApiKeys:
    """The keys in a folder. A change on disk counts within CHECK_SECONDS, without a restart.

    May be used from several threads: a look at the folder ends in one assignment.
    """

    def __init__(
        self,
        directory: Path,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._now = now
        self._files: dict[str, KeyFile] = {}
        self._checked_at = float("-inf")
        if not directory.is_dir():
            log.warning("api_keys_folder_missing", directory=str(directory))

    def authenticate(self, text: str) -> Principal | None:
        """The key's principal, or None if there is no such key.

        Raises:
            Unauthenticated: the key is right, but has expired.
        """
        match = KEY_TEXT.fullmatch(text)
        if match is None:
            return None
        file = self._current().get(match["id"])
        record = file.record if file else None
        right = hmac.compare_digest(key_hash(text), record.hash if record else NO_HASH)
        if record is None or not right:
            return None
        if record.expired(self._now()):
            raise Unauthenticated("the API key has expired")
        return Principal(record.tenant, record.user, record.role, by_key=True)

    def has_one(self, tenant: str, user: str) -> bool:
        """Whether a key of this user is there that has not expired."""
        now = self._now()
        records = (file.record for file in self._current().values() if file.record)
        return any((each.tenant, each.user) == (tenant, user) and not each.expired(now) for each in records)

    def revision(self) -> str:
        """Changes with the set of keys and is the same on every replica that sees the same set."""
        records = sorted((f.record for f in self._current().values() if f.record), key=lambda r: r.id)
        return hashlib.sha256("\n".join(r.model_dump_json() for r in records).encode()).hexdigest()[:16]

    def _current(self) -> dict[str, KeyFile]:
        if self._clock() - self._checked_at >= CHECK_SECONDS:
            self._checked_at = self._clock()
            self._files = read_changed(self._directory, self._files)
        return self._files


def create_key(directory: Path, *, user: str, tenant: str, role: Role, expires_at: datetime | None = None) -> str:
    """Adds a key to the folder and returns its text, which is kept nowhere.

    Raises:
        InvalidRequest: a name is not acceptable, or `expires_at` has no time zone; `field` names it.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    key_id = _free_id(directory)
    text = f"{KEY_PREFIX}{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}"
    try:
        record = KeyRecord.model_validate(
            {
                "id": key_id,
                "hash": key_hash(text),
                "tenant": tenant,
                "user": user,
                "role": role,
                "created_at": datetime.now(UTC).replace(microsecond=0),
                "expires_at": expires_at,
            }
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidRequest(f"{first['loc'][0]}: {first['msg']}", field=str(first["loc"][0])) from None
    _write(directory / key_id, record)
    return text


def list_keys(directory: Path) -> list[KeyRecord]:
    """The folder's keys, oldest first; files that are none are logged and left out."""
    records = [file.record for file in read_changed(directory, {}).values() if file.record]
    return sorted(records, key=lambda r: (r.created_at, r.id))


def revoke_key(directory: Path, key_id: str) -> None:
    """Removes a key; running processes refuse it within 2 s. Raises NotFound."""
    unknown = NotFound(f"there is no API key with the id {key_id!r}")
    if not KEY_ID.fullmatch(key_id):
        raise unknown
    try:
        (directory / key_id).unlink()
    except FileNotFoundError:
        raise unknown from None


def _free_id(directory: Path) -> str:
    while True:
        key_id = "".join(secrets.choice(ID_ALPHABET) for _ in range(8))
        if not (directory / key_id).exists():
            return key_id


def _write(path: Path, record: KeyRecord) -> None:
    # Under a name with a dot first: a reader never sees half a file. mkstemp makes it 0600.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(record.model_dump_json(exclude={"id"}, exclude_none=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
