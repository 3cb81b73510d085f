"""Examines the settings of this shell: what a service that is started here would do."""

import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from slipway_doctor.checks.environment import Environment
from slipway_doctor.checks.facts import Facts, Limits
from slipway_doctor.checks.finding import Area, Finding, Verdict, fail, ok, warn
from slipway_doctor.checks.registry import judge_settings
from slipway_doctor.graph_files import judge_graphs

MOUNTS = Path("/proc/self/mountinfo")
"""Fifth field of each line: a mount point (proc(5)). A subPath mount is one of its own, a file of a whole mount is none."""

FOLDERS = ("OPENAI_KEY_DIR", "API_KEYS_DIR")


def examine_environment(environ: Mapping[str, str], mounts: Path = MOUNTS) -> list[Finding]:
    """Every check that needs settings alone, and the folders of keys. `mounts` is for tests."""
    now = datetime.now(UTC)
    facts = Facts(namespace="", release="", now=now, environment=Environment(dict(environ)))
    return [*judge_settings(facts), *_folders(environ, mounts, now), *_graphs(environ)]


def _folders(environ: Mapping[str, str], mounts: Path, now: datetime) -> Iterator[Finding]:
    for name in FOLDERS:
        if folder := environ.get(name):
            verdict = judge_folder(name, Path(folder), mount_points(mounts), now)
            yield Finding(f"{name}Readable", Area.SECURITY, verdict.status, verdict.reason, verdict.message, verdict.fix)


def _graphs(environ: Mapping[str, str]) -> Iterator[Finding]:
    if verdict := judge_graphs(environ):
        yield Finding("GraphsFound", Area.RELIABILITY, verdict.status, verdict.reason, verdict.message, verdict.fix)


def mount_points(mounts: Path) -> set[str]:
    """Of this machine; empty where there is no such file (macOS)."""
    try:
        lines = mounts.read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return {line.split()[4].replace("\\040", " ") for line in lines if line}


def judge_folder(name: str, folder: Path, mounted: set[str], now: datetime) -> Verdict:
    """Whether a folder of keys can be read, changes under a running process, and is not too old."""
    if not folder.is_dir():
        return fail("FolderMissing", f"{name}={folder}: no such folder", "create it, or mount the Secret there")
    files = [Path(entry.path) for entry in os.scandir(folder) if not entry.name.startswith(".") and entry.is_file()]
    if name == "OPENAI_KEY_DIR" and not (folder / "current").is_file():
        return fail("KeyMissing", f"{folder / 'current'} is not there", "write the key to the file `current`")
    unreadable = sorted(file.name for file in files if not os.access(file, os.R_OK))
    if unreadable:
        return fail("Unreadable", f"this user cannot read {', '.join(unreadable)}", "set fsGroup, or the files' mode")
    if any(str(file) in mounted for file in files):
        fix = "mount the whole Secret as a folder, without subPath: such a mount never changes"
        return fail("SubPath", f"{folder} holds a file that is a mount of its own", fix)
    if name == "OPENAI_KEY_DIR" and _age(folder / "current", now) > timedelta(days=Limits().key_age_days):
        return warn(
            "KeyTooOld",
            f"the model key has not changed for {Limits().key_age_days:g} days",
            "rotate it (docs/operations/model-keys.md)",
        )
    return ok("Readable", f"{name} can be read, and changes take effect without a restart")


def _age(file: Path, now: datetime) -> timedelta:
    return now - datetime.fromtimestamp(file.stat().st_mtime, UTC)
