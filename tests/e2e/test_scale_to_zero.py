"""k8s/scale-to-zero on a cluster: pods start for runs that wait in the database, and go when none is left."""

import base64
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.agent import CHART, Agent, fullname, kit_values, pods_of, running_agent, selector
from tests.e2e.measure import eventually, streams, words_at
from tests.integration.test_scale_to_zero import documents
from tests.support.cluster import Pod, require_api
from tests.support.figures import Report
from tests.support.helm import Release, Values

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

STREAMS = 6
"""Of which the entry executes one, and the rest waits for the pods that KEDA starts."""

COOL_DOWN_SECONDS = 10
"""The example's ten minutes are for production."""

PATIENCE_SECONDS = 180

KEDA = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "keda"}}}


@dataclass(frozen=True, slots=True)
class Pair:
    """A small release that takes questions, and one whose pods are there only while runs wait."""

    entry: Agent
    workers: Release

    def pods(self) -> list[Pod]:
        return pods_of(self.workers, "agent")


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    require_api("scaledobjects.keda.sh")
    with running_agent("e2e-zero", kit_values(replicaCount=1, streaming={"maxConcurrentRuns": 1})) as entry:
        workers = Release(entry.namespace, f"workers-{secrets.token_hex(3)}", CHART)
        database = f"{entry.fullname}-postgres"
        entry.namespace.apply(addressed_in_full(entry, database), letting_in(entry, database, workers))
        workers.upgrade(workers_values(database))
        entry.namespace.apply(*scaled(fullname(workers.name)))
        yield Pair(entry, workers)


def workers_values(database: str) -> Values:
    return kit_values(replicaCount=None, postgres={"mode": "external", "existingSecret": database})


def addressed_in_full(entry: Agent, database: str) -> dict[str, Any]:
    """The Secret of the example: KEDA looks the host's name up in its own namespace."""
    url = base64.b64decode(entry.namespace.get("secret", database)["data"]["url"]).decode()
    data = {"url": base64.b64encode(url.replace(database, f"{database}.{entry.namespace.name}.svc").encode()).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "agent-database"}, "data": data}


def letting_in(entry: Agent, database: str, workers: Release) -> dict[str, Any]:
    """The chart's evaluation database lets its own release in, and nobody else."""
    from_workers = {"podSelector": {"matchLabels": selector(workers.name, "agent")}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": f"{database}-others"},
        "spec": {
            "podSelector": {"matchLabels": selector(entry.release.name, "postgres")},
            "ingress": [{"from": [from_workers, KEDA], "ports": [{"port": 5432}]}],
        },
    }


def scaled(deployment: str) -> list[dict[str, Any]]:
    """The example without the add-on, as its comment says."""
    authentication, found = documents("scaledobject.yaml")
    found["spec"]["scaleTargetRef"]["name"] = deployment
    found["spec"]["cooldownPeriod"] = COOL_DOWN_SECONDS
    found["spec"]["triggers"] = [each for each in found["spec"]["triggers"] if each["type"] == "postgresql"]
    found["spec"]["triggers"][0]["metadata"]["targetQueryValue"] = "3"
    return [authentication, found]


async def test_pods_start_for_the_first_runs_that_wait_and_go_without_cutting_any(pair: Pair, report: Report) -> None:
    await eventually(lambda: not pair.pods(), PATIENCE_SECONDS)

    started = time.monotonic()
    async with streams(pair.entry, STREAMS, words_at("first", words=20, pace=2)) as asked:
        await eventually(lambda: any(pod.serving for pod in pair.pods()), PATIENCE_SECONDS)
        up = time.monotonic() - started
        await asked.all_reading()
        all_read = time.monotonic() - started
    await eventually(lambda: not pair.pods(), PATIENCE_SECONDS)

    report(asked.line(f"from zero: a pod after {up:.0f} s, each of {STREAMS} read after {all_read:.0f} s, none left later"))
    asked.check()
