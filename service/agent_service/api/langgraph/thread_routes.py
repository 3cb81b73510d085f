"""Threads of the LangGraph wire: sessions, and the state of a graph in them."""

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import APIRouter, Header, Query
from langgraph.types import StateSnapshot
from starlette.responses import Response, StreamingResponse

from agent_service.api.deps import Caller, ResourcesDep
from agent_service.api.field_types import JsonObject
from agent_service.api.json_body import JsonResponse, JsonRoute
from agent_service.api.langgraph.pages import page
from agent_service.api.langgraph.run_inputs import of_thread, seed
from agent_service.api.langgraph.views import checkpoint_view, state_of_fields, state_view, thread_view
from agent_service.api.langgraph.wire_schemas import (
    Checkpoint,
    CheckpointId,
    ConfigOfCheckpoint,
    History,
    Limit,
    Prune,
    Select,
    StateAt,
    StateUpdate,
    ThreadCreate,
    ThreadFilter,
    ThreadPatch,
    ThreadSearch,
)
from agent_service.api.openapi import PROBLEMS
from agent_service.errors import InvalidRequest, SlipwayError
from agent_service.principal import Principal
from agent_service.resources import Resources
from agent_service.runs.state_json import state_bytes
from agent_service.runs.thread_types import LATEST, At, Search, Thread

router = APIRouter(route_class=JsonRoute, tags=["langgraph"], responses=PROBLEMS)

MOST_WITH_STATE = 100
"""Threads of one page that are shown with their whole states."""

WITH_STATE = ("values", "interrupts")
"""Fields of a thread for which its state is read."""


@router.post("/threads")
async def create_thread(body: ThreadCreate, res: ResourcesDep, principal: Caller) -> Response:
    """A new thread; with `if_exists: do_nothing` the one that is there."""
    metadata = dict(body.metadata or {}) | ({"graph_id": body.graph_id} if body.graph_id else {})
    thread_id, join = body.thread_id or uuid4(), body.if_exists == "do_nothing"
    if not body.supersteps:
        return await _thread(res, await res.threads.create(principal, thread_id, metadata, join=join))
    if join and (found := await res.threads.named(principal, thread_id)):
        return await _thread(res, await res.threads.get(principal, found.id))
    await res.thread_runs.check_texts([each.model_dump() for each in body.supersteps])
    steps = [[seed(update) for update in step.updates] for step in body.supersteps]
    thread = await res.threads.create(principal, thread_id, metadata, join=False)
    try:
        await res.threads.seed(principal, thread_id, steps)
    except SlipwayError:
        await res.sessions.erase(principal, thread.name)  # it is as if nothing had been asked for
        raise
    return await _thread(res, await res.threads.get(principal, thread_id))


@router.post("/threads/search")
async def search_threads(body: ThreadSearch, res: ResourcesDep, principal: Caller) -> Response:
    """The caller's threads, the newest first, with their values."""
    wanted = Search(
        metadata=body.metadata or {},
        ids=body.ids,
        status=body.status,
        sort_by=body.sort_by or "created_at",
        descending=body.sort_order != "asc",
        limit=body.limit,
        offset=body.offset,
    )
    with_state = body.select is None or any(name in body.select for name in WITH_STATE)
    if with_state and body.limit > MOST_WITH_STATE:
        detail = f"limit: expected at most {MOST_WITH_STATE}, or a `select` without {' and '.join(WITH_STATE)}"
        raise InvalidRequest(detail, field="limit")
    found = await res.threads.search(principal, wanted)
    return page(await _views(res, found, body.limit, with_state=with_state), body.limit, body.offset, body.select)


@router.post("/threads/count")
async def count_threads(body: ThreadFilter, res: ResourcesDep, principal: Caller) -> Response:
    """How many there are."""
    return JsonResponse(await res.threads.count(principal, Search(metadata=body.metadata or {}, status=body.status)))


@router.get("/threads/{thread_id}")
async def get_thread(thread_id: UUID, res: ResourcesDep, principal: Caller) -> Response:
    """A thread, its status and its latest values."""
    return await _thread(res, await res.threads.get(principal, thread_id))


@router.patch("/threads/{thread_id}")
async def patch_thread(
    thread_id: UUID, body: ThreadPatch, res: ResourcesDep, principal: Caller, prefer: Annotated[str, Header()] = ""
) -> Response:
    """Puts keys into its metadata; nothing comes back with `Prefer: return=minimal`."""
    thread = await res.threads.patch(principal, thread_id, body.metadata)
    return Response(status_code=204) if "return=minimal" in prefer else await _thread(res, thread)


@router.delete("/threads/{thread_id}", status_code=204)
async def delete_thread(thread_id: UUID, res: ResourcesDep, principal: Caller) -> Response:
    """Erases it with its runs and states; runs that are going are cancelled."""
    await erase_thread(res, principal, await res.threads.get(principal, thread_id))
    return Response(status_code=204)


async def erase_thread(res: Resources, principal: Principal, thread: Thread) -> None:
    """With its runs, states and crons. Raises NotFound, SessionBusy."""
    going = await res.thread_runs.going(principal, thread_id=thread.thread)
    await res.thread_runs.cancel(principal, going, wait=True)
    await res.sessions.erase(principal, thread.name)


@router.post("/threads/prune")
async def prune_threads(body: Prune, res: ResourcesDep, principal: Caller) -> Response:
    """Deletes those of these threads that there are."""
    there = await res.threads.search(principal, Search(ids=body.thread_ids, limit=len(body.thread_ids) + 1))
    for thread in there:
        await erase_thread(res, principal, thread)
    return JsonResponse({"pruned_count": len(there)})


