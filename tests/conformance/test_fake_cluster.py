"""The cluster in memory does what a real one does; tests/e2e/test_operator_cluster.py asks the real one the same."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from slipway_clients.cluster import Cluster, Conflict, Manifest, Unavailable
from slipway_clients.cluster.kinds import ALERT_POLICY, CONFIG_MAP
from tests.support.fake_cluster import FakeCluster

# What every `Cluster` does: run on the one in memory and on a real API server, so that the double tells no lies.

Meddle = Callable[[Manifest], Awaitable[None]]
"""Somebody else writes the fields of a manifest."""

Check = Callable[[Cluster, str, Meddle], Awaitable[None]]


def config_map(namespace: str, name: str, **data: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data}


def policy(namespace: str, name: str, **metadata: Any) -> Manifest:
    kind = {"apiVersion": ALERT_POLICY.api_version, "kind": ALERT_POLICY.kind}
    return {**kind, "metadata": {"name": name, "namespace": namespace, **metadata}, "spec": {"release": "demo"}}


async def what_is_not_there_is_none(cluster: Cluster, namespace: str, _: Meddle) -> None:
    assert await cluster.get(CONFIG_MAP, namespace, "none") is None
    assert await cluster.delete(CONFIG_MAP, namespace, "none") is False


async def a_create_happens_once(cluster: Cluster, namespace: str, _: Meddle) -> None:
    made = await cluster.create(config_map(namespace, "once", a="1"))
    assert made["metadata"]["uid"]

    with pytest.raises(Conflict, match="already exists"):
        await cluster.create(config_map(namespace, "once", a="2"))


async def a_replace_of_an_old_version_is_refused(cluster: Cluster, namespace: str, _: Meddle) -> None:
    first = await cluster.create(config_map(namespace, "versions", a="1"))
    await cluster.replace({**first, "data": {"a": "2"}})

    with pytest.raises(Conflict, match="modified"):
        await cluster.replace({**first, "data": {"a": "3"}})


async def a_delete_spares_another_object_of_the_name(cluster: Cluster, namespace: str, _: Meddle) -> None:
    made = await cluster.create(config_map(namespace, "uids"))

    with pytest.raises(Conflict):
        await cluster.delete(CONFIG_MAP, namespace, "uids", uid="00000000-0000-0000-0000-000000000000")
    assert await cluster.delete(CONFIG_MAP, namespace, "uids", uid=made["metadata"]["uid"]) is True


async def an_apply_drops_what_it_no_longer_says_and_leaves_what_others_say(
    cluster: Cluster, namespace: str, meddle: Meddle
) -> None:
    await cluster.apply(config_map(namespace, "applied", ours="1", old="1"))
    await meddle(config_map(namespace, "applied", theirs="1"))

    await cluster.apply(config_map(namespace, "applied", ours="2"))

    found = await cluster.get(CONFIG_MAP, namespace, "applied")
    assert found is not None
    assert found["data"] == {"ours": "2", "theirs": "1"}


async def a_field_of_others_is_a_conflict_that_names_them_unless_forced(cluster: Cluster, namespace: str, meddle: Meddle) -> None:
    await meddle(config_map(namespace, "owned", a="theirs"))

    with pytest.raises(Conflict, match="somebody-else"):
        await cluster.apply(config_map(namespace, "owned", a="ours"))
    forced = await cluster.apply(config_map(namespace, "owned", a="ours"), force=True)
    assert forced["data"] == {"a": "ours"}


async def an_apply_that_changes_nothing_makes_no_version(cluster: Cluster, namespace: str, _: Meddle) -> None:
    first = await cluster.apply(config_map(namespace, "same", a="1"))
    second = await cluster.apply(config_map(namespace, "same", a="1"))

    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]


async def status_and_spec_are_written_apart(cluster: Cluster, namespace: str, _: Meddle) -> None:
    made = await cluster.create(policy(namespace, "apart"))
    told = await cluster.replace_status({**made, "spec": {"release": "other"}, "status": {"rules": 3}})
    changed = await cluster.replace({**told, "spec": {"release": "next"}, "status": {"rules": 4}})

    assert (told["spec"]["release"], told["status"]) == ("demo", {"rules": 3})
    assert (changed["spec"]["release"], changed["status"]) == ("next", {"rules": 3})
    assert changed["metadata"]["generation"] == told["metadata"]["generation"] + 1 == made["metadata"]["generation"] + 1


async def a_finalizer_holds_the_object_until_it_is_removed(cluster: Cluster, namespace: str, _: Meddle) -> None:
    await cluster.create(policy(namespace, "held", finalizers=["slipway.dev/finalizer"]))
    assert await cluster.delete(ALERT_POLICY, namespace, "held") is True
    held = await cluster.get(ALERT_POLICY, namespace, "held")
    assert held is not None
    assert held["metadata"]["deletionTimestamp"]

    await cluster.replace({**held, "metadata": {**held["metadata"], "finalizers": []}})

    assert await cluster.get(ALERT_POLICY, namespace, "held") is None


async def a_list_is_chosen_by_labels(cluster: Cluster, namespace: str, _: Meddle) -> None:
    for name, label in (("red", "r"), ("blue", "b")):
        made = config_map(namespace, name)
        made["metadata"]["labels"] = {"color": label}
        await cluster.create(made)

    found = await cluster.list(CONFIG_MAP, namespace, labels="color=r")

    assert [(each["kind"], each["metadata"]["name"]) for each in found] == [("ConfigMap", "red")]


async def versions_are_those_of_the_objects(cluster: Cluster, namespace: str, _: Meddle) -> None:
    made = [await cluster.create(policy(namespace, name)) for name in ("one", "two")]

    found = await cluster.versions(ALERT_POLICY, namespace)

    versions = {(namespace, each["metadata"]["name"]): each["metadata"]["resourceVersion"] for each in made}
    assert versions.items() <= found.items(), "others made what else is there"
    assert {where for where, _ in found} == {namespace}


CONTRACT: tuple[Check, ...] = (
    what_is_not_there_is_none,
    a_create_happens_once,
    a_replace_of_an_old_version_is_refused,
    a_delete_spares_another_object_of_the_name,
    an_apply_drops_what_it_no_longer_says_and_leaves_what_others_say,
    a_field_of_others_is_a_conflict_that_names_them_unless_forced,
    an_apply_that_changes_nothing_makes_no_version,
    status_and_spec_are_written_apart,
    a_finalizer_holds_the_object_until_it_is_removed,
    a_list_is_chosen_by_labels,
    versions_are_those_of_the_objects,
)


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
async def test_the_cluster_in_memory_keeps_the_contract(check: Check) -> None:
    cluster = FakeCluster()

    async def meddle(manifest: Manifest) -> None:
        name = manifest["metadata"]["name"]
        found = cluster.find(CONFIG_MAP, "team", name) or manifest
        cluster.put({**found, "data": {**found["data"], **manifest["data"]}}, manager="somebody-else", owned=manifest)

    await check(cluster, "team", meddle)


async def test_a_fault_comes_as_often_as_asked_before_or_after_the_write() -> None:
    cluster = FakeCluster()
    cluster.fail(Unavailable("refused"), verb="create", kind=CONFIG_MAP)
    cluster.fail(Unavailable("timed out"), verb="replace", after=True)

    with pytest.raises(Unavailable, match="refused"):
        await cluster.create(config_map("team", "a", x="1"))
    assert cluster.find(CONFIG_MAP, "team", "a") is None
    made = await cluster.create(config_map("team", "a", x="1"))
    with pytest.raises(Unavailable, match="timed out"):
        await cluster.replace({**made, "data": {"x": "2"}})
    after = cluster.find(CONFIG_MAP, "team", "a")

    assert after is not None
    assert after["data"] == {"x": "2"}
