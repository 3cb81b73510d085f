"""The role and the views, migrated by a user who is no superuser."""

import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from agent_service.child_processes import Workers
from agent_service.data.data_reader import DataReader
from agent_service.db.migrate import migrate
from agent_service.db.pool import make_pool
from tests.service.data.conftest import ANN, add_run


@pytest.fixture
def owner_url(empty_database_url: str) -> Iterator[str]:
    """An empty database as its owner, who has no other right."""
    owner = f"owner_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(empty_database_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x'").format(sql.Identifier(owner)))
        admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(admin.info.dbname), sql.Identifier(owner)))
    yield make_conninfo(empty_database_url, user=owner, password="x")
    with psycopg.connect(empty_database_url, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(owner)))
        admin.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(sql.Identifier(owner)))
        admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(owner)))


async def test_owner_without_rights_on_the_role_is_told_what_to_run_and_then_succeeds(
    owner_url: str, admin_url: str, workers: Workers
) -> None:
    with pytest.raises(psycopg.errors.RaiseException) as raised:
        migrate(owner_url)
    advice = str(raised.value.diag.message_primary).split("run: ")[1].split(";")[0]
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(advice.encode())

    migrate(owner_url)

    with psycopg.connect(owner_url) as conn:
        add_run(conn, ANN, calls=[("gpt-x", 1, "2")])
    async with make_pool(owner_url, size=1, timeout=5) as pool:
        reader = DataReader(pool, workers, schemas=("slipway_data",), timeout=5, row_limit=10)
        assert (await reader.query("SELECT sum(cost_usd) FROM usage", principal=ANN)).rows == ((2,),)
