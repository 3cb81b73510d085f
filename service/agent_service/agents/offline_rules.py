"""What the offline model does: rules over the messages, no LLM. Pure functions, so that a test can read them off."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import re2  # type: ignore[import-untyped]  # lacks py.typed
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage, ToolMessage

from agent_service.agents.offline_data import GIVEN, describe_period, sql_for
from agent_service.documents.document import WEAK_NOTE
from agent_service.documents.excerpt import excerpt

Schema = Mapping[str, Any]
Call = tuple[str, dict[str, Any]]

NOTICE = "(I am the built-in offline model: fixed rules, no LLM.)"
CAPABILITIES = """\
I can quote the documents that were ingested, count your runs, tokens and cost, and keep notes. Try:

- How do I rotate the model's API key?
- What did we spend this week per day?
- Remember that the release is on Friday.

Set MODEL to talk to a language model."""
"""What the default graph's agent for small talk and notes says of the whole graph: each line goes another route."""

QUOTE_CHARS = 700
"""Characters quoted of one passage: what the default TOOL_OUTPUT_CHARS leaves of the best one."""
QUOTED_PASSAGES = 3

_ROUTES = re2.compile(r"(?s)\bRAG\b.*\bDATA\b.*\bGENERAL\b")
"""In linear time: a caller of `/v1` writes system messages, too."""
_SAVE_NOTE = re.compile(
    r"^\W*(?:please\s+)?(?:save|remember|note|write down)\b(?:\s+(?:a|this|the|down|as))*(?:\s+note)?(?:\s+that)?\W*",
    re.IGNORECASE,
)
_LIST_NOTES = re.compile(r"\b(?:my|list|show)\s+(?:\w+\s+)?notes\b", re.IGNORECASE)
_DATA = re.compile(r"\b(?:spend|spent|spending|costs?|tokens?|usage|runs?|outcomes?|usd|expensive|sql)\b", re.IGNORECASE)
_FIGURES = re.compile(r"\b(?:how (?:many|much)|today|yesterday|total|per|by (?:day|model|outcome)|we|our|my)\b", re.IGNORECASE)
"""Words of a question about one's own figures: "what happens to runs" is for the documents, "what did we spend" is not."""
_EXPLAIN = re.compile(
    r"\b(?:how (?:can|is|are)|what (?:is|are|does|happens)|why|docs?|documentation|explain|configure)\b", re.IGNORECASE
)
_HOW = re.compile(r"\bhow (?:long|does|do|to)\b", re.IGNORECASE)
"""Asks for a procedure, whatever else it names."""
_SMALL_TALK = re.compile(
    r"^\W*(?:(?:hello|hi|hey|good (?:morning|afternoon|evening)|thanks|thank you|bye|ok(?:ay)?|help)(?:\s+\w+)?"
    r"|(?:\w+\W+)?(?:what (?:all )?can you do|what do you do|how can you help(?: me)?|(?:who|what) are you|how are you))\W*$",
    re.IGNORECASE,
)
_NEXT_PASSAGE = re.compile(r"\n\n(?=\[\d{1,9}\] )")
_HEAD = re.compile(r"\[\d{1,9}\] (?P<citation>.+)")
_WORD = re.compile(r"[a-z]{3,}")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?")
_COMMON = frozenset(
    "about and any are call can does for from get give has have how its name not one please some tell text that the this tool"  # noqa: SIM905  # a list of 40 literals reads worse
    " use what when where which who why with you your".split()
)
"""Words that say nothing about which tool fits."""


def reply(messages: Sequence[BaseMessage], tools: Sequence[Schema]) -> tuple[str, list[Call]]:
    """Text and tool calls with which the model answers `messages`, given the JSON schemas of its tools."""
    question, results = _last_turn(messages)
    if _ROUTES.search("\n".join(m.text for m in messages if isinstance(m, SystemMessage))):
        return route(question), []
    if results:
        return "\n\n".join([*(_report(result, question) for result in results), NOTICE]), []
    call = choose_tool(question, tools)
    return ("", [call]) if call else (_introduction(tools), [])


def route(question: str) -> str:
    """RAG, DATA or GENERAL by keywords; notes come first, as their text may hold any word. A bare subject is for RAG."""
    if _LIST_NOTES.search(question) or _SAVE_NOTE.match(question) or _SMALL_TALK.match(question):
        return "GENERAL"
    return "DATA" if GIVEN.search(question) or _asks_for_figures(question) else "RAG"


def _asks_for_figures(question: str) -> bool:
    if not _DATA.search(question) or _HOW.search(question):
        return False
    return bool(_FIGURES.search(question)) or not _EXPLAIN.search(question)


