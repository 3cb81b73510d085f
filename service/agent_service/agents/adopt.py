"""A graph's own `ChatOpenAI(…)`, `init_chat_model("openai:…")`, `create_agent("openai:…")` on the service's endpoint.

While it is switched on, each ChatOpenAI that is made gets the reader of chat_model.py in place of its client, and with it the
service's retries, fallback and keys that rotate. A model that names another endpoint, key or client keeps what it named.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import openai
import structlog
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from agent_service.agents.chat_model import EndpointChatModel, no_key
from agent_service.agents.completion_reader import CompletionsReader
from agent_service.agents.endpoint import ModelEndpoint
from agent_service.agents.model_keys import ApiKeySource
from agent_service.errors import ModelUnavailable

log = structlog.stdlib.get_logger(__name__)

KEY_VARIABLE = "OPENAI_API_KEY"

FILE_KEY = "read-from-OPENAI_KEY_DIR"
"""What that variable holds where the key is in files: ChatOpenAI wants some key before it can be made."""

OWN_CLIENT = (
    "http_client",
    "http_async_client",
    "openai_proxy",
    "openai_organization",
    "default_headers",
    "default_query",
    "include_response_headers",
)
"""Fields that shape a client of the model's own: with one of them set it keeps that client."""


@asynccontextmanager
async def adopted_models(reader: CompletionsReader) -> AsyncIterator[None]:
    """Adopts what is made in the block. Without the seam in langchain-openai: one warning, and graphs have stock clients."""
    with _default_key(reader.endpoint.keys):
        if not await _has_seam():
            log.warning("models_not_adopted", reason="this langchain-openai has no seam that we know; graphs use its own client")
            yield
            return
        with _each_new_model(lambda model: adopt(model, reader)):
            yield


def adopt(model: ChatOpenAI, reader: CompletionsReader) -> None:
    """Puts `reader` in the place of a model's client, unless the model names an endpoint, key or client of its own."""
    if reason := _own(model, reader.endpoint):
        log.info("model_not_adopted", model=model.model_name, reason=reason)
        return
    _follow_keys(model, reader.endpoint.keys)
    _replace_client(model, _with_limits(model, reader))


@dataclass(frozen=True)
class GraphReader(CompletionsReader):
    """The reader, and the stock client for calls on another event loop (`asyncio.run` in a thread of the graph)."""

    stock: Any = None

    async def create(self, **payload: Any) -> Any:
        return await (super().create if self.endpoint.on_its_loop() else self.stock.create)(**payload)

    @property
    def with_raw_response(self) -> Any:
        return super().with_raw_response if self.endpoint.on_its_loop() else self.stock.with_raw_response


def _own(model: ChatOpenAI, endpoint: ModelEndpoint) -> str | None:
    """Why a model keeps its client; None for one that may be adopted."""
    if not isinstance(model.root_async_client, openai.AsyncOpenAI):
        return "it has a client of its own"
    if named := next((name for name in OWN_CLIENT if getattr(model, name, None)), None):
        return f"it sets {named}"
    if str(model.root_async_client.base_url).rstrip("/") != endpoint.base_url:
        return "it names another endpoint"
    key = model.openai_api_key
    if not (isinstance(key, SecretStr) and key.get_secret_value() in _configured_keys(endpoint.keys)):
        return "it names a key of its own"
    return None


def _configured_keys(keys: ApiKeySource) -> set[str]:
    try:
        return {FILE_KEY, keys.current(), keys.previous() or FILE_KEY}
    except ModelUnavailable:  # its files are not there yet
        return {FILE_KEY}


def _follow_keys(model: ChatOpenAI, keys: ApiKeySource) -> None:
    """What still goes through the stock client (the Responses API) takes the key of the moment, too."""

    async def current() -> str:
        return keys.current()

    model.root_async_client = model.root_async_client.copy(api_key=current)
    if isinstance(model.root_client, openai.OpenAI):
        model.root_client = model.root_client.copy(api_key=keys.current)
        model.client = model.root_client.chat.completions


