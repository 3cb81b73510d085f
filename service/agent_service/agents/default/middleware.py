"""Middleware of the default graph's agents.

All of it wraps calls: a before_model or after_model hook is a step of the graph, with a checkpoint of its own.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NotRequired

from langchain.agents.middleware import (
    AgentMiddleware,
    AgentState,
    ExtendedModelResponse,
    HumanInTheLoopMiddleware,
    InterruptOnConfig,
    ModelRequest,
    ModelResponse,
    ModelRetryMiddleware,
    ToolCallRequest,
    ToolErrorMiddleware,
    ToolRetryMiddleware,
)
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import BaseTool, ToolException
from langgraph.types import Command

from agent_service.agents.context import AgentContext
from agent_service.agents.default import prompts
from agent_service.agents.default.tools import REQUIRES_APPROVAL
from agent_service.agents.default.window import context_window
from agent_service.data.data_reader import DataReader
from agent_service.errors import ModelUnavailable, SlipwayError
from agent_service.logs import logger

MODEL_RETRIES = 1
"""A stream cut in the middle is asked for again; before its first chunk the model's client has retried on its own."""

TABLES_SECONDS = 60.0
"""How long the list of tables is taken as it was read: it changes with a migration, and each model call needs it."""

TOOL_RETRIES = 2
RETRY_DELAY_SECONDS = 0.5

Middleware = AgentMiddleware[Any, Any, Any]
ModelHandler = Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
ToolHandler = Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]


class OutcomeState(AgentState[Any]):
    """The agent's state with the outcome that the service reads."""

    outcome: NotRequired[str | None]


class ModelCallLimit(AgentMiddleware[OutcomeState, Any, Any]):
    """Stops with an honest answer and outcome `iteration_limit` after `limit` model calls since the last question.

    Counts the messages of the turn: langchain's counter is not checkpointed (it starts again after an approval or a
    recovery) and costs two steps of the graph for each model call.
    """

    state_schema = OutcomeState

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit = limit

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: ModelHandler
    ) -> ModelResponse[Any] | ExtendedModelResponse[Any]:
        if model_calls(request.messages) < self.limit:
            return await handler(request)
        answer = AIMessage(prompts.LIMIT.format(limit=self.limit))
        return ExtendedModelResponse(ModelResponse(result=[answer]), Command(update={"outcome": "iteration_limit"}))


def model_calls(messages: Sequence[Any]) -> int:
    """Answers of the model since the last message of the user."""
    calls = 0
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            break
        calls += isinstance(message, AIMessage)
    return calls


class ContextWindow(AgentMiddleware[Any, Any, Any]):
    """Shows the model the end of the history; the history itself stays whole."""

    def __init__(self, *, turns: int, tokens: int) -> None:
        super().__init__()
        self.turns = turns
        self.tokens = tokens

    async def awrap_model_call(self, request: ModelRequest[Any], handler: ModelHandler) -> ModelResponse[Any]:
        shown = context_window(request.messages, turns=self.turns, tokens=self.tokens)
        return await handler(request.override(messages=shown))


class TablesInPrompt(AgentMiddleware[Any, Any, Any]):
    """Adds the tables that query_data can read to the system prompt."""

    def __init__(self, database: DataReader) -> None:
        super().__init__()
        self.database = database
        self._tables = ""
        self._stale_at = -math.inf

    async def awrap_model_call(self, request: ModelRequest[Any], handler: ModelHandler) -> ModelResponse[Any]:
        prompt = f"{request.system_prompt}\n\n{await self._described()}"
        return await handler(request.override(system_message=SystemMessage(prompt)))

    async def _described(self) -> str:
        if time.monotonic() >= self._stale_at:
            try:
                self._tables = await self.database.describe()
            except SlipwayError:
                return prompts.DATA_TABLES_UNKNOWN
            self._stale_at = time.monotonic() + TABLES_SECONDS
        return prompts.DATA_TABLES.format(tables=self._tables)


class ToolLimits(AgentMiddleware[Any, Any, Any]):
    """Ends a tool call after `seconds`, and cuts its output to `chars` characters with a note that says so."""

    def __init__(self, *, seconds: float, chars: int) -> None:
        super().__init__()
        self.seconds = seconds
        self.chars = chars

    async def awrap_tool_call(self, request: ToolCallRequest, handler: ToolHandler) -> ToolMessage | Command[Any]:
        limit = asyncio.timeout(self.seconds)
        try:
            async with limit:
                result = await handler(request)
        except TimeoutError:
            if not limit.expired():
                raise
            raise ToolException(f"no result within {self.seconds:g} s") from None
        return cut(result, self.chars) if isinstance(result, ToolMessage) else result


def cut(message: ToolMessage, chars: int) -> ToolMessage:
    """The message with at most `chars` characters of output and a note that says how many there were."""
    text = message.text
    if len(text) <= chars:
        return message
    note = f"\n[cut: the first {chars:,} of {len(text):,} characters]"
    return message.model_copy(update={"content": text[:chars] + note})


def tool_error(error: Exception, request: ToolCallRequest) -> str:
    """What the model learns of a failed tool.

    Our own errors and ToolException are written for readers; of any other only the type is told, as its message may
    hold an address or a key.
    """
    name = request.tool_call["name"]
    match error:
        case SlipwayError():
            told = error.detail
        case ToolException():
            told = str(error)
        case _:
            told = type(error).__name__
    logger(__name__).warning("tool_failed", tool=name, error=type(error).__name__)
    return f"`{name}` failed: {told}"


def agent_middleware(context: AgentContext, tools: Sequence[BaseTool]) -> list[Middleware]:
    """What every agent of the default graph has, outermost first."""
    settings = context.settings
    return [
        ModelCallLimit(settings.max_model_calls),
        ContextWindow(turns=settings.context_turns, tokens=settings.context_tokens),
        ModelRetryMiddleware(
            max_retries=MODEL_RETRIES, retry_on=(ModelUnavailable,), on_failure="error", initial_delay=RETRY_DELAY_SECONDS
        ),
        ToolErrorMiddleware(tool_error),
        ToolLimits(seconds=settings.tool_timeout, chars=settings.tool_output_chars),
        ToolRetryMiddleware(
            max_retries=TOOL_RETRIES, retry_on=_is_retryable, on_failure="error", initial_delay=RETRY_DELAY_SECONDS
        ),
        *_approval(tools),
    ]


def _is_retryable(error: Exception) -> bool:
    return isinstance(error, SlipwayError) and error.retryable


def _approval(tools: Sequence[BaseTool]) -> list[Middleware]:
    marked = [tool.name for tool in tools if (tool.metadata or {}).get(REQUIRES_APPROVAL)]
    if not marked:
        return []
    decisions = InterruptOnConfig(allowed_decisions=["approve", "edit", "reject"])
    return [HumanInTheLoopMiddleware(interrupt_on=dict.fromkeys(marked, decisions))]
