"""The model endpoint's API key: from the environment, or from files that may change under the process."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from agent_service.errors import ModelUnavailable
from agent_service.settings import Settings

KEPT = ("current", "revision")
"""Not `previous`: that file goes when its key is revoked."""

ENV_REVISION = "env"
"""Revision of a key that came by OPENAI_API_KEY."""


@dataclass(slots=True)
class KeyFile:
    """One small file, read again when its inode or modification time changes (a mounted Secret swaps a symlink above it)."""

    path: Path
    keep: bool = False
    """Whether what was read last stands while there is nothing to read: a Secret that somebody deletes stops no call."""

    _seen: tuple[int, int] | None = None
    _text: str | None = field(default=None, repr=False)

    def read(self, *, force: bool = False) -> str | None:
        """The file's text without white space around it; None while the file is missing, unreadable or empty, unless kept."""
        try:
            stat = os.stat(self.path)  # noqa: PTH116  # a third of Path.stat's time, on each model call
            seen = (stat.st_ino, stat.st_mtime_ns)
            if force or seen != self._seen:
                text = self.path.read_text(encoding="utf-8").strip() or None
                self._text = text or (self._text if self.keep else None)
                self._seen = seen
        except (OSError, UnicodeDecodeError):
            self._seen = None
            self._text = self._text if self.keep else None
        return self._text


@dataclass(frozen=True, slots=True)
class ApiKeySource:
    """Where the key of an attempt comes from. `env_key` wins over the files of `directory`."""

    env_key: str | None = field(default=None, repr=False)
    directory: Path | None = None
    _files: dict[str, KeyFile] = field(default_factory=dict, repr=False)

    @classmethod
    def from_settings(cls, settings: Settings) -> "ApiKeySource":
        """OPENAI_API_KEY, or the files of OPENAI_KEY_DIR."""
        secret = settings.openai_api_key
        return cls(env_key=secret.get_secret_value() if secret else None, directory=settings.openai_key_dir)

    def current(self) -> str:
        """The key to use.

        Raises:
            ModelUnavailable: there is none; names the file, or the settings.
        """
        if self.env_key:
            return self.env_key
        if self.directory is None:
            raise ModelUnavailable("no key for the model endpoint: set OPENAI_KEY_DIR or OPENAI_API_KEY")
        key = self._read("current")
        if key is None:
            raise ModelUnavailable(f"no key for the model endpoint: {self.directory / 'current'} is missing or empty")
        return key

    def previous(self) -> str | None:
        """The key before the current one, while it still stands."""
        return self._read("previous")

    def revision(self) -> str:
        """Name of the current key: `env`, or what the file `revision` says; empty without that file."""
        return ENV_REVISION if self.env_key else self._read("revision") or ""

    def identity(self) -> str:
        """A hash that tells the current key from others; empty without a key."""
        try:
            return hashlib.sha256(self.current().encode()).hexdigest()[:16]
        except ModelUnavailable:
            return ""

    def reload(self) -> None:
        """Reads the files again, changed or not."""
        for file in self._files.values():
            file.read(force=True)

    def attempts(self) -> Iterator[str]:
        """Keys in the order to try them; the next one is for after a 401."""
        yield self.current()
        self.reload()
        yield self.current()
        if previous := self.previous():
            yield previous

    def _read(self, name: str) -> str | None:
        if self.env_key or self.directory is None:
            return None
        file = self._files.setdefault(name, KeyFile(self.directory / name, keep=name in KEPT))
        return file.read()