@router.post("/threads/{thread_id}/copy")
async def copy_thread(thread_id: UUID, res: ResourcesDep, principal: Caller) -> Response:
    """A new thread with the same state and history."""
    return await _thread(res, await res.threads.copy(principal, thread_id))


@router.get("/threads/{thread_id}/state")
async def get_state(
    thread_id: UUID,
    res: ResourcesDep,
    principal: Caller,
    subgraphs: Annotated[bool, Query()] = False,
    checkpoint_id: Annotated[CheckpointId | None, Query()] = None,
    select: Annotated[Select | None, Query()] = None,
) -> Response:
    """The latest state, or that of a checkpoint."""
    return await _state(res, principal, thread_id, At(checkpoint_id), select, subgraphs=subgraphs)


@router.get("/threads/{thread_id}/state/{checkpoint_id}")
async def get_state_at(
    thread_id: UUID,
    checkpoint_id: CheckpointId,
    res: ResourcesDep,
    principal: Caller,
    subgraphs: Annotated[bool, Query()] = False,
    select: Annotated[Select | None, Query()] = None,
) -> Response:
    """The state of a checkpoint."""
    return await _state(res, principal, thread_id, At(checkpoint_id), select, subgraphs=subgraphs)


@router.post("/threads/{thread_id}/state/checkpoint")
async def post_state_at(thread_id: UUID, body: StateAt, res: ResourcesDep, principal: Caller) -> Response:
    """The same, of a subgraph, too."""
    at = place(thread_id, body.checkpoint)
    return await _state(res, principal, thread_id, at, body.select, subgraphs=bool(body.subgraphs))


@router.post("/threads/{thread_id}/state")
async def update_state(thread_id: UUID, body: StateUpdate, res: ResourcesDep, principal: Caller) -> Response:
    """Changes the state, as if a node had returned `values`."""
    await res.thread_runs.check_texts(body.values)
    at = place(thread_id, body.checkpoint, body.checkpoint_id)
    made = await res.threads.update(principal, thread_id, body.values, as_node=body.as_node, at=at)
    return JsonResponse(checkpoint_view(made, thread_id))


@router.patch("/threads/{thread_id}/state")
async def patch_state(thread_id: UUID, _: JsonObject, res: ResourcesDep, principal: Caller) -> Response:
    """Not supported (`threads.patchState` of the JavaScript SDK): metadata of a checkpoint says who made it, and stays."""
    await res.threads.get(principal, thread_id)
    raise InvalidRequest(
        "metadata: that of a state cannot be changed; a thread's can, by PATCH /threads/{thread_id}", field="metadata"
    )


@router.post("/threads/{thread_id}/history")
async def post_history(thread_id: UUID, body: History, res: ResourcesDep, principal: Caller) -> Response:
    """States, the newest first."""
    before = body.before.configurable if isinstance(body.before, ConfigOfCheckpoint) else body.before
    before_id = place(thread_id, before).checkpoint_id if isinstance(before, Checkpoint) else before
    states = await res.threads.history(
        principal, thread_id, at=place(thread_id, body.checkpoint), before=before_id, metadata=body.metadata, limit=body.limit
    )
    return await _history(states, thread_id, body.select)


@router.get("/threads/{thread_id}/history")
async def get_history(
    thread_id: UUID,
    res: ResourcesDep,
    principal: Caller,
    limit: Annotated[Limit, Query()] = 10,
    before: Annotated[CheckpointId | None, Query()] = None,
    select: Annotated[Select | None, Query()] = None,
) -> Response:
    """The same."""
    states = await res.threads.history(principal, thread_id, at=LATEST, before=before, metadata=None, limit=limit)
    return await _history(states, thread_id, select)


def place(thread_id: UUID, checkpoint: Checkpoint | None, checkpoint_id: str | None = None) -> At:
    """Where a request points to. Raises InvalidRequest for another thread's."""
    of_thread(checkpoint, thread_id)
    if checkpoint is None:
        return At(checkpoint_id)
    return At(checkpoint.checkpoint_id or checkpoint_id, checkpoint.checkpoint_ns or "")


async def _thread(res: Resources, thread: Thread) -> Response:
    views = await _views(res, [thread], 1, with_state=True)
    return Response(state_bytes(views[0]), media_type="application/json")


async def _views(res: Resources, threads: Sequence[Thread], limit: int, *, with_state: bool) -> list[dict[str, Any]]:
    """States are read one after another: each is a graph's whole state. The one more that tells of a next page has none."""
    views = []
    for number, thread in enumerate(threads):
        async with res.rendering:
            snapshot = await res.threads.state_of(thread) if with_state and number < limit else None
        views.append(thread_view(thread, snapshot, values=snapshot.values if snapshot else None))
    return views


async def _state(
    res: Resources, principal: Principal, thread_id: UUID, at: At, select: Sequence[str] | None, *, subgraphs: bool
) -> Response:
    async with res.rendering:
        snapshot = await res.threads.state(principal, thread_id, at, subgraphs=subgraphs)
        view = state_of_fields(state_view(snapshot, thread_id), select)
        return Response(state_bytes(view), media_type="application/json")


async def _history(states: AsyncIterator[StateSnapshot], thread_id: UUID, select: Sequence[str] | None) -> Response:
    state_of_fields(state_view(None, thread_id), select)  # once the answer has begun, nothing can be refused
    return StreamingResponse(_array(states, thread_id, select), media_type="application/json")


async def _array(states: AsyncIterator[StateSnapshot], thread_id: UUID, select: Sequence[str] | None) -> AsyncIterator[bytes]:
    """A JSON array as its items come: of a thousand states, few are in memory."""
    opening = b"["
    async for state in states:
        yield opening + state_bytes(state_of_fields(state_view(state, thread_id), select))
        opening = b","
    yield b"[]" if opening == b"[" else b"]"
