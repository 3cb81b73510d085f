"""Collects the facts about one release: objects from the cluster, answers of its pods, figures from Prometheus."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import httpx

from slipway_clients.clock import Clock
from slipway_clients.cluster import Cluster, Forbidden, InvalidName, Kind, Manifest
from slipway_clients.cluster.kinds import (
    AUTOSCALER,
    CONFIG_MAP,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    KEY_ROTATION,
    NETWORK_POLICY,
    POD,
    PROMETHEUS_RULE,
    SECRET,
)
from slipway_clients.cluster.paths import label_selector
from slipway_clients.egress.read import ReadError, read
from slipway_doctor.checks.answers import OPS_PATHS, Answer, pod_of
from slipway_doctor.checks.environment import Environment, of_container
from slipway_doctor.checks.facts import Facts, Limits, Pod, Rollout, agent_container
from slipway_doctor.checks.figures import Figures, NoFigures

COMPONENT = "app.kubernetes.io/component"
INSTANCE = "app.kubernetes.io/instance"

OPS_SECONDS = 3.0
"""Seconds for the whole answer of a pod's ops port, which answers from memory; a pod that is gone must not hold up the others."""

OPS_PORT = 9090

OPS_BYTES = 2 << 20
"""Bytes of one answer: some thousand lines of metrics are 200 kB."""

ReadPod = Callable[[Manifest], Awaitable[Pod]]
"""Asks a pod's ops port; never raises, as a pod that does not answer is a fact too."""


def by_address(http: httpx.AsyncClient) -> ReadPod:
    """From inside the cluster."""

    async def read(pod: Manifest) -> Pod:
        address = pod.get("status", {}).get("podIP")
        if not address:
            return Pod(pod)
        return await read_url(http, pod, f"http://[{address}]:{OPS_PORT}" if ":" in address else f"http://{address}:{OPS_PORT}")

    return read


async def gather(
    cluster: Cluster,
    clock: Clock,
    read_pod: ReadPod,
    *,
    namespace: str,
    release: str,
    figures: Figures | NoFigures | None = None,
    limits: Limits | None = None,
    rollout: Rollout | None = None,
) -> Facts:
    """The facts of now. What we may not list is named in `forbidden`.

    Raises:
        Unavailable: the API server does not answer.
        InvalidName: the release is none.
    """
    objects, forbidden = await _objects(cluster, namespace, release)
    deployment = next(iter(objects["deployments"]), None)
    container = agent_container((deployment or {}).get("spec", {}).get("template", {}))
    objects["databases"] = [p for p in objects["pods"] if component(p) == "postgres"]
    agents = [p for p in objects.pop("pods") if component(p) == "agent"]
    mounted = key_secret_names(deployment)
    objects["keyrotations"] = [k for k in objects["keyrotations"] if k["spec"]["target"]["secretName"] in mounted]
    pods, measured, secrets, objects["dashboards"] = await asyncio.gather(
        asyncio.gather(*map(read_pod, agents)),
        figures.of(namespace, release, rollout.baseline if rollout else "") if figures else _nothing(),
        _key_secrets(cluster, namespace, mounted, forbidden),
        _dashboards(cluster, namespace, deployment, forbidden),
    )
    return Facts(
        namespace=namespace,
        release=release,
        now=clock.now(),
        limits=limits or Limits(),
        rollout=rollout or Rollout(),
        environment=of_container(container) if deployment else Environment(),
        deployment=deployment,
        pods=pods,
        objects={**objects, "secrets": secrets},
        forbidden=frozenset(forbidden),
        prometheus=measured,
    )


async def _nothing() -> None:
    return None


async def _objects(cluster: Cluster, namespace: str, release: str) -> tuple[dict[str, list[Manifest]], set[str]]:
    """Objects by plural, and the plurals that we may not list. Budgets and policies may be anyone's: they select by labels."""
    own = label_selector({INSTANCE: release})
    wanted: Mapping[Kind, str | None] = {
        DEPLOYMENT: label_selector({INSTANCE: release, COMPONENT: "agent"}),
        POD: own,
        AUTOSCALER: None,
        DISRUPTION_BUDGET: None,
        NETWORK_POLICY: None,
        PROMETHEUS_RULE: own,
        KEY_ROTATION: None,
    }
    forbidden: set[str] = set()

    async def listed(kind: Kind, labels: str | None) -> list[Manifest]:
        try:
            return await cluster.list(kind, namespace, labels)
        except Forbidden:
            forbidden.add(kind.plural)
            return []

    found = await asyncio.gather(*(listed(kind, labels) for kind, labels in wanted.items()))
    return {kind.plural: objects for kind, objects in zip(wanted, found, strict=True)}, forbidden


def component(pod: Manifest) -> str:
    """Which part of a release a pod is, by its label: `agent`, `postgres`; empty without one."""
    return str((pod["metadata"].get("labels") or {}).get(COMPONENT, ""))


async def _key_secrets(cluster: Cluster, namespace: str, names: Sequence[str], forbidden: set[str]) -> list[Manifest]:
    """Metadata of the Secrets mounted at OPENAI_KEY_DIR; their data is dropped here and goes nowhere."""
    try:
        found = [await cluster.get(SECRET, namespace, name) for name in names]
    except InvalidName:  # a Deployment's volume may have any name: such a Secret is none
        return []
    except Forbidden:
        forbidden.add(SECRET.plural)
        return []
    return [{"metadata": secret["metadata"]} for secret in found if secret is not None]


async def _dashboards(cluster: Cluster, namespace: str, deployment: Manifest | None, forbidden: set[str]) -> list[Manifest]:
    """The overview that the chart brings, by name: a list would take the right to read every ConfigMap."""
    if deployment is None:
        return []
    try:
        found = await cluster.get(CONFIG_MAP, namespace, f"{deployment['metadata']['name']}-overview-dashboard")
    except InvalidName:  # longer than a name may be
        return []
    except Forbidden:
        forbidden.add(CONFIG_MAP.plural)
        return []
    return [{"metadata": found["metadata"]}] if found else []


def key_secret_names(deployment: Manifest | None) -> list[str]:
    """Secrets that the Deployment mounts at OPENAI_KEY_DIR."""
    if deployment is None:
        return []
    template = deployment["spec"]["template"]
    container = agent_container(template)
    folder = of_container(container).values.get("OPENAI_KEY_DIR", "").rstrip("/")
    volumes = {m["name"] for m in container.get("volumeMounts") or () if folder and m["mountPath"].rstrip("/") == folder}
    return [v["secret"]["secretName"] for v in template["spec"].get("volumes") or () if v["name"] in volumes and "secret" in v]


async def read_url(http: httpx.AsyncClient, manifest: Manifest, url: str) -> Pod:
    """`url` is the base of an ops port."""
    answers = await asyncio.gather(*(_get(http, f"{url}{path}") for path in OPS_PATHS))
    return pod_of(manifest, dict(zip(OPS_PATHS, answers, strict=True)))


async def _get(http: httpx.AsyncClient, url: str) -> Answer | None:
    try:
        answer = await read(http, "GET", url, seconds=OPS_SECONDS, limit=OPS_BYTES)
    except ReadError:
        return None
    return answer.status, answer.text
