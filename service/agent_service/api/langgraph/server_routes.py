"""What a client of LangGraph Platform asks of a server itself, before it is known who calls."""

from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from agent_service.api.deps import ResourcesDep
from agent_service.api.json_body import JsonResponse
from agent_service.api.openapi import PROBLEMS
from agent_service.errors import DatabaseUnavailable
from agent_service.resources import VERSION

router = APIRouter(tags=["langgraph"])

LANGGRAPH_VERSION = version("langgraph")


@router.get("/info")
async def get_info() -> Response:
    """Versions, and optional features as they are."""
    return JsonResponse(
        {
            "version": VERSION,
            "langgraph_py_version": LANGGRAPH_VERSION,
            "flags": {
                "assistants": True, "crons": True, "langsmith": False, "langsmith_tracing_replicas": False,
                "strict_resume": True, "stream_namespaces": True,
            },
            "host": {
                "kind": "self-hosted", "project_id": None, "host_revision_id": None, "revision_id": None, "tenant_id": None,
            },
        }
    )  # fmt: skip


@router.get("/ok", responses=PROBLEMS)
async def get_ok(res: ResourcesDep, check_db: Annotated[bool, Query()] = False) -> Response:
    """That it answers; with `check_db` that the database does, too, as last looked."""
    if check_db and not res.health.dependencies["database"].ok:
        raise DatabaseUnavailable("the database does not answer")
    return JsonResponse({"ok": True, "services": {}})
