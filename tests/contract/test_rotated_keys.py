"""What the operator writes for a rotation, and what the service makes of it: both sides at once."""

import base64
from functools import partial
from pathlib import Path

import jwt

from agent_operator.leases import Fences
from agent_operator.manifests.rotation_spec import ApiKey, KeyKind
from agent_operator.reconcile.rotation.api_keys import ApiKeyRecords, set_revision
from agent_operator.reconcile.rotation.consumers import at_least
from agent_operator.reconcile.rotation.secret import new_secret, published, retired, staged
from agent_operator.reconcile.rotation.situation import Identity
from agent_service.agents.model_keys import ApiKeySource
from agent_service.auth.api_keys import ApiKeys, create_key
from agent_service.auth.shared_secrets import SharedSecrets
from slipway_clients.cluster import Manifest
from slipway_clients.cluster.kinds import SECRET
from tests.support.clock import WallClock
from tests.support.fake_cluster import FakeCluster

NOW = WallClock().now()


def mount(secret: Manifest, folder: Path) -> Path:
    """As a kubelet does: the files of one version, and nothing else."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for name, value in secret["data"].items():
        (folder / name).write_bytes(base64.b64decode(value))
    return folder


def test_the_service_uses_the_published_key_and_then_the_previous_one(tmp_path: Path) -> None:
    first = published(staged(new_secret("ns", "key", "owner"), "sk-1", "id-1", 1, announced=False), NOW)
    second = published(staged(first, "sk-2", "id-2", 2, announced=False), NOW)

    keys = ApiKeySource(directory=mount(second, tmp_path / "keys"))

    assert (keys.current(), keys.previous()) == ("sk-2", "sk-1")
    assert at_least(2)(keys.revision())
    assert ApiKeySource(directory=mount(retired(second), tmp_path / "keys")).previous() is None


def test_a_staged_key_of_a_provider_changes_nothing_for_the_service(tmp_path: Path) -> None:
    first = published(staged(new_secret("ns", "key", "owner"), "sk-1", "id-1", 1, announced=False), NOW)
    keys = ApiKeySource(directory=mount(staged(first, "sk-2", "id-2", 2, announced=False), tmp_path / "keys"))

    assert (keys.current(), keys.previous(), keys.revision()) == ("sk-1", None, "1")


def test_the_service_accepts_tokens_of_a_staged_secret_and_says_so(tmp_path: Path) -> None:
    old, new = "o" * 32, "n" * 32
    first = published(staged(new_secret("ns", "key", "owner"), old, "r1", 1, announced=True), NOW)
    shared = SharedSecrets(mount(staged(first, new, "r2", 2, announced=True), tmp_path / "jwt"))

    assert shared.signer_of(jwt.encode({"sub": "x"}, new, "HS256")) == new
    assert at_least(2, staged=True)(shared.revision())
    assert not at_least(2)(shared.revision())


async def test_the_service_accepts_a_key_whose_record_the_operator_wrote_and_reports_the_revision_it_waits_for(
    tmp_path: Path,
) -> None:
    metadata = {"namespace": "ns", "name": "api-keys", "labels": {"slipway.dev/api-key-records": "admin"}}
    cluster = FakeCluster([{"apiVersion": "v1", "kind": "Secret", "metadata": metadata}])
    block = ApiKey(records="api-keys", user="billing", tenant="acme", role="admin")
    prove = partial(Fences(cluster, WallClock(), holder="operator").check, "ns")
    records = ApiKeyRecords(cluster, WallClock(), prove, Identity("ns", "key", "uid-1"), block)
    key = await records.make("r1")
    await records.verify(key.id, key.value)
    written = cluster.find(SECRET, "ns", "api-keys")
    assert written is not None

    keys = ApiKeys(mount(written, tmp_path / "keys"))
    principal = keys.authenticate(key.value)

    assert principal is not None
    assert (principal.tenant, principal.user, principal.role) == ("acme", "billing", "admin")
    assert keys.revision() == await records.expected()


def test_both_sides_leave_the_same_records_out_of_the_revision(tmp_path: Path) -> None:
    create_key(tmp_path, user="ålice", tenant="acme", role="user", expires_at=NOW)
    (tmp_path / "notakey").write_text("{}")
    (tmp_path / "abcdefgh").write_text("no JSON")
    files = {path.name: base64.b64encode(path.read_bytes()).decode() for path in tmp_path.iterdir()}

    assert ApiKeys(tmp_path).revision() == set_revision({"data": files})


def test_the_names_of_keys_in_status_are_the_services() -> None:
    assert {kind.status_key for kind in KeyKind} == {"openai", "api_keys", "jwt"}
