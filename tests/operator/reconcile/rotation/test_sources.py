"""Each kind of key in a whole rotation, and what each provider refuses."""

import base64
import hashlib
import json
from typing import Any

import httpx
import jwt
import pytest

from agent_operator.leases import LEASE_NAME
from agent_operator.providers import ProviderError
from agent_operator.providers.endpoint import check_key
from agent_operator.reconcile.rotation.api_keys import set_revision
from slipway_clients.cluster.kinds import LEASE, SECRET
from tests.operator.reconcile.rotation.world import (
    NAMESPACE,
    OPENAI,
    Crash,
    FakePod,
    World,
    only_the_current_key_is_left,
    started,
)

JWT = {"generated": {"kind": "JWTSecret"}}
API_KEY = {"generated": {"kind": "APIKey", "apiKey": {"recordsSecretName": "api-keys", "user": "billing"}}}
POOL = {"pool": {"secretName": "pool"}}


# OpenAI.


async def test_keys_of_one_service_account_are_rotated_without_touching_the_account() -> None:
    world = World(provider={"openAI": {**OPENAI["openAI"], "mode": "KeyPerRevision", "serviceAccountID": "svc_acct_1"}})
    account = world.openai.add_account("theirs")
    world.openai.keys.clear()
    await started(world)
    world.annotate(rotate_now="1")

    await world.rotate()

    assert list(world.openai.accounts) == [account.id]
    assert only_the_current_key_is_left(world)


async def test_a_provider_that_does_not_delete_keys_of_accounts_is_named_with_the_way_out() -> None:
    world = World(provider={"openAI": {**OPENAI["openAI"], "mode": "KeyPerRevision", "serviceAccountID": "svc_acct_1"}})
    world.openai.add_account("theirs")
    world.openai.keys.clear()
    world.openai.deletes_keys_of_accounts = False
    await started(world)
    world.annotate(rotate_now="1")

    await world.until(lambda: "failure" in world.status)

    assert world.status["failure"]["reason"] == "DeleteRefused"
    assert "ServiceAccountPerRevision" in world.condition("OldKeyRevoked")["message"]
    assert world.condition("Ready")["status"] == "True"


async def test_the_lease_is_proved_once_before_each_call_that_changes_something_at_the_provider() -> None:
    world = await started(World())
    world.annotate(rotate_now="1")
    await world.rotate()

    deeds = ("create Secret", "POST", "DELETE")
    calls = [effect for effect in world.effects if "Lease" in effect or effect.startswith(deeds)]
    assert [call.partition(" ")[0] for call in calls[::2]] == ["create", "replace", "replace", "replace"], "each a Lease"
    assert [call.partition(" ")[0] for call in calls[1::2]] == ["create", "POST", "POST", "DELETE"]


async def test_keys_of_others_in_the_project_are_left_alone() -> None:
    world = World()
    theirs = world.openai.add_account("production")
    other = world.openai.add_account("slipway-another-uid-r1")
    await started(world)
    world.annotate(rotate_now="1")
    await world.rotate()

    assert {theirs.id, other.id} < set(world.openai.accounts)
    assert len(world.openai.accounts) == 3


async def test_a_key_expires_by_itself_and_is_rotated_well_before() -> None:
    world = World(provider={"openAI": {**OPENAI["openAI"], "keyLifetime": "3h"}}, options={"schedule": {"interval": "240h"}})
    await started(world)
    [key] = world.openai.keys.values()
    assert key.expires_at == pytest.approx(world.openai.now() + 3 * 3600, abs=120)

    await world.rotate(seconds=2 * 3600 + 300)


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        (None, "AdminKeyMissing"),
        ({"slipway.dev/allow": "other/proj_1"}, "AdminKeyNotAllowed"),
        ({"slipway.dev/allow": "team/proj_2"}, "AdminKeyNotAllowed"),
        ({}, "AdminKeyNotAllowed"),
    ],
)
async def test_an_admin_key_is_used_for_whom_it_is_meant_only(secret: dict[str, str] | None, reason: str) -> None:
    world = World()
    files = {} if secret is None else {"admin-key": "sk-secret"}
    world.put_secret("slipway-system", "openai-admin", files, annotations=secret or {})

    await world.turn()

    assert world.status["failure"]["reason"] == reason
    assert world.condition("Ready")["reason"] == reason
    assert world.openai.calls == []


