"""Writes a status when it says something new, and shows its conditions as metrics."""

from typing import Any

from agent_operator.cluster import Manifest
from agent_operator.manifests.conditions import Verdict, set_conditions
from agent_operator.reconcile.tools import Tools


async def write_status(tools: Tools, about: Manifest, status: dict[str, Any]) -> Manifest:
    """The object with this status; `about` is the object as it was read. Raises ClusterError."""
    metadata = about["metadata"]
    tools.metrics.set_conditions(about["kind"], metadata["namespace"], metadata["name"], status.get("conditions", []))
    if about.get("status", {}) == status:
        return about
    return await tools.cluster.replace_status({**about, "status": status})


async def refuse(tools: Tools, about: Manifest, reason: str, message: str) -> None:
    """Ready=False, and nothing else of the status changed. Raises ClusterError."""
    status = about.get("status", {})
    conditions = set_conditions(
        status.get("conditions", []),
        [Verdict("Ready", "False", reason, message)],
        generation=about["metadata"]["generation"],
        now=tools.clock.now(),
    )
    await write_status(tools, about, {**status, "conditions": conditions})
