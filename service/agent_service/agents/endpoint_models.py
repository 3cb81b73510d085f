"""The models of an OpenAI-compatible endpoint: ChatOpenAI over our own reader, and those that a graph makes itself."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from langchain_core.language_models import BaseChatModel

from agent_service.agents.adopt import adopted_models
from agent_service.agents.chat_model import chat_model
from agent_service.agents.context import ChatModels
from agent_service.agents.embeddings import EndpointEmbeddings
from agent_service.agents.endpoint import OnRequest, open_endpoint
from agent_service.agents.offline import OfflineChatModel
from agent_service.agents.reader import CompletionsReader
from agent_service.settings import OFFLINE_MODEL, Settings


@asynccontextmanager
async def open_endpoint_models(settings: Settings, on_request: OnRequest) -> AsyncIterator[ChatModels]:
    """`open_models` with a key."""
    async with open_endpoint(settings, on_request) as endpoint, AsyncExitStack() as stack:
        reader = CompletionsReader(endpoint, settings.fallback_model)
        if settings.adopt_models == "on":
            await stack.enter_async_context(adopted_models(reader))
        chat = _model(settings.model, reader)
        yield ChatModels(
            chat=chat,
            cheap=_model(settings.cheap_model, reader) if settings.cheap_model else chat,
            embeddings=EndpointEmbeddings(endpoint, settings.embedding_model) if settings.embedding_model else None,
            ping=endpoint.ping if settings.model != OFFLINE_MODEL else None,
            keys=endpoint.keys,
        )


def _model(name: str, reader: CompletionsReader) -> BaseChatModel:
    return OfflineChatModel() if name == OFFLINE_MODEL else chat_model(name, reader)
