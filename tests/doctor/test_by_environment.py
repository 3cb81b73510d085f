"""Folders of keys on this machine, good and bad."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from slipway_doctor.by_environment import examine_environment, judge_folder, mount_points

NOW = datetime.now(UTC)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "current").write_text("sk-1")
    return folder


def old(folder: Path) -> None:
    os.utime(folder / "current", (0, 0))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda _: None, "Readable"),
        (lambda folder: (folder / "current").unlink(), "KeyMissing"),
        (lambda folder: folder.rename(folder.parent / "away"), "FolderMissing"),
        (old, "KeyTooOld"),
    ],
)
def test_a_folder_is_judged(keys: Path, spoil: Callable[[Path], object], reason: str) -> None:
    spoil(keys)

    assert judge_folder("OPENAI_KEY_DIR", keys, set(), NOW).reason == reason


def test_a_file_that_is_a_mount_of_its_own_is_found(keys: Path, tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"22 1 0:21 / /proc rw - proc proc rw\n36 22 0:30 /x {keys}/current ro - tmpfs tmpfs rw\n")

    assert judge_folder("OPENAI_KEY_DIR", keys, mount_points(mounts), NOW).reason == "SubPath"


def test_a_machine_without_mountinfo_has_no_mounts(tmp_path: Path) -> None:
    assert mount_points(tmp_path / "mountinfo") == set()


def test_only_folders_that_are_set_are_looked_at(keys: Path) -> None:
    found = {finding.id for finding in examine_environment({"API_KEYS_DIR": str(keys)})}

    assert "API_KEYS_DIRReadable" in found
    assert "OPENAI_KEY_DIRReadable" not in found
