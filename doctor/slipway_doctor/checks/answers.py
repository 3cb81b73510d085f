"""What a pod says at its ops port, read as words of a stranger: of another shape than the service's, it counts as unsaid."""

import itertools
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any

from prometheus_client.parser import text_string_to_metric_families
from pydantic import AfterValidator, BaseModel, Field, ValidationError

from slipway_clients.egress.text import plain
from slipway_doctor.checks.facts import Manifest, Pod, Samples

WANTED = ("agent_unpriced_model_calls_total", "agent_tokens_total", "agent_drain_", "agent_db_pool_connections_limit")
"""Beginnings of the metrics that a check reads from pods; the rest of some thousand lines is not parsed."""

LINES, LINE = 1000, 512
"""Lines of metrics that are parsed, and characters of one: the parser's time grows with the square of a line's length."""

OPS_PATHS = ("/status", "/health", "/metrics")

Answer = tuple[int, str]
"""Status and body."""

Word = Annotated[str, AfterValidator(lambda text: plain(text, 64))]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Revision = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{0,64}$")]
Count = Annotated[int, Field(ge=0, le=1_000_000)]


class Database(BaseModel):
    """Of `/status`: `max_connections` is the server's limit."""

    max_connections: Count
    tls: bool


class PodStatus(BaseModel):
    """The body of `/status`, as far as a check reads it. `keys` are revisions by key."""

    version: Word
    draining: bool = False
    runs_in_flight: Count = 0
    keys: dict[Name, Revision | None] = Field(default_factory=dict, max_length=20)
    database: Database | None = None


class Dependency(BaseModel):
    """One entry of `/health`."""

    ok: bool = False
    detail: Annotated[str, AfterValidator(plain)] = ""


class PodHealth(BaseModel):
    """The body of `/health`, as far as a check reads it."""

    dependencies: dict[Name, Dependency] = Field(max_length=20)


def pod_of(manifest: Manifest, answers: Mapping[str, Answer | None]) -> Pod:
    """A pod and what it said; None for each question that it did not answer, or not as the service does."""
    status, health, metrics = (answers.get(path) for path in OPS_PATHS)
    return Pod(
        manifest,
        status=_read(status, PodStatus) if status and status[0] == HTTPStatus.OK else None,
        health=_read(health, PodHealth),  # 503 says that something is down, and the body says what
        samples=_samples(metrics[1]) if metrics and metrics[0] == HTTPStatus.OK else None,
    )


def _read(answer: Answer | None, shape: type[BaseModel]) -> Mapping[str, Any] | None:
    try:
        return shape.model_validate(json.loads(answer[1])).model_dump(exclude_unset=True) if answer else None
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
