"""Examines a release by kubeconfig: the same checks as AgentHealth, with the rights of who asks."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import httpx

from slipway_clients.clock import Clock, SystemClock
from slipway_clients.cluster import Cluster, ClusterError, Manifest, Unavailable
from slipway_clients.cluster.http_cluster import connect
from slipway_clients.cluster.kinds import ACCESS_REVIEW
from slipway_clients.cluster.proxy import KubeAccess, find_config, pod_url, run_in_pod, service_url, through_api_server
from slipway_clients.egress.client import terminals_client
from slipway_clients.prometheus import Prometheus
from slipway_doctor.checks.answers import OPS_PATHS, pod_of
from slipway_doctor.checks.facts import Pod, Rollout, agent_container
from slipway_doctor.checks.figures import Figures
from slipway_doctor.checks.finding import Area, Finding, Status
from slipway_doctor.checks.gather import OPS_BYTES, OPS_PORT, ReadPod, gather, read_url
from slipway_doctor.checks.registry import judge
from slipway_doctor.errors import CouldNotRun

NEEDED = (
    ("list", "apps", "deployments", ""),
    ("list", "", "pods", ""),
    ("get", "", "pods", "proxy"),
    ("list", "autoscaling", "horizontalpodautoscalers", ""),
    ("list", "policy", "poddisruptionbudgets", ""),
    ("list", "networking.k8s.io", "networkpolicies", ""),
    ("list", "monitoring.coreos.com", "prometheusrules", ""),
    ("get", "", "configmaps", ""),
    ("get", "", "secrets", ""),
)
"""Verb, API group, resource, subresource of every call that the checks need."""

ESSENTIAL = ("list", "", "pods", "")
"""Without it half of the checks can tell nothing, which must not look like a pass."""

ROLLOUT = "RolloutHealthy"

COMING = ("OneVersion", "TooFewTurns", "PrometheusUnreachable")
"""Reasons for which a rollout is not judged yet; for any other it never will be."""

LOOK_SECONDS = 10.0
"""Between two looks: a scrape brings new turns every 15 s or so."""

ASK_OWN_PORT = f"""
import json, urllib.error, urllib.request
def ask(path):
    try:
        answer = urllib.request.urlopen("http://127.0.0.1:{OPS_PORT}" + path, timeout=3)
    except urllib.error.HTTPError as error:
        answer = error
    return answer.status, answer.read({OPS_BYTES}).decode()
print(json.dumps({{path: ask(path) for path in {OPS_PATHS!r}}}))
"""
"""Runs in the agent's container, whose image has Python and no curl."""


@dataclass(frozen=True, slots=True)
class Release:
    """What is to be examined, as the command line names it. `context` is the kubeconfig's; None takes the current one."""

    name: str
    namespace: str
    context: str | None = None
    prometheus: str = ""
    """A URL, or NAMESPACE/SERVICE:PORT to reach it through the API server."""

    baseline: str = ""
    """Release that the version is compared with; empty: the release's own version of before."""

    wait_seconds: int = 0
    """How long the rollout may take to be judged; 0: one look."""


async def examine_release(release: Release) -> list[Finding]:
    """Raises CouldNotRun when there is no cluster, no right to look at all, or no such release."""
    try:
        config = find_config(release.context)
        async with connect(config) as cluster, through_api_server(config) as http, terminals_client() as direct:
            clock, prometheus = SystemClock(), prometheus_of(release.prometheus, http, direct)
            figures, read_pod = Figures(prometheus, clock) if prometheus else None, from_outside(config, http)
            return await until_judged(
                lambda: examine_with(cluster, clock, read_pod, release, figures), clock, release.wait_seconds
            )
    except ClusterError as error:
        raise CouldNotRun(str(error)) from None


