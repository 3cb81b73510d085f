"""Does it survive the loss of a node, a drain, a rollout, a busy hour?"""

from collections.abc import Mapping

from slipway_clients.cluster import Manifest
from slipway_doctor.checks.environment import EXTRA_CONNECTIONS
from slipway_doctor.checks.facts import Facts, labels_match
from slipway_doctor.checks.finding import Verdict, fail, ok, unknown, warn

GRACE_MARGIN_SECONDS = 30.0
"""The service's own steps after the drain limit: 15 s to hand over and write, 5 for streams, 5 for requests, 5 to exit."""


def replicas(facts: Facts) -> Verdict:
    """How many serve, or may be left when an autoscaler has scaled down."""
    if facts.deployment is None:
        return unknown("DeploymentMissing", "no Deployment has the release's labels")
    floor = min((h["spec"].get("minReplicas", 1) for h in _autoscalers(facts)), default=facts.desired)
    if min(floor, facts.desired) < facts.limits.min_replicas:
        message = f"{min(floor, facts.desired)} replica serves, or may be all that is left after scaling down"
        return fail("SingleReplica", message, "set replicaCount (or autoscaling.minReplicas) to 2 or more")
    return ok("Enough", f"at least {facts.limits.min_replicas} replicas serve")


def disruption_budget(facts: Facts) -> Verdict:
    """Exactly one budget selects the pods, and it lets one go at a time: without it a drain of nodes takes all, or ends never."""
    if "poddisruptionbudgets" in facts.forbidden:
        return unknown("Forbidden", "PodDisruptionBudgets cannot be listed", "allow list of poddisruptionbudgets")
    labels = _pod_labels(facts)
    budgets = [b for b in facts.of("poddisruptionbudgets") if labels_match(b["spec"].get("selector") or {}, labels)]
    if not budgets:
        fix = "`helm upgrade` brings the chart's back: without a budget a drain of nodes may take every pod at once"
        return fail("NoBudget", "no PodDisruptionBudget selects the pods", fix)
    if len(budgets) > 1:
        names = ", ".join(sorted(b["metadata"]["name"] for b in budgets))
        return fail("SeveralBudgets", f"the eviction API refuses pods that two budgets select: {names}", "keep one of them")
    status = budgets[0].get("status", {})
    if facts.ready and status.get("expectedPods", 0) > 1 and _never_allows(budgets[0]["spec"], status):
        return fail("BlocksDrains", "the budget never lets a pod go, so no node can be drained", "use maxUnavailable: 1")
    return ok("Budgeted", "a PodDisruptionBudget selects the pods")


def _never_allows(spec: Manifest, status: Manifest) -> bool:
    blocked: bool = spec.get("maxUnavailable") in {0, "0%"} or status.get("desiredHealthy", 0) >= status.get("expectedPods", 0)
    return blocked


def autoscaling(facts: Facts) -> Verdict:
    """One autoscaler targets the Deployment, and its metric arrives."""
    if "horizontalpodautoscalers" in facts.forbidden:
        return unknown("Forbidden", "HorizontalPodAutoscalers cannot be listed", "allow list of horizontalpodautoscalers")
    found = _autoscalers(facts)
    if not found:
        return warn("NoAutoscaler", "nothing scales the Deployment", "set autoscaling.enabled=true (docs/operations/scaling.md)")
    if len(found) > 1:
        names = ", ".join(sorted(h["metadata"]["name"] for h in found))
        return fail("SeveralAutoscalers", f"they work against each other: {names}", "keep one of them")
    conditions = {c["type"]: c for c in found[0].get("status", {}).get("conditions") or ()}
    for kind, reason in (("AbleToScale", "NotAbleToScale"), ("ScalingActive", "MetricMissing")):
        condition = conditions.get(kind)
        if condition and condition["status"] == "False" and condition.get("reason") != "ScalingDisabled":
            fix = "kubectl describe hpa; is the metrics adapter running, and is the service scraped? (k8s/custom-metrics)"
            return fail(reason, f"the HPA cannot scale: {condition.get('reason', 'no reason')}", fix)
    if not conditions:
        return unknown("NotEvaluated", "the HPA has not been evaluated yet")
    return ok("AbleToScale", "the HPA can scale on its metric")


def _autoscalers(facts: Facts) -> list[Manifest]:
    if facts.deployment is None:
        return []
    target = {"kind": "Deployment", "name": facts.deployment["metadata"]["name"]}
    return [h for h in facts.of("horizontalpodautoscalers") if target.items() <= h["spec"]["scaleTargetRef"].items()]


