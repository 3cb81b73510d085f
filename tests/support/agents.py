"""Small real stand-ins for what a graph is built from: documents, data, and a chat model that follows a script."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import uuid4

from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from pydantic import Field

from agent_service.agents.context import AgentContext
from agent_service.agents.offline import OfflineChatModel
from agent_service.data.data_reader import DataReader, QueryResult
from agent_service.documents.document import Passage
from agent_service.documents.search import DocumentSearch
from agent_service.principal import Principal
from agent_service.settings import Settings

PASSAGES = [
    Passage("Operating", "Draining", "docs/operations/drain.md", "On SIGTERM a pod finishes its runs before it exits.", 1.0),
    Passage(
        "Operating", "Keys", "docs/operations/keys.md", "A rotated key needs no restart: the file is read on each call.", 1.0
    ),
    Passage("Graphs", "Loading", "docs/developer/graphs.md", "AGENT_GRAPH names a module and an attribute.", 1.0),
]


@dataclass
class ListedDocuments:
    """Searches a list: passages that share a word with the query, most shared words first."""

    passages: list[Passage] = field(default_factory=lambda: list(PASSAGES))

    async def search(self, query: str, *, limit: int = 5) -> list[Passage]:
        words = set(re.findall(r"\w+", query.lower()))
        shared = [(len(words & set(re.findall(r"\w+", f"{p.section} {p.text}".lower()))), p) for p in self.passages]
        return [p for count, p in sorted(shared, key=lambda pair: -pair[0]) if count][:limit]


@dataclass
class ScriptedData:
    """Answers every query with one result, or raises; remembers who asked what."""

    columns: Sequence[str] = ("model", "cost_usd")
    rows: Sequence[Sequence[Any]] = (("gpt-x", 1.5), ("offline", 0))
    error: Exception | None = None
    description: str | Exception = "slipway_data.usage(day date, model text, cost_usd numeric)"
    described: int = 0
    asked: list[tuple[str, Principal]] = field(default_factory=list)

    async def query(self, sql: str, params: object = None, *, principal: Principal) -> QueryResult:
        assert params is None
        self.asked.append((sql, principal))
        if self.error:
            raise self.error
        return QueryResult(sql=sql, columns=tuple(self.columns), rows=tuple(map(tuple, self.rows)), truncated=False)

    async def describe(self) -> str:
        self.described += 1
        if isinstance(self.description, Exception):
            raise self.description
        return self.description


Step = AIMessage | Exception | Callable[[list[BaseMessage]], AIMessage]


class ScriptedModel(BaseChatModel):
    """Takes the next step of its script for each call: a message, an error, or a function of what it was sent.

    The last step repeats. `seen` holds what every call was sent.
    """

    script: list[Any]
    seen: list[list[BaseMessage]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, *_: Any, **__: Any) -> Runnable[LanguageModelInput, AIMessage]:
        return self.bind()

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        step: Step = self.script[min(len(self.seen), len(self.script) - 1)]
        self.seen.append(messages)
        if isinstance(step, Exception):
            raise step
        message = step(messages) if callable(step) else step.model_copy()
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return self._generate(messages)


def call_of(tool: str, **arguments: Any) -> AIMessage:
    """A model's message that calls one tool."""
    return AIMessage("", tool_calls=[{"name": tool, "args": arguments, "id": f"call_{uuid4().hex}"}])


def make_context(
    *,
    chat_model: BaseChatModel | None = None,
    cheap_model: BaseChatModel | None = None,
    documents: ListedDocuments | None = None,
    data: ScriptedData | None = None,
    **settings: Any,
) -> AgentContext:
    return AgentContext(
        chat_model=chat_model or OfflineChatModel(),
        cheap_model=cheap_model or OfflineChatModel(),
        settings=Settings(auth="disabled", **settings),
        documents=cast("DocumentSearch", documents or ListedDocuments()),
        database=cast("DataReader", data or ScriptedData()),
    )
