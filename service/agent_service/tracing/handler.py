"""Spans of what a graph does: nodes, model calls, tools. A langchain callback handler, there only while a run is recorded."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langgraph.constants import TAG_HIDDEN
from langgraph.errors import GraphBubbleUp
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context
from opentelemetry.util.types import AttributeValue

from agent_service.listeners import TextListener
from agent_service.tracing import conventions as names


@dataclass(slots=True)
class _Call:
    """`span` is the call's own, or the nearest one above it (of a chain that gets none)."""

    span: Span
    owned: bool
    started: float
    spoke: bool = False


class SpanHandler(BaseCallbackHandler, TextListener):
    """Safe to be called from worker threads: each call has an entry of its own."""

    run_inline = True

    def __init__(self, tracer: Tracer, root: Span) -> None:
        self._tracer = tracer
        self._root = root
        self._calls: dict[UUID, _Call] = {}

    def on_chain_start(
        self,
        serialized: dict[str, Any],  # noqa: ARG002  # langchain's signature
        inputs: Any,  # noqa: ARG002  # likewise
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        node = (metadata or {}).get("langgraph_node")
        if node and kwargs.get("name") == node and TAG_HIDDEN not in (tags or ()):
            self._open(run_id, parent_run_id, f"{names.NODE_SPAN} {node}", {names.NODE: node})
        else:
            self._calls[run_id] = _Call(self._above(parent_run_id), owned=False, started=0.0)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:  # noqa: ARG002  # langchain's signature
        self._close(run_id)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        self._close(run_id, error)

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],  # noqa: ARG002  # langchain's signature
        messages: list[list[BaseMessage]],  # noqa: ARG002  # likewise
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        meta, params = metadata or {}, kwargs.get("invocation_params") or {}
        model = str(params.get("model") or params.get("model_name") or meta.get("ls_model_name") or "unknown")
        attributes = {
            names.OPERATION: names.CHAT,
            names.PROVIDER: str(meta.get("ls_provider") or "unknown"),
            names.REQUEST_MODEL: model,
        }
        self._open(run_id, parent_run_id, f"{names.CHAT} {model}", attributes, SpanKind.CLIENT)

    def on_llm_new_token(self, token: str, *, run_id: UUID, **_: Any) -> None:  # type: ignore[override]  # text models only
        if token:
            self.on_model_text(run_id, token)

    def on_model_text(self, run_id: UUID, text: str) -> None:  # noqa: ARG002  # when it came is all that counts
        call = self._calls.get(run_id)
        if call and not call.spoke:
            call.spoke = True
            call.span.set_attribute(names.TIME_TO_FIRST_CHUNK, time.monotonic() - call.started)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        if call := self._calls.get(run_id):
            call.span.set_attributes(_answer(response))
        self._close(run_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        self._close(run_id, error)

    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,  # noqa: ARG002  # langchain's signature
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        tool = str(serialized.get("name") or kwargs.get("name") or "tool")
        attributes = {
            names.OPERATION: names.EXECUTE_TOOL,
            names.TOOL_NAME: tool,
            names.TOOL_TYPE: "function",
            names.TOOL_CALL_ID: str(kwargs.get("tool_call_id") or run_id),
        }
        self._open(run_id, parent_run_id, f"{names.EXECUTE_TOOL} {tool}", attributes)

    def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
        failed = isinstance(output, ToolMessage) and output.status == "error"
        self._close(run_id, "tool_error" if failed else None)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:
        self._close(run_id, error)

    def close(self) -> None:
        """Ends what a cancelled run left open."""
        for run_id in list(self._calls):
            self._close(run_id)

    def _above(self, parent_run_id: UUID | None) -> Span:
        parent = self._calls.get(parent_run_id) if parent_run_id else None
        return parent.span if parent else self._root

    def _open(
        self,
        run_id: UUID,
        parent_run_id: UUID | None,
        name: str,
        attributes: dict[str, str],
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> None:
        above = set_span_in_context(self._above(parent_run_id))
        span = self._tracer.start_span(name, above, kind, attributes)
        self._calls[run_id] = _Call(span, owned=True, started=time.monotonic())

    def _close(self, run_id: UUID, error: BaseException | str | None = None) -> None:
        call = self._calls.pop(run_id, None)
        if call is None or not call.owned:
            return
        # Neither an interrupt nor a cancel is a fault. Never the message: it may quote a question.
        if error and not isinstance(error, GraphBubbleUp | asyncio.CancelledError):
            call.span.set_attribute(names.ERROR_TYPE, error if isinstance(error, str) else type(error).__name__)
            call.span.set_status(StatusCode.ERROR)
        call.span.end()


def _answer(response: LLMResult) -> dict[str, AttributeValue]:
    generation = response.generations[0][0] if response.generations and response.generations[0] else None
    message = generation.message if isinstance(generation, ChatGeneration) else None
    if not isinstance(message, AIMessage):
        return {}
    said: dict[str, AttributeValue] = {}
    if model := message.response_metadata.get("model_name"):
        said[names.RESPONSE_MODEL] = str(model)
    if reason := message.response_metadata.get("finish_reason"):
        said[names.FINISH_REASONS] = [str(reason)]
    if usage := message.usage_metadata:
        said[names.INPUT_TOKENS] = usage["input_tokens"]
        said[names.OUTPUT_TOKENS] = usage["output_tokens"]
        said[names.CACHED_TOKENS] = (usage.get("input_token_details") or {}).get("cache_read") or 0
    return said
