"""streaming.maxTurnSeconds is the one number: what follows from it fits the service's own constants, and the README's table."""

from typing import Any

import pytest

from agent_service import main
from agent_service.runs import worker
from tests.charts.slipway import CHART, SCALED, agent, environment, made
from tests.support.charts import merged, render_text, values_of

SPARE_SECONDS = 5
"""For telemetry, the pool, and the kubelet's own time."""

MAX_WINDOW_SECONDS = 3600
"""What autoscaling/v2 allows."""


def derived(turn: int, **others: Any) -> dict[str, Any]:
    values = merged(values_of(f"streaming.maxTurnSeconds={turn}"), others)
    env, spec = environment(values), agent(values)
    window = made("HorizontalPodAutoscaler", values, SCALED["pods-metric"])["spec"]["behavior"]["scaleDown"]
    return {
        "MAX_TURN_SECONDS": int(env["MAX_TURN_SECONDS"]),
        "DRAIN_SECONDS": int(env["DRAIN_SECONDS"]),
        "preStop": spec["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0),
        "terminationGracePeriodSeconds": spec["terminationGracePeriodSeconds"],
        "scale-down window": window["stabilizationWindowSeconds"],
    }


def drain_takes(turn: float, least: float) -> float:
    """Seconds of agent_service.main.drain() and what follows it, at most."""
    runs = turn + main.HAND_OVER_SECONDS + worker.STOP_SECONDS
    return max(runs, least) + main.STREAMS_SECONDS + main.CONNECTIONS_SECONDS


@pytest.mark.parametrize("turn", [5, 30, 300, 570, 3600, 86400])
@pytest.mark.parametrize("least", [0, 5, 300])
def test_the_kubelet_waits_for_the_longest_drain(turn: int, least: int) -> None:
    grace = derived(turn, streaming={"drainMinSeconds": least})["terminationGracePeriodSeconds"]

    assert grace == drain_takes(turn, least) + SPARE_SECONDS


def test_a_sleep_before_the_drain_is_added() -> None:
    assert derived(300, preStopSleepSeconds=20)["preStop"] == 20
    assert derived(300, preStopSleepSeconds=20)["terminationGracePeriodSeconds"] == 350


def test_a_longer_grace_period_is_the_users() -> None:
    assert derived(300, terminationGracePeriodSeconds=400)["terminationGracePeriodSeconds"] == 400


def test_the_readme_table_is_what_the_chart_does() -> None:
    readme = (CHART / "README.md").read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(readme) if line.startswith("| `streaming.maxTurnSeconds` |"))
    turns, _, *rows = [[c.strip() for c in line.strip("|").split("|")] for line in readme[start : start + 7]]
    shown = {row[0].split(":")[0].strip("`"): [int(cell) for cell in row[1:]] for row in rows}

    columns = [derived(int(turn)) for turn in turns[1:]]
    assert shown == {name: [column[name] for column in columns] for name in columns[0]}


@pytest.mark.parametrize(("turn", "warned"), [(570, False), (571, True)])
def test_the_notes_warn_of_node_autoscalers(turn: int, warned: bool) -> None:
    notes = render_text(CHART, values_of(f"streaming.maxTurnSeconds={turn}"))["templates/NOTES.txt"]

    assert ("max-graceful-termination-sec" in notes) is warned


@pytest.mark.parametrize("mode", SCALED)
def test_pods_go_one_by_one_and_only_after_the_longest_turn(mode: str) -> None:
    values = merged(SCALED[mode], values_of("streaming.maxTurnSeconds=5000"))
    if mode == "keda":
        scaled = made("ScaledObject", values)["spec"]["advanced"]["horizontalPodAutoscalerConfig"]
    else:
        scaled = made("HorizontalPodAutoscaler", values)["spec"]

    assert scaled["behavior"] == {
        "scaleUp": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]},
        "scaleDown": {
            "stabilizationWindowSeconds": MAX_WINDOW_SECONDS,
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
        },
    }
