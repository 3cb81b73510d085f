"""What is known about one release at one moment. Checks read it and nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from slipway_clients.cluster import Manifest
from slipway_clients.egress.text import plain
from slipway_clients.prometheus import Rule
from slipway_doctor.checks.environment import Environment
from slipway_doctor.checks.versions import VersionFigures

Samples = Mapping[str, Sequence[tuple[Mapping[str, str], float]]]
"""Samples by name, each with its labels."""

Word = Annotated[str, AfterValidator(lambda text: plain(text, 64))]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Revision = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{0,64}$")]
Count = Annotated[int, Field(ge=0, le=1_000_000)]


class DatabaseFacts(BaseModel):
    """Of `/status`: `max_connections` is the server's limit; `local`, that it is reached by a socket of the same machine."""

    max_connections: Count
    tls: bool
    local: bool = False


class PodStatus(BaseModel):
    """The body of `/status`, as far as a check reads it. `keys` are revisions by key."""

    version: Word
    draining: bool = False
    runs_in_flight: Count = 0
    runs_queued: Count = 0
    keys: dict[Name, Revision | None] = Field(default_factory=dict, max_length=20)
    database: DatabaseFacts | None = None


class DependencyHealth(BaseModel):
    """One entry of `/health`."""

    ok: bool = False
    detail: Annotated[str, AfterValidator(plain)] = ""


class PodHealth(BaseModel):
    """The body of `/health`, as far as a check reads it."""

    dependencies: dict[Name, DependencyHealth] = Field(max_length=20)


@dataclass(frozen=True, slots=True)
class Limits:
    """When a figure is no longer well. The defaults are those of the alert rules where both judge the same."""

    p99_seconds: float = 30.0
    """Seconds of a turn at its 99th percentile."""

    error_ratio: float = 0.05
    """Share of HTTP requests answered with 5xx, over five minutes."""

    min_requests: float = 20.0
    """HTTP requests in five minutes under which a share says nothing."""

    key_age_days: float = 90.0
    """Days after which a model key should have been replaced."""

    min_replicas: int = 2
    """One replica is an outage with each node that is drained."""

    drain_margin_seconds: float = 15.0
    """Seconds that a drain may take beyond DRAIN_SECONDS: handing over, ending streams, closing connections."""

    max_model_calls: int = 50
    """Model calls of one run above which the limit no longer protects the bill."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod and what its ops port says; None for what could not be read."""

    manifest: Manifest
    status: PodStatus | None = None
    health: PodHealth | None = None
    samples: Samples | None = None

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def ready(self) -> bool:
        """A pod that is being deleted counts as unready, whatever its condition says."""
        conditions = self.manifest.get("status", {}).get("conditions") or ()
        return not self.leaving and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    @property
    def leaving(self) -> bool:
        """It is being deleted."""
        return "deletionTimestamp" in self.manifest["metadata"]

    @property
    def draining(self) -> bool:
        """By its own words too: it may drain before it is deleted."""
        return self.leaving or bool(self.status and self.status.draining)

    def total(self, metric: str, **labels: str) -> float | None:
        """Sum of a metric's samples that carry these labels; None when the pod was not read or has none."""
        found = [value for have, value in (self.samples or {}).get(metric, ()) if labels.items() <= have.items()]
        return sum(found) if found else None


@dataclass(frozen=True, slots=True)
class PrometheusFacts:
    """Answers of Prometheus; `error` says why there are none. Figures are None while there is no traffic."""

    error: str = ""
    up: int = 0
    """Targets of this release that the last scrape reached."""
    p99_seconds: float | None = None
    error_ratio: float | None = None
    requests: float = 0.0
    """HTTP requests in the last five minutes."""
    drained: bool | None = None
    """Whether a pod has drained in the last 30 days."""
    rules: Sequence[Rule] = ()
    firing: Sequence[Mapping[str, str]] = ()
    """Labels of the alerts that fire for this release."""
    versions: Sequence[VersionFigures] = ()
    """Of the release and of its baseline, those with turns in the last half hour; only of one when there is no other."""
    versions_error: str = ""
    """Why there are none, where all else was answered."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """What is compared: `version` of the graph (empty: the Deployment's), with the release `baseline` or the version before."""

    version: str = ""
    baseline: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Objects are of the release's namespace and, where they carry labels, of the release."""

    namespace: str
    release: str
    now: datetime
    limits: Limits = field(default_factory=Limits)
    rollout: Rollout = field(default_factory=Rollout)
    environment: Environment = field(default_factory=Environment)
    deployment: Manifest | None = None
    pods: Sequence[Pod] = ()
    objects: Mapping[str, Sequence[Manifest]] = field(default_factory=dict)
    """By plural: horizontalpodautoscalers, poddisruptionbudgets, secrets (metadata only), networkpolicies and so on."""
    forbidden: frozenset[str] = frozenset()
    """Plurals that we may not list."""
    prometheus: PrometheusFacts | None = None

    @property
    def pod_template(self) -> Manifest:
        """The Deployment's; empty without one."""
        template: Manifest = (self.deployment or {}).get("spec", {}).get("template", {})
        return template

    @property
    def container(self) -> Manifest:
        """The agent's container of the template; empty without a Deployment."""
        return agent_container(self.pod_template)

    @property
    def ready(self) -> list[Pod]:
        return [pod for pod in self.pods if pod.ready]

    @property
    def desired(self) -> int:
        """Replicas that the Deployment asks for."""
        return int((self.deployment or {}).get("spec", {}).get("replicas", 1))

    def of(self, plural: str) -> Sequence[Manifest]:
        """Objects by plural; none where the kind is not installed, or may not be listed."""
        return self.objects.get(plural, ())

    def pod_total(self, metric: str, **labels: str) -> float | None:
        """Sum over all pods that could be read; None when no pod has the metric."""
        found = [value for pod in self.pods if (value := pod.total(metric, **labels)) is not None]
        return sum(found) if found else None


def agent_container(template: Manifest) -> Manifest:
    """The container with the ops port; the first one when none names it."""
    containers = template.get("spec", {}).get("containers") or [{}]
    named = (c for c in containers if any(p.get("name") == "ops" for p in c.get("ports") or ()))
    container: Manifest = next(named, containers[0])
    return container


def labels_match(selector: Manifest, labels: Mapping[str, str]) -> bool:
    """Whether a Kubernetes label selector (matchLabels, matchExpressions) takes these labels."""
    return (selector.get("matchLabels") or {}).items() <= labels.items() and all(
        _expression_matches(e, labels.get(e["key"])) for e in selector.get("matchExpressions") or ()
    )


def _expression_matches(expression: Manifest, value: str | None) -> bool:
    values = expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
    return value is None
