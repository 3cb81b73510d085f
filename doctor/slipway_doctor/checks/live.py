"""Is it well right now? Pods, what they depend on, drains, keys, alerts, latency and errors."""

from collections.abc import Mapping

from slipway_clients.clock import parse_timestamp
from slipway_clients.cluster import Manifest
from slipway_doctor.checks.facts import DependencyHealth, Facts, Pod
from slipway_doctor.checks.finding import Verdict, fail, ok, unknown, warn

RESTARTING = ("CrashLoopBackOff", "RunContainerError", "CreateContainerError", "CreateContainerConfigError")
KILL_SECONDS = 5.0
"""What the kubelet may take after the grace period to kill the pod and to say so; a second was seen on an idle node."""

IMAGE_ERRORS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")


def pods_ready(facts: Facts) -> Verdict:
    """As many ready pods as the Deployment asks for; names the crash loop or the image that keeps one from it."""
    if "deployments" in facts.forbidden or "pods" in facts.forbidden:
        return unknown("Forbidden", "pods cannot be read", "allow get and list of deployments and pods")
    if facts.deployment is None:
        return fail("DeploymentMissing", "no Deployment has the release's labels", "install the chart, or correct spec.release")
    waiting = {pod.name: reason for pod in facts.pods if not pod.leaving and (reason := _waiting_reason(pod))}
    for name, reason in sorted(waiting.items()):
        if reason in RESTARTING:
            return fail("CrashLoop", f"pod {name}: {reason}", f"kubectl logs {name} --previous -n {facts.namespace}")
        if reason in IMAGE_ERRORS:
            return fail("ImagePull", f"pod {name}: {reason}", "correct image.repository, image.tag or imagePullSecrets")
    missing = facts.desired - len(facts.ready)
    if missing > 0:
        names = [pod.name for pod in facts.pods if not pod.ready and not pod.leaving]
        return fail(
            "PodsNotReady",
            f"{len(facts.ready)} of {facts.desired} pods are ready" + (f"; not {', '.join(sorted(names))}" if names else ""),
            f"kubectl describe pods -l app.kubernetes.io/instance={facts.release} -n {facts.namespace}; /ready gives the reason",
        )
    return ok("AllReady", "every pod is ready")


def _waiting_reason(pod: Pod) -> str | None:
    status = pod.manifest.get("status", {})
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    for container in containers:
        reason = container.get("state", {}).get("waiting", {}).get("reason")
        if reason in RESTARTING + IMAGE_ERRORS:
            return str(reason)
        # Between two tries of a crash loop the container runs, or has just ended, for a moment.
        if not container.get("ready") and _crashes(container) >= 2:  # noqa: PLR2004  # once may be luck
            return "CrashLoopBackOff"
    return None


def _crashes(container: Manifest) -> int:
    """How often the container has ended with an error; 0 when it last ended well."""
    ended = [container.get(when, {}).get("terminated", {}) for when in ("state", "lastState")]
    if not any(state.get("exitCode", 0) for state in ended):
        return 0
    return int(container.get("restartCount", 0)) + bool(ended[0])


def database_reachable(facts: Facts) -> Verdict:
    """By what each ready pod says of its own connection."""
    fix = "look at the database and the network policy; docs/runbooks and docs/operations/database.md"
    return _dependency(facts, "database", reason="DatabaseUnreachable", what="the database", fix=fix)


def model_endpoint(facts: Facts) -> Verdict:
    """By what each ready pod says of its last check of the endpoint."""
    if facts.environment.offline:
        return ok("BuiltIn", "the built-in model answers; there is no endpoint")
    refused = [pod for pod in facts.pods if "refused the key" in _detail(pod, "model_endpoint")]
    if refused:
        names = ", ".join(pod.name for pod in refused)
        fix = "write a good key as `current` into the model Secret (docs/operations/model-keys.md)"
        return fail("KeyRefused", f"the model endpoint answers 401 to {names}", fix)
    fix = "check model.baseUrl, the network policy's egress, and the provider's status page"
    return _dependency(facts, "model_endpoint", reason="EndpointUnreachable", what="the model endpoint", fix=fix)


def _dependency(facts: Facts, name: str, *, reason: str, what: str, fix: str) -> Verdict:
    """What the pods' /health says about one dependency; a pod that is starting counts, as it waits for the database."""
    known = [pod for pod in facts.pods if not pod.leaving and name in _dependencies(pod)]
    if not known:
        return _unasked(facts)
    down = sorted(pod.name for pod in known if not _dependencies(pod)[name].ok)
    if down:
        said = sorted({detail for pod in known if (detail := _detail(pod, name)) and detail != "ok"})
        return fail(reason, f"{what} does not serve {', '.join(down)}" + (f": {'; '.join(said)}" if said else ""), fix)
    return ok("Answers", f"{what} answers every pod")


def _dependencies(pod: Pod) -> Mapping[str, DependencyHealth]:
    return pod.health.dependencies if pod.health else {}


