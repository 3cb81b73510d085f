"""The real service in this process, on free loopback ports; and as a process of its own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import uvicorn

from agent_service.api.app import create_app
from agent_service.health import Health
from agent_service.main import api_connections
from agent_service.ops import OpsServer, serve_ops
from agent_service.resources import VERSION, Resources, make_metrics, open_resources
from agent_service.server.listener import server_config
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
    """Serves with AUTH=disabled unless `env` says otherwise."""
    settings = load_settings({"AUTH": "disabled", "DATABASE_URL": database_url, "PORT": "0", "OPS_PORT": "0", **env})
    health, metrics = Health(VERSION, settings.liveness_timeout), make_metrics(settings)
    ops = OpsServer(("127.0.0.1", 0), health, metrics.registry)
    with serve_ops(ops):
        async with open_resources(settings, health, metrics) as resources:
            ops.status = resources.status
            connections = api_connections(settings, metrics)
            server = uvicorn.Server(server_config(create_app(resources), connections, port=0, timeout_graceful_shutdown=5))
            server.capture_signals = contextlib.nullcontext  # type: ignore[assignment,method-assign]  # pytest's signals stay pytest's
            task = asyncio.create_task(server.serve())
            try:
                while not server.started:
                    await asyncio.sleep(0.005)
                port = server.servers[0].sockets[0].getsockname()[1]
                yield RunningService(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{ops.port}", resources, ops)
            finally:
                server.should_exit = True
                await resources.streams.close(0.5)
                await task
                await resources.worker.hand_over(0)
