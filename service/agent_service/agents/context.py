"""The models of a process, and what a graph factory receives: duck-typed, so a graph needs no import from here."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel

from agent_service.agents.model_keys import ApiKeySource
from agent_service.data.data_reader import DataReader
from agent_service.documents.search import DocumentSearch
from agent_service.settings import Settings


@dataclass(frozen=True, slots=True)
class ChatModels:
    """Models by role. FALLBACK_MODEL has no entry: it steps in below `chat` and `cheap`, for every graph alike."""

    chat: BaseChatModel
    cheap: BaseChatModel
    embeddings: Embeddings | None = None
    ping: Callable[[], Awaitable[None]] | None = None
    """Raises ModelUnavailable while the endpoint is down; None without an endpoint."""
    keys: ApiKeySource | None = None


@dataclass(frozen=True, slots=True)
class AgentContext:
    """Everything a graph is built from: chat models by role, settings, documents, read-only data.

    FALLBACK_MODEL has no entry: it steps in below both models.
    """

    chat_model: BaseChatModel
    cheap_model: BaseChatModel
    settings: Settings
    documents: DocumentSearch
    database: DataReader