async def test_a_refused_admin_key_leaves_the_old_key_in_use_and_is_tried_again_slowly() -> None:
    world = await started(World())
    world.openai.faults = [("GET", "unauthorized")]
    world.annotate(rotate_now="1")

    pause = await world.turn()

    assert pause is not None
    assert pause > 500
    assert world.condition("Ready")["status"] == "True"
    world.respec(overlap="2m")  # whoever changes the object has mended something
    await world.turn()
    assert world.status["revision"] == 2


async def test_a_new_key_that_does_not_work_is_given_up_and_the_old_one_kept() -> None:
    world = await started(World(options={"verify": {"url": "http://model/v1/models", "timeout": "1m"}}))
    old = world.secret()["current"]
    good, world.openai.accepts = world.openai.accepts, lambda value: value == ""  # type: ignore[method-assign]  # a new key that works nowhere
    world.annotate(rotate_now="1")

    await world.until(lambda: world.status.get("discardedKeys", 0) == 1)
    assert world.secret()["current"] == old
    assert "next" not in world.secret()
    assert only_the_current_key_is_left(world)
    assert world.status["failure"]["reason"] == "NewKeyRefused"

    world.openai.accepts = good  # type: ignore[method-assign]  # as before
    await world.rotate()
    assert only_the_current_key_is_left(world)


async def test_a_staged_key_that_vanished_at_the_provider_is_not_published() -> None:
    world = await started(World())
    old = world.secret()["current"]
    world.openai.faults = [("POST", "timeout_before")]
    world.annotate(rotate_now="1")
    await world.turn()
    world.clock.pass_by(60)
    world.crash_after = len(world.effects) + 4  # the Lease, and once more, the account, the staged key
    with pytest.raises(Crash):
        await world.turn()
    assert world.secret()["next"]
    world.openai.accounts = {each: a for each, a in world.openai.accounts.items() if not a.name.endswith("r2")}
    world.openai.keys = {each: key for each, key in world.openai.keys.items() if not key.name.endswith("r2")}
    world.restart()

    await world.until(lambda: world.status.get("failure", {}).get("reason") == "NewKeyGone")

    assert world.secret()["current"] == old
    await world.rotate()
    assert only_the_current_key_is_left(world)


# The target Secret.


async def test_a_secret_of_somebody_else_is_not_touched() -> None:
    world = World()
    world.put_secret(NAMESPACE, "openai-key", {"current": "sk-by-hand"})

    await world.turn()

    assert world.secret() == {"current": "sk-by-hand"}
    assert world.condition("Ready")["reason"] == "ForeignSecret"
    assert "slipway.dev/keyrotation" in world.condition("Ready")["message"]
    assert world.openai.calls == []


async def test_a_secret_that_is_handed_over_keeps_its_key_as_the_previous_one() -> None:
    world = World()
    world.put_secret(NAMESPACE, "openai-key", {"current": "sk-by-hand"}, labels={"slipway.dev/keyrotation": "model-key"})

    await world.until(lambda: world.status.get("phase") == "Overlapping")
    assert world.secret()["previous"] == "sk-by-hand"
    await world.until(lambda: world.idle)

    assert "RevokeByHand" in world.reasons()
    assert only_the_current_key_is_left(world)


async def test_a_secret_that_was_put_back_to_an_older_state_is_replaced() -> None:
    world = await started(World())
    old = world.cluster.find(*_secret())
    world.annotate(rotate_now="1")
    await world.rotate()
    assert old is not None
    world.cluster.put(old)  # a backup, or a GitOps tool

    await world.turn()
    await world.until(lambda: world.idle and world.status["revision"] == 3)

    assert world.secret()["revision"] == "3"
    assert only_the_current_key_is_left(world)


# Pools.


def pool(**keys: str) -> World:
    world = World(provider=POOL)
    world.put_secret(NAMESPACE, "pool", keys, labels={"slipway.dev/key-pool": "true"})
    return world


async def test_a_pool_is_used_in_turn_and_each_key_once() -> None:
    world = await started(pool(a="sk-a", b="sk-b"))
    assert world.secret()["current"] == "sk-a"
    world.annotate(rotate_now="1")
    await world.rotate()
    assert world.secret()["current"] == "sk-b"
    assert any("revoked by hand" in event.message and "a" in event.message for event in world.cluster.events)

    world.annotate(rotate_now="2")
    await world.until(lambda: "failure" in world.status)
    assert world.status["failure"]["reason"] == "PoolExhausted"
    assert world.secret()["current"] == "sk-b"


async def test_a_secret_that_does_not_agree_is_no_pool() -> None:
    world = World(provider=POOL)
    world.put_secret(NAMESPACE, "pool", {"password": "of the database"}, labels={"app": "shop"})

    await world.until(lambda: "failure" in world.status)

    assert world.status["failure"]["reason"] == "NoConsent"
    assert "slipway.dev/key-pool=true" in world.condition("Ready")["message"]
    assert world.secret() == {}


