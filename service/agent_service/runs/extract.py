"""What events need of LangChain's objects: pure functions."""

from collections.abc import Iterator, Mapping

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langgraph.constants import TAG_NOSTREAM
from langgraph.types import Command


def node_name(metadata: Mapping[str, object]) -> str:
    """The node that a callback is about; empty outside of nodes."""
    return str(metadata.get("langgraph_node") or "")


def graph_path(metadata: Mapping[str, object]) -> list[str]:
    """Names of the graphs around the node, outermost first: `agent:<task>|tools:<task>` -> [agent, tools]."""
    return [part.partition(":")[0] for part in str(metadata.get("langgraph_checkpoint_ns") or "").split("|")]


def is_hidden(tags: list[str] | None, metadata: Mapping[str, object]) -> bool:
    """Whether what a model call says is no part of the answer: LangGraph's `nostream`, and langchain's own calls."""
    return TAG_NOSTREAM in (tags or ()) or "lc_internal_call" in metadata or metadata.get("lc_source") == "summarization"


def text_of(content: object) -> str:
    """Text of a message's content: a string, or a list of strings and content blocks."""
    if isinstance(content, str):
        return content
    return "".join(_block_text(block, "text") for block in content) if isinstance(content, list) else ""


def reasoning_of(message: BaseMessage) -> str:
    """What the model thought: blocks of type `thinking` (Anthropic, Mistral) or `reasoning`, or what stands beside the text."""
    if isinstance(message.content, list):
        return "".join(_block_text(block, "thinking") or _block_text(block, "reasoning") for block in message.content)
    beside = message.additional_kwargs.get("reasoning_content") if message.additional_kwargs else None
    return beside if isinstance(beside, str) else ""


def tool_call_text(message: BaseMessage) -> str:
    """What a chunk adds to calls of tools: names, and pieces of their arguments."""
    calls = message.tool_call_chunks if isinstance(message, AIMessageChunk) else ()
    return "".join((call["name"] or "") + (call["args"] or "") for call in calls) if calls else ""


def _block_text(block: object, kind: str) -> str:
    if isinstance(block, str):
        return block if kind == "text" else ""
    text = block.get(kind) if isinstance(block, Mapping) and block.get("type") == kind else None
    return text_of(text) if kind != "text" else text if isinstance(text, str) else ""


def ai_message(response: LLMResult) -> AIMessage | None:
    """The message that a model call ended with; None for another kind of output."""
    generation = response.generations[0][0] if response.generations and response.generations[0] else None
    message = generation.message if isinstance(generation, ChatGeneration) else None
    return message if isinstance(message, AIMessage) else None


def messages_in(value: object) -> Iterator[BaseMessage]:
    """Messages in a node's input or output: a message, a list, a state mapping or object, Commands."""
    if isinstance(value, BaseMessage):
        yield value
    elif isinstance(value, Command):
        yield from messages_in(value.update)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from (m for m in messages_in(item))
    elif isinstance(value, list | tuple) and not (value and isinstance(value[0], str | bytes | int | float)):
        for item in value:
            yield from messages_in(item)
    elif (
        fields := getattr(type(value), "model_fields", None) or getattr(value, "__dataclass_fields__", None)
    ) and not isinstance(value, type):
        for name in fields:
            yield from messages_in(getattr(value, name, None))


def plain_args(value: object) -> object:
    """JSON-ready copy of a tool's arguments; injected objects (runtime, state) are left out."""
    if isinstance(value, Mapping):
        return {str(k): plain_args(v) for k, v in value.items() if _is_plain(v)}
    if isinstance(value, list | tuple):
        return [plain_args(v) for v in value if _is_plain(v)]
    return value


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool | Mapping | list | tuple)


DECLINED = frozenset({"content_filter", "refusal"})
"""Why a model stopped that declined: OpenAI's finish_reason, Anthropic's stop_reason."""


def is_refusal(message: BaseMessage) -> bool:
    """Whether a message says that there will be no answer: by a model, its provider, or a graph that marks it."""
    why = message.response_metadata.get("finish_reason") or message.response_metadata.get("stop_reason")
    return bool(message.additional_kwargs.get("refusal")) or str(why) in DECLINED


def citations(artifact: object) -> list[dict[str, str]]:
    """Citations, when a tool's artifact is a list of things with a title, a section and a source."""
    if not isinstance(artifact, list):
        return []
    names = ("title", "section", "source")
    found = (
        {name: item.get(name) if isinstance(item, Mapping) else getattr(item, name, None) for name in names} for item in artifact
    )
    return [{k: str(v) for k, v in source.items()} for source in found if all(isinstance(v, str) for v in source.values())]
