import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from agent_service.auth.api_keys import CHECK_SECONDS, KEY_TEXT, ApiKeys, create_key, key_hash, list_keys, revoke_key
from agent_service.errors import InvalidRequest, NotFound, Unauthenticated
from agent_service.principal import Principal
from tests.support.clock import Clock

ALICE = Principal("acme", "alice", "user")


def add_key(folder: Path, **changes: Any) -> str:
    wanted: dict[str, Any] = {"user": "alice", "tenant": "acme", "role": "user", "expires_at": None, **changes}
    return create_key(folder, **wanted)


def id_of(key: str) -> str:
    return key.split("_")[1]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(tmp_path: Path, clock: Clock) -> ApiKeys:
    return ApiKeys(tmp_path, clock)


def test_a_new_key_authenticates_its_principal(tmp_path: Path, keys: ApiKeys) -> None:
    key = add_key(tmp_path, role="admin")
    assert KEY_TEXT.fullmatch(key)
    assert keys.authenticate(key) == Principal("acme", "alice", "admin")


def test_only_the_hash_is_on_disk_and_only_the_owner_reads_it(tmp_path: Path) -> None:
    key = add_key(tmp_path / "new folder")
    [path] = (tmp_path / "new folder").iterdir()
    assert path.name == id_of(key)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = json.loads(path.read_text())
    assert content.keys() == {"hash", "tenant", "user", "role", "created_at"}
    assert content["hash"] == key_hash(key)
    assert key.split("_", 2)[2] not in path.read_text()


def test_another_secret_for_a_known_id_is_refused(tmp_path: Path, keys: ApiKeys) -> None:
    mine, other = add_key(tmp_path), add_key(tmp_path)
    assert keys.authenticate(f"slw_{id_of(mine)}_{other.split('_', 2)[2]}") is None


@pytest.mark.parametrize("text", ["", "slw_", "slw_abcdefgh_short", "slw_../../et_" + "a" * 43, "slw_abcdefgh_" + "a" * 44])
def test_text_that_is_no_key_is_refused(keys: ApiKeys, text: str) -> None:
    assert keys.authenticate(text) is None


def test_an_expired_key_is_refused_and_says_so(tmp_path: Path, clock: Clock) -> None:
    now = datetime.now(UTC)
    key = add_key(tmp_path, expires_at=now + timedelta(hours=1))
    assert ApiKeys(tmp_path, clock).authenticate(key) == ALICE
    with pytest.raises(Unauthenticated, match="expired"):
        ApiKeys(tmp_path, clock, now=lambda: now + timedelta(hours=1)).authenticate(key)
    forged = f"slw_{id_of(key)}_{'a' * 43}"
    assert ApiKeys(tmp_path, clock, now=lambda: now + timedelta(hours=1)).authenticate(forged) is None


def test_a_revoked_key_stops_and_a_new_one_starts_at_the_next_look(tmp_path: Path, keys: ApiKeys, clock: Clock) -> None:
    old = add_key(tmp_path)
    assert keys.authenticate(old) == ALICE
    revoke_key(tmp_path, id_of(old))
    new = add_key(tmp_path)
    clock.pass_by(CHECK_SECONDS)
    assert keys.authenticate(old) is None
    assert keys.authenticate(new) == ALICE


def test_the_folder_is_looked_at_once_a_second(tmp_path: Path, keys: ApiKeys, clock: Clock) -> None:
    assert keys.authenticate("slw_abcdefgh_" + "a" * 43) is None
    key = add_key(tmp_path)
    clock.pass_by(CHECK_SECONDS / 2)
    assert keys.authenticate(key) is None
    clock.pass_by(CHECK_SECONDS / 2)
    assert keys.authenticate(key) == ALICE


def mount(volume: Path, version: str, *keys: Path) -> None:
    """Changes a folder as the kubelet changes a Secret's mount: a new folder, then one rename of the link `..data`."""
    (volume / version).mkdir(parents=True)
    for path in keys:
        (volume / version / path.name).write_bytes(path.read_bytes())
        os.utime(volume / version / path.name, (1, 1))
    (volume / "..data_tmp").symlink_to(version)
    (volume / "..data_tmp").rename(volume / "..data")
    wanted = {path.name for path in keys}
    for name in wanted - {path.name for path in volume.iterdir()}:
        (volume / name).symlink_to(Path("..data") / name)
    for link in [path for path in volume.iterdir() if not path.name.startswith(".") and path.name not in wanted]:
        link.unlink()


def test_a_mounted_secret_may_be_swapped(tmp_path: Path, clock: Clock) -> None:
    made, volume = tmp_path / "made", tmp_path / "volume"
    kept, dropped, added = add_key(made), add_key(made), add_key(made)
    mount(volume, "..2026_01", made / id_of(kept), made / id_of(dropped))
    keys = ApiKeys(volume, clock)
    assert (keys.authenticate(kept), keys.authenticate(dropped), keys.authenticate(added)) == (ALICE, ALICE, None)

    mount(volume, "..2026_02", made / id_of(kept), made / id_of(added))
    clock.pass_by(CHECK_SECONDS)
    assert (keys.authenticate(kept), keys.authenticate(dropped), keys.authenticate(added)) == (ALICE, None, ALICE)


