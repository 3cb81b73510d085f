"""MCP over streamable HTTP: the agent as a tool. Nothing is kept between two calls, so that every replica answers each.

A session's id only parts the ids of its calls from those of others: with it, a call is found again by whichever replica is
told to cancel it, or gets it a second time.
"""

import asyncio
import base64
import binascii
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Self
from uuid import UUID, uuid4

import orjson
from fastapi import APIRouter, Header, Request
from pydantic import ConfigDict, StringConstraints, TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from agent_service.api import mcp_elicitation, mcp_tools, protected_resource
from agent_service.api.chat import start
from agent_service.api.decisions import decide
from agent_service.api.deps import Caller, ResourcesDep, WaitingCaller, run_in_log
from agent_service.api.error_handlers import first_of
from agent_service.api.json_body import JsonResponse
from agent_service.api.mcp_versions import (
    META_CAPABILITIES,
    META_SERVER,
    NEWEST_WITH_HANDSHAKE,
    PRIMING_FROM,
    STATELESS,
    UNSAID,
    VERSIONS,
    WITH_HANDSHAKE,
    meta,
    version_of,
)
from agent_service.api.openapi import PROBLEMS, event_stream
from agent_service.api.rpc import (
    INVALID_MESSAGE,
    INVALID_PARAMS,
    NO_SUCH_METHOD,
    PARSE_ERROR,
    REFUSED,
    RPC_ANSWERS,
    AdmitDep,
    Answer,
    CallId,
    Message,
    RpcError,
    RpcRoute,
    known,
    result_of,
    sse_message,
)
from agent_service.api.sse import HEARTBEAT, RETRY_MILLISECONDS, StreamResponse, cancel_unwatched, until_ended
from agent_service.errors import InvalidRequest, SlipwayError
from agent_service.principal import Principal
from agent_service.resources import VERSION, Resources
from agent_service.runs.events import START, EventId, Position
from agent_service.runs.run_types import Run

PATH = "/mcp"

PROGRESS_SECONDS = 1.0
"""Between two notices of progress, whatever the graph does meanwhile: they say that it lives, and are no log."""

LIST_MILLISECONDS = 300_000
"""For which a client may keep what is listed: it changes with a rollout."""

CANCEL_LOOKS = (0.0, 0.2, 1.0)
"""Seconds before each look for the run that a call has started: who cancels at once may be faster than its start."""

GOODBYE = b": the server stops\n\n"
"""The client comes back with the last id."""

FOR_THE_MODEL = frozenset({404, 409, 422})
"""Statuses of errors that the model behind the client can mend, and so reads: another session, a shorter question."""

STATUSES = {PARSE_ERROR: 400, INVALID_MESSAGE: 400, NO_SUCH_METHOD: 404}


class McpRoute(RpcRoute):
    """Errors as MCP has them."""

    def code_of(self, error: SlipwayError) -> int:
        """JSON-RPC's own code of what is wrong in a call."""
        return INVALID_PARAMS if error.status == InvalidRequest.status else REFUSED

    def status_of(self, request: Request, error: SlipwayError) -> int:
        """Up to 2025-11-25 an error about a call that was understood has 200."""
        if not isinstance(error, RpcError):
            return 400 if error.status == InvalidRequest.status else error.status
        if error.rpc_code in {NO_SUCH_METHOD, INVALID_PARAMS} and request.headers.get("mcp-protocol-version") != STATELESS:
            return 200
        return STATUSES.get(error.rpc_code, 400)

    def data_of(self, error: SlipwayError) -> object:
        """The fields of a problem."""
        return {"code": error.code, "field": error.field, "retryable": error.retryable, **error.extra}

    def challenge(self, res: Resources) -> str:
        """With the way to a token, where that is known."""
        return protected_resource.challenge(res.settings)


router = APIRouter(route_class=McpRoute, tags=["mcp"], responses=RPC_ANSWERS)

