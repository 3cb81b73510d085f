"""Which files an ingest takes, and the names that they get."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    """`complete` are the folders that were read to the end: what is not in `files` is gone from them."""

    files: tuple[Found, ...]
    complete: frozenset[str]
    failed: tuple[Failure, ...]
    skipped: Mapping[str, int]
    """Files of folders that are of no kind that is read, counted by suffix."""


def discover(paths: Sequence[Path]) -> Discovery:
    """Files of `paths`, in order. Folders are walked without hidden entries and unknown kinds; a named file is taken as it is."""
    found: dict[str, Found] = {}
    skipped = Counter[str]()
    complete: set[str] = set()
    failed: list[Failure] = []
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
    return Discovery(tuple(found.values()), frozenset(complete), tuple(failed), skipped)


def _walk(root: Path, errors: list[OSError], skipped: Counter[str]) -> Iterator[Found]:
    name = root.resolve().name
    for folder, folders, files in os.walk(root, onerror=errors.append):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for file in sorted(files):
            path = Path(folder, file)
            if file.startswith("."):
                continue
            if path.suffix.lower() not in PARSERS:
                skipped[path.suffix.lower() or "without a suffix"] += 1
            else:
                yield Found(path, f"{name}/{path.relative_to(root).as_posix()}", name)


def _add(found: dict[str, Found], files: Iterable[Found]) -> Iterator[Failure]:
    for file in files:
        first = found.setdefault(file.source, file)
        if first is not file and not first.file.samefile(file.file):
            yield str(file.file), f"another file of this call is named {file.source} too"


def _shown(root: Path, filename: object) -> str:
    return str(filename) if filename else str(root)