def _detail(pod: Pod, name: str) -> str:
    found = _dependencies(pod).get(name)
    return found.detail if found else ""


def _unasked(facts: Facts) -> Verdict:
    if not facts.pods:
        return unknown("NoPods", "there is no pod to ask")
    return unknown(
        "PodsNotAsked", "no pod's ops port answered", "let the operator reach port 9090 (networkPolicy), or start the pods"
    )


def drains_end(facts: Facts) -> Verdict:
    """No pod is beyond its drain limit, or beyond the moment at which the kubelet should have killed it."""
    draining = [pod for pod in facts.pods if pod.draining]
    stuck = sorted(pod.name for pod in draining if _is_stuck(facts, pod))
    if stuck:
        fix = "a node that is gone or a finalizer holds the pod: kubectl describe pod; /status shows the runs that it waits for"
        return fail("DrainStuck", f"{', '.join(stuck)} should have ended", fix)
    return ok("Draining", "pods are draining, within their time") if draining else ok("NotDraining", "no pod is draining")


def _is_stuck(facts: Facts, pod: Pod) -> bool:
    """By a deletionTimestamp the kubelet should have killed the pod (it contains the grace period); a drain has its own limit."""
    deadline = pod.manifest["metadata"].get("deletionTimestamp")
    if deadline is not None and facts.now.timestamp() > parse_timestamp(deadline).timestamp() + KILL_SECONDS:
        return True
    started, limit = pod.total("agent_drain_started_timestamp_seconds"), pod.total("agent_drain_limit_seconds")
    margin = facts.limits.drain_margin_seconds
    return bool(started) and limit is not None and facts.now.timestamp() > (started or 0) + limit + margin


def key_revisions(facts: Facts) -> Verdict:
    """Pods with different keys: a mounted Secret has not reached all, or never will."""
    asked = [pod.status for pod in facts.ready if pod.status is not None]
    if not asked:
        return _unasked(facts)
    for key in sorted({name for status in asked for name in status.keys}):
        seen = {str(status.keys.get(key, "")) for status in asked}
        if len(seen) > 1:
            shown = ", ".join(sorted(revision or "none" for revision in seen))
            fix = "the kubelet takes up to two minutes; then look for a subPath mount, or a node that does not sync"
            return warn("RevisionSpread", f"pods have different revisions of key {key}: {shown}", fix)
    return ok("SameRevision", "every pod has the same keys")


def alerts_quiet(facts: Facts) -> Verdict:
    """Firing alerts of this release; fails for a critical one, warns for others."""
    prometheus = facts.prometheus
    if prometheus is None or prometheus.error:
        return no_prometheus(facts)
    if not prometheus.firing:
        return ok("NoneFiring", "no alert fires")
    names = sorted({alert.get("alertname", "?") for alert in prometheus.firing})
    critical = any(alert.get("severity") == "critical" for alert in prometheus.firing)
    return (fail if critical else warn)("AlertsFiring", ", ".join(names), "follow the runbook that the alert links")


def no_prometheus(facts: Facts) -> Verdict:
    """What every check says that needs figures, when there are none."""
    if facts.prometheus is None:
        return unknown("NoPrometheus", "no Prometheus was named", "set spec.prometheus.url (doctor: --prometheus)")
    why = facts.prometheus.error or facts.prometheus.versions_error
    return unknown("PrometheusUnreachable", why, "correct the address of Prometheus, or its network policy")


def latency(facts: Facts) -> Verdict:
    """The 99th percentile of turns, over five minutes."""
    if facts.prometheus is None or facts.prometheus.error:
        return no_prometheus(facts)
    p99, limit = facts.prometheus.p99_seconds, facts.limits.p99_seconds
    if p99 is None:
        return ok("NoTraffic", "no turn has ended in the last five minutes")
    if p99 > limit:
        fix = 'docs/operations/troubleshooting.md, "Answers are slow"; or raise spec.limits.p99Seconds'
        return fail("TurnsSlow", f"the slowest 1 % of turns take more than {limit:g} s", fix)
    return ok("WithinLimit", f"99 % of turns end within {limit:g} s")


def errors(facts: Facts) -> Verdict:
    """The share of 5xx answers, over five minutes, with enough requests to judge by."""
    if facts.prometheus is None or facts.prometheus.error:
        return no_prometheus(facts)
    ratio, limit = facts.prometheus.error_ratio, facts.limits.error_ratio
    if ratio is None or facts.prometheus.requests < facts.limits.min_requests:
        return ok("LittleTraffic", "too few requests in the last five minutes for a share to mean something")
    if ratio > limit:
        fix = 'the `code` of the 5xx answers says why: docs/operations/troubleshooting.md, "Callers get 503"'
        return fail("ErrorsHigh", f"more than {limit:.0%} of requests are answered with 5xx", fix)
    return ok("WithinLimit", f"fewer than {limit:.0%} of requests are answered with 5xx")