SessionName = Annotated[
    str,
    StringConstraints(pattern=r"^[\x21-\x7e]{0,128}$"),
    Header(alias="Mcp-Session-Id", description="As `initialize` gave it."),
]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """What of a call its answer needs, wherever that is written. It travels in the ids of the answer's events."""

    id: CallId
    progress_token: CallId | None
    shows_forms: bool

    @classmethod
    def of(cls, message: Message) -> Self:
        """Raises RpcError for a progress token that is none."""
        assert message.id is not None  # noqa: S101  # or it is no call
        try:
            token = _TOKEN.validate_python(meta(message).get("progressToken"))
            return cls(message.id, token, mcp_elicitation.is_shown(meta(message).get(META_CAPABILITIES)))
        except ValidationError as error:
            _, detail = first_of(error.errors())
            raise RpcError(INVALID_PARAMS, f"params._meta.progressToken: {detail}", field="params._meta.progressToken") from None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises InvalidRequest."""
        try:
            return cls(*_CALL.validate_json(base64.urlsafe_b64decode(text)))
        except (binascii.Error, ValidationError):
            raise InvalidRequest("Last-Event-ID: expected the id of an event of /mcp", field="Last-Event-ID") from None

    def event_id(self, run: Run, at: Position) -> str:
        call = base64.urlsafe_b64encode(orjson.dumps([self.id, self.progress_token, self.shows_forms])).decode()
        return f"{run.id}-{at.attempt}-{at.seq}.{call}"


_ID: TypeAdapter[CallId] = TypeAdapter(CallId, config=ConfigDict(strict=True))
_TOKEN: TypeAdapter[CallId | None] = TypeAdapter(CallId | None, config=ConfigDict(strict=True))
_CALL: TypeAdapter[tuple[CallId, CallId | None, bool]] = TypeAdapter(
    tuple[CallId, CallId | None, bool], config=ConfigDict(strict=True)
)


@router.post(
    PATH,
    response_model=Answer,
    responses={
        200: {"content": event_stream("A message of JSON-RPC; the last is the answer.")},
        202: {"description": "A notification was taken."},
        404: {"model": Answer, "description": "No such method."},
    },
)
async def call(
    request: Request, message: Message, res: ResourcesDep, principal: Caller, admit: AdmitDep, session: SessionName = ""
) -> Response:
    """One message of a client: a call, or a notification."""
    known(request, message)
    version = version_of(request.headers, message)
    if message.id is None:
        if message.method == "notifications/cancelled" and session and version != STATELESS:
            await _cancel(res, principal, session, message)
        return Response(status_code=202)
    if message.method == "tools/call":
        admit()
        return await _call_tool(request, message, res, principal, version, session)
    answer = METHODS.get((message.method, version == STATELESS))
    if answer is None:
        raise RpcError(NO_SUCH_METHOD, f"method: {message.method} is not known here in MCP {version}", field="method")
    headers = {"Mcp-Session-Id": uuid4().hex} if message.method == "initialize" else {}
    return JsonResponse(result_of(message.id, _marked(answer(res, message), version, kept=True)), headers=headers)


@router.get(
    PATH,
    response_class=Response,
    responses={
        200: {"content": event_stream("As of the call.")},
        404: {"model": Answer, "description": "No such stream, or it is another principal's."},
        405: PROBLEMS[500] | {"description": "There is no stream but those of calls."},
    },
)
async def come_back(
    request: Request,
    res: ResourcesDep,
    principal: WaitingCaller,
    last_event_id: Annotated[str, Header(alias="Last-Event-ID", description="Of the call's stream; else 405.")] = "",
) -> Response:
    """The rest of a call's stream, for who has lost it. There is no other stream: nothing is said but in answers."""
    if not last_event_id:
        raise HTTPException(405, "Last-Event-ID: expected; there is no stream but those of calls")
    of_run, _, of_call = last_event_id.partition(".")
    last, asked = EventId.parse(of_run, field="Last-Event-ID"), ToolCall.parse(of_call)
    run = run_in_log(await res.runs.get_without_answer(principal, last.run_id))
    return _stream(res, principal, run, asked, request.headers.get("mcp-protocol-version", UNSAID), last.position)


# What is answered at once


def _initialize(_: Resources, message: Message) -> dict[str, Any]:
    wanted = message.params.get("protocolVersion")
    return {
        "protocolVersion": wanted if wanted in WITH_HANDSHAKE else NEWEST_WITH_HANDSHAKE,
        "capabilities": {"tools": {}},
        "serverInfo": SERVER,
    }


def _discover(_: Resources, __: Message) -> dict[str, Any]:
    return {"supportedVersions": VERSIONS, "capabilities": {"tools": {}}}


def _list_tools(res: Resources, _: Message) -> dict[str, Any]:
    return {"tools": [mcp_tools.tool(name, description) for name, description in _graphs(res).items()]}


def _ping(_: Resources, __: Message) -> dict[str, Any]:
    return {}


METHODS: Mapping[tuple[str, bool], Callable[[Resources, Message], dict[str, Any]]] = {
    ("initialize", False): _initialize,
    ("ping", False): _ping,
    ("tools/list", False): _list_tools,
    ("server/discover", True): _discover,
    ("tools/list", True): _list_tools,
}
"""By method, and whether it is of the revision without a handshake."""

SERVER = {"name": "slipway", "version": VERSION}


def _graphs(res: Resources) -> dict[str, str]:
    """What each graph that takes a question is good for, by its name."""
    served = res.runs.graphs.by_name.values()
    return {each.name: each.description or res.settings.agent_description for each in served if each.chats}


def _marked(result: dict[str, Any], version: str, *, kept: bool = False) -> dict[str, Any]:
    """With what 2026-07-28 has in each result. `kept`: a client may keep it for a while."""
    if version != STATELESS:
        return result
    keeping = {"ttlMs": LIST_MILLISECONDS, "cacheScope": "private"} if kept else {}
    return {"resultType": "complete", **result, **keeping, "_meta": {META_SERVER: SERVER}}


# A call of the tool


