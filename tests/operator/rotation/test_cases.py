"""The machine as a table: each document of cases/*.yaml is what it is given and what it must do."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_operator.reconcile.rotation.consumers import Gate
from agent_operator.reconcile.rotation.machine import Observed, step, stuck
from agent_operator.reconcile.rotation.model import read_identity, read_spec
from agent_operator.reconcile.rotation.secret import TargetSecret
from agent_operator.reconcile.rotation.status import read_status

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
"""Times in the cases are of this day."""

CASES = [
    pytest.param(case, id=f"{path.stem}: {case['name']}")
    for path in sorted(Path(__file__).with_name("cases").glob("*.yaml"))
    for case in yaml.safe_load_all(path.read_text(encoding="utf-8"))
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
        "metadata": {"namespace": "n", "name": "k", "uid": "u", "annotations": case.get("annotations", {})},
        "spec": {
            "target": {"secretName": "key"},
            "consumers": {"selector": {"matchLabels": {"a": "b"}}},
            "provider": PROVIDERS[case.get("provider", "openAI")],
            **case.get("spec", {}),
        },
    }
    spec, known = read_spec(manifest), read_status(status(case.get("status", {})))
    secret = TargetSecret(**case["secret"]) if "secret" in case else None
    seen = Observed(secret, Gate(tuple(case.get("missing", ())), case.get("pods", 2), 1))

    action = step(spec, read_identity(manifest).orders, known, seen, NOW)

    told: dict[str, Any] = {"do": str(action.do)}
    told |= {"reason": action.reason} if action.reason else {}
    told |= {"phase": str(action.phase)} if action.phase else {}
    told |= {"until": action.until.strftime("%H:%M:%S")} if action.until else {}
    told |= {"hurried": True} if action.hurried else {}
    told |= {"stuck": True} if stuck(spec, known, NOW) else {}
    assert told == case["then"]
