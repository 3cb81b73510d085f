"""What a graph factory receives: duck-typed, so a graph needs no import from here."""

from dataclasses import dataclass

from langchain_core.language_models import BaseChatModel

from agent_service.data.data_reader import DataReader
from agent_service.documents.search import DocumentSearch
from agent_service.settings import Settings


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
