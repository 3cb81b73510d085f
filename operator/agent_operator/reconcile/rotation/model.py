"""The spec of a KeyRotation as values: judged by its definition, and once more by `manifests.specs` as it is read here."""

import re
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, Self

from agent_operator.cluster.paths import label_selector
from agent_operator.manifests.specs import KeyRotationSpec, checked

ROTATE_NOW = "slipway.dev/rotate-now"
"""Annotation: any value that is not the one of the last time asks for a rotation."""

EMERGENCY_REVOKE = "slipway.dev/emergency-revoke"
"""Annotation: the revision that leaked. It and every one before it is revoked as soon as a new key is published."""

PAUSED = "slipway.dev/paused"
"""Annotation `true`: nothing is made, published or revoked. An emergency goes on all the same."""

REVISION = re.compile(r"[0-9]{1,9}")

UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
PART = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
MAX_DURATION_CHARS = 64
"""Of a duration; a run of digits without a unit is searched from each of them."""


class Kind(StrEnum):
    OPENAI = "openAI"
    POOL = "pool"
    API_KEY = "APIKey"
    JWT_SECRET = "JWTSecret"  # noqa: S105  # a kind, not a secret

    @property
    def presented(self) -> bool:
        """We present the key to somebody who checks it; else our pods check keys that others present."""
        return self in {Kind.OPENAI, Kind.POOL}

    @property
    def status_key(self) -> str:
        """Under which name a pod's `/status` tells the revision it has loaded."""
        return {Kind.API_KEY: "api_keys", Kind.JWT_SECRET: "jwt"}.get(self, "openai")


@dataclass(frozen=True, slots=True)
class Window:
    """Hours of the day, on some days of the week. With `end` before `start` it reaches into the next day."""

    start: str = "00:00"
    end: str = "24:00"
    days: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Schedule:
    cron: str | None = None
    interval: timedelta | None = None
    time_zone: str = "UTC"
    jitter: timedelta = timedelta()
    allow: tuple[Window, ...] = ()
    deny: tuple[Window, ...] = ()


@dataclass(frozen=True, slots=True)
class Consumers:
    """The pods that hold the key. `min_pods` fewer than that is no proof of anything."""

    labels: dict[str, str]
    ops_port: int = 9090
    min_pods: int = 1

    @property
    def selector(self) -> str:
        """Raises InvalidName for labels that would select by something else."""
        return label_selector(self.labels)


@dataclass(frozen=True, slots=True)
class Spec:
    kind: Kind
    secret: str
    consumers: Consumers
    provider: dict[str, Any]
    """The block of the provider, as it stands in the object."""
    schedule: Schedule | None = None
    verify_url: str | None = None
    verify_timeout: timedelta = timedelta(minutes=2)
    overlap: timedelta = timedelta(minutes=10)
    deadline: timedelta = timedelta(minutes=15)
    emergency_confirm: timedelta = timedelta(minutes=2)
    key_lifetime: timedelta | None = None
    revoke_on_deletion: bool = False


@dataclass(frozen=True, slots=True)
class Orders:
    """What the annotations ask for."""

    rotate_now: str | None = None
    leaked: int | None = None
    paused: bool = False

    @classmethod
    def read(cls, annotations: dict[str, str]) -> Self:
        leaked = annotations.get(EMERGENCY_REVOKE, "").strip()
        return cls(
            rotate_now=annotations.get(ROTATE_NOW) or None,
            leaked=int(leaked) if REVISION.fullmatch(leaked) else None,
            paused=annotations.get(PAUSED, "").lower() == "true",
        )


@dataclass(frozen=True, slots=True)
class Identity:
    """Of the object. Names of keys are made from its uid, so that two objects of one name never share a key."""

    namespace: str
    name: str
    uid: str
    generation: int = 1
    orders: Orders = field(default_factory=Orders)

    @property
    def prefix(self) -> str:
        return f"slipway-{self.uid}-"

    def key_name(self, revision: int) -> str:
        """Deterministic: a key that was made and lost is found again by it."""
        return f"{self.prefix}r{revision}"


def duration(text: str) -> timedelta:
    """`1h30m`, `45s`, `500ms`, as Go writes a duration. Raises ValueError for anything else."""
    if not text or len(text) > MAX_DURATION_CHARS or PART.sub("", text):
        raise ValueError(f"expected a duration such as 90s, 15m or 1h30m, got {text[:MAX_DURATION_CHARS]!r}")
    return timedelta(seconds=sum(float(number) * UNITS[unit] for number, unit in PART.findall(text)))


def read_identity(manifest: dict[str, Any]) -> Identity:
    metadata = manifest["metadata"]
    return Identity(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 1),
        orders=Orders.read(metadata.get("annotations") or {}),
    )


def read_spec(manifest: dict[str, Any]) -> Spec:
    """Raises ValueError, with a line that names the fields, for what the definition let through or never saw."""
    spec = checked(manifest, KeyRotationSpec)["spec"]
    kind, block = _provider(spec["provider"])
    consumers, verify = spec["consumers"], spec.get("verify", {})
    given = {
        "verify_timeout": verify.get("timeout"),
        "overlap": spec.get("overlap"),
        "deadline": spec.get("deadline"),
        "emergency_confirm": spec.get("emergency", {}).get("confirmTimeout"),
        "key_lifetime": block.get("keyLifetime"),
    }
    return Spec(
        kind=kind,
        secret=spec["target"]["secretName"],
        consumers=Consumers(consumers["selector"]["matchLabels"], consumers.get("opsPort", 9090), consumers.get("minPods", 1)),
        provider=block,
        schedule=_schedule(spec["schedule"]) if "schedule" in spec else None,
        verify_url=verify.get("url"),
        revoke_on_deletion=spec.get("deletionPolicy") == "Revoke",
        **{name: duration(text) for name, text in given.items() if text},
    )


def _provider(blocks: dict[str, Any]) -> tuple[Kind, dict[str, Any]]:
    [(name, block)] = blocks.items()
    return Kind(block["kind"] if name == "generated" else name), block


def _schedule(block: dict[str, Any]) -> Schedule:
    return Schedule(
        cron=block.get("cron"),
        interval=duration(block["interval"]) if "interval" in block else None,
        time_zone=block.get("timeZone", "UTC"),
        jitter=duration(block["jitter"]) if "jitter" in block else timedelta(),
        allow=tuple(_window(each) for each in block.get("allow", [])),
        deny=tuple(_window(each) for each in block.get("deny", [])),
    )


def _window(block: dict[str, Any]) -> Window:
    return Window(block.get("start", "00:00"), block.get("end", "24:00"), frozenset(block.get("days", [])))
