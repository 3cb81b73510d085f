"""The OpenAI-compatible wire: any OpenAI client or chat page can talk to the agent. Tool calls stay inside."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, suppress
from functools import partial
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import Response

from agent_service.api.deps import Caller, IdempotencyKeyDep, ResourcesDep, WaitingCaller, run_in_log
from agent_service.api.json_body import JsonResponse, JsonRoute, json_line
from agent_service.api.openai_input import conversation, ends_with, graph_messages, history, question
from agent_service.api.openai_schemas import MODEL_ID, Completion, CompletionRequest, Model, ModelList
from agent_service.api.openapi import PROBLEMS, event_stream
from agent_service.api.sse import HEARTBEAT, StreamResponse, in_chunks, until_ended
from agent_service.errors import ModelNotFound, OtherGraph, SessionBusy, SessionInterrupted
from agent_service.middleware.problem_details import problem_response
from agent_service.principal import Principal
from agent_service.resources import Resources
from agent_service.runs.events import Event
from agent_service.runs.run_types import DEFAULT_GRAPH, Run, RunError, RunUsage
from agent_service.runs.usage import run_usage

router = APIRouter(prefix="/v1", route_class=JsonRoute, tags=["openai"], responses=PROBLEMS)

STARTS_AGAIN = "\n\n(The answer broke off there; it starts again.)\n\n"
"""This wire cannot take text back."""

GOODBYE = b'data: {"error":{"message":"the server stops; ask again","type":"server_error","code":"server_restarting"}}\n\n'


@router.get("/models")
async def list_models(res: ResourcesDep, _: Caller) -> ModelList:
    """The default graph as `slipway`, and each graph that takes questions by its name."""
    return ModelList(data=[Model(id=name) for name in _models(res)])


@router.get("/models/{model}")
async def get_model(model: str, res: ResourcesDep, _: Caller) -> Model:
    """One of them."""
    _graph(res, model)
    return Model(id=model)


def _models(res: Resources) -> list[str]:
    graphs = res.runs.graphs
    chatting = (each.name for each in graphs.by_name.values() if each.chats)
    # The graph of AGENT_GRAPH alone has no name that somebody gave it.
    return list(dict.fromkeys([MODEL_ID, *(name for name in chatting if name != DEFAULT_GRAPH or len(graphs.by_name) > 1)]))


def _graph(res: Resources, model: str) -> str:
    """The graph that a model's name means. Raises ModelNotFound, which lists them."""
    graphs = res.runs.graphs
    if model in graphs.by_name:
        return model
    if model not in {MODEL_ID, ""}:
        raise ModelNotFound(f"model: expected one of {', '.join(_models(res))}", field="model")
    return graphs.default.name


@router.post(
    "/chat/completions",
    response_model=Completion,
    responses={
        200: {"content": event_stream("A chunk as JSON; the last is `[DONE]`.")},
        502: PROBLEMS[500] | {"description": "The run failed; `code` says why."},
        504: PROBLEMS[500] | {"description": "The turn took longer than MAX_TURN_SECONDS."},
    },
)
async def complete(
    request: Request, body: CompletionRequest, res: ResourcesDep, principal: WaitingCaller, key: IdempotencyKeyDep
) -> Response:
    """Chat Completions, streaming and not."""
    run = run_in_log(await _start(res, principal, request, body, key))
    # This wire has no way to come back for the rest, except by the same key.
    on_leave = None if key else partial(res.runs.cancel_unwatched, run.id)
    if body.stream:
        include_usage = body.stream_options is not None and body.stream_options.include_usage
        chunks = _chunks(res, run, body.model, include_usage=include_usage)
        return StreamResponse(chunks, res.streams, goodbye=GOODBYE, on_leave=on_leave)
    await until_ended(res, principal, run, request, on_leave)
    async with res.rendering:
        return await _completion(res, run, body.model, await res.runs.ended(principal, run.id))


async def _completion(res: Resources, run: Run, model: str, ended: Run) -> Response:
    if ended.error:
        status = 504 if ended.outcome == "timeout" else 502
        code, message, retryable = ended.error["code"], ended.error["message"], ended.error["retryable"]
        return problem_response(status, code, message, path=router.prefix, retryable=retryable)
    spent = await run_usage(res.pool, run.id)
    said = {"role": "assistant", "content": _with_approval(ended)}
    choice = {"index": 0, "finish_reason": _finish_reason(ended.outcome), "message": said}
    return JsonResponse({**_envelope(run, model, "chat.completion"), "choices": [choice], "usage": _usage(spent)})


