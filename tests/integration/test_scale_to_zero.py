"""k8s/scale-to-zero: the query by which KEDA starts pods, on the service's own schema."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import psycopg
import yaml

from tests.support.service import running_service

FOLDER = Path(__file__).parents[2] / "k8s/scale-to-zero"


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.load_all((FOLDER / name).read_text(encoding="utf-8"), yaml.CSafeLoader))


async def waiting(database_url: str) -> int:
    """What the trigger counts."""
    query: str = documents("scaledobject.yaml")[1]["spec"]["triggers"][0]["metadata"]["query"]
    async with await psycopg.AsyncConnection.connect(database_url) as conn:
        row = await (await conn.execute(query.encode())).fetchone()
        assert row
        return int(row[0])


async def ask(client: httpx.AsyncClient, question: str) -> str:
    answer = await client.post("/chat", json={"question": question}, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["run_id"])


async def outcome(client: httpx.AsyncClient, run_id: str) -> str:
    async with asyncio.timeout(20):
        while not (found := (await client.get(f"/runs/{run_id}")).json()["outcome"]):
            await asyncio.sleep(0.02)
    return str(found)


async def test_runs_that_execute_or_wait_for_a_place_count_and_those_that_wait_for_a_person_do_not(database_url: str) -> None:
    env = {"AGENT_GRAPH": "tests.durability.versions:old", "MAX_CONCURRENT_RUNS": "1"}
    async with running_service(database_url, **env) as service, service.client() as client:
        assert await waiting(database_url) == 0
        runs = [await ask(client, "slow please"), await ask(client, "quick please")]
        assert await waiting(database_url) == 2
        assert [await outcome(client, run) for run in runs] == ["completed", "completed"]
        assert await outcome(client, await ask(client, "ask please")) == "interrupted"
        assert await waiting(database_url) == 0


def test_both_triggers_start_the_deployment_of_the_chart_and_none_of_them_is_scaled_twice() -> None:
    authentication, scaled = documents("scaledobject.yaml")
    [entry] = documents("http-entry.yaml")
    queue, pushed = scaled["spec"]["triggers"]

    assert queue["authenticationRef"]["name"] == authentication["metadata"]["name"]
    assert scaled["spec"]["scaleTargetRef"]["name"] == entry["spec"]["scaleTargetRef"]["name"] == "my-agent-slipway"
    assert pushed["metadata"]["httpScaledObject"] == entry["metadata"]["name"]
    assert entry["metadata"]["annotations"] == {"httpscaledobject.keda.sh/skip-scaledobject-creation": "true"}
    assert (scaled["spec"]["minReplicaCount"], entry["spec"]["replicas"]["min"]) == (0, 0)
