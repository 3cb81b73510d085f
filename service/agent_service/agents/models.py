"""The chat models of one process: the built-in offline one, or ChatOpenAI over our own reader."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel

from agent_service.agents.adopt import adopted_models
from agent_service.agents.chat_model import chat_model
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
    """The models that the settings name, and while they are open the ones that a graph makes itself (adopt.py).

    `on_request` is called for each HTTP attempt with (model, status).
    """
    if not (settings.openai_api_key or settings.openai_key_dir):
        yield ChatModels(chat=(model := OfflineChatModel()), cheap=model)
        return
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
