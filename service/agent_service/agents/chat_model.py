"""ChatOpenAI over our own reader: its every chat completion, blocking calls and structured output included, goes through it."""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import openai
import structlog
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.utils.utils import LC_ID_PREFIX
from langchain_openai import ChatOpenAI
from openai.types.chat import ChatCompletion
from pydantic import BaseModel

from agent_service.agents.completion_reader import CompletionsReader
from agent_service.agents.endpoint_errors import as_raised
from agent_service.agents.reasoning import FIELD
from agent_service.listeners import TextListener, only_listeners
from agent_service.signatures import with_signature

log = structlog.stdlib.get_logger(__name__)

RunManager = AsyncCallbackManagerForLLMRun | CallbackManagerForLLMRun

MAX_MENDED_CHARS = 4_000
"""Of an answer to a `response_format` that is no JSON. langchain's parser takes it apart from its end, a character at a time:
0.3 s for 4,000, a minute for 64,000."""


async def no_key() -> str:
    """In place of an API key: with an async one ChatOpenAI makes no blocking client either."""
    raise AssertionError("the reader sends the key; the stock client is never made")


def chat_model(name: str, reader: CompletionsReader) -> BaseChatModel:
    """ChatOpenAI whose every call goes through `reader`."""
    return EndpointChatModel(
        model=name,
        async_client=reader,
        api_key=no_key,
        streaming=True,
        stream_usage=True,
        stream_chunk_timeout=None,
        max_retries=0,
        use_responses_api=False,
    )