async def _start(res: Resources, principal: Principal, request: Request, body: CompletionRequest, key: str | None) -> Run:
    text = question(body, max_chars=res.settings.max_question_chars, images=res.settings.accept_images)
    messages, named = graph_messages(body.messages), conversation(request.headers, body.metadata)
    # A retry asks for the same, wherever its first try found the conversation.
    asked = (text, named and named.session_id, messages, None)
    start = partial(res.runs.start, principal, text, graph=_graph(res, body.model), idempotency_key=key, asked=asked)
    if named and named.remembered:
        return await start(session_id=named.session_id, messages=messages[-1:])
    if named:
        so_far = await res.sessions.said(principal, named.session_id)
        if ends_with(history(body.messages), so_far.said):
            with suppress(SessionBusy, SessionInterrupted, OtherGraph):
                going_on = messages[-1:] if so_far.runs else messages
                return await start(session_id=named.session_id, messages=going_on, follows=so_far.runs)
    return await start(messages=messages, listed=False)


def _envelope(run: Run, model: str, kind: str) -> dict[str, object]:
    return {
        "id": f"chatcmpl-{run.id}",
        "object": kind,
        "created": int(run.created_at.timestamp()),
        "model": model or MODEL_ID,
    }


def _finish_reason(outcome: str | None) -> str:
    return "length" if outcome in {"iteration_limit", "budget"} else "stop"


def _usage(spent: RunUsage) -> dict[str, object]:
    return {
        "prompt_tokens": spent["input_tokens"],
        "completion_tokens": spent["output_tokens"],
        "total_tokens": spent["input_tokens"] + spent["output_tokens"],
        "prompt_tokens_details": {"cached_tokens": spent["cached_tokens"]},
        **({"cached_answer": True} if spent.get("cached_answer") else {}),
    }


def _error(error: RunError) -> dict[str, object]:
    return {"message": error["message"], "type": "server_error", "code": error["code"], "param": None}


def _with_approval(run: Run) -> str:
    if run.outcome != "interrupted":
        return run.answer
    return run.answer + approval_text(run.id, follows_text=bool(run.answer))


def approval_text(run_id: UUID, *, follows_text: bool) -> str:
    """What a client of this wire is told of an interrupt, for which the wire has no form."""
    gap = "\n\n" if follows_text else ""
    return f"{gap}This waits for an approval: decide it in the chat page or with POST /runs/{run_id}/resume."


async def _chunks(res: Resources, run: Run, model: str, *, include_usage: bool) -> AsyncIterator[bytes]:
    envelope = _envelope(run, model, "chat.completion.chunk")
    yield _chunk(envelope, {"role": "assistant", "content": ""})
    spoke = False

    def pieces(batch: list[Event]) -> Iterator[bytes]:
        nonlocal spoke
        for event in batch:
            yield from _encode(envelope, run.id, event, include_usage=include_usage, spoke=spoke)
            spoke = spoke or event.kind in {"text", "reset"}

    async with aclosing(res.runs.follow(run.id, idle=res.settings.heartbeat_seconds)) as batches:
        async for batch in batches:
            for chunk in in_chunks(pieces(batch)) if batch else (HEARTBEAT,):
                yield chunk


def _encode(envelope: Mapping[str, object], run_id: UUID, event: Event, *, include_usage: bool, spoke: bool) -> list[bytes]:
    match event.kind:
        case "text" | "interrupt" | "reset":
            return [_chunk(envelope, {"content": _content(event, run_id, spoke=spoke)})]
        case "error":
            return [_data({"error": _error(event.payload)})]
        case "usage":
            usage = [_data({**envelope, "choices": [], "usage": _usage(event.payload)})] if include_usage else []
            return [_chunk(envelope, {}, _finish_reason(event.payload["outcome"])), *usage]
        case "end":
            return [b"data: [DONE]\n\n"]
    return []


def _content(event: Event, run_id: UUID, *, spoke: bool) -> str:
    if event.kind == "text":
        return str(event.payload)
    return STARTS_AGAIN + event.payload["text"] if event.kind == "reset" else approval_text(run_id, follows_text=spoke)


def _chunk(envelope: Mapping[str, object], delta: Mapping[str, str], finish: str | None = None) -> bytes:
    return _data({**envelope, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def _data(value: Mapping[str, object]) -> bytes:
    return b"data: " + json_line(value) + b"\n\n"
