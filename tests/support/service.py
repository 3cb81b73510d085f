"""The real service in this process, on free loopback ports."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from agent_service.main import serving
from agent_service.ops import OpsServer
from agent_service.resources import Resources
from agent_service.settings import load_settings

JWT_SECRET = "a-secret-of-the-tests-that-is-long-enough"


@dataclass(frozen=True, slots=True)
class RunningService:
    url: str
    ops_url: str
    resources: Resources
    ops: OpsServer

    def client(self, **options: object) -> httpx.AsyncClient:
        headers = options.pop("headers", None)
        return httpx.AsyncClient(base_url=self.url, timeout=30, headers=headers)  # type: ignore[arg-type]  # options are httpx's

    async def metric(self, name: str, **labels: str) -> float:
        """The value of a sample of /metrics; 0 when it is not there."""
        for family in self.resources.metrics.registry.collect():
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return sample.value
        return 0.0


@asynccontextmanager
async def running_service(database_url: str, **env: str) -> AsyncIterator[RunningService]:
    """Serves with AUTH=disabled unless `env` says otherwise. Left, it does not wait for runs."""
    settings = load_settings({"AUTH": "disabled", "DATABASE_URL": database_url, "PORT": "0", "OPS_PORT": "0", **env})
    hurry = asyncio.Event()
    hurry.set()
    async with serving(settings, hurry) as service:
        yield RunningService(service.url, f"http://127.0.0.1:{service.ops.port}", service.resources, service.ops)
