"""What a pod says at its ops port, read as words of a stranger: of another shape than the service's, it counts as unsaid."""

import itertools
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import TypeVar

from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel, ValidationError

from slipway_clients.cluster import Manifest
from slipway_doctor.checks.facts import Pod, PodHealth, PodStatus, Samples

WANTED = ("agent_unpriced_model_calls_total", "agent_tokens_total", "agent_drain_", "agent_db_pool_connections_limit")
"""Beginnings of the metrics that a check reads from pods; the rest of some thousand lines is not parsed."""

LINES, LINE = 1000, 512
"""Lines of metrics that are parsed, and characters of one: the parser's time grows with the square of a line's length."""

OPS_PATHS = ("/status", "/health", "/metrics")

Answer = tuple[int, str]
"""Status and body."""

Shape = TypeVar("Shape", bound=BaseModel)


def pod_of(manifest: Manifest, answers: Mapping[str, Answer | None]) -> Pod:
    """A pod and what it said; None for each question that it did not answer, or not as the service does."""
    status, health, metrics = (answers.get(path) for path in OPS_PATHS)
    return Pod(
        manifest,
        status=_read(status, PodStatus) if status and status[0] == HTTPStatus.OK else None,
        health=_read(health, PodHealth),  # 503 says that something is down, and the body says what
        samples=_samples(metrics[1]) if metrics and metrics[0] == HTTPStatus.OK else None,
    )


def _read(answer: Answer | None, shape: type[Shape]) -> Shape | None:
    try:
        return shape.model_validate(json.loads(answer[1])) if answer else None
    except (ValidationError, ValueError, RecursionError):
        return None


def _samples(text: str) -> Samples | None:
    wanted = (line for line in text.splitlines() if line.startswith(WANTED) and len(line) <= LINE)
    lines = list(itertools.islice(wanted, LINES))
    found: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    try:
        for family in text_string_to_metric_families("\n".join([*lines, ""])):
            for sample in family.samples:
                found.setdefault(sample.name, []).append((sample.labels, sample.value))
    except (ValueError, LookupError):  # no metrics
        return None
    return found
