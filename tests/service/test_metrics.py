"""Metrics that are computed from others."""

import pytest

from agent_service.metrics import Metrics


@pytest.mark.parametrize(("draining", "expected"), [(0, 7), (1, 0)])
def test_concurrency_is_what_runs_and_waits_unless_the_process_drains(draining: int, expected: int) -> None:
    metrics = Metrics(models=(), version="", graph="", guardrail_rules=())
    metrics.runs_in_flight.set(4)
    metrics.runs_queued.set(3)
    metrics.draining.set(draining)

    assert metrics.registry.get_sample_value("agent_concurrency") == expected