def database_external(facts: Facts) -> Verdict:
    """Whether the database is another than the chart's bundled one."""
    if "pods" in facts.forbidden:
        return unknown("Forbidden", "pods cannot be listed", "allow list of pods")
    if facts.of("databases"):
        fix = "point postgres.existingSecret at a database with backups and a standby (docs/operations/database.md)"
        return warn("Evaluation", "the bundled PostgreSQL has one replica and no backup", fix)
    return ok("External", "the database is not the bundled one")


def probes(facts: Facts) -> Verdict:
    """Liveness must not ask about dependencies, or a database fault restarts every pod."""
    container = facts.container
    if not container:
        return unknown("DeploymentMissing", "no Deployment has the release's labels")
    paths = {kind: _path(container, kind) for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    if paths["readinessProbe"] is None or paths["livenessProbe"] is None:
        missing = ", ".join(kind for kind in ("livenessProbe", "readinessProbe") if paths[kind] is None)
        return fail("ProbeMissing", f"the container has no {missing}", "use the chart's probes: /live and /ready on the ops port")
    if paths["livenessProbe"] in {"/ready", "/health"} or paths["livenessProbe"] == paths["readinessProbe"]:
        message = "the liveness probe asks about dependencies, so that a database fault restarts every pod"
        return fail("ProbesShared", message, "liveness asks /live, readiness asks /ready")
    if paths["startupProbe"] is None:
        return warn("NoStartupProbe", "a slow start counts against the liveness probe", "add a startupProbe on /live")
    return ok("Apart", "startup, liveness and readiness are asked apart")


def _path(container: Manifest, kind: str) -> str | None:
    probe = container.get(kind)
    return None if probe is None else str(probe.get("httpGet", {}).get("path", ""))


def grace_period(facts: Facts) -> Verdict:
    """Whether the kubelet waits for as long as a drain may take."""
    spec = facts.pod_template.get("spec")
    if spec is None:
        return unknown("DeploymentMissing", "no Deployment has the release's labels")
    grace = float(spec.get("terminationGracePeriodSeconds", 30))
    hook = facts.container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    needed = facts.environment.number("DRAIN_SECONDS") + GRACE_MARGIN_SECONDS + hook
    if grace < needed:
        fix = f"raise terminationGracePeriodSeconds to {needed:g}, or set streaming.maxTurnSeconds, which derives both"
        return fail("GraceTooShort", f"the kubelet kills after {grace:g} s, the drain may take {needed:g} s", fix)
    return ok("FitsDrain", "the grace period is longer than the drain")


def spread(facts: Facts) -> Verdict:
    """Whether the loss of one node is an outage."""
    nodes = {pod.manifest["spec"].get("nodeName") for pod in facts.ready}
    if len(facts.ready) > 1 and len(nodes) == 1:
        fix = "set topologySpreadConstraints, or add a node: one node's loss is an outage now"
        return warn("OneNode", "every ready pod is on the same node", fix)
    return (
        ok("Spread", "the pods are on several nodes")
        if len(nodes) > 1
        else unknown("FewPods", "there are fewer than two ready pods")
    )


def connections(facts: Facts) -> Verdict:
    """Pools of all replicas, twice over in a rollout (a Deployment does not wait for draining pods), against max_connections."""
    limits = [pod.status.database.max_connections for pod in facts.pods if pod.status and pod.status.database]
    if not limits:
        return unknown("NotReported", "no pod says what the database allows", "slipway 0.2 or newer reports it in /status")
    most = 2 * max([facts.desired, *(h["spec"]["maxReplicas"] for h in _autoscalers(facts))])
    needed = int(most * (facts.environment.number("DATABASE_POOL_SIZE") + EXTRA_CONNECTIONS))
    if needed > min(limits):
        fix = "lower DATABASE_POOL_SIZE or autoscaling.maxReplicas, raise max_connections, or put a pooler in between"
        return fail(
            "TooManyConnections", f"{most} pods may open {needed} connections in a rollout, but it takes {min(limits)}", fix
        )
    return ok("Fits", "the database takes the connections of every replica")


def _pod_labels(facts: Facts) -> Mapping[str, str]:
    labels: Mapping[str, str] = facts.pod_template.get("metadata", {}).get("labels") or {}
    return labels