def choose_tool(question: str, tools: Sequence[Schema]) -> Call | None:
    """The tool that fits the question, with arguments; None when no rule applies."""
    names = {tool["name"] for tool in tools}
    if "rag_search" in names:
        return "rag_search", {"query": question}
    if "query_data" in names:
        return "query_data", {"sql": sql_for(question)}
    if "list_notes" in names and _LIST_NOTES.search(question):
        return "list_notes", {}
    if "save_note" in names and (opening := _SAVE_NOTE.match(question)):
        return "save_note", {"text": question[opening.end() :].strip() or question}
    return _best_match(question, [tool for tool in tools if tool["name"] not in {"list_notes", "save_note"}])


def _last_turn(messages: Sequence[BaseMessage]) -> tuple[str, list[ToolMessage]]:
    """The last question, and the tool results that came after it."""
    results: list[ToolMessage] = []
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            return message.text, results[::-1]
        if isinstance(message, ToolMessage):
            results.append(message)
    return "", results[::-1]


def _report(result: ToolMessage, question: str) -> str:
    name, text = result.name or "the tool", result.text.strip()
    if result.status == "error":
        verb = "was rejected, so I did not do it" if "rejected the tool call" in text else "failed"
        return f"`{name}` {verb}: {text}"
    fitting, _, weak = text.partition(WEAK_NOTE)
    if quotes := list(_quotes(fitting, question)):
        return "The documents say:\n\n" + "\n\n".join(quotes)
    if name == "rag_search":
        nothing = "I found nothing about this in the documents. I search by words: other words may find it."
        near = [f"- [{cited}]" for cited, _ in _passages(weak)]
        return "\n".join([f"{nothing} Sections that have a few of your words:\n", *near]) if near else nothing
    # langchain puts a note before the result of a call that a reviewer changed.
    _, edited, after = text.partition("Tool response:\n")
    if edited:
        return f"`{name}` ran as the reviewer changed it and returned:\n\n{after}"
    about = describe_period(question) if name == "query_data" else ""
    return "\n\n".join(part for part in (f"`{name}` returned:", text, about) if part)


def _quotes(content: str, question: str) -> Iterator[str]:
    for cited, text in islice(_passages(content), QUOTED_PASSAGES):
        shown = excerpt(text.strip(), question, QUOTE_CHARS)
        yield "\n".join(f"> {line}".rstrip() for line in shown.splitlines()) + f"\n\n[{cited}]"


def _passages(content: str) -> Iterator[tuple[str, str]]:
    """Citation and text of passages as `rag_search` shows them: `[1] title › section (source)`, then the text."""
    for passage in _NEXT_PASSAGE.split(content):
        head, parted, text = passage.strip("\n").partition("\n")
        title, source, rest = head.rpartition(" (")
        cited = _HEAD.fullmatch(title) if parted and source and rest.find(")") == len(rest) - 1 else None
        if cited:
            yield cited["citation"], text


def _introduction(tools: Sequence[Schema]) -> str:
    names = {str(tool["name"]) for tool in tools}
    if names >= {"save_note", "list_notes"}:
        return f"{CAPABILITIES}\n\n{NOTICE}"
    listed = ", ".join(f"`{tool['name']}`" for tool in tools)
    can = f"I can only call tools ({listed}), and none of them fits this message." if names else "I have no tool for this."
    return f"{can} Set MODEL to talk to a language model.\n\n{NOTICE}"


def _best_match(question: str, tools: Sequence[Schema]) -> Call | None:
    words = _words(question)
    scored = sorted(((_score(words, tool), -i) for i, tool in enumerate(tools)), reverse=True)
    for score, position in scored:
        tool = tools[-position]
        arguments = _arguments(question, tool.get("parameters") or {})
        if score > 1 and arguments is not None:
            return str(tool["name"]), arguments
    return None


def _score(words: set[str], tool: Schema) -> int:
    """A word of the name counts as much as two of the description."""
    return 2 * len(words & _words(tool["name"])) + len(words & _words(tool.get("description") or ""))


def _words(text: str) -> set[str]:
    return {word.removesuffix("s") for word in _WORD.findall(text.lower().replace("_", " ")) if word not in _COMMON}


def _arguments(question: str, schema: Schema) -> dict[str, Any] | None:
    """The schema's required arguments by their simple types; None when one of them cannot be filled."""
    numbers = iter(_NUMBER.findall(question))
    filled: dict[str, Any] = {}
    for name in schema.get("required", ()):
        value = _value(question, numbers, schema["properties"].get(name, {}))
        if value is None:
            return None
        filled[name] = value
    return filled


def _value(question: str, numbers: Iterator[str], schema: Schema) -> Any:
    if options := schema.get("enum"):
        return next((o for o in options if re.search(rf"\b{re.escape(str(o))}\b", question, re.IGNORECASE)), None)
    number = next(numbers, None) if schema.get("type") in {"number", "integer"} else None
    match schema.get("type"):
        case "string":
            return question
        case "number" if number is not None:
            return float(number)
        case "integer" if number is not None and math.isfinite(float(number)):
            return int(float(number))
    return None