@pytest.mark.parametrize(
    ("hosts", "url", "reason"),
    [
        ("", "https://evil.example/v1/models", "HostNotAllowed"),
        ("models.internal", "https://evil.example/?models.internal", "HostNotAllowed"),
        ("models.internal", "http://models.internal/v1", "HostNotAllowed"),
        ("http://models.internal", "http://models.internal/v1", "HostNotAllowed"),
        ("not a host/", "https://models.internal/v1", "HostNotAllowed"),
        ("models.internal", "https://models.internal/v1", None),
        ("", "http://model/v1", None),
    ],
)
async def test_a_key_of_a_pool_is_tried_where_its_secret_or_the_operator_says(hosts: str, url: str, reason: str | None) -> None:
    world = World(provider=POOL, options={"verify": {"url": url}})
    consent = {"labels": {"slipway.dev/key-pool": "true"}, "annotations": {"slipway.dev/hosts": hosts}}
    world.put_secret(NAMESPACE, "pool", {"a": "sk-a"}, **consent)
    world.openai.accepts = lambda value: value == "sk-a"  # type: ignore[method-assign]  # a key that somebody issued before

    await world.until(lambda: "failure" in world.status or world.status.get("revision") == 1)

    assert world.status.get("failure", {}).get("reason") == reason
    assert world.sent_to == ([] if reason else [url])


async def test_an_admin_key_goes_to_its_own_host_by_https_alone() -> None:
    world = World()
    files = {"admin-key": "sk-admin", "base-url": "http://openai.example/v1"}
    world.put_secret("slipway-system", "openai-admin", files, annotations={"slipway.dev/allow": "team/proj_1"})

    await world.turn()

    assert world.status["failure"]["reason"] == "HostNotAllowed"
    assert world.sent_to == []


async def test_a_new_key_goes_to_no_host_of_the_objects_choice() -> None:
    world = World(options={"verify": {"url": "https://evil.example/v1/models"}})

    await world.until(lambda: "failure" in world.status)

    assert world.status["failure"]["reason"] == "HostNotAllowed"
    assert not [url for url in world.sent_to if "evil" in url]
    assert world.openai.keys == {}


async def test_a_crash_after_taking_a_key_of_the_pool_wastes_none() -> None:
    effects = len((await started(pool(a="sk-a", b="sk-b"))).effects)
    for number in range(1, effects + 1):
        world = pool(a="sk-a", b="sk-b")
        world.crash_after = number
        await world.rotate()
        assert world.secret()["current"] == "sk-a"


# Keys that our pods check.


async def test_a_jwt_secret_is_signed_with_only_after_every_pod_accepts_it() -> None:
    world = World(provider=JWT, status_key="jwt")
    await started(world)
    old = world.secret()["current"]
    world.pods["10.0.0.1"].stuck = True
    world.annotate(rotate_now="1")

    await world.until(lambda: world.status["phase"] == "Verifying" and world.status["pending"]["verified"])
    await world.until(lambda: world.clock.now().minute >= 10)
    assert world.secret()["current"] == old, "a pod does not accept the next one yet"
    assert world.secret()["revision"] == "2-next"

    world.pods["10.0.0.1"].stuck = False
    await world.until(lambda: world.status["phase"] == "Overlapping")
    assert world.secret()["previous"] == old
    await world.until(lambda: world.idle)
    assert set(world.secret()) == {"current", "revision"}


async def test_at_every_moment_every_pod_accepts_tokens_signed_with_what_any_pod_has_as_current() -> None:
    world = await started(World(provider=JWT, status_key="jwt"))

    def accepted() -> None:
        for signer in world.pods.values():
            token = jwt.encode({"sub": "x"}, signer.files["current"], "HS256")
            for verifier in world.pods.values():
                accepts = {verifier.files.get(name) for name in ("current", "next", "previous")}
                assert signer.files["current"] in accepts, (world.status["phase"], token[:0])

    world.check = accepted  # type: ignore[method-assign]  # another promise than that of presented keys
    slow = world.pods["10.0.0.2"]
    for token in range(3):
        world.annotate(rotate_now=str(token))
        slow.stuck = True
        with pytest.raises(AssertionError, match="not within"):
            await world.until(lambda: world.status["phase"] == "Confirming", seconds=60)
        slow.stuck = False
        await world.rotate()


def api_keys(pod: FakePod) -> str:
    return set_revision({"data": {name: _base64(text) for name, text in pod.records.items()}})


