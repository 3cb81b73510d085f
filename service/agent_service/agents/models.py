"""The chat models of one process: the built-in offline one, or ChatOpenAI over our own reader."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import openai
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from agent_service.agents.embeddings import EndpointEmbeddings
from agent_service.agents.endpoint import OnRequest, open_endpoint
from agent_service.agents.keys import ApiKeySource
from agent_service.agents.offline import OfflineChatModel
from agent_service.agents.reader import CompletionsReader
from agent_service.settings import OFFLINE_MODEL, Settings


@dataclass(frozen=True, slots=True)
class ChatModels:
    """Models by role. FALLBACK_MODEL has no entry: it steps in below `chat` and `cheap`, for every graph alike."""

    chat: BaseChatModel
    cheap: BaseChatModel
    embeddings: Embeddings | None = None
    ping: Callable[[], Awaitable[None]] | None = None
    """Raises ModelUnavailable while the endpoint is down; None without an endpoint."""
    keys: ApiKeySource | None = None


@asynccontextmanager
async def open_models(settings: Settings, on_request: OnRequest = lambda _model, _status: None) -> AsyncIterator[ChatModels]:
    """The models that the settings name. `on_request` is called for each HTTP attempt with (model, status)."""
    if settings.model == OFFLINE_MODEL:
        model = OfflineChatModel()
        yield ChatModels(chat=model, cheap=model)
        return
    async with open_endpoint(settings, on_request) as endpoint:
        reader = CompletionsReader(endpoint, settings.fallback_model)
        chat = chat_model(settings.model, reader)
        yield ChatModels(
            chat=chat,
            cheap=_cheap_model(settings, reader) or chat,
            embeddings=EndpointEmbeddings(endpoint, settings.embedding_model) if settings.embedding_model else None,
            ping=endpoint.ping,
            keys=endpoint.keys,
        )


def _cheap_model(settings: Settings, reader: CompletionsReader) -> BaseChatModel | None:
    if settings.cheap_model == OFFLINE_MODEL:
        return OfflineChatModel()
    return chat_model(settings.cheap_model, reader) if settings.cheap_model else None


async def _no_key() -> str:
    raise AssertionError("the reader sends the key; the stock client is never made")


def chat_model(name: str, reader: CompletionsReader) -> BaseChatModel:
    """ChatOpenAI whose every call goes through `reader`."""
    return EndpointChatModel(
        model=name,
        async_client=reader,
        api_key=_no_key,
        streaming=True,
        stream_usage=True,
        stream_chunk_timeout=None,
        max_retries=0,
        use_responses_api=False,
    )


class EndpointChatModel(ChatOpenAI):
    """ChatOpenAI whose structured output and blocking calls go through its reader too; the stock one has other paths for them."""

    def _get_request_payload(self, input_: LanguageModelInput, *, stop: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        payload: dict[str, Any] = super()._get_request_payload(input_, stop=stop, **kwargs)
        # A `response_format` in the payload itself is what sends ChatOpenAI down those paths.
        if (wanted := payload.pop("response_format", None)) is not None:
            payload["extra_body"] = {**(payload.get("extra_body") or {}), "response_format": response_format(wanted)}
        return payload

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        text: list[str] = []
        async for chunk in super()._astream(messages, stop, run_manager, **kwargs):
            text.append(chunk.text)
            yield chunk
        if parsed := _parsed(kwargs.get("response_format"), "".join(text)):
            yield ChatGenerationChunk(message=AIMessageChunk(content="", additional_kwargs=parsed))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        result = await super()._agenerate(messages, stop, run_manager, **{**kwargs, "stream": False})
        message = result.generations[0].message
        message.additional_kwargs |= _parsed(kwargs.get("response_format"), message.text)
        return result

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
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
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002  # nothing is streamed here
        **kwargs: Any,
    ) -> ChatResult:
        return self._reader.endpoint.wait_from_thread(self._agenerate(messages, stop, **kwargs))

    @property
    def _reader(self) -> CompletionsReader:
        reader: CompletionsReader = self.async_client
        return reader


def response_format(wanted: dict[str, Any] | type[BaseModel]) -> dict[str, Any]:
    """OpenAI's `response_format` of a schema that `with_structured_output` bound: a pydantic class, or already the dict."""
    if isinstance(wanted, dict):
        return wanted
    function = openai.pydantic_function_tool(wanted)["function"]
    schema = {"name": function["name"], "schema": function["parameters"], "strict": True}
    return {"type": "json_schema", "json_schema": schema}


def _parsed(wanted: object, text: str) -> dict[str, Any]:
    """What `with_structured_output` looks for in `additional_kwargs`; nothing without text (a tool call, a refusal)."""
    if isinstance(wanted, type) and issubclass(wanted, BaseModel) and text:
        return {"parsed": wanted.model_validate_json(text)}
    return {}


async def _next(chunks: AsyncIterator[ChatGenerationChunk]) -> ChatGenerationChunk | None:
    return await anext(chunks, None)
