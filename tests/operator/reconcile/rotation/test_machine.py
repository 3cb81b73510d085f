"""The machine as a table: each document of cases/*.yaml is what it is given and what it must do."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_operator.manifests.rotation_spec import KeyRotationSpec
from agent_operator.manifests.specs import read_spec
from agent_operator.reconcile.rotation.consumers import Gate
from agent_operator.reconcile.rotation.machine import TRANSITIONS, always, step, stuck
from agent_operator.reconcile.rotation.secret import TargetSecret
from agent_operator.reconcile.rotation.situation import Identity, Requests, Situation
from agent_operator.reconcile.rotation.status import Phase, read_status

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
"""Times in the cases are of this day."""

CASES = [
    pytest.param(case, id=f"{path.stem}: {case['name']}")
    for path in sorted(Path(__file__).with_name("cases").glob("*.yaml"))
    for case in yaml.load_all(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
]

PROVIDERS = {
    "openAI": {"openAI": {"projectID": "p", "adminKey": {"secretName": "s"}}},
    "jwt": {"generated": {"kind": "JWTSecret"}},
}
TIMES = {"phaseSince", "nextRotationTime", "overlapUntil", "currentKeyTime"}


def moment(text: str) -> str:
    return f"2026-01-01T{text}:00Z"


def status(block: dict[str, Any]) -> dict[str, Any]:
    known: dict[str, Any] = {key: moment(value) if key in TIMES else value for key, value in block.items()}
    if "pending" in known:
        known["pending"] = {"keyName": "k", "startedAt": moment("11:00"), **known["pending"]}
    if "failure" in known:
        known["failure"] |= {"message": "m", "nextAttempt": moment(known["failure"]["nextAttempt"])}
    return known


@pytest.mark.parametrize("case", CASES)
def test_the_machine(case: dict[str, Any]) -> None:
    manifest = {
        "metadata": {"namespace": "n", "name": "k", "uid": "u"},
        "spec": {
            "target": {"secretName": "key"},
            "consumers": {"selector": {"matchLabels": {"a": "b"}}},
            "provider": PROVIDERS[case.get("provider", "openAI")],
            **case.get("spec", {}),
        },
    }
    situation = Situation(
        read_spec(manifest, KeyRotationSpec),
        Identity.of(manifest),
        Requests.of(case.get("annotations", {})),
        read_status(status(case.get("status", {}))),
        NOW,
        TargetSecret(**case["secret"]) if "secret" in case else None,
        Gate(tuple(case.get("missing", ())), case.get("pods", 2), 1),
    )

    action = step(situation)

    told: dict[str, Any] = {"effect": str(action.effect)}
    told |= {"reason": action.reason} if action.reason else {}
    told |= {"phase": str(action.phase)} if action.phase else {}
    told |= {"until": action.until.strftime("%H:%M:%S")} if action.until else {}
    told |= {"hurried": True} if action.hurried else {}
    told |= {"stuck": True} if stuck(situation) else {}
    assert told == case["then"]


@pytest.mark.parametrize("phase", Phase)
def test_the_last_row_of_each_phase_always_fits(phase: Phase) -> None:
    assert [row for row in TRANSITIONS if phase in row.phases][-1].event is always