class EndpointChatModel(ChatOpenAI):
    """ChatOpenAI with a CompletionsReader as `async_client`; the stock class has other paths for structured output and
    for blocking calls. What goes to the Responses API is left to the stock client.
    """

    def _get_request_payload(self, input_: LanguageModelInput, *, stop: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        payload: dict[str, Any] = super()._get_request_payload(input_, stop=stop, **kwargs)
        # A `response_format` in the payload itself is what sends ChatOpenAI down those paths.
        if "messages" in payload and (wanted := payload.pop("response_format", None)) is not None:
            payload["extra_body"] = {**(payload.get("extra_body") or {}), "response_format": response_format(wanted)}
        return payload

    def _convert_chunk_to_generation_chunk(
        self, chunk: dict[str, Any], default_chunk_class: type, base_generation_info: dict[str, Any] | None
    ) -> ChatGenerationChunk | None:
        made = super()._convert_chunk_to_generation_chunk(chunk, default_chunk_class, base_generation_info)
        if made and (choices := chunk.get("choices")) and (thought := choices[0]["delta"].get(FIELD)):
            made.message.additional_kwargs[FIELD] = thought
        return made

    def _create_chat_result(self, response: Any, generation_info: dict[str, Any] | None = None) -> ChatResult:
        result = super()._create_chat_result(response, generation_info)
        if isinstance(response, ChatCompletion):
            for generation, choice in zip(result.generations, response.choices, strict=True):
                if thought := getattr(choice.message, FIELD, None):
                    generation.message.additional_kwargs[FIELD] = thought
        return result

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        wanted = kwargs.get("response_format")
        answer = _Structured(wanted if wanted and not self._is_response(kwargs) else None)
        try:
            async for chunk in super()._astream(messages, stop, run_manager, **kwargs):
                answer.add(chunk)
                yield chunk
        except openai.APIError as error:
            raise as_raised(error) from error
        if parsed := answer.parsed():
            yield ChatGenerationChunk(message=AIMessageChunk(content="", additional_kwargs=parsed))

    @with_signature
    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if self._is_response(kwargs):
            return await super()._agenerate(messages, stop, run_manager, **kwargs)
        if audience := self._audience(run_manager, async_api=True, **kwargs):
            return await self._heard(audience, messages, stop, **kwargs)
        try:
            result = await super()._agenerate(messages, stop, run_manager, **{**kwargs, "stream": False})
        except openai.APIError as error:
            raise as_raised(error) from error
        return _with_parsed(result, kwargs)

    def _should_stream(self, *, async_api: bool, run_manager: RunManager | None = None, **kwargs: Any) -> bool:
        """Not where only our own handlers listen: they hear the text itself, and langchain gets it in one piece."""
        streams = super()._should_stream(async_api=async_api, run_manager=run_manager, **kwargs)
        return streams and (self._is_response(kwargs) or not self._audience(run_manager, async_api=async_api, **kwargs))

    def _audience(self, run_manager: RunManager | None, *, async_api: bool, **kwargs: Any) -> "_Audience | None":
        """Who is to hear a call that langchain would stream for its handlers; None if others than our own want its tokens."""
        if run_manager is None or self._reader.endpoint.on_its_loop() is not async_api:
            return None
        listeners = only_listeners(run_manager.handlers)
        streams = listeners and super()._should_stream(async_api=async_api, run_manager=run_manager, **kwargs)
        return _Audience(run_manager.run_id, listeners) if streams else None

    async def _heard(
        self, audience: "_Audience", messages: list[BaseMessage], stop: list[str] | None, **kwargs: Any
    ) -> ChatResult:
        chunks: list[ChatGenerationChunk] = []
        async for chunk in self._astream(messages, stop, said=audience, **kwargs):
            audience.see(chunk)
            chunks.append(chunk)
        result = generate_from_stream(iter(chunks))
        message = result.generations[0].message
        message.id = message.id or f"{LC_ID_PREFIX}-{audience.run_id}"  # as when langchain streams: readers know it by then
        return result

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        if self._blocks_the_loop():
            yield from super()._stream(messages, stop, run_manager, **kwargs)
            return
        wait = self._reader.endpoint.wait_from_thread
        chunks = self._astream(messages, stop, **kwargs)
        while (chunk := wait(_next(chunks))) is not None:
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        if self._blocks_the_loop():
            return _with_parsed(super()._generate(messages, stop, run_manager, **{**kwargs, "stream": False}), kwargs)
        wait = self._reader.endpoint.wait_from_thread
        if audience := self._audience(run_manager, async_api=False, **kwargs):
            return wait(self._heard(audience, messages, stop, **kwargs))
        return wait(self._agenerate(messages, stop, **kwargs))

    def _blocks_the_loop(self) -> bool:
        """A blocking call in a coroutine: a graph's own model then takes the stock client, as it does everywhere else.

        The models that the service hands out have none, and refuse (`wait_from_thread`).
        """
        if self.client is None or not self._reader.endpoint.on_its_loop():
            return False
        log.warning("blocking_model_call", advice="it stops every stream of this process: use `await model.ainvoke(...)`")
        return True

    def _is_response(self, kwargs: dict[str, Any]) -> bool:
        """Whether the call is one for the Responses API."""
        return bool(self._use_responses_api({**self._default_params, **kwargs}))

    @property
    def _reader(self) -> CompletionsReader:
        reader: CompletionsReader = self.async_client
        return reader


@dataclass(frozen=True, slots=True)
class _Audience:
    """The handlers that listen to one call."""

    run_id: UUID
    listeners: list[TextListener]

    def hear(self, text: str) -> None:
        for listener in self.listeners:
            listener.on_model_text(self.run_id, text)

    def think(self, thought: str) -> None:
        for listener in self.listeners:
            listener.on_model_thought(self.run_id, thought)

    def hold(self, characters: int) -> None:
        for listener in self.listeners:
            listener.on_model_arguments(self.run_id, characters)

    def see(self, chunk: ChatGenerationChunk) -> None:
        for listener in self.listeners:
            listener.on_llm_new_token(chunk.message.content, chunk=chunk, run_id=self.run_id)


def response_format(wanted: dict[str, Any] | type[BaseModel]) -> dict[str, Any]:
    """OpenAI's `response_format` of a schema that `with_structured_output` bound: a pydantic class, or already the dict."""
    if isinstance(wanted, dict):
        return wanted
    function = openai.pydantic_function_tool(wanted)["function"]
    schema = {"name": function["name"], "schema": function["parameters"], "strict": True}
    return {"type": "json_schema", "json_schema": schema}


class _Structured:
    """A streamed answer to a `response_format`, for what `with_structured_output` looks for at its end."""

    def __init__(self, wanted: object) -> None:
        self._wanted = wanted
        self._text: list[str] = []
        self._finish = ""

    def add(self, chunk: ChatGenerationChunk) -> None:
        if self._wanted:
            self._text.append(chunk.text)
            self._finish = (chunk.generation_info or {}).get("finish_reason") or self._finish

    def parsed(self) -> dict[str, Any]:
        return _parsed(self._wanted, "".join(self._text), self._finish)


def _with_parsed(result: ChatResult, kwargs: dict[str, Any]) -> ChatResult:
    for generation in result.generations:
        finish = str((generation.generation_info or {}).get("finish_reason"))
        generation.message.additional_kwargs |= _parsed(kwargs.get("response_format"), generation.message.text, finish)
    return result


def _parsed(wanted: object, text: str, finish: str) -> dict[str, Any]:
    """The object for `additional_kwargs`; nothing without text (a tool call, a refusal). Raises as the stock client does."""
    if wanted and finish == "length":
        cut = ChatCompletion(id="", choices=[], created=0, model="", object="chat.completion")
        raise openai.LengthFinishReasonError(completion=cut)
    if wanted and finish == "content_filter":
        raise openai.ContentFilterFinishReasonError
    if text and isinstance(wanted, type) and issubclass(wanted, BaseModel):
        return {"parsed": wanted.model_validate_json(text)}
    if wanted and len(text) > MAX_MENDED_CHARS and not _is_json(text):
        raise OutputParserException(f"the answer is no JSON, and has more than {MAX_MENDED_CHARS} characters to be mended")
    return {}


def _is_json(text: str) -> bool:
    try:
        json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return False
    return True


async def _next(chunks: AsyncIterator[ChatGenerationChunk]) -> ChatGenerationChunk | None:
    return await anext(chunks, None)
