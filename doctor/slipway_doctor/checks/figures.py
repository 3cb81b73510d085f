"""What Prometheus says about one release: figures, rules, alerts that fire."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from slipway_clients.clock import Clock
from slipway_clients.prometheus import Prometheus, PrometheusError, Sample
from slipway_doctor.checks.facts import PrometheusFacts
from slipway_monitoring.rules.scope import quoted

HISTORY = timedelta(hours=1)
"""How long the answer about the last 30 days is kept: it reads some 100,000 samples a pod, the others some dozens."""


@dataclass(frozen=True, slots=True)
class NoFigures:
    """Stands for a Prometheus that is not asked, and says why."""

    why: str

    async def of(self, namespace: str, release: str) -> PrometheusFacts:  # noqa: ARG002  # as Figures has them
        return PrometheusFacts(error=self.why)


class Figures:
    """One Prometheus. It remembers what is dear to ask, by namespace and release."""

    def __init__(self, prometheus: Prometheus, clock: Clock) -> None:
        self._prometheus = prometheus
        self._clock = clock
        self._drained: dict[tuple[str, str], tuple[datetime, float | None]] = {}

    async def of(self, namespace: str, release: str) -> PrometheusFacts:
        """Never raises: an error is among the facts."""
        try:
            return await self._ask(namespace, release)
        except PrometheusError as error:
            return PrometheusFacts(error=str(error))

    async def _ask(self, namespace: str, release: str) -> PrometheusFacts:
        scope = _scope(namespace, release)
        requests = f"sum(increase(agent_http_requests_total{{{scope}}}[5m]))"
        queries = (
            f"sum(up{{{scope}}})",
            f"histogram_quantile(0.99, sum by (le) (rate(agent_turn_duration_seconds_bucket{{{scope}}}[5m])))",
            f'sum(increase(agent_http_requests_total{{{scope},code=~"5.."}}[5m])) / {requests}',
            requests,
            f"max(max_over_time(agent_draining{{{scope}}}[1h]))",
        )
        rules, alerts = await asyncio.gather(self._prometheus.rules(), self._prometheus.alerts())
        answers = await asyncio.gather(*map(self._prometheus.query, queries))
        up, p99, ratio, total, lately = map(_single, answers)
        drained = lately or await self._drained_once(namespace, release)
        return PrometheusFacts(
            up=int(up or 0),
            p99_seconds=p99,
            error_ratio=ratio,
            requests=total or 0.0,
            drained=None if drained is None else drained > 0,
            rules=rules,
            firing=[{**alert.labels} for alert in alerts if alert.state == "firing" and _is_of(alert.labels, namespace, release)],
        )

    async def _drained_once(self, namespace: str, release: str) -> float | None:
        """Above 0 when a pod has drained in the last 30 days; None when nothing is known of the release."""
        now = self._clock.now()
        asked, drained = self._drained.get((namespace, release), (now - HISTORY, None))
        if now - asked >= HISTORY or drained is None:
            query = f"max(max_over_time(agent_draining{{{_scope(namespace, release)}}}[30d]))"
            drained = _single(await self._prometheus.query(query))
            self._drained[namespace, release] = (now, drained)
        return drained


def _scope(namespace: str, release: str) -> str:
    return f"namespace={quoted(namespace)},job={quoted(release)}"


def _single(samples: Sequence[Sample]) -> float | None:
    """The one value of an aggregate; None without data, and for 0/0."""
    value = samples[0].value if samples else math.nan
    return value if math.isfinite(value) else None


def _is_of(labels: Mapping[str, str], namespace: str, release: str) -> bool:
    return labels.get("namespace") == namespace and labels.get("job", release) == release