def test_a_swap_that_only_changes_a_files_content_counts(tmp_path: Path, clock: Clock) -> None:
    made, volume = tmp_path / "made", tmp_path / "volume"
    key = add_key(made)
    path = made / id_of(key)
    mount(volume, "..2026_01", path)
    keys = ApiKeys(volume, clock)
    assert keys.authenticate(key) == ALICE
    path.write_text(path.read_text().replace('"role":"user"', '"role":"gone"').replace("gone", "admi"))
    mount(volume, "..2026_02", path)
    clock.pass_by(CHECK_SECONDS)
    assert keys.authenticate(key) is None


def test_a_link_whose_target_is_gone_is_no_key(tmp_path: Path, clock: Clock) -> None:
    key = add_key(tmp_path)
    (tmp_path / "abcdefgh").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "bcdefghi")
    assert ApiKeys(tmp_path, clock).authenticate(key) == ALICE


BAD_FILES = [
    "",
    "not json",
    "[]",
    '"text"',
    "\xff",
    "[" * 100_000,
    "{}",
    '{"hash":"short","tenant":"acme","user":"alice","role":"user","created_at":"2026-01-01T00:00:00Z"}',
]


@pytest.mark.parametrize("content", BAD_FILES)
def test_a_bad_file_is_logged_once_and_skipped(tmp_path: Path, keys: ApiKeys, clock: Clock, content: str) -> None:
    (tmp_path / "abcdefgh").write_text(content, encoding="latin-1")
    key = add_key(tmp_path)
    with capture_logs() as logs:
        for _ in range(3):
            assert keys.authenticate(key) == ALICE
            clock.pass_by(CHECK_SECONDS)
    assert [(line["event"], line["file"]) for line in logs] == [("api_key_file_skipped", "abcdefgh")]


@pytest.mark.parametrize(
    "change",
    [{"role": "superuser"}, {"user": "a\nb"}, {"tenant": ""}, {"expires_at": "2099-01-01T00:00:00"}, {"expires_at": "never"}],
)
def test_a_file_with_a_bad_field_is_no_key(tmp_path: Path, clock: Clock, change: dict[str, str]) -> None:
    key = add_key(tmp_path)
    path = tmp_path / id_of(key)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert ApiKeys(tmp_path, clock).authenticate(key) is None


def test_a_file_under_another_name_than_its_id_is_no_key(tmp_path: Path, clock: Clock) -> None:
    key = add_key(tmp_path)
    (tmp_path / id_of(key)).rename(tmp_path / "Backup of the key")
    assert ApiKeys(tmp_path, clock).authenticate(key) is None


def test_a_missing_folder_is_logged_and_has_no_keys_until_it_is_there(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "later"
    with capture_logs() as logs:
        keys = ApiKeys(folder, clock)
    assert [line["event"] for line in logs] == ["api_keys_folder_missing"]
    assert keys.authenticate("slw_abcdefgh_" + "a" * 43) is None
    key = add_key(folder)
    clock.pass_by(CHECK_SECONDS)
    assert keys.authenticate(key) == ALICE


def test_the_revision_follows_the_set_of_keys_and_agrees_between_replicas(tmp_path: Path, keys: ApiKeys, clock: Clock) -> None:
    empty = keys.revision()
    key = add_key(tmp_path)
    clock.pass_by(CHECK_SECONDS)
    one = keys.revision()
    assert one != empty
    assert ApiKeys(tmp_path).revision() == one
    revoke_key(tmp_path, id_of(key))
    clock.pass_by(CHECK_SECONDS)
    assert keys.revision() == empty


def test_listed_keys_are_those_in_the_folder(tmp_path: Path) -> None:
    assert list_keys(tmp_path / "missing") == []
    expiry = datetime(2099, 1, 1, tzinfo=UTC)
    made = [add_key(tmp_path), add_key(tmp_path, user="bob", expires_at=expiry)]
    (tmp_path / "note.txt").write_text("not a key")
    assert {record.id for record in list_keys(tmp_path)} == {id_of(key) for key in made}
    assert {record.expires_at for record in list_keys(tmp_path)} == {None, expiry}
    assert "hash" not in repr(list_keys(tmp_path))


@pytest.mark.parametrize("key_id", ["abcdefgh", "../secret", "", "..data"])
def test_revoking_an_unknown_key_says_so_and_removes_nothing(tmp_path: Path, key_id: str) -> None:
    (tmp_path / "secret").write_text("kept")
    (tmp_path / "keys").mkdir()
    with pytest.raises(NotFound):
        revoke_key(tmp_path / "keys", key_id)
    assert (tmp_path / "secret").exists()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"user": ""}, "user"),
        ({"tenant": "a\tb"}, "tenant"),
        ({"role": "root"}, "role"),
        ({"expires_at": datetime(2099, 1, 1)}, "expires_at"),  # noqa: DTZ001  # the missing time zone is the point
    ],
)
def test_a_key_for_a_bad_name_is_not_made(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        add_key(tmp_path, **change)
    assert caught.value.field == field
    assert list(tmp_path.iterdir()) == []
