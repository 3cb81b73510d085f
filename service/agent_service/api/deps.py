"""What routes ask for, one alias per thing. All are `async`: FastAPI runs others in a thread, a hop per request each."""

from typing import Annotated

import structlog
from fastapi import Depends, Header, Query, Request, Security
from fastapi.security import HTTPBearer

from agent_service.api.callers import bearer
from agent_service.api.field_types import IdempotencyKey
from agent_service.api.json_body import check_query
from agent_service.middleware.after_route import AFTER_ROUTE, AfterRoute
from agent_service.principal import Principal
from agent_service.resources import Resources
from agent_service.runs.run_types import Run

bearer_scheme = HTTPBearer(auto_error=False, description="An API key (`slipway keys create`) or a JWT.")


async def resources(request: Request) -> Resources:
    """For routes. What they depend on takes it from the request: FastAPI solves a dependency wherever it is named."""
    found: Resources = request.app.state.resources
    return found


ResourcesDep = Annotated[Resources, Depends(resources)]


async def watcher(
    request: Request,
    res: ResourcesDep,
    _: Annotated[object, Security(bearer_scheme)],
    token: Annotated[str | None, Query(description="Stream token of POST /auth/stream-token, for EventSource.")] = None,
) -> Principal:
    """Who reads a stream: a bearer, or a stream token in the query."""
    return _admit(request, await res.authenticator.authenticate(request.headers.get("authorization"), token))


async def caller(request: Request, _: Annotated[object, Security(bearer_scheme)]) -> Principal:
    """Who calls; stream tokens are not enough."""
    return _admit(request, await bearer(request))


def _admit(request: Request, principal: Principal) -> Principal:
    structlog.contextvars.bind_contextvars(principal=principal.label)
    check_query(request)  # after who calls: a stranger is told 401 and nothing of the route
    return principal


def run_in_log(run: Run) -> Run:
    """Puts the ids of the run on every further line of this request."""
    structlog.contextvars.bind_contextvars(run_id=str(run.id), session_id=run.session_id)
    return run


async def idempotency_key(
    header: Annotated[IdempotencyKey, Header(alias="Idempotency-Key", description="A retry joins the first run.")] = "",
    query: Annotated[IdempotencyKey, Query(alias="idempotency_key", description="The same for EventSource.")] = "",
) -> str | None:
    """By the header, or by the query of an EventSource; None without one."""
    return header or query or None


async def respond_async(prefer: Annotated[str | None, Header(description="`respond-async`: answer 202 at once.")] = None) -> bool:
    """Whether `Prefer: respond-async` was sent."""
    return prefer is not None and "respond-async" in {part.strip().lower() for part in prefer.split(",")}


Caller = Annotated[Principal, Depends(caller)]
Watcher = Annotated[Principal, Depends(watcher)]


def take_place(request: Request, principal: Principal) -> None:
    """Takes one of the caller's places for streams and waiting calls, until the answer is sent. Raises TooManyStreams."""
    res: Resources = request.app.state.resources
    after: AfterRoute = request.scope[AFTER_ROUTE]
    after.releases.append(res.streams.admit(principal))


async def waiting_caller(request: Request, principal: Caller) -> Principal:
    """Who calls, counted until the answer is sent."""
    take_place(request, principal)
    return principal


async def waiting_watcher(request: Request, principal: Watcher) -> Principal:
    """`watcher`, counted until the answer is sent."""
    take_place(request, principal)
    return principal


WaitingCaller = Annotated[Principal, Depends(waiting_caller)]
"""A caller of a route whose answer takes as long as a run, as a stream or as a whole."""
WaitingWatcher = Annotated[Principal, Depends(waiting_watcher)]
IdempotencyKeyDep = Annotated[str | None, Depends(idempotency_key)]
RespondAsync = Annotated[bool, Depends(respond_async)]
