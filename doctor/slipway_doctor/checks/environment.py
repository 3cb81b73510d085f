"""The service's settings as a pod has them: values of environment variables, and where they come from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from slipway_clients.cluster import Manifest

DEFAULTS: Mapping[str, str] = {
    "AUTH": "required",
    "DATA_SCHEMAS": "slipway_data",
    "DATABASE_POOL_SIZE": "10",
    "DRAIN_SECONDS": "300.0",
    "GUARDRAILS": "on",
    "LOG_LEVEL": "info",
    "MAX_MODEL_CALLS": "10",
    "MAX_TURN_SECONDS": "300.0",
    "MODEL": "offline",
    "MODEL_MAX_RETRIES": "3",
    "MODEL_TIMEOUT": "60.0",
    "TOOL_TIMEOUT": "30.0",
}
"""What the service takes when a variable is not set; a contract test compares them with the service's own."""

EXTRA_CONNECTIONS = 3
"""Of one process beside its pool: two for leases and the event log, one that listens (docs/operations/database.md)."""


@dataclass(frozen=True, slots=True)
class Environment:
    """`values` are readable; `secret` names come from a Secret, `opaque` ones from elsewhere, and their values are not read."""

    values: Mapping[str, str] = field(default_factory=dict)
    secret: frozenset[str] = frozenset()
    opaque: frozenset[str] = frozenset()
    whole_sources: bool = False
    """A source was taken whole (envFrom), so that a variable that is not listed may be set all the same."""

    def has(self, name: str) -> bool:
        """Whether the variable is set, though its value may not be readable."""
        return name in self.secret or name in self.opaque or bool(self.values.get(name))

    def get(self, name: str) -> str:
        """The value, or the service's default; empty when neither is known."""
        return self.values.get(name) or DEFAULTS.get(name, "")

    def word(self, name: str) -> str:
        """The same of a choice among words, which the service takes in any letter case."""
        return self.get(name).strip().lower()

    def number(self, name: str) -> float:
        """Raises ValueError when the value is none."""
        return float(self.get(name))

    @property
    def offline(self) -> bool:
        """Whether the built-in model answers, which has no endpoint and no key."""
        return self.word("MODEL") == "offline" and "MODEL" not in self.secret | self.opaque


def of_container(container: Manifest) -> Environment:
    """What a container's manifest says about its variables."""
    values: dict[str, str] = {}
    secret: set[str] = set()
    opaque: set[str] = set()
    for entry in container.get("env") or ():
        source = entry.get("valueFrom")
        if not source:
            values[entry["name"]] = entry.get("value", "")
        elif "secretKeyRef" in source:
            secret.add(entry["name"])
        else:
            opaque.add(entry["name"])
    return Environment(values, frozenset(secret), frozenset(opaque), whole_sources=bool(container.get("envFrom")))