def _replace_client(model: ChatOpenAI, reader: Any) -> None:
    object.__setattr__(model, "__class__", EndpointChatModel)
    model.async_client = reader
    given = model.model_fields_set
    if "stream_usage" not in given:
        model.stream_usage = True  # the stock default is off for endpoints other than OpenAI's, and a bill needs it
    if "stream_chunk_timeout" not in given:
        model.stream_chunk_timeout = None  # the reader has MODEL_TIMEOUT; a timer for each chunk costs 8 us


def _with_limits(model: ChatOpenAI, reader: CompletionsReader) -> CompletionsReader:
    """The reader with the model's own `timeout` and `max_retries`, where it has them."""
    timeout, retries, endpoint = _seconds(model.request_timeout), model.max_retries, reader.endpoint
    limited = replace(
        endpoint,
        timeout=endpoint.timeout if timeout is None else timeout,
        max_retries=endpoint.max_retries if retries is None else retries,
    )
    return GraphReader(
        limited,
        reader.fallback,
        reader.clock,
        reader.beat,
        reader.down_until,
        reader.without_usage,
        reader.breaker,
        stock=model.root_async_client.chat.completions,
    )


def _seconds(timeout: Any) -> float | None:
    """The silence that a `timeout` of ChatOpenAI bears: a number, a tuple (connect, read, …), or httpx2's object."""
    if isinstance(timeout, httpx2.Timeout):
        return timeout.read
    if isinstance(timeout, tuple):
        return float(timeout[1])
    return None if timeout is None else float(timeout)


_adopting: list[Callable[[ChatOpenAI], None]] = []
"""Called with each new model: the last of these. A process has one service; only tests have more, and end them in any order."""


@contextmanager
def _each_new_model(use: Callable[[ChatOpenAI], None]) -> Iterator[None]:
    """Calls `use` with each ChatOpenAI that is made in the block, of just that class: a subclass may have its own ways."""
    _adopting.append(use)
    if len(_adopting) == 1:
        type.__setattr__(ChatOpenAI, "__init__", _init)
    try:
        yield
    finally:
        _adopting.remove(use)
        if not _adopting:
            type.__setattr__(ChatOpenAI, "__init__", _stock_init)


_stock_init = ChatOpenAI.__init__


def _init(self: ChatOpenAI, *args: Any, **kwargs: Any) -> None:
    _stock_init(self, *args, **kwargs)
    if type(self) is ChatOpenAI:
        _adopting[-1](self)


@contextmanager
def _default_key(keys: ApiKeySource) -> Iterator[None]:
    """Lets a graph say `ChatOpenAI()` where the key is in files, for as long as the block lasts."""
    if os.environ.get(KEY_VARIABLE) or keys.directory is None:
        yield
        return
    os.environ[KEY_VARIABLE] = FILE_KEY
    try:
        yield
    finally:
        os.environ.pop(KEY_VARIABLE, None)


class _Probe:
    """Stands in for the reader, and answers as an endpoint would."""

    @property
    def with_raw_response(self) -> "_Probe":
        return self

    async def create(self, **payload: Any) -> Any:
        return _ProbeStream() if payload.get("stream") else _ProbeResponse()


class _ProbeResponse:
    def parse(self) -> dict[str, Any]:
        return {"choices": [{"message": {"role": "assistant", "content": "seam"}, "finish_reason": "stop"}]}


class _ProbeStream:
    async def __aenter__(self) -> AsyncIterator[dict[str, Any]]:
        return self._chunks()

    async def __aexit__(self, *_: object) -> None:
        return None

    async def _chunks(self) -> AsyncIterator[dict[str, Any]]:
        yield {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "seam"}, "finish_reason": "stop"}]}


async def _has_seam() -> bool:
    """Whether a model with another client really calls that, and takes plain dicts from it: tried, not read from a version."""
    try:
        # With a client given it makes none: each of its two would read the certificate authorities, 35 ms of CPU.
        model = ChatOpenAI(model="probe", api_key=no_key, async_client=object())
        _replace_client(model, _Probe())
        whole = await model._agenerate([])  # noqa: SLF001  # the methods that the reader depends on
        streamed = [chunk.text async for chunk in model._astream([])]  # noqa: SLF001  # likewise
    except Exception:
        log.debug("langchain_openai_probe_failed", exc_info=True)
        return False
    return whole.generations[0].text == "seam" and "".join(streamed) == "seam"
