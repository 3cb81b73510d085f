"""When an alert fires. The defaults are the product's; an AlertPolicy changes them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

TURN_BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 300.0, 600.0)
"""Seconds: the finite buckets of agent_turn_duration_seconds. Only at a bound is the share of slower turns exact."""

EVENT_FLOOR = 5
"""Bad events that alert at any volume. 5 of 5 failing must fire; 2 of 3 may be two users' typing errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Ratios are shares from above 0 to 1; a ratio of 1 never fires.

    Raises:
        ValueError: one line that names the field and what it takes.
    """

    turn_seconds: float = 30.0
    """A chat user gives up about here. One of TURN_BOUNDS."""

    slow_turn_ratio: float = 0.01
    """Share of turns above `turn_seconds`: 0.01 makes it the p99."""

    http_error_ratio: float = 0.05
    """5xx answers among all."""

    http_error_ratio_by_route: Mapping[str, float] = field(default_factory=dict)
    """Route templates (`/chat/stream`) with a limit of their own; the rest share `http_error_ratio`."""

    run_failure_ratio: float = 0.05
    """Runs that end as `failed` or `timeout`. A stream has answered 200 by then, so 5xx do not show them."""

    stream_gap_ratio: float = 0.05
    """Reconnects that came too late for events that retention had taken away."""

    tool_failure_ratio: float = 0.10
    """Failing calls of one tool. Models recover from single ones by calling again."""

    tool_failure_ratio_by_tool: Mapping[str, float] = field(default_factory=dict)

    iteration_limit_ratio: float = 0.01
    """Runs that stop without an answer, after all the model calls or steps they are allowed."""

    rate_limited_ratio: float = 0.05
    """429 among the attempts on one model; three retries hide single ones from users."""

    rate_limited_ratio_by_model: Mapping[str, float] = field(default_factory=dict)

    model_failure_ratio: float = 0.20
    """Attempts on one model that end in 5xx, no connection, timeout or a refused key. At 0.2 one call in 600 fails all 4."""

    cost_usd_per_hour: float = 50.0

    daily_budget_usd: float | None = None
    """USD in 24 hours. None leaves the alert out: no number fits everybody."""

    budget_ratio: float = 0.80
    """Share of the daily budget at which somebody should look."""

    pool_ratio: float = 0.90
    """Database connections in use, of those a process may open, on average over 5 minutes."""

    queue_ratio: float = 0.80
    """Waiting runs, of those that may wait before questions are refused."""

    loop_lag_seconds: float = 0.5
    """Worst delay of the event loop's timers in each 30 s, for 5 minutes. Every open stream stands still for as long."""

    drain_grace_seconds: float = 60.0
    """Beyond DRAIN_SECONDS of the pod. Handing over, ending streams and connections take up to 25 s."""

    crash_recoveries: float = 3.0
    """Runs taken over from dead processes in 15 minutes. A node that fails costs some, once."""

    key_spread_seconds: float = 900.0
    """Pods may differ in a key's revision for as long. The kubelet takes 1 to 2 minutes."""

    key_age_days: float = 90.0
    """The usual upper limit of security policies for long-lived keys."""

    def __post_init__(self) -> None:
        for name, value in self._numbers():
            if value <= 0:
                raise ValueError(f"{name}: must be above 0, not {value:g}")
            if "ratio" in name and value > 1:
                raise ValueError(f"{name}: is a share and must not be above 1, not {value:g}")
        if self.turn_seconds not in TURN_BOUNDS:
            allowed = ", ".join(f"{bound:g}" for bound in TURN_BOUNDS)
            raise ValueError(f"turn_seconds: must be a bucket bound of the histogram ({allowed}), not {self.turn_seconds:g}")

    def _numbers(self) -> list[tuple[str, float]]:
        numbers: list[tuple[str, float]] = []
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, Mapping):
                numbers += [(f"{each.name}[{key}]", limit) for key, limit in value.items()]
            elif value is not None:
                numbers.append((each.name, value))
        return numbers
