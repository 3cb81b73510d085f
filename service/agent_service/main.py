"""`slipway serve`: one process, from settings to exit."""

import asyncio
import socket
from collections.abc import Callable

import structlog
import uvicorn

from agent_service.api.app import create_app
from agent_service.health import Health
from agent_service.ops import OpsServer, serve_ops
from agent_service.resources import VERSION, make_metrics, open_resources
from agent_service.settings import Settings

log = structlog.stdlib.get_logger(__name__)

KEEP_ALIVE_SECONDS = 75
"""Above the 60 s idle time of common load balancers: the side that closes first must be theirs, or they see a reset."""


async def serve(settings: Settings, on_ready: Callable[[str], None] = lambda _: None) -> None:
    """Serves until SIGTERM or SIGINT, then lets runs finish.

    Raises:
        SettingsError, SchemaMismatch: before the API port opens.
    """
    health = Health(VERSION, settings.liveness_timeout)
    metrics = make_metrics(settings)
    ops = OpsServer((settings.ops_address, settings.ops_port), health, metrics.registry)
    with serve_ops(ops):
        async with open_resources(settings, health, metrics) as resources:
            ops.status = resources.status
            if settings.auth == "disabled":
                log.warning("AUTH=disabled: anyone who reaches this address is an admin")
            listener = _listen(settings)
            address = f"http://{settings.host}:{listener.getsockname()[1]}"
            log.info("serving", url=address, ops_port=ops.port, version=VERSION)
            on_ready(address)
            server = uvicorn.Server(
                uvicorn.Config(
                    create_app(resources),
                    loop="none",
                    lifespan="off",
                    log_config=None,
                    server_header=False,
                    timeout_keep_alive=KEEP_ALIVE_SECONDS,
                )
            )
            await server.serve(sockets=[listener])
            health.draining = True
            await resources.runs.drain(settings.max_turn_seconds)


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    return socket.create_server((settings.host, settings.port), family=family, backlog=2048)


def run(settings: Settings, on_ready: Callable[[str], None] = lambda _: None) -> None:
    """`serve` on uvloop."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve(settings, on_ready))


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415  # not on Windows
    except ImportError:
        return None
    return uvloop.Loop
