"""AgentHealth: one release, judged by every check; the status is written when it says something new."""

from agent_operator.manifests.specs import AgentHealthSpec, WrongSpec, checked
from agent_operator.reconcile.agenthealth_status import Health, render
from agent_operator.reconcile.tools import Key, Reconcile, Tools, refuse, write_status
from slipway_clients.cluster import Manifest
from slipway_clients.cluster.kinds import AGENT_HEALTH
from slipway_clients.egress.origins import OriginRefused
from slipway_clients.prometheus import Prometheus
from slipway_doctor.checks.facts import Limits
from slipway_doctor.checks.figures import Figures, NoFigures
from slipway_doctor.checks.gather import by_address, gather
from slipway_doctor.checks.registry import judge

INTERVAL = 10.0
"""Seconds between two looks at a release: what changes is shown within 15 s. A look is nine small calls, and three a pod."""


def agent_health(tools: Tools) -> Reconcile:
    figures: dict[str, Figures] = {}

    def of_prometheus(spec: Manifest) -> Figures | NoFigures | None:
        try:
            url = tools.settings.prometheus_of((spec.get("prometheus") or {}).get("url"))
        except OriginRefused as error:
            return NoFigures(str(error))
        if url and url not in figures:  # as many as the operator's settings name
            figures[url] = Figures(Prometheus(tools.http, url), tools.clock)
        return figures.get(url)

    async def reconcile(key: Key) -> float | None:
        about = await tools.cluster.get(AGENT_HEALTH, key.namespace, key.name)
        if about is None or "deletionTimestamp" in about["metadata"]:
            return None
        try:
            spec = checked(about, AgentHealthSpec)["spec"]
        except WrongSpec as error:
            await refuse(tools, about, "InvalidSpec", str(error))
            return None
        await _look(tools, {**about, "spec": spec}, of_prometheus(spec))
        return INTERVAL

    return reconcile


async def _look(tools: Tools, about: Manifest, figures: Figures | NoFigures | None) -> None:
    spec = about["spec"]
    facts = await gather(
        tools.cluster,
        tools.clock,
        by_address(tools.http),
        namespace=about["metadata"]["namespace"],
        release=spec["release"],
        figures=figures,
        limits=limits_of(spec),
    )
    status = render(about, facts, judge(facts))
    await write_status(tools, about, status)
    before = about.get("status", {}).get("health")
    if before != status["health"]:
        bad = status["health"] in {Health.UNHEALTHY, Health.UNKNOWN}
        message = status["conditions"][0]["message"]
        await tools.cluster.event(about, type="Warning" if bad else "Normal", reason=status["health"], message=message)


def limits_of(spec: Manifest) -> Limits:
    """The limits of a spec; the product's where it names none."""
    given, default = spec.get("limits") or {}, Limits()
    return Limits(
        p99_seconds=given.get("p99Seconds", default.p99_seconds),
        error_ratio=given.get("errorRatio", default.error_ratio),
        key_age_days=given.get("keyAgeDays", default.key_age_days),
        min_replicas=given.get("minReplicas", default.min_replicas),
    )
