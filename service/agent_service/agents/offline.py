"""The chat model that needs no endpoint and no key: deterministic, calls tools for real, and says that it is no LLM."""

import asyncio
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, ClassVar

from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.chat_models import BaseChatModel, agenerate_from_stream, generate_from_stream
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolCallChunk
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from agent_service.agents.offline_rules import Call, reply
from agent_service.settings import OFFLINE_MODEL
from agent_service.token_counts import count_tokens

_PIECE = re.compile(r"\s*\S+|\s+$")


class OfflineChatModel(BaseChatModel):
    """Streams word by word what `offline_rules.reply` says.

    `delay` is the time before each word, in seconds.
    """

    delay: float = 0.0
    model_name: ClassVar[str] = OFFLINE_MODEL

    def at_pace(self, words_per_second: float) -> "OfflineChatModel":
        """The same model, that writes no faster; 0 is as fast as it can."""
        return self.model_copy(update={"delay": 1 / words_per_second if words_per_second else 0.0})

    @property
    def _llm_type(self) -> str:
        return OFFLINE_MODEL

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,  # noqa: ARG002  # the rules choose
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The rules choose a tool by its name and schema; `tool_choice` changes nothing."""
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _generate(self, messages: list[BaseMessage], *_: Any, **kwargs: Any) -> ChatResult:
        return generate_from_stream(self._stream(messages, **kwargs))

    async def _agenerate(self, messages: list[BaseMessage], *_: Any, **kwargs: Any) -> ChatResult:
        return await agenerate_from_stream(self._astream(messages, **kwargs))

    def _stream(self, messages: list[BaseMessage], *_: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        for chunk in _chunks(messages, kwargs.get("tools") or ()):
            if self.delay:
                time.sleep(self.delay)
            yield ChatGenerationChunk(message=chunk)

    async def _astream(self, messages: list[BaseMessage], *_: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in _chunks(messages, kwargs.get("tools") or ()):
            if self.delay:
                await asyncio.sleep(self.delay)
            yield ChatGenerationChunk(message=chunk)


def _chunks(messages: Sequence[BaseMessage], tools: Sequence[dict[str, Any]]) -> Iterator[AIMessageChunk]:
    """The reply word by word; the last chunk carries tool calls and usage, as endpoints do."""
    text, calls = reply(messages, [tool["function"] for tool in tools])
    for piece in _PIECE.findall(text):
        yield AIMessageChunk(content=piece)
    arguments = [json.dumps(args) for _, args in calls]
    yield AIMessageChunk(
        content="",
        tool_call_chunks=[_call_chunk(call, i, messages) for i, call in enumerate(calls)],
        usage_metadata=_usage(messages, text + "".join(arguments)),
        response_metadata={"model_name": OFFLINE_MODEL, "finish_reason": "tool_calls" if calls else "stop"},
        chunk_position="last",
    )


def _call_chunk(call: Call, index: int, messages: Sequence[BaseMessage]) -> ToolCallChunk:
    name, arguments = call
    # Differs between turns and is the same when the turn is computed again, as all of this model.
    seed = json.dumps([name, arguments, index, [m.id or m.text for m in messages]])
    return ToolCallChunk(
        name=name, args=json.dumps(arguments), id=f"call_{hashlib.sha256(seed.encode()).hexdigest()[:24]}", index=index
    )


def _usage(messages: Sequence[BaseMessage], output: str) -> UsageMetadata:
    read, written = sum(count_tokens(m.text) for m in messages), count_tokens(output)
    return UsageMetadata(input_tokens=read, output_tokens=written, total_tokens=read + written)
