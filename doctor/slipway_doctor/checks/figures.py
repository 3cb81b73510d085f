"""What Prometheus says about one release: figures, rules, alerts that fire."""

import asyncio
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from slipway_clients.clock import Clock
from slipway_clients.prometheus import Prometheus, PrometheusError, Sample
from slipway_doctor.checks.facts import PrometheusFacts
from slipway_doctor.checks.versions import VersionFigures
from slipway_monitoring.rules.scope import quoted

HISTORY = timedelta(hours=1)
"""How long the answer about the last 30 days is kept: it reads some 100,000 samples a pod, the others some dozens."""


COMPARED = "30m"
"""Over which versions are compared: a canary has its turns by then, and a rolling update has both of them in it."""

VERSION_TURNS = f"sum by (job, version) (increase(agent_runs_total{{%s}}[{COMPARED}]))"

VERSION_FIGURES = (
    f'sum by (job, version) (increase(agent_runs_total{{%s,outcome=~"failed|timeout"}}[{COMPARED}]))',
    f"histogram_quantile(0.95, sum by (job, version, le) (rate(agent_time_to_first_token_seconds_bucket{{%s}}[{COMPARED}])))",
    f"sum by (job, version) (increase(agent_cost_usd_total{{%s}}[{COMPARED}]))",
    f'sum by (job, version) (increase(agent_feedback_total{{%s,score="1"}}[{COMPARED}]))',
    f'sum by (job, version) (increase(agent_feedback_total{{%s,score="0"}}[{COMPARED}]))',
)


@dataclass(frozen=True, slots=True)
class NoFigures:
    """Stands for a Prometheus that is not asked, and says why."""

    why: str

    async def of(self, namespace: str, release: str, baseline: str = "") -> PrometheusFacts:  # noqa: ARG002  # as Figures has them
        return PrometheusFacts(error=self.why)


class Figures:
    """One Prometheus. It remembers what is dear to ask, by namespace and release."""

    def __init__(self, prometheus: Prometheus, clock: Clock) -> None:
        self._prometheus = prometheus
        self._clock = clock
        self._drained: dict[tuple[str, str], tuple[datetime, float | None]] = {}

    async def of(self, namespace: str, release: str, baseline: str = "") -> PrometheusFacts:
        """Never raises: an error is among the facts. `baseline` is a release whose versions are wanted as well."""
        try:
            found = await self._ask(namespace, release)
        except PrometheusError as error:
            return PrometheusFacts(error=str(error))
        try:
            return replace(found, versions=await self._versions(namespace, {release, baseline}))
        except PrometheusError as error:  # an answer that is too large, for one: these are half an hour, and by version
            return replace(found, versions_error=str(error))

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

    async def _versions(self, namespace: str, releases: set[str]) -> list[VersionFigures]:
        """Alone, a version is not asked for more than its turns: most of the time there is no other."""
        scope = f"namespace={quoted(namespace)},job=~{quoted('|'.join(map(re.escape, sorted(filter(None, releases)))))}"
        turns = _by_version(await self._prometheus.query(VERSION_TURNS % scope))
        seen = [key for key, count in turns.items() if count > 0]
        if len(seen) < 2:  # noqa: PLR2004  # a comparison
            return [VersionFigures(*key, turns[key]) for key in seen]
        answers = await asyncio.gather(*(self._prometheus.query(query % scope) for query in VERSION_FIGURES))
        failed, first, cost, up, down = map(_by_version, answers)
        return [
            VersionFigures(
                *key,
                turns=turns[key],
                failed=failed.get(key, 0.0),
                first_token=first.get(key),
                cost=cost.get(key, 0.0),
                thumbs_up=up.get(key, 0.0),
                thumbs_down=down.get(key, 0.0),
            )
            for key in seen
        ]

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


def _by_version(samples: Sequence[Sample]) -> dict[tuple[str, str], float]:
    """By release and version; what is no number (a quantile of nothing) is left out."""
    found = {(each.labels.get("job", ""), each.labels.get("version", "")): each.value for each in samples}
    return {key: value for key, value in found.items() if math.isfinite(value)}


def _is_of(labels: Mapping[str, str], namespace: str, release: str) -> bool:
    return labels.get("namespace") == namespace and labels.get("job", release) == release
