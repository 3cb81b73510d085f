"""JWT_SECRET_DIR: HS256 secrets that change under the process."""

from pathlib import Path

import jwt
import pytest

from agent_service.auth.jwt_verifier import JwtVerifier
from agent_service.auth.shared_secrets import CHECK_SECONDS, SharedSecrets
from agent_service.errors import SettingsError, Unauthenticated
from agent_service.settings import load_settings
from tests.support.clock import Clock
from tests.support.jwks import claims

OLD, NOW, NEXT, STRANGE = (name * 8 for name in ("old-", "now-", "next", "odd-"))


def write(folder: Path, **files: str) -> None:
    for path in folder.iterdir():
        path.unlink()
    for name, text in files.items():
        (folder / name).write_text(text + "\n")


def token(secret: str, **more: object) -> str:
    return jwt.encode(claims(**more), secret, "HS256")


@pytest.mark.parametrize("secret", [OLD, NOW, NEXT])
async def test_tokens_signed_with_any_of_the_three_are_good(tmp_path: Path, secret: str) -> None:
    write(tmp_path, current=NOW, previous=OLD, next=NEXT, revision="8-next")

    principal = await JwtVerifier(shared=SharedSecrets(tmp_path)).authenticate(token(secret))

    assert principal.user == "alice"


async def test_a_token_signed_with_another_secret_is_refused(tmp_path: Path) -> None:
    write(tmp_path, current=NOW, previous=OLD)
    with pytest.raises(Unauthenticated, match="signature"):
        await JwtVerifier(shared=SharedSecrets(tmp_path)).authenticate(token(STRANGE))


async def test_an_expired_token_of_the_previous_secret_is_told_to_be_expired(tmp_path: Path) -> None:
    write(tmp_path, current=NOW, previous=OLD)
    with pytest.raises(Unauthenticated, match="expired"):
        await JwtVerifier(shared=SharedSecrets(tmp_path)).authenticate(token(OLD, exp=1))


async def test_a_change_of_the_folder_counts_within_a_second(tmp_path: Path) -> None:
    clock = Clock()
    shared = SharedSecrets(tmp_path, clock)
    write(tmp_path, current=OLD, revision="1")
    verifier = JwtVerifier(shared=shared)
    await verifier.authenticate(token(OLD))

    write(tmp_path, current=NOW, revision="2")
    assert shared.revision() == "1"
    clock.pass_by(CHECK_SECONDS)

    assert shared.revision() == "2"
    with pytest.raises(Unauthenticated):
        await verifier.authenticate(token(OLD))


async def test_an_empty_folder_keeps_the_secrets_that_were_there(tmp_path: Path) -> None:
    clock = Clock()
    write(tmp_path, current=NOW, revision="1")
    verifier = JwtVerifier(shared=SharedSecrets(tmp_path, clock))
    await verifier.authenticate(token(NOW))

    write(tmp_path)
    clock.pass_by(CHECK_SECONDS)

    await verifier.authenticate(token(NOW))


async def test_a_short_secret_is_not_used(tmp_path: Path) -> None:
    write(tmp_path, current="short", previous=OLD)
    shared = SharedSecrets(tmp_path)
    assert shared.signer_of(token(OLD)) == OLD
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        weak = token("short")
    assert shared.signer_of(weak) == OLD


def test_a_secret_and_a_folder_of_secrets_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="JWT_SECRET or JWT_SECRET_DIR"):
        load_settings({"JWT_SECRET": NOW, "JWT_SECRET_DIR": str(tmp_path)})
