"""Which files an ingest takes, and the names that they get."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent_service.documents.parse import PARSERS

Failure = tuple[str, str]
"""(path, reason)."""


@dataclass(frozen=True, slots=True)
class Found:
    """`source` begins with the folder's name and says nothing of where it stands on this machine."""

    file: Path
    source: str
    folder: str | None


@dataclass(frozen=True, slots=True)
class Discovery:
    """`complete` are the folders that were read to the end: what is not in `files` is gone from them.

    `skipped` was left out as it should be; a hidden folder stands for all that is in it.
    """

    files: tuple[Found, ...]
    complete: frozenset[str]
    failed: tuple[Failure, ...]
    skipped: tuple[Failure, ...] = ()


def discover(paths: Sequence[Path]) -> Discovery:
    """Files of `paths`, in order. Folders are walked without hidden entries, links to folders and unknown kinds.

    A named file is taken as it is.
    """
    found: dict[str, Found] = {}
    complete: set[str] = set()
    failed: list[Failure] = []
    skipped: list[Failure] = []
    for path in paths:
        errors: list[OSError] = []
        files = list(_walk(path, errors, skipped)) if path.is_dir() else [Found(path, path.name, None)]
        failed += [(_shown(path, error.filename), error.strerror or type(error).__name__) for error in errors]
        if path.is_dir() and not files and not errors:
            # An unmounted volume looks like this; taking it for "all were deleted" would empty the search.
            failed.append((str(path), "no documents in this folder; nothing was removed"))
        elif path.is_dir() and not errors:
            complete.add(path.resolve().name)
        failed += _add(found, files)
    return Discovery(tuple(found.values()), frozenset(complete), tuple(failed), tuple(skipped))


def _walk(root: Path, errors: list[OSError], skipped: list[Failure]) -> Iterator[Found]:
    name = root.resolve().name
    for folder, folders, files in os.walk(root, onerror=errors.append):
        folders[:] = [path.name for path in _taken(folder, folders, skipped, are_folders=True)]
        for path in _taken(folder, files, skipped, are_folders=False):
            yield Found(path, f"{name}/{path.relative_to(root).as_posix()}", name)


def _taken(folder: str, entries: list[str], skipped: list[Failure], *, are_folders: bool) -> list[Path]:
    reasons = {path: _reason(path, is_folder=are_folders) for path in (Path(folder, entry) for entry in sorted(entries))}
    skipped += [(str(path), reason) for path, reason in reasons.items() if reason]
    return [path for path, reason in reasons.items() if not reason]


def _reason(path: Path, *, is_folder: bool) -> str | None:
    """Why an entry of a folder is left out; None for one that is taken."""
    if path.name.startswith("."):
        return "hidden"
    if is_folder:
        return "link to a folder" if path.is_symlink() else None
    return None if path.suffix.lower() in PARSERS else f"unknown kind {path.suffix.lower() or '(no suffix)'}"


def _add(found: dict[str, Found], files: Iterable[Found]) -> Iterator[Failure]:
    for file in files:
        first = found.setdefault(file.source, file)
        if first is not file and not first.file.samefile(file.file):
            yield str(file.file), f"another file of this call is named {file.source} too"


def _shown(root: Path, filename: object) -> str:
    return str(filename) if filename else str(root)
