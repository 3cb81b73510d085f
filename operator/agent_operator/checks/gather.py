"""Collects the facts about one release: objects from the cluster, answers of its pods, figures from Prometheus."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence

import httpx
from prometheus_client.parser import text_string_to_metric_families

from agent_operator.checks.environment import Environment, of_container
from agent_operator.checks.facts import Facts, Limits, Manifest, Pod, PrometheusFacts, Samples, agent_container
from agent_operator.clock import Clock
from agent_operator.cluster import Cluster, Forbidden, Kind
from agent_operator.cluster.kinds import (
    AUTOSCALER,
    CONFIG_MAP,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    NETWORK_POLICY,
    POD,
    PROMETHEUS_RULE,
    SECRET,
)
from agent_operator.prometheus import Prometheus, PrometheusError, Sample

COMPONENT = "app.kubernetes.io/component"
INSTANCE = "app.kubernetes.io/instance"

OPS_SECONDS = 3.0
"""Limit of one question to a pod's ops port, which answers from memory; a pod that is gone must not hold up the others."""

OPS_PORT = 9090

WANTED = ("agent_unpriced_model_calls_total", "agent_tokens_total", "agent_drain_", "agent_db_pool_connections_limit")
"""Beginnings of the metrics that a check reads from pods; the rest of some thousand lines is not parsed."""

OpsUrl = Callable[[Manifest], str | None]
"""Base URL of a pod's ops port; None while the pod has no address."""


def by_address(pod: Manifest) -> str | None:
    """As reached from inside the cluster."""
    address = pod.get("status", {}).get("podIP")
    if not address:
        return None
    return f"http://[{address}]:{OPS_PORT}" if ":" in address else f"http://{address}:{OPS_PORT}"


async def gather(
    cluster: Cluster,
    http: httpx.AsyncClient,
    clock: Clock,
    *,
    namespace: str,
    release: str,
    prometheus: Prometheus | None = None,
    limits: Limits | None = None,
    ops_url: OpsUrl = by_address,
) -> Facts:
    """The facts of now. What we may not list is named in `forbidden`.

    Raises:
        Unavailable: the API server does not answer.
    """
    objects, forbidden = await _objects(cluster, namespace, release)
    deployment = next(iter(objects["deployments"]), None)
    container = agent_container((deployment or {}).get("spec", {}).get("template", {}))
    objects["databases"] = [p for p in objects["pods"] if _component(p) == "postgres"]
    agents = [p for p in objects.pop("pods") if _component(p) in {"agent", ""}]
    pods, figures, secrets = await asyncio.gather(
        asyncio.gather(*(read_pod(http, pod, ops_url(pod)) for pod in agents)),
        ask(prometheus, namespace, release) if prometheus else _nothing(),
        _key_secrets(cluster, namespace, deployment, forbidden),
    )
    return Facts(
        namespace=namespace,
        release=release,
        now=clock.now(),
        limits=limits or Limits(),
        environment=of_container(container) if deployment else Environment(),
        deployment=deployment,
        pods=pods,
        objects={**objects, "secrets": secrets},
        forbidden=frozenset(forbidden),
        prometheus=figures,
    )


async def _nothing() -> None:
    return None


async def _objects(cluster: Cluster, namespace: str, release: str) -> tuple[dict[str, list[Manifest]], set[str]]:
    """Objects by plural, and the plurals that we may not list. Budgets and policies may be anyone's: they select by labels."""
    own = f"{INSTANCE}={release}"
    wanted: Mapping[Kind, str | None] = {
        DEPLOYMENT: f"{own},{COMPONENT}=agent",
        POD: own,
        AUTOSCALER: None,
        DISRUPTION_BUDGET: None,
        NETWORK_POLICY: None,
        PROMETHEUS_RULE: own,
        CONFIG_MAP: own,
    }
    found: dict[str, list[Manifest]] = {}
    forbidden: set[str] = set()
    for kind, labels in wanted.items():
        try:
            found[kind.plural] = await cluster.list(kind, namespace, labels)
        except Forbidden:
            found[kind.plural] = []
            forbidden.add(kind.plural)
    return found, forbidden


