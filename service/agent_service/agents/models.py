"""The chat models of one process: the built-in offline one, or those of an endpoint."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel

from agent_service.agents.model_keys import ApiKeySource
from agent_service.settings import Settings

OnEmbedding = Callable[[str, int, bool], None]
"""Called for each request for embeddings with the model, its tokens, and whether these are estimated."""


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
async def open_models(
    settings: Settings,
    on_request: Callable[[str, str], None] = lambda _model, _status: None,
    on_circuit: Callable[[str, bool], None] = lambda _model, _opened: None,
    on_embedding: OnEmbedding = lambda _model, _tokens, _estimated: None,
) -> AsyncIterator[ChatModels]:
    """The models that the settings name, and while they are open the ones that a graph makes itself (adopt.py).

    `on_request` is called for each HTTP attempt with (model, status), `on_circuit` for each model that is from now on left alone
    (True), or called again.
    """
    if not (settings.openai_api_key or settings.openai_key_dir):
        from agent_service.agents.offline import OfflineChatModel  # noqa: PLC0415  # its rules and examples: 0.015 s of CPU

        cheap = OfflineChatModel()
        yield ChatModels(chat=cheap.at_pace(settings.offline_words_per_second), cheap=cheap)
        return
    from agent_service.agents.endpoint_models import open_endpoint_models  # noqa: PLC0415  # openai: 20 MB, 0.6 s of CPU

    async with open_endpoint_models(settings, on_request, on_circuit, on_embedding) as models:
        yield models
