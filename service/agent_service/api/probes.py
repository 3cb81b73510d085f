"""The probes on the API port. They need no authentication."""

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import Response

from agent_service import ops
from agent_service.api.deps import ResourcesDep

router = APIRouter(tags=["probes"])


class Alive(BaseModel):
    status: str
    silent_seconds: float


class Ready(BaseModel):
    status: str
    reason: str | None = None


class DependencyHealth(BaseModel):
    ok: bool
    detail: str
    checked_seconds_ago: float | None


class HealthReport(BaseModel):
    status: str
    version: str
    draining: bool
    dependencies: dict[str, DependencyHealth]


@router.get("/live", response_model=Alive, responses={503: {"model": Alive}})
async def live(res: ResourcesDep) -> Response:
    """Is the process alive? Touches no dependency."""
    return _response(ops.live(res.health))


@router.get("/ready", response_model=Ready, responses={503: {"model": Ready}})
async def ready(res: ResourcesDep) -> Response:
    """Take traffic now?"""
    return _response(ops.ready(res.health))


@router.get("/health", response_model=HealthReport, responses={503: {"model": HealthReport}})
async def health(res: ResourcesDep) -> Response:
    """Every dependency by name."""
    return _response(ops.health_report(res.health))


def _response(answer: ops.Answer) -> Response:
    status, content_type, body = answer
    return Response(body, status, {"Cache-Control": "no-store"}, media_type=content_type)
