from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from agent_service.db.address import Address
from agent_service.db.pool import make_pool
from agent_service.errors import SettingsError
from agent_service.settings import Settings


def settings(file: Path) -> Settings:
    return Settings(auth="disabled", database_url=SecretStr("postgresql:///other"), database_url_file=file)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b" \n", "is empty"),
        (b"\xff\xfe", "is no text"),
        (b"postgres//u:hunter2@h", "expected a libpq URI"),
        (b"hunter2", "expected a libpq URI"),
    ],
)
def test_a_file_without_an_address_ends_the_start_and_is_not_quoted(tmp_path: Path, content: bytes | None, reason: str) -> None:
    file = tmp_path / "url"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(SettingsError, match=rf"^DATABASE_URL_FILE=.*: {reason}") as caught:
        Address.of(settings(file))

    assert "hunter2" not in str(caught.value)


def test_the_file_wins_over_the_variable(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql:///ours\n", encoding="utf-8")

    assert Address.of(settings(file))() == "postgresql:///ours"


async def test_what_cannot_serve_is_refused_and_all_connections_follow_what_can(
    database_url: str, admin_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "url"
    file.write_text(database_url, encoding="utf-8")
    address = Address.of(settings(file))
    async with make_pool(address, size=2, timeout=10) as pool:
        address.on_change(pool.drain)
        async with pool.connection() as conn:
            before = conn.info.backend_pid
            for wrong in ("", "nonsense", make_conninfo(database_url, dbname="nowhere"), admin_url):
                file.write_text(wrong, encoding="utf-8")
                await address.look()
                assert address() == database_url
            file.unlink()
            await address.look()
            assert address() == database_url

            file.write_text(make_conninfo(database_url, options="-c geqo=off"), encoding="utf-8")
            await address.look()
            await conn.execute("SELECT 1")  # in use: it is left alone until it is back
            assert conn.info.backend_pid == before
        async with pool.connection() as conn:
            shown = await (await conn.execute("SHOW geqo")).fetchone()

    assert shown == {"geqo": "off"}


async def test_a_connection_that_was_begun_as_the_user_before_is_not_kept(database_url: str) -> None:
    user = "postgres"

    def changes() -> str:
        return make_conninfo(database_url, user=user)

    async with make_pool(changes, size=2, timeout=10) as pool, pool.connection() as conn:
        user = "somebody_else"
        with pytest.raises(psycopg.OperationalError, match="changed meanwhile"):
            await pool._configure(conn)
