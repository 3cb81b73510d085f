"""Runs that began under a version of the graph, when its process leaves and another version's stays."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.durability.fleet import Fleet, running_fleet
from tests.durability.versions import FEW, STEPS

OLD = {"AGENT_GRAPH": "tests.durability.versions:old", "GRAPH_VERSION": "1"}
QUESTIONS = ("quick", "slow", "ask", "nested")

CHANGED = {"code": "graph_changed", "retryable": False}


async def moved(fleet: Fleet) -> dict[str, dict[str, Any]]:
    """A run for each question, begun under the old version, as the new one tells of it in the end; decisions come to it."""
    here, there = fleet.replicas
    runs = {question: (await fleet.ask(here, f"{question} please")).json()["run_id"] for question in QUESTIONS}
    for question in ("ask", "nested"):
        assert (await fleet.ended(here, runs[question]))["outcome"] == "interrupted"
    assert await here.stop() == 0
    for question in ("ask", "nested"):
        body = {"value": "yes"}
        decided = await fleet.client.post(
            f"{there.url}/runs/{runs[question]}/resume", json=body, headers={"Prefer": "respond-async"}
        )
        assert decided.status_code == 202, decided.text
        runs[question] = decided.json()["run_id"]
    ended = await asyncio.gather(*(fleet.ended(there, run) for run in runs.values()))
    return dict(zip(runs, ended, strict=True))


def new(name: str) -> dict[str, str]:
    return {"AGENT_GRAPH": f"tests.durability.versions:{name}", "GRAPH_VERSION": "2"}


@pytest.mark.parametrize(
    ("name", "changed"),
    [("more", {}), ("other", {"slow": "noted", "ask": "ask, noted", "nested": "nested.ask, noted"})],
)
async def test_a_run_ends_under_its_version_or_goes_on_under_the_new_one_or_says_that_it_cannot(
    admin_url: str, tmp_path: Path, name: str, changed: dict[str, str]
) -> None:
    async with running_fleet(admin_url, tmp_path, 2, each=[OLD, new(name)], DRAIN_SECONDS="1") as fleet:
        runs = await moved(fleet)

        expected = {
            "quick": f"{FEW} steps, at the beginning",
            "slow": f"{STEPS} steps, at the beginning",
            "ask": "told yes",
            "nested": "told yes",
        }
        for question, run in runs.items():
            if question in changed:
                assert run["outcome"] == "failed", question
                assert run["error"].items() >= CHANGED.items()
                assert run["error"]["message"].endswith(f"this one has no {changed[question]}")
            else:
                assert (run["outcome"], run["answer"], run["error"]) == ("completed", expected[question], None)
        versions = dict(fleet.sql("SELECT id::text, split_part(holder, '@', 2) FROM slipway.runs"))
        assert {question: versions[run["run_id"]] for question, run in runs.items()} == {
            "quick": "1",
            **dict.fromkeys(("slow", "ask", "nested"), "2"),
        }
        # What was refused stands in nobody's way: the session goes on with the new version.
        for question in changed:
            session = runs[question]["session_id"]
            again = (await fleet.ask(fleet.replicas[1], "quick again", session_id=session)).json()["run_id"]
            assert (await fleet.ended(fleet.replicas[1], again))["outcome"] == "completed"
