"""How a run can end: a closed set, part of the API, the schema and the metrics."""

from typing import Literal, get_args

Outcome = Literal["completed", "interrupted", "iteration_limit", "timeout", "budget", "cancelled", "failed"]

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
