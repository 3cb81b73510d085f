"""Times of crons come, and what becomes of each is counted; a cron ends with its owner's keys."""

from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

import jwt
import pytest
from langgraph_sdk import get_client

from agent_service.auth.api_keys import create_key, list_keys, revoke_key
from agent_service.runs import cron_owners, crons
from agent_service.runs.cron_store import CronStore
from tests.service.runs.conftest import Database, until
from tests.support.service import RunningService, running_service
from tests.support.thread_reader import asking

SECRET = "x" * 32

DUE = "UPDATE slipway.crons SET next_run = date_trunc('minute', now()) - interval '1 hour' WHERE id::text = ANY(%s)"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    folder.mkdir()
    return folder


@pytest.fixture
async def service(database_url: str, keys: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningService]:
    monkeypatch.setattr(crons, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(cron_owners, "NOTED_SECONDS", 0.0)
    env = {"AUTH": "required", "API_KEYS_DIR": str(keys), "JWT_SECRET": SECRET, "MODEL": "offline"}
    async with running_service(database_url, AGENT_GRAPH="tests.support.graphs:gated", **env) as running:
        yield running


async def made(service: RunningService, credential: str) -> str:
    async with get_client(url=service.url, headers={"Authorization": f"Bearer {credential}"}) as sdk:
        cron: Any = await sdk.crons.create("agent", schedule="0 0 1 1 *", input=asking("hi"))
    return str(cron["cron_id"])


async def come(database: Database, *ids: str) -> dict[str, str | None]:
    """Lets a time of each come; then what each says of it: None, it has begun a run."""
    database.rows("UPDATE slipway.crons SET last_run_id = NULL")
    database.rows(DUE, list(ids))
    await until(lambda: not database.rows("SELECT 1 FROM slipway.crons WHERE next_run <= now()"))
    rows = {str(row["id"]): row for row in database.rows("SELECT id, last_error, last_run_id FROM slipway.crons")}
    assert [rows[each] for each in ids if (rows[each]["last_run_id"] is None) != bool(rows[each]["last_error"])] == []
    return {each: rows[each]["last_error"] for each in ids}


def ticks(service: RunningService) -> dict[str, float]:
    (family,) = service.resources.metrics.cron_ticks.collect()
    return {sample.labels["result"]: sample.value for sample in family.samples if sample.name.endswith("_total")}


async def test_a_cron_ends_with_the_keys_of_its_owner_and_not_with_one_that_is_replaced(
    service: RunningService, keys: Path, database: Database
) -> None:
    assert ticks(service) == {"begun": 0, "refused": 0, "failed": 0, "elsewhere": 0}
    ann, bob = (create_key(keys, user=user, tenant="acme", role="user") for user in ("ann", "bob"))
    create_key(keys, user="ann", tenant="other", role="user")
    await until(lambda: service.resources.authenticator.still_admits("acme", "bob", by_key=True))
    of_ann, of_bob = await made(service, ann), await made(service, bob)
    (old,) = [key.id for key in list_keys(keys) if (key.tenant, key.user) == ("acme", "ann")]
    create_key(keys, user="ann", tenant="acme", role="user")
    revoke_key(keys, old)
    assert await come(database, of_ann, of_bob) == {of_ann: None, of_bob: None}

    (new,) = [key.id for key in list_keys(keys) if (key.tenant, key.user) == ("acme", "ann")]
    revoke_key(keys, new)
    await until(lambda: not service.resources.authenticator.still_admits("acme", "ann", by_key=True))
    after = await come(database, of_ann, of_bob)
    assert after == {of_ann: "forbidden: no API key of its owner is valid any more", of_bob: None}
    await until(lambda: sum(ticks(service).values()) == 4)
    assert ticks(service) == {"begun": 3, "refused": 1, "failed": 0, "elsewhere": 0}
    assert database.rows("SELECT user_id, count(*) AS n FROM slipway.runs GROUP BY user_id ORDER BY user_id") == [
        {"user_id": "ann", "n": 1},
        {"user_id": "bob", "n": 2},
    ]


async def test_a_cron_of_a_caller_with_a_token_goes_on_and_one_of_which_nothing_is_known(
    service: RunningService, database: Database
) -> None:
    cron = await made(service, jwt.encode({"sub": "eve", "tenant": "acme", "exp": 2**33}, SECRET, "HS256"))
    assert await come(database, cron) == {cron: None}
    database.rows("UPDATE slipway.crons SET by_key = NULL")  # from before it was kept
    assert await come(database, cron) == {cron: None}
    database.rows("UPDATE slipway.crons SET by_key = true")
    assert (await come(database, cron))[cron]


async def test_a_cron_waits_for_an_owner_with_a_token_who_was_away_for_long_and_goes_on_once_one_is_back(
    service: RunningService, keys: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: set[tuple[str, str]] = set()
    write = CronStore.seen

    async def seen(store: CronStore, owners: Collection[tuple[str, str]]) -> None:
        await write(store, owners)
        written.update(owners)

    monkeypatch.setattr(CronStore, "seen", seen)
    token = jwt.encode({"sub": "eve", "tenant": "acme", "exp": 2**33}, SECRET, "HS256")
    key = create_key(keys, user="bob", tenant="acme", role="user")
    await until(lambda: service.resources.authenticator.still_admits("acme", "bob", by_key=True))
    of_key, of_token = await made(service, key), await made(service, token)
    await until(lambda: written == {("acme", "bob"), ("acme", "eve")})  # or it would be written after what is pretended below
    database.rows("UPDATE slipway.crons SET owner_seen = now() - interval '29 days'")
    assert await come(database, of_key, of_token) == {of_key: None, of_token: None}

    database.rows("UPDATE slipway.crons SET owner_seen = now() - interval '31 days'")
    told = await come(database, of_key, of_token)
    assert told[of_key] is None  # it ends with its key
    assert str(told[of_token]).startswith("forbidden: its owner has shown no valid token for 30 days (CRON_OWNER_DAYS)")

    async with get_client(url=service.url, headers={"Authorization": f"Bearer {token}"}) as sdk:
        await sdk.threads.create()
    await until(
        lambda: not database.rows("SELECT 1 FROM slipway.crons WHERE user_id = 'eve' AND owner_seen < now() - interval '1 day'")
    )
    assert await come(database, of_token) == {of_token: None}
    assert database.rows("SELECT 1 FROM slipway.crons WHERE user_id = 'bob' AND owner_seen > now() - interval '30 days'") == []


@pytest.mark.parametrize("more", [{"AUTH": "disabled"}, {"AUTH": "required", "JWT_SECRET": SECRET, "CRON_OWNER_DAYS": "0"}])
async def test_nobody_is_away_for_too_long_without_sign_in_or_a_limit(
    database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch, more: dict[str, str]
) -> None:
    monkeypatch.setattr(crons, "POLL_SECONDS", 0.1)
    async with running_service(database_url, AGENT_GRAPH="tests.support.graphs:gated", MODEL="offline", **more) as service:
        cron = await made(service, jwt.encode({"sub": "eve", "exp": 2**33}, SECRET, "HS256"))
        database.rows("UPDATE slipway.crons SET owner_seen = now() - interval '1000 days'")
        assert await come(database, cron) == {cron: None}


async def test_a_cron_that_cannot_be_begun_is_counted_as_failed(
    service: RunningService, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    cron = await made(service, jwt.encode({"sub": "eve", "exp": 2**33}, SECRET, "HS256"))

    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(crons, "run_input", broken)
    assert await come(database, cron) == {cron: "internal: it could not be begun"}
    await until(lambda: ticks(service)["failed"] == 1)


@pytest.mark.parametrize("by_key", [True, False, None])
async def test_without_tokens_a_caller_without_keys_is_gone(database_url: str, keys: Path, by_key: bool | None) -> None:
    create_key(keys, user="bob", tenant="acme", role="user")
    async with running_service(
        database_url, AGENT_GRAPH="tests.support.graphs:gated", MODEL="offline", AUTH="required", API_KEYS_DIR=str(keys)
    ) as service:
        assert service.resources.authenticator.still_admits("acme", "ann", by_key=by_key) is False
        assert service.resources.authenticator.still_admits("acme", "bob", by_key=by_key)
