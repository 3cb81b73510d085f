import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from agent_service.agents.model_keys import ApiKeySource, KeyFile
from agent_service.errors import ModelUnavailable
from agent_service.settings import Settings


def mount(folder: Path, revision: str, **files: str) -> None:
    """Publishes files the way the kubelet does: a new folder, then one rename of the `..data` symlink."""
    data = folder / f"..{revision}"
    data.mkdir()
    for name, text in {**files, "revision": revision}.items():
        (data / name).write_text(text, encoding="utf-8")
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(Path("..data") / name)
    (folder / "..tmp").symlink_to(data.name)
    (folder / "..tmp").rename(folder / "..data")


def test_a_key_from_the_environment_has_no_previous_and_says_so() -> None:
    settings = Settings(auth="disabled", model="m", openai_api_key=SecretStr("sk-1"))
    keys = ApiKeySource.from_settings(settings)
    assert (keys.current(), keys.previous(), keys.revision()) == ("sk-1", None, "env")


def test_a_mounted_secret_that_changes_is_seen_by_the_next_call(tmp_path: Path) -> None:
    keys = ApiKeySource(directory=tmp_path)
    mount(tmp_path, "7", current="sk-old\n")
    assert (keys.current(), keys.previous(), keys.revision()) == ("sk-old", None, "7")
    mount(tmp_path, "8", current="sk-new\n", previous="sk-old\n")
    assert (keys.current(), keys.previous(), keys.revision()) == ("sk-new", "sk-old", "8")


def test_an_unchanged_file_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ApiKeySource(directory=tmp_path)
    mount(tmp_path, "7", current="sk-old")
    keys.current()
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: pytest.fail("read again"))
    assert keys.current() == "sk-old"


def test_reload_reads_a_file_whose_stat_did_not_change(tmp_path: Path) -> None:
    file = tmp_path / "current"
    keys = ApiKeySource(directory=tmp_path)
    file.write_text("sk-a", encoding="utf-8")
    before = keys.current(), file.stat()
    file.write_text("sk-b", encoding="utf-8")
    os.utime(file, ns=(before[1].st_atime_ns, before[1].st_mtime_ns))
    assert keys.current() == "sk-a"
    keys.reload()
    assert keys.current() == "sk-b"


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_a_missing_or_empty_current_names_the_file(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "current").write_text(content, encoding="utf-8")
    with pytest.raises(ModelUnavailable, match=str(tmp_path / "current")):
        ApiKeySource(directory=tmp_path).current()


def test_attempts_are_the_current_key_the_reread_one_and_the_previous(tmp_path: Path) -> None:
    mount(tmp_path, "7", current="sk-2", previous="sk-1")
    attempts = ApiKeySource(directory=tmp_path).attempts()
    first = next(attempts)
    mount(tmp_path, "8", current="sk-3", previous="sk-2")
    assert [first, *attempts] == ["sk-2", "sk-3", "sk-2"]


def test_no_key_shows_in_a_repr(tmp_path: Path) -> None:
    mount(tmp_path, "7", current="sk-secret")
    keys, file = ApiKeySource(directory=tmp_path), KeyFile(tmp_path / "current")
    assert keys.current() == file.read() == "sk-secret"
    assert "sk-" not in repr(keys) + repr(file) + repr(ApiKeySource(env_key="sk-secret"))


def test_a_key_that_was_read_stands_while_its_secret_is_gone(tmp_path: Path) -> None:
    files = {"current": "sk-1", "previous": "sk-0", "revision": "7"}
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    source = ApiKeySource(directory=tmp_path)
    assert (source.current(), source.previous(), source.revision()) == ("sk-1", "sk-0", "7")

    for name in files:
        (tmp_path / name).unlink()
    assert (source.current(), source.previous(), source.revision()) == ("sk-1", None, "7")
    assert list(source.attempts()) == ["sk-1", "sk-1"]

    (tmp_path / "current").write_text("sk-2", encoding="utf-8")
    assert source.current() == "sk-2"