async def _call_tool(
    request: Request, message: Message, res: Resources, principal: Principal, version: str, session: str
) -> Response:
    asked = ToolCall.of(message)
    name = message.params.get("name")
    if not isinstance(name, str) or name not in _graphs(res):
        expected = ", ".join(_graphs(res))
        raise RpcError(INVALID_PARAMS, f"params.name: no such tool, expected one of {expected}", field="params.name")
    try:
        if version == STATELESS and "requestState" in message.params:
            run = await _decided(res, principal, message.params)
        else:
            ask = mcp_tools.Arguments.model_validate(message.params.get("arguments") or {})
            key = _key(session, asked.id) if session and version != STATELESS else None
            run = await start(res, principal, ask.question, ask.session_id, key, graph=name)
    except ValidationError as error:
        _, detail = first_of(error.errors())
        return JsonResponse(result_of(asked.id, _marked(mcp_tools.failure(detail), version)))
    except SlipwayError as error:
        if error.status not in FOR_THE_MODEL:
            raise
        return JsonResponse(result_of(asked.id, _marked(mcp_tools.failure(error.detail), version)))
    if "text/event-stream" in request.headers.get("accept", ""):
        return _stream(res, principal, run, asked, version)
    await until_ended(res, principal, run, request, _on_leave(res, run, version))
    async with res.rendering:
        return JsonResponse(result_of(asked.id, _result(await res.runs.ended(principal, run.id), asked, version)))


def _result(ended: Run, asked: ToolCall, version: str) -> dict[str, Any]:
    """The call's answer, or what a person is to decide first."""
    waits = version == STATELESS and asked.shows_forms and ended.outcome == "interrupted"
    return _marked((waits and mcp_elicitation.form(ended)) or mcp_tools.result(ended), version)


async def _decided(res: Resources, principal: Principal, params: Mapping[str, Any]) -> Run:
    """The run that carries a person's decision for the one that waits; that one, if nothing was decided."""
    try:
        waiting = await res.runs.get(principal, UUID(str(params["requestState"])))
    except ValueError:
        raise InvalidRequest("requestState: expected what the answer had", field="requestState") from None
    decision = mcp_elicitation.decision(params.get("inputResponses"), waiting)
    if decision is None:
        return waiting
    return run_in_log(await decide(res, principal, waiting, decision))


def _on_leave(res: Resources, run: Run, version: str) -> Callable[[], Awaitable[None]]:
    """From 2026-07-28 on, leaving is cancelling; before, explicitly not: ON_DISCONNECT is the rule."""
    return partial(res.runs.cancel_unwatched if version == STATELESS else partial(cancel_unwatched, res), run.id)


def _key(session: str, call_id: CallId) -> str:
    """Of the run that a session's call has started."""
    return "mcp:" + hashlib.sha256(orjson.dumps([session, call_id])).hexdigest()


async def _cancel(res: Resources, principal: Principal, session: str, message: Message) -> None:
    try:
        call_id = _ID.validate_python(message.params.get("requestId"))
    except ValidationError:
        return  # no call has such an id
    for pause in CANCEL_LOOKS:
        await asyncio.sleep(pause)
        if run := await res.runs.started_by(principal, _key(session, call_id)):
            await res.runs.cancel(principal, run_in_log(run).id)
            return


def _stream(
    res: Resources, principal: Principal, run: Run, asked: ToolCall, version: str, after: Position = START
) -> StreamResponse:
    messages = _messages(res, principal, run, asked, version, after)
    return StreamResponse(messages, res.streams, goodbye=GOODBYE, on_leave=_on_leave(res, run, version))


async def _messages(
    res: Resources, principal: Principal, run: Run, asked: ToolCall, version: str, after: Position
) -> AsyncIterator[bytes]:
    if version >= PRIMING_FROM:
        yield f"retry: {RETRY_MILLISECONDS}\nid: {asked.event_id(run, after)}\ndata: \n\n".encode()
    told_at = said = 0.0
    async with aclosing(res.runs.follow(run.id, after, idle=res.settings.heartbeat_seconds)) as batches:
        async for batch in batches:
            note = mcp_tools.note(batch) if batch else "works"
            if asked.progress_token is None or note is None or time.monotonic() - told_at < PROGRESS_SECONDS:
                if not batch:
                    yield HEARTBEAT
                continue
            after = batch[-1].position if batch else after
            # Seconds, as they grow on every replica. Each notice must have more than the one before.
            said, told_at = max(said + 0.001, time.time() - run.created_at.timestamp()), time.monotonic()
            yield sse_message(_progress(asked.progress_token, said, note), asked.event_id(run, after))
    async with res.rendering:
        result = _result(await res.runs.ended(principal, run.id), asked, version)
        last = sse_message(result_of(asked.id, result), asked.event_id(run, after))
    yield last  # a slow reader keeps nobody from rendering


def _progress(token: CallId, seconds: float, note: str) -> dict[str, object]:
    params = {"progressToken": token, "progress": round(seconds, 3), "message": note}
    return {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