async def test_an_api_key_is_given_out_only_after_every_pod_knows_its_hash() -> None:
    world = World(provider=API_KEY, status_key="api_keys", status_of=api_keys)
    await started(world)
    first = world.secret()["current"]
    world.pods["10.0.0.1"].stuck = True
    world.annotate(rotate_now="1")
    await world.until(lambda: world.status.get("pending", {}).get("verified", False))
    await world.until(lambda: world.clock.now().minute >= 5)
    assert world.secret()["current"] == first
    assert len(world.secret("api-keys")) == 2

    world.pods["10.0.0.1"].stuck = False
    await world.rotate()

    [(key_id, record)] = world.secret("api-keys").items()
    assert world.secret()["current"].startswith(f"slw_{key_id}_")
    assert json.loads(record)["hash"] == hashlib.sha256(world.secret()["current"].encode()).hexdigest()


@pytest.mark.parametrize(("label", "role", "given"), [("true", "user", True), ("admin", "user", True), ("admin", "admin", True)])
async def test_a_role_is_given_where_the_secret_of_records_agrees(label: str, role: str, given: bool) -> None:
    assert await role_given(role, {"slipway.dev/api-key-records": label}) is given


@pytest.mark.parametrize("labels", [None, {}, {"slipway.dev/api-key-records": "true"}])
async def test_an_administrators_key_needs_a_consent_of_its_own(labels: dict[str, str] | None) -> None:
    assert await role_given("admin", labels) is False


async def role_given(role: str, labels: dict[str, str] | None) -> bool:
    """Whether a record of this role came into a Secret with these labels; None for no Secret."""
    api_key = {"recordsSecretName": "api-keys", "user": "eve", "role": role}
    world = World(provider={"generated": {"kind": "APIKey", "apiKey": api_key}}, status_key="api_keys", status_of=api_keys)
    if labels is not None:
        world.put_secret(NAMESPACE, "api-keys", {}, labels=labels)
    await world.until(lambda: "failure" in world.status or world.status.get("revision") == 1)
    if "failure" in world.status:
        assert world.status["failure"]["reason"] == "NoConsent"
        assert world.secret() == {}, "no key is staged that nobody may have"
    return [json.loads(each)["role"] for each in world.secret("api-keys").values()] == [role]


async def test_an_operator_that_lost_its_lease_removes_no_record_and_takes_no_key_of_a_pool() -> None:
    records = await started(World(provider=API_KEY, status_key="api_keys", status_of=api_keys))
    records.annotate(rotate_now="1")
    await records.until(lambda: records.status["phase"] == "Overlapping")
    held = pool(a="sk-a", b="sk-b")
    for world in (records, held):
        lease = world.cluster.find(LEASE, NAMESPACE, LEASE_NAME) or _lease()
        world.cluster.put({**lease, "spec": {**lease["spec"], "holderIdentity": "another"}})
        await world.until(lambda world=world: world.status.get("failure", {}).get("reason") == "NotLeader")  # type: ignore[misc]  # bound at once

    assert len(records.secret("api-keys")) == 2
    found = held.cluster.find(SECRET, NAMESPACE, "pool")
    assert found
    assert "slipway.dev/used" not in found["metadata"].get("annotations", {})


def _lease() -> Any:
    metadata = {"namespace": NAMESPACE, "name": LEASE_NAME}
    return {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": {"leaseDurationSeconds": 30}}


async def test_records_of_others_stay_and_a_foreign_secret_of_records_is_refused() -> None:
    world = World(provider=API_KEY, status_key="api_keys", status_of=api_keys)
    world.put_secret(NAMESPACE, "api-keys", {"handmade": "{}"})
    await world.until(lambda: "failure" in world.status)
    assert world.status["failure"]["reason"] == "NoConsent"

    world.put_secret(NAMESPACE, "api-keys", {"handmade": "{}"}, labels={"slipway.dev/api-key-records": "true"})
    world.respec(overlap="2m")
    await world.rotate()
    world.annotate(rotate_now="1")
    await world.rotate()

    assert "handmade" in world.secret("api-keys")
    assert len(world.secret("api-keys")) == 2


def _secret() -> Any:
    return SECRET, NAMESPACE, "openai-key"


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def test_a_key_that_no_header_takes_is_refused_and_not_tried_for_ever() -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200))) as http:
        with pytest.raises(ProviderError) as caught:
            await check_key(http, "http://model/v1/models", "sk-\u00fc")

    assert caught.value.reason == "NewKeyRefused"
    assert "\u00fc" not in str(caught.value)