def from_outside(config: KubeAccess, http: httpx.AsyncClient) -> ReadPod:
    """Through the API server; where a network policy keeps that out of the ops port, by a command in the pod."""

    async def read(pod: Manifest) -> Pod:
        found = await read_url(http, pod, pod_url(pod, OPS_PORT))
        if found.status is not None or found.leaving:
            return found
        try:
            container = agent_container(pod).get("name", "")
            answers = json.loads(await run_in_pod(config, pod, container, ("python", "-c", ASK_OWN_PORT)))
        except (ClusterError, ValueError):
            return found
        return pod_of(pod, {path: (status, body) for path, (status, body) in answers.items()})

    return read


def prometheus_of(address: str, http: httpx.AsyncClient, direct: httpx.AsyncClient) -> Prometheus | None:
    """The Prometheus at an address of `--prometheus`, None for an empty one. Raises CouldNotRun when it is neither form."""
    if not address:
        return None
    if "://" in address:
        return Prometheus(direct, address)
    namespace, _, rest = address.partition("/")
    service, _, port = rest.partition(":")
    if not service:
        raise CouldNotRun(f"--prometheus {address}: expected a URL, or NAMESPACE/SERVICE:PORT")
    return Prometheus(http, service_url(namespace, service, port or "9090"))


async def until_judged(examine: Callable[[], Awaitable[list[Finding]]], clock: Clock, seconds: int) -> list[Finding]:
    """The findings as soon as the rollout is judged; after so many seconds they say that it has failed. 0: the first ones."""
    end = clock.now() + timedelta(seconds=seconds)
    while True:
        try:
            findings = await examine()
        except Unavailable:  # for a moment, of the many looks of a long wait
            if clock.now() >= end:
                raise
            await clock.sleep(LOOK_SECONDS)
            continue
        open_ = next((each for each in findings if each.id == ROLLOUT and each.status is Status.UNKNOWN), None)
        if open_ is None or not seconds:
            return findings
        if clock.now() >= end or open_.reason not in COMING:
            failed = replace(open_, status=Status.FAIL, message=f"not judged within {seconds} s: {open_.message}")
            return [failed if each is open_ else each for each in findings]
        await clock.sleep(LOOK_SECONDS)


async def examine_with(
    cluster: Cluster, clock: Clock, read_pod: ReadPod, release: Release, figures: Figures | None
) -> list[Finding]:
    """The findings with everything that is asked handed in. Raises CouldNotRun and ClusterError."""
    rollout = Rollout(baseline=release.baseline)
    facts = await gather(
        cluster, clock, read_pod, namespace=release.namespace, release=release.name, figures=figures, rollout=rollout
    )
    if "deployments" in facts.forbidden:
        raise CouldNotRun(f"you may not list deployments in namespace {release.namespace}, and every check begins with that")
    if facts.deployment is None:
        raise CouldNotRun(f"no Deployment of a release {release.name} in namespace {release.namespace}")
    return [await _permissions(cluster, release.namespace), *judge(facts)]


async def _permissions(cluster: Cluster, namespace: str) -> Finding:
    allowed = await asyncio.gather(*(_may(cluster, namespace, *needed) for needed in NEEDED))
    refused = [needed for needed, may in zip(NEEDED, allowed, strict=True) if not may]
    missing = [f"{verb} {resource}{f'/{sub}' if sub else ''}" for verb, _, resource, sub in refused]
    if not missing:
        return Finding("Permissions", Area.INFRASTRUCTURE, Status.OK, "Allowed", "everything that the checks read may be read")
    fix = f"let somebody with more rights run it, or bind a Role in {namespace} that allows it"
    status = Status.FAIL if ESSENTIAL in refused else Status.WARN
    return Finding("Permissions", Area.INFRASTRUCTURE, status, "Missing", f"you may not {', '.join(missing)}", fix)


async def _may(cluster: Cluster, namespace: str, verb: str, group: str, resource: str, sub: str) -> bool:
    attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": resource, "subresource": sub}
    review = {
        "apiVersion": ACCESS_REVIEW.api_version,
        "kind": ACCESS_REVIEW.kind,
        "metadata": {},
        "spec": {"resourceAttributes": attributes},
    }
    return bool((await cluster.create(review)).get("status", {}).get("allowed"))
