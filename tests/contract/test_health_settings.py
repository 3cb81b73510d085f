"""The operator's checks take for granted what the service does without a setting."""

from agent_service.settings import Settings
from slipway_doctor.checks.environment import DEFAULTS, EXTRA_CONNECTIONS
from slipway_doctor.checks.security import CALLERS, SECRET_SETTINGS
from tests.support.service import running_service


def test_the_defaults_are_the_services_own() -> None:
    fields = {name.upper(): field.default for name, field in Settings.model_fields.items()}

    assert {name: str(fields[name]) for name in DEFAULTS} == DEFAULTS
    assert {*SECRET_SETTINGS, *CALLERS} <= fields.keys()


async def test_a_process_opens_so_many_connections_beside_its_pool(database_url: str) -> None:
    async with running_service(database_url, DATABASE_POOL_SIZE="1") as service, service.client() as client:
        await client.post("/chat", json={"question": "hello"})
        async with service.resources.pool.connection() as conn:
            cursor = await conn.execute("SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database()")
            row = await cursor.fetchone()

    assert row
    assert row["n"] == 1 + EXTRA_CONNECTIONS
