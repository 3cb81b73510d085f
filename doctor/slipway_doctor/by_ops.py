"""Examines a service by its ops port, for those who run it without Kubernetes."""

from datetime import UTC, datetime

import httpx

from slipway_doctor.checks.environment import Environment
from slipway_doctor.checks.facts import Facts
from slipway_doctor.checks.finding import Finding
from slipway_doctor.checks.gather import read_url
from slipway_doctor.checks.registry import CHECKS
from slipway_doctor.errors import CouldNotRun

APPLICABLE = {
    "DatabaseReachable",
    "ModelEndpointReachable",
    "DrainsEnd",
    "DatabaseConnectionsFit",
    "PricesKnown",
    "DatabaseEncrypted",
}
"""Checks that one process can answer for all, given the number of replicas."""


async def examine_ops(url: str, replicas: int, client: httpx.AsyncClient) -> list[Finding]:
    """Raises CouldNotRun when the ops port does not answer."""
    pod = await read_url(client, {"metadata": {"name": url}}, url)
    if pod.status is None:
        raise CouldNotRun(f"{url}/status does not answer; is it the ops port (9090)?")
    size = pod.total("agent_db_pool_connections_limit")
    settings = {"DATABASE_POOL_SIZE": f"{size:g}"} if size else {}
    if pod.health is None or "model_endpoint" not in pod.health.dependencies:
        settings["MODEL"] = "offline"
    facts = Facts(
        namespace="",
        release="",
        now=datetime.now(UTC),
        environment=Environment(settings, opaque=frozenset({"MODEL"} - settings.keys())),
        deployment={"metadata": {"name": url}, "spec": {"replicas": replicas}},
        pods=(pod,),
    )
    return [check(facts) for check in CHECKS if check.id in APPLICABLE]
