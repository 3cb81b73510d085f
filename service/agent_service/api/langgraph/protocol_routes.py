"""Version 2 of LangGraph's protocol: commands to a thread, and one stream of all its runs. The newest `useStream` speaks it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Annotated, Any, TypeVar
from uuid import UUID

from fastapi import APIRouter
from pydantic import AfterValidator, Field, StringConstraints, ValidationError
from starlette.responses import Response

from agent_service.api.deps import Caller, ResourcesDep, WaitingCaller
from agent_service.api.error_handlers import first_of
from agent_service.api.field_types import Body, JsonObject, JsonValue
from agent_service.api.json_body import JsonRoute
from agent_service.api.langgraph.assistants import assistant_named
from agent_service.api.langgraph.encoder import HEARTBEAT_SECONDS, never_silent
from agent_service.api.langgraph.protocol_encoder import ProtocolEncoder, Subscription, began
from agent_service.api.langgraph.run_routes import begin
from agent_service.api.langgraph.wire_schemas import Name, RunCreate, snake_case
from agent_service.api.openapi import PROBLEMS, event_stream
from agent_service.api.sse import HEARTBEAT, StreamResponse
from agent_service.errors import InvalidRequest, NotFound, NotInterrupted, OtherGraph, SessionBusy
from agent_service.principal import Principal
from agent_service.resources import Resources
from agent_service.runs.run_view import assistant_of
from agent_service.runs.state_json import state_bytes
from agent_service.runs.thread_runs import Begin
from agent_service.runs.thread_types import Thread

router = APIRouter(route_class=JsonRoute, tags=["langgraph"], responses=PROBLEMS)

STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events of the thread's runs, without an end.",
        "content": event_stream("JSON, of the channel that `event` names."),
    },
}

CHANNELS = frozenset({"values", "updates", "messages", "tools", "custom", "lifecycle", "input", "tasks", "checkpoints"})

RECORDED = ("values", "updates", "messages-tuple", "custom")
"""Of a run that a command begins: who reads it has yet to say what."""

MAX_NAMESPACES = 100

Given = TypeVar("Given", bound=Body)


def _channel(name: str) -> str:
    if name not in CHANNELS and not name.startswith("custom:"):
        raise ValueError(f"expected {', '.join(sorted(CHANNELS))} or custom:<name>, got {name!r}")
    return name


Channel = Annotated[Name, AfterValidator(_channel)]

Namespace = Annotated[list[Annotated[str, StringConstraints(max_length=1_000)]], Field(max_length=20)]


class Subscribe(Body):
    """What a reader wants to hear of a thread."""

    channels: Annotated[list[Channel], Field(min_length=1, max_length=50)]
    namespaces: Annotated[list[Namespace], Field(max_length=MAX_NAMESPACES)] | None = None
    depth: Annotated[int, Field(ge=0, le=100)] | None = None
    since: Annotated[int, Field(ge=0, lt=2**53)] | None = None


class ThreadCommand(Body):
    """One command; its answer has its number."""

    id: Annotated[int, Field(ge=0, lt=2**53)]
    method: Name
    params: JsonObject | None = None


class Answer(Body):
    """To one question."""

    interrupt_id: Name
    response: JsonValue | None = None
    namespace: Namespace | None = None


class Answers(Body):
    """To one question, or to several of one moment."""

    interrupt_id: Name | None = None
    response: JsonValue | None = None
    namespace: Namespace | None = None
    responses: Annotated[list[Answer], Field(min_length=1, max_length=1_000)] | None = None
    update: JsonValue | None = None
    goto: JsonValue | None = None
    config: JsonObject | None = None
    metadata: JsonObject | None = None
    strict_resume: bool | None = Field(None, description="So it is always: an answer to what does not wait is refused.")


class UnknownCommand(Exception):
    """A method that is none."""


class NoSuchInterrupt(Exception):
    """An answer to what does not wait for one."""


@router.post("/threads/{thread_id}/commands")
async def command_thread(thread_id: UUID, body: ThreadCommand, res: ResourcesDep, principal: Caller) -> Response:
    """`run.start` begins a run, `input.respond` answers a question. A refusal is an answer, too, with its code."""
    try:
        result = await METHODS.get(body.method, _unknown)(res, principal, thread_id, dict(body.params or {}))
    except UnknownCommand:
        known = " or ".join(METHODS)
        return _answer(body, type="error", error="unknown_command", message=f"method: expected {known}, got {body.method}")
    except NoSuchInterrupt as error:
        return _answer(body, type="error", error="no_such_interrupt", message=str(error))
    except (InvalidRequest, NotFound, SessionBusy, OtherGraph, NotInterrupted) as error:
        return _answer(body, type="error", error="invalid_argument", message=error.detail)
    await res.thread_runs.announce(thread_id)
    return _answer(body, type="success", result=result, meta={"applied_through_seq": 0})


def _answer(body: ThreadCommand, **fields: object) -> Response:
    return Response(state_bytes({"id": body.id, **fields}), media_type="application/json")


async def _unknown(*_: object) -> Mapping[str, str]:
    raise UnknownCommand


async def _start(res: Resources, principal: Principal, thread_id: UUID, params: dict[str, Any]) -> Mapping[str, str]:
    if (configurable := (params.get("config") or {}).get("configurable")) and configurable.get("thread_id") == str(thread_id):
        del configurable["thread_id"]  # said twice
    return await _begin(res, principal, thread_id, {"if_not_exists": "create", **params})


async def _respond(res: Resources, principal: Principal, thread_id: UUID, params: dict[str, Any]) -> Mapping[str, str]:
    given = _parsed(Answers, params)
    answers = {each.interrupt_id: each.response for each in given.responses or ()}
    if given.interrupt_id:
        answers[given.interrupt_id] = given.response
    thread = await res.threads.get(principal, thread_id)
    waiting = {item["id"] for item in thread.interrupts} if thread.status == "interrupted" else set[str]()
    if not answers or (unknown := answers.keys() - waiting):
        raise NoSuchInterrupt(f"nothing waits for an answer to {', '.join(sorted(unknown)) if answers else 'it'}")
    more = {name: value for name, value in (("config", given.config), ("metadata", given.metadata)) if value is not None}
    command = {"resume": answers, "update": given.update, "goto": given.goto}
    assistant = await _assistant_of(res, principal, thread)
    return await _begin(res, principal, thread_id, {"assistant_id": assistant, "command": command, **more})


async def _assistant_of(res: Resources, principal: Principal, thread: Thread) -> str | None:
    """The one that its last run named, if it is still there."""
    try:
        return str((await assistant_named(res, principal, str(thread.metadata.get("assistant_id")))).id)
    except InvalidRequest:
        return thread.graph


Method = Callable[[Resources, Principal, UUID, dict[str, Any]], Awaitable[Mapping[str, str]]]

METHODS: Mapping[str, Method] = {"run.start": _start, "input.respond": _respond}


async def _begin(res: Resources, principal: Principal, thread_id: UUID, params: Mapping[str, Any]) -> Mapping[str, str]:
    asked = _parsed(RunCreate, {"stream_mode": list(RECORDED), "stream_subgraphs": True, **snake_case(params)})
    return {"run_id": str((await begin(res, principal, asked, thread_id)).id)}


def _parsed(model: type[Given], params: Mapping[str, Any]) -> Given:
    try:
        return model.model_validate(params)
    except ValidationError as error:
        field, detail = first_of(error.errors(include_url=False, include_input=False))
        raise InvalidRequest(detail, field=field) from None


@router.post("/threads/{thread_id}/stream/events", responses=STREAM, response_class=Response)
async def stream_events(thread_id: UUID, body: Subscribe, res: ResourcesDep, principal: WaitingCaller) -> Response:
    """The thread's events: of the run that goes on or was the last, and of all that follow. The thread may be yet to come."""
    wanted = Subscription(frozenset(body.channels), body.namespaces or [[]], body.depth)
    idle = min(HEARTBEAT_SECONDS, res.settings.heartbeat_seconds)
    frames = _frames(res, principal, thread_id, wanted, body.since or 0, idle)
    return StreamResponse(never_silent(frames, HEARTBEAT, idle), res.streams, goodbye=b"")


@router.get("/threads/{thread_id}/stream/events")
async def refuse_websocket(thread_id: UUID, _: Caller) -> Response:
    """Refused: a WebSocket asks so for the same events."""
    raise InvalidRequest(
        f"Upgrade: WebSocket is not supported; POST to /threads/{thread_id}/stream/events, which is the clients' default",
        field="Upgrade",
    )


async def _frames(
    res: Resources, principal: Principal, thread_id: UUID, wanted: Subscription, since: int, idle: float
) -> AsyncIterator[bytes]:
    encoder: ProtocolEncoder | None = None
    current: UUID | None = None
    begin = Begin(since=began(since)) if since else await res.thread_runs.last_on(principal, thread_id)
    async for run, batch in res.thread_runs.follow_thread(principal, thread_id, begin, idle=idle):
        if run is not None and run.id != current:
            assistant = {"graph_id": run.graph, "assistant_id": assistant_of(run)}
            last = encoder.last if encoder else 0
            encoder = ProtocolEncoder(run, thread_id, assistant, wanted, res.thread_runs, last=last, since=since)
            current = run.id
        yield b"".join([frame async for frame in encoder.encode(batch)]) if batch and encoder else b""
