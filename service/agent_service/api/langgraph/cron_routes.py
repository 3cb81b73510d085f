"""Crons of the LangGraph wire: runs at a schedule."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from fastapi import APIRouter
from starlette.responses import Response

from agent_service.api.deps import Caller, ResourcesDep
from agent_service.api.json_body import JsonResponse, JsonRoute, json_bytes
from agent_service.api.langgraph.assistants import assistant_named, schema_of
from agent_service.api.langgraph.cron_schemas import CronChange, CronCreate, CronFilter, CronSearch, ThreadCronCreate, run_of
from agent_service.api.langgraph.pages import page
from agent_service.api.langgraph.run_inputs import ALL_MODES, asked_of
from agent_service.api.openapi import PROBLEMS
from agent_service.errors import InvalidRequest, NotFound
from agent_service.principal import Principal
from agent_service.resources import Resources
from agent_service.runs.assistant import run_input
from agent_service.runs.cron_store import Cron
from agent_service.runs.run_view import assistant_id
from agent_service.runs.schedules import next_after
from agent_service.runs.thread_types import NamedThread
from agent_service.setting_types import split_names

router = APIRouter(route_class=JsonRoute, tags=["langgraph"], responses=PROBLEMS)

MAX_CRON_BYTES = 65_536
"""Of what its owner gives, as JSON: a search reads all crons of a caller."""

MOVES = frozenset({"schedule", "timezone", "end_time", "enabled"})
"""Fields that change when a cron is due next."""


@router.post("/runs/crons")
async def create_cron(body: CronCreate, res: ResourcesDep, principal: Caller) -> Response:
    """Begins a run at each time of the schedule, on a thread of its own."""
    return JsonResponse(_view(await _create(res, principal, body, None)))


@router.post("/threads/{thread_id}/runs/crons")
async def create_thread_cron(thread_id: UUID, body: ThreadCronCreate, res: ResourcesDep, principal: Caller) -> Response:
    """The same on this thread."""
    return JsonResponse(_view(await _create(res, principal, body, await _thread(res, principal, thread_id))))


@router.post("/runs/crons/search")
async def search_crons(body: CronSearch, res: ResourcesDep, principal: Caller) -> Response:
    """The caller's crons, the newest first."""
    found = await _matching(res, principal, body)
    key = body.sort_by or "created_at"
    found.sort(
        key=lambda view: (view[key] is not None, str(view[key] or ""), str(view["cron_id"])), reverse=body.sort_order != "asc"
    )
    return page(found[body.offset : body.offset + body.limit + 1], body.limit, body.offset, body.select)


@router.post("/runs/crons/count")
async def count_crons(body: CronFilter, res: ResourcesDep, principal: Caller) -> Response:
    """How many there are."""
    return JsonResponse(len(await _matching(res, principal, body)))


@router.get("/runs/crons/{cron_id}")
async def get_cron(cron_id: UUID, res: ResourcesDep, principal: Caller) -> Response:
    """A cron, with its last run and why the last one was not begun, if so."""
    return JsonResponse(_view(await res.crons.get(principal, cron_id)))


@router.patch("/runs/crons/{cron_id}")
async def change_cron(cron_id: UUID, body: CronChange, res: ResourcesDep, principal: Caller) -> Response:
    """Changes what is given; `end_time: null` takes the end away."""
    cron = await res.crons.get(principal, cron_id)
    thread = await _thread(res, principal, cron.thread_id) if cron.thread_id else None
    given = _given(body)
    values = await _values(res, principal, {**cron.payload, **given}, thread)
    return JsonResponse(_view(await res.crons.replace(cron, {**values, "moved": not MOVES.isdisjoint(given)})))


@router.delete("/runs/crons/{cron_id}", status_code=204)
async def delete_cron(cron_id: UUID, res: ResourcesDep, principal: Caller) -> Response:
    """No more runs; those that were begun stay."""
    await res.crons.delete(principal, cron_id)
    return Response(status_code=204)


async def _create(res: Resources, principal: Principal, body: CronCreate | ThreadCronCreate, thread: NamedThread | None) -> Cron:
    return await res.crons.create(principal, {"id": uuid4(), **await _values(res, principal, _given(body), thread)})


async def _thread(res: Resources, principal: Principal, thread_id: UUID) -> NamedThread:
    thread = await res.threads.named(principal, thread_id)
    if thread is None:
        raise NotFound("Thread or assistant not found.")
    return thread


def _given(body: CronChange) -> dict[str, Any]:
    """What was said, as JSON; an `end_time` of null says something."""
    told = body.model_dump(mode="json", exclude_unset=True)
    return {name: value for name, value in told.items() if value is not None or name == "end_time"}


async def _values(res: Resources, principal: Principal, payload: dict[str, Any], thread: NamedThread | None) -> dict[str, Any]:
    """Raises InvalidRequest, GuardrailBlocked: what each of its runs would."""
    if (size := len(json_bytes(payload))) > MAX_CRON_BYTES:
        raise InvalidRequest(
            f"input: with the rest of the cron expected at most {MAX_CRON_BYTES} bytes, got {size}", field="input"
        )
    body = run_of(payload)
    assistant = await assistant_named(res, principal, body.assistant_id)
    schema = schema_of(res, assistant)
    await res.thread_runs.check_texts(body.input)
    asked = asked_of(body, schema=schema, record=ALL_MODES, thread=thread, webhook_hosts=split_names(res.settings.webhook_hosts))
    run_input(assistant, asked, schema)  # what each time would be refused for, is refused now
    end = payload.get("end_time")
    end_time = datetime.fromisoformat(end) if end else None
    enabled = payload.get("enabled", True)
    zone = payload.get("timezone")
    return {
        "graph": assistant.graph,
        "assistant": assistant.id if assistant.is_stored else None,
        "thread_id": thread.id if thread else None,
        "schedule": payload["schedule"],
        "timezone": zone,
        "end_time": end_time,
        "enabled": enabled,
        "keeps": payload.get("on_run_completed") == "keep",
        "by_key": principal.by_key,
        "payload": payload,
        "input": dict(asked),
        "metadata": payload.get("metadata", {}),
        "next_run": next_after(payload["schedule"], zone, datetime.now(UTC), end_time),
    }


async def _matching(res: Resources, principal: Principal, wanted: CronFilter) -> list[dict[str, Any]]:
    assistant = (await assistant_named(res, principal, wanted.assistant_id)).id if wanted.assistant_id else None
    return [
        _view(cron)
        for cron in await res.crons.all_of(principal, wanted.metadata or {})
        if assistant in {None, _assistant_id(cron)}
        and wanted.thread_id in {None, cron.thread_id}
        and wanted.enabled in {None, cron.enabled}
    ]


def _assistant_id(cron: Cron) -> UUID:
    return cron.assistant or assistant_id(cron.graph)


def _view(cron: Cron) -> dict[str, Any]:
    payload: Mapping[str, Any] = cron.payload
    return {
        "cron_id": str(cron.id),
        "assistant_id": str(_assistant_id(cron)),
        "thread_id": cron.thread_id,
        "on_run_completed": None if cron.thread_id else payload.get("on_run_completed", "delete"),
        "end_time": cron.end_time,
        "schedule": cron.schedule,
        "timezone": cron.timezone,
        "created_at": cron.created_at,
        "updated_at": cron.updated_at,
        "user_id": cron.user_id,
        "payload": payload,
        "next_run_date": cron.next_run if cron.enabled else None,
        "metadata": cron.metadata,
        "enabled": cron.enabled,
        "last_run_id": cron.last_run_id,
        "last_error": cron.last_error,
    }