def _component(pod: Manifest) -> str:
    return str((pod["metadata"].get("labels") or {}).get(COMPONENT, ""))


async def _key_secrets(cluster: Cluster, namespace: str, deployment: Manifest | None, forbidden: set[str]) -> list[Manifest]:
    """Metadata of the Secrets mounted at OPENAI_KEY_DIR; their data is dropped here and goes nowhere."""
    try:
        found = [await cluster.get(SECRET, namespace, name) for name in _key_secret_names(deployment)]
    except Forbidden:
        forbidden.add(SECRET.plural)
        return []
    return [{"metadata": secret["metadata"]} for secret in found if secret is not None]


def _key_secret_names(deployment: Manifest | None) -> list[str]:
    if deployment is None:
        return []
    template = deployment["spec"]["template"]
    container = agent_container(template)
    folder = of_container(container).values.get("OPENAI_KEY_DIR", "").rstrip("/")
    volumes = {m["name"] for m in container.get("volumeMounts") or () if folder and m["mountPath"].rstrip("/") == folder}
    return [v["secret"]["secretName"] for v in template["spec"].get("volumes") or () if v["name"] in volumes and "secret" in v]


async def read_pod(http: httpx.AsyncClient, manifest: Manifest, url: str | None) -> Pod:
    """What a pod says; None for each question that it does not answer."""
    if url is None:
        return Pod(manifest)
    status, health, metrics = await asyncio.gather(*(_get(http, f"{url}{path}") for path in ("/status", "/health", "/metrics")))
    return Pod(
        manifest,
        status=_json(status) if status and status.is_success else None,
        health=_json(health) if health else None,  # 503 says that something is down, and the body says what
        samples=_samples(metrics.text) if metrics and metrics.is_success else None,
    )


async def _get(http: httpx.AsyncClient, url: str) -> httpx.Response | None:
    try:
        return await http.get(url, timeout=OPS_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL):
        return None


def _json(response: httpx.Response) -> Mapping[str, object] | None:
    try:
        body = response.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _samples(text: str) -> Samples:
    lines = [line for line in text.splitlines() if line.startswith(WANTED)]
    found: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for family in text_string_to_metric_families("\n".join([*lines, ""])):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


async def ask(prometheus: Prometheus, namespace: str, release: str) -> PrometheusFacts:
    """Figures of one release; those of another one of the same name elsewhere are not among them."""
    scope = f'namespace="{namespace}",job="{release}"'
    requests = f"sum(increase(agent_http_requests_total{{{scope}}}[5m]))"
    queries = (
        f"sum(up{{{scope}}})",
        f"histogram_quantile(0.99, sum by (le) (rate(agent_turn_duration_seconds_bucket{{{scope}}}[5m])))",
        f'sum(increase(agent_http_requests_total{{{scope},code=~"5.."}}[5m])) / {requests}',
        requests,
        f"max(max_over_time(agent_draining{{{scope}}}[30d]))",
    )
    try:
        rules, alerts = await asyncio.gather(prometheus.rules(), prometheus.alerts())
        answers = await asyncio.gather(*map(prometheus.query, queries))
    except PrometheusError as error:
        return PrometheusFacts(error=str(error))
    up, p99, ratio, total, drained = map(_single, answers)
    return PrometheusFacts(
        up=int(up or 0),
        p99_seconds=p99,
        error_ratio=ratio,
        requests=total or 0.0,
        drained=None if drained is None else drained > 0,
        rules=rules,
        firing=[{**alert.labels} for alert in alerts if alert.state == "firing" and _is_of(alert.labels, namespace, release)],
    )


def _single(samples: Sequence[Sample]) -> float | None:
    """The one value of an aggregate; None without data, and for 0/0."""
    value = samples[0].value if samples else math.nan
    return value if math.isfinite(value) else None


def _is_of(labels: Mapping[str, str], namespace: str, release: str) -> bool:
    return labels.get("namespace") == namespace and labels.get("job", release) == release
