"""A2A over JSON-RPC: a run is a task, its session is the context. 1.0, and 0.3 under its own names of the same methods."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, TypeVar
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Request, Security
from pydantic import ValidationError
from starlette.responses import Response

from agent_service.api.a2a_forms import V03, V1, Form, state
from agent_service.api.a2a_forms import card as card_of
from agent_service.api.a2a_schemas import Message, Part, SendParams, TaskParams
from agent_service.api.chat import start
from agent_service.api.decisions import ResumeRequest, decide, in_words
from agent_service.api.deps import Caller, ResourcesDep, bearer_scheme, caller, run_in_log
from agent_service.api.error_handlers import first_of
from agent_service.api.field_types import GraphName, Lenient
from agent_service.api.json_body import JsonResponse, JsonRoute
from agent_service.api.openapi import PROBLEMS, event_stream
from agent_service.api.rpc import (
    INVALID_MESSAGE,
    INVALID_PARAMS,
    NO_SUCH_METHOD,
    REFUSED,
    RPC_ANSWERS,
    Admit,
    AdmitDep,
    Answer,
    CallId,
    RpcError,
    RpcRoute,
    known,
    result_of,
    sse_message,
)
from agent_service.api.rpc import Message as RpcMessage
from agent_service.api.sse import HEARTBEAT, StreamResponse, cancel_unwatched, until_ended
from agent_service.errors import InvalidRequest, NotFound, ServerLeaving, SlipwayError
from agent_service.principal import Principal
from agent_service.resources import VERSION, Resources
from agent_service.runs.events import Event
from agent_service.runs.graphs import ServedGraph
from agent_service.runs.run_types import Run

PATH, CARD_PATH = "/a2a", "/.well-known/agent-card.json"

NO_SUCH_TASK, NOT_CANCELABLE, NO_PUSH, UNSUPPORTED, WRONG_CONTENT, NO_EXTENDED_CARD, WRONG_VERSION = (
    -32001, -32002, -32003, -32004, -32005, -32007, -32009,
)  # fmt: skip

CANCEL_SECONDS = 5.0
"""That the answer to a cancellation waits for the run to end; one that is stuck in a tool takes longer, and is still working."""

GOODBYE = b": the server stops: subscribe to the task again\n\n"

TEXT_MODES = frozenset({"text/plain", "text", "text/*", "*/*"})

OF_HTTP = frozenset({401, 403, 429, 499})
"""Statuses of errors that HTTP itself knows what to do with, besides those from 500 on."""


class A2aRoute(RpcRoute):
    """Errors as A2A has them."""

    def code_of(self, error: SlipwayError) -> int:
        """The protocol's own code where it has one."""
        if isinstance(error, NotFound):
            return NO_SUCH_TASK
        return INVALID_PARAMS if error.status == InvalidRequest.status else REFUSED

    def status_of(self, request: Request, error: SlipwayError) -> int:  # noqa: ARG002  # MCP's needs it
        """Clients of A2A read errors in answers with 200; of another status they say no more than that."""
        return error.status if error.status in OF_HTTP or error.status >= 500 else 200  # noqa: PLR2004  # HTTP

    def data_of(self, error: SlipwayError) -> object:
        """The fields of a problem, as google.rpc.ErrorInfo has them: all texts."""
        fields = {"field": error.field, "retryable": "true" if error.retryable else "false", **error.extra}
        metadata = {name: value for name, value in fields.items() if value is not None}
        info = {"reason": error.code.upper(), "domain": "slipway", "metadata": metadata}
        return [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", **info}]


router = APIRouter(route_class=A2aRoute, tags=["a2a"], responses=RPC_ANSWERS)
card_router = APIRouter(route_class=JsonRoute, tags=["a2a"], responses=PROBLEMS)

P = TypeVar("P", bound=Lenient)


@dataclass(frozen=True, slots=True)
class Call:
    """A call, and who makes it."""

    request: Request
    res: Resources
    principal: Principal
    admit: Admit
    form: Form
    graph: str | None
    id: CallId
    params: Mapping[str, Any]

    def given(self, model: type[P]) -> P:
        """Its parameters. Raises RpcError."""
        try:
            return model.model_validate(self.params)
        except ValidationError as error:
            field, detail = first_of(error.errors())
            raise RpcError(INVALID_PARAMS, f"params.{detail}", field=f"params.{field}") from None

    def answer(self, result: object) -> Response:
        return JsonResponse(result_of(self.id, result))


STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": event_stream("An answer of JSON-RPC: an update of the task.")}}


@router.post(PATH, response_model=Answer, responses=STREAMED)
async def call(request: Request, message: RpcMessage, res: ResourcesDep, principal: Caller, admit: AdmitDep) -> Response:
    """One call of a client, to the default graph."""
    return await _answer(request, message, res, principal, admit, None)


@router.post(f"{PATH}/{{graph}}", response_model=Answer, responses=STREAMED)
async def call_graph(
    graph: GraphName, request: Request, message: RpcMessage, res: ResourcesDep, principal: Caller, admit: AdmitDep
) -> Response:
    """The same, to the graph of that name."""
    return await _answer(request, message, res, principal, admit, graph)


async def _answer(
    request: Request, message: RpcMessage, res: Resources, principal: Principal, admit: Admit, graph: str | None
) -> Response:
    known(request, message)
    version = request.headers.get("a2a-version", "0.3")
    if version.partition(".")[0] not in {"0", "1"}:
        raise RpcError(WRONG_VERSION, "A2A-Version: expected 1.0 or 0.3", field="A2A-Version")
    if message.id is None:
        raise RpcError(INVALID_MESSAGE, "id: expected; A2A has no notifications", field="id")
    if message.method in NOT_HERE:
        code, detail = NOT_HERE[message.method]
        raise RpcError(code, detail, field="method")
    if message.method not in METHODS:
        raise RpcError(NO_SUCH_METHOD, f"method: expected one of {', '.join(METHODS)}", field="method")
    form, handle = METHODS[message.method]
    return await handle(Call(request, res, principal, admit, form, graph, message.id, message.params))


async def card_reader(request: Request, res: ResourcesDep, credential: Annotated[object, Security(bearer_scheme)]) -> None:
    """A caller, unless PUBLIC_AGENT_CARD: an agent's name and purpose tell a stranger what there is to attack."""
    if not res.settings.public_agent_card:
        await caller(request, credential)


@card_router.get(CARD_PATH, response_model=dict[str, Any], dependencies=[Depends(card_reader)])
async def card(request: Request, res: ResourcesDep) -> Response:
    """What the default graph is, and where and how it is spoken to; in 1.0's form for who says `A2A-Version: 1.0`."""
    return _card(request, res, res.runs.graphs.default, PATH)


@card_router.get(f"{PATH}/{{graph}}{CARD_PATH}", response_model=dict[str, Any], dependencies=[Depends(card_reader)])
async def card_of_graph(graph: GraphName, request: Request, res: ResourcesDep) -> Response:
    """The same of the graph of that name."""
    if graph not in res.runs.graphs.by_name:
        raise NotFound("no such graph")
    return _card(request, res, res.runs.graphs.named(graph), f"{PATH}/{graph}")


def _card(request: Request, res: Resources, served: ServedGraph, path: str) -> Response:
    description = served.description or res.settings.agent_description
    one = request.headers.get("a2a-version", "0.3").startswith("1")
    return JsonResponse(card_of(served.name, description, VERSION, f"{base_url(request, res)}{path}", one=one))


def base_url(request: Request, res: Resources) -> str:
    """By which clients reach this service."""
    return str(res.settings.public_url or request.base_url).rstrip("/")


# Methods


async def _send(call: Call) -> Response:
    given = call.given(SendParams)
    task_id, run = await _begun(call, given)
    if given.configuration.waits:
        call.admit()
        # The message's id brings a client back that leaves, so its run goes on.
        with suppress(ServerLeaving):
            await until_ended(call.res, call.principal, run, call.request, None)
    return await _task(call, task_id, run.id, history=given.configuration.history_length, wrapped=True)


async def _stream(call: Call) -> Response:
    task_id, run = await _begun(call, call.given(SendParams))
    return await _updates_of(call, task_id, run)


async def _get(call: Call) -> Response:
    given = call.given(TaskParams)
    task_id = _task_id(given.id)
    run = await call.res.runs.latest(call.principal, task_id)
    return await _task(call, task_id, run.id, history=given.history_length)


async def _cancel(call: Call) -> Response:
    task_id = _task_id(call.given(TaskParams).id)
    run = run_in_log(await call.res.runs.latest(call.principal, task_id))
    if run.outcome:
        raise RpcError(
            NOT_CANCELABLE, f"params.id: the task is {state(run)}; only one that works can be cancelled", field="params.id"
        )
    call.admit()
    await call.res.runs.cancel(call.principal, run.id)
    with suppress(TimeoutError, ServerLeaving):
        async with asyncio.timeout(CANCEL_SECONDS):
            await until_ended(call.res, call.principal, run, call.request, None)
    return await _task(call, task_id, run.id)


async def _subscribe(call: Call) -> Response:
    task_id = _task_id(call.given(TaskParams).id)
    run = await call.res.runs.latest(call.principal, task_id)
    if run.outcome and run.outcome != "interrupted":
        raise RpcError(UNSUPPORTED, f"params.id: the task is {state(run)}, nothing more comes: get it", field="params.id")
    return await _updates_of(call, task_id, run)


METHODS: Mapping[str, tuple[Form, Callable[[Call], Awaitable[Response]]]] = {
    "SendMessage": (V1, _send),
    "SendStreamingMessage": (V1, _stream),
    "GetTask": (V1, _get),
    "CancelTask": (V1, _cancel),
    "SubscribeToTask": (V1, _subscribe),
    "message/send": (V03, _send),
    "message/stream": (V03, _stream),
    "tasks/get": (V03, _get),
    "tasks/cancel": (V03, _cancel),
    "tasks/resubscribe": (V03, _subscribe),
}

_PUSH = (NO_PUSH, "method: this agent calls nobody back; subscribe to the task")
_CARD = (NO_EXTENDED_CARD, "method: there is one card for all")
NOT_HERE: Mapping[str, tuple[int, str]] = {
    "ListTasks": (UNSUPPORTED, "method: tasks are not listed; GET /sessions lists conversations"),
    **{f"{name}TaskPushNotificationConfig": _PUSH for name in ("Create", "Get", "Delete")},
    "ListTaskPushNotificationConfigs": _PUSH,
    **{f"tasks/pushNotificationConfig/{name}": _PUSH for name in ("set", "get", "list", "delete")},
    "GetExtendedAgentCard": _CARD,
    "agent/getAuthenticatedExtendedCard": _CARD,
}


def _task_id(text: str) -> UUID:
    """A task's id is that of the run which it began with."""
    try:
        return UUID(text)
    except ValueError:
        raise NotFound("no such run") from None


async def _task(call: Call, task_id: UUID, run_id: UUID, *, history: int | None = None, wrapped: bool = False) -> Response:
    """`history`: how many messages of it at most; it has one, the question."""
    async with call.res.rendering:
        run = run_in_log(await call.res.runs.get(call.principal, run_id))
        task = call.form.task(task_id, run, history=history != 0)
        return call.answer(call.form.sent(task) if wrapped else task)


# A message


async def _begun(call: Call, given: SendParams) -> tuple[UUID, Run]:
    """The task's id, and the run that a message has started: a question's, or that of a decision."""
    if given.configuration.push is not None:
        raise RpcError(
            NO_PUSH, "params.configuration: this agent calls nobody back; subscribe to the task", field="params.configuration"
        )
    if (modes := given.configuration.accepted_output_modes) and not TEXT_MODES.intersection(modes):
        raise RpcError(WRONG_CONTENT, "params.configuration.acceptedOutputModes: this agent answers text/plain")
    message = given.message
    for number, part in enumerate(message.parts):
        if part.text is None and part.data is None:
            field = f"params.message.parts.{number}"
            raise RpcError(WRONG_CONTENT, f"{field}: expected text; this agent reads no files", field=field)
    key = _key(message)
    if message.task_id is not None:
        task_id = _task_id(message.task_id)
        return task_id, run_in_log(await _decided(call, task_id, message, key))
    if any(part.data is not None for part in message.parts):
        raise RpcError(WRONG_CONTENT, "params.message.parts: data is for decisions; expected text", field="params.message.parts")
    words = _words(message.parts)
    if not words.strip():
        raise InvalidRequest("params.message.parts: expected some text", field="params.message.parts")
    run = await start(call.res, call.principal, words, message.context_id, key, graph=call.graph)
    return run.id, run


def _key(message: Message) -> str:
    """A message that is sent again starts nothing again."""
    named = orjson.dumps([message.message_id, message.context_id, message.task_id])
    return "a2a:" + hashlib.sha256(named).hexdigest()


def _words(parts: Iterable[Part]) -> str:
    return "\n".join(part.text for part in parts if part.text is not None)


async def _decided(call: Call, task_id: UUID, message: Message, key: str) -> Run:
    runs = call.res.runs
    waiting = await runs.latest(call.principal, task_id)
    if message.context_id not in {None, waiting.session_id}:
        raise InvalidRequest("params.message.contextId: expected the task's, or none", field="params.message.contextId")
    if again := await runs.started_by(call.principal, key):
        return again
    if waiting.outcome != "interrupted":
        detail = f"params.message.taskId: the task is {state(waiting)} and takes no message; leave taskId out to ask anew"
        raise RpcError(UNSUPPORTED, detail, field="params.message.taskId")
    return await decide(call.res, call.principal, waiting, _decision(message.parts, waiting), key)


def _decision(parts: Sequence[Part], waiting: Run) -> ResumeRequest:
    data = [part.data for part in parts if part.data is not None]
    if not data:
        return in_words(_words(parts), waiting)
    try:
        return ResumeRequest.model_validate(data[0] if len(parts) == 1 else None)
    except ValidationError as error:
        _, detail = first_of(error.errors())
        field = "params.message.parts"
        raise InvalidRequest(f"{field}: expected one part, the decision: {detail}", field=field) from None


# A stream


async def _updates_of(call: Call, task_id: UUID, run: Run) -> Response:
    call.admit()
    if run.outcome:
        run = await call.res.runs.get(call.principal, run.id)
    updates = _updates(call, task_id, run)
    return StreamResponse(updates, call.res.streams, goodbye=GOODBYE, on_leave=partial(cancel_unwatched, call.res, run.id))


async def _updates(call: Call, task_id: UUID, run: Run) -> AsyncIterator[bytes]:
    """The task as it is, and what becomes of it. The first update of the answer has all of it that was said before.

    So whoever subscribes again puts it in place of what they have, and has lost nothing and nothing twice.
    """
    res, form = call.res, call.form

    def told(update: object) -> bytes:
        return sse_message(result_of(call.id, update))

    yield told(form.sent(form.task(task_id, run)))
    if run.outcome:
        return
    append = lost = False
    async with aclosing(res.runs.follow(run.id, idle=res.settings.heartbeat_seconds)) as batches:
        async for batch in batches:
            if not batch:
                yield HEARTBEAT
            said, anew = _said(batch)
            lost = lost or any(event.kind == "gap" for event in batch)
            if said or anew:
                yield told(form.artifact_update(task_id, run, said, append=append and not anew))
                append = True
    async with res.rendering:
        ended = await res.runs.ended(call.principal, run.id)
        last = told(form.artifact_update(task_id, run, ended.answer, append=False)) if lost else b""
        last += told(form.status_update(task_id, ended))
    yield last


def _said(batch: Iterable[Event]) -> tuple[str, bool]:
    """Text of the answer in these events, and whether it takes the place of what was there."""
    pieces, anew = [], False
    for event in batch:
        if event.kind == "text":
            pieces.append(event.payload)
        elif event.kind == "reset":
            pieces, anew = [event.payload["text"]], True
    return "".join(pieces), anew
