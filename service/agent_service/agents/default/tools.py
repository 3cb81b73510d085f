"""The tools of the default graph. A tool whose metadata says `requires_approval` runs after a person agreed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from typing import Any

from langchain.tools import ToolRuntime
from langchain_core.tools import BaseTool, ToolException, tool
from langgraph.store.base import BaseStore

from agent_service.data.data_reader import DataReader, QueryResult
from agent_service.documents.document import WEAK_NOTE, Passage
from agent_service.documents.excerpt import excerpt
from agent_service.documents.search import DocumentSearch
from agent_service.principal import Principal, namespace_label

PASSAGES = 5
MAX_NOTES = 50
"""Notes that list_notes shows, newest first; more would not fit TOOL_OUTPUT_CHARS."""

REQUIRES_APPROVAL = "requires_approval"
"""Key of a tool's metadata: true means that a person decides on each call."""

Runtime = ToolRuntime[Any, Any]


def requires_approval(tool: BaseTool) -> BaseTool:
    """The same tool, marked."""
    return tool.model_copy(update={"metadata": {**(tool.metadata or {}), REQUIRES_APPROVAL: True}})


def make_rag_search(documents: DocumentSearch, output_chars: int) -> BaseTool:
    """`output_chars` is shared by the passages, so that each can be cited."""

    @tool(response_format="content_and_artifact")
    async def rag_search(query: str) -> tuple[str, list[dict[str, Any]]]:
        """Searches the documents; ask in the words that they would use. Numbered passages with title, section and source."""
        passages = await documents.search(query, limit=PASSAGES)
        return show_passages(passages, query, output_chars), [asdict(passage) for passage in passages]

    return rag_search


def make_query_data(database: DataReader) -> BaseTool:
    """The tool `query_data`: SQL over what the caller may read."""

    @tool
    async def query_data(sql: str, runtime: Runtime) -> str:
        """Runs one read-only PostgreSQL SELECT. Returns the SQL that ran and its rows as a table."""
        return show_result(await database.query(sql, principal=principal_of(runtime)))

    return query_data


@cache
def note_tools() -> tuple[BaseTool, ...]:
    """They hold nothing of a process's own; each takes 20 ms to make."""

    @tool
    async def save_note(text: str, runtime: Runtime) -> str:
        """Keeps a note for the user, for later conversations too."""
        # The call's id is the key: a call repeated after a crash writes the same note.
        key = runtime.tool_call_id or text
        note = {"text": text, "saved_at": datetime.now(UTC).isoformat(timespec="seconds")}
        await _store(runtime).aput(notes_namespace(principal_of(runtime)), key, note, index=False)
        return f"Saved the note: {text}"

    @tool
    async def list_notes(runtime: Runtime) -> str:
        """Lists the user's notes, newest first."""
        found = await _store(runtime).asearch(notes_namespace(principal_of(runtime)), limit=MAX_NOTES)
        return show_notes([item.value for item in found])

    return requires_approval(save_note), list_notes


def notes_namespace(principal: Principal) -> tuple[str, str, str]:
    """Where a principal's notes stand in LangGraph's store."""
    return ("notes", namespace_label(principal.tenant), namespace_label(principal.user))


def principal_of(runtime: Runtime) -> Principal:
    """Who asks: the service puts it into the run's config."""
    principal = runtime.config.get("configurable", {}).get("principal")
    if not isinstance(principal, Principal):
        raise ToolException("this run has no principal, so nothing can be read or kept for one")
    return principal


def show_passages(passages: Sequence[Passage], question: str, chars: int) -> str:
    """Numbered passages in at most `chars` characters, the best with the most room. Each is cut to what the question is about.
    Weak ones follow a note, in a third of the room or in what is left."""
    if not passages:
        return "No passage of the documents matches these words. Search again with other words for the same thing."
    strong = [passage for passage in passages if not passage.weak]
    weak = passages[len(strong) :]
    shown = _share_room(strong, question, chars * 2 // 3 if weak else chars, 1) if strong else []
    if weak:
        left = chars - len("\n\n".join([*shown, WEAK_NOTE, ""]))
        shown += [WEAK_NOTE, *_share_room(weak, question, left, len(strong) + 1)]
    return "\n\n".join(shown)


def _share_room(passages: Sequence[Passage], question: str, chars: int, first: int) -> list[str]:
    shown: list[str] = []
    for left, passage in zip(range(len(passages), 0, -1), passages, strict=True):
        # Better ones come first and get more: 5/15 of the room, 4/15, …
        shown.append(_show_passage(first + len(shown), passage, question, chars * 2 // (left + 1)))
        chars -= len(shown[-1]) + 2
    return shown


def _show_passage(number: int, passage: Passage, question: str, chars: int) -> str:
    name = f"{passage.title} › {passage.section}" if passage.section else passage.title
    head = f"[{number}] {name} ({passage.source})\n"
    return head + excerpt(passage.text.strip(), question, max(chars - len(head) - 2, 1))


def show_notes(notes: Sequence[Mapping[str, Any]]) -> str:
    """A line for each note, the newest first."""
    newest_first = sorted(notes, key=lambda note: str(note["saved_at"]), reverse=True)
    return "\n".join(f"- {note['text']} ({note['saved_at']})" for note in newest_first) or "There are no notes."


def show_result(result: QueryResult) -> str:
    """The SQL that ran, and its rows as a Markdown table."""
    header = [f"| {' | '.join(map(_cell, result.columns))} |", f"|{' --- |' * len(result.columns)}"]
    rows = [f"| {' | '.join(map(_cell, row))} |" for row in result.rows]
    note = f"\n\nOnly the first {len(rows)} rows; there are more." if result.truncated else ""
    table = "\n".join([*header, *rows]) if rows else "No rows."
    return f"```sql\n{result.sql}\n```\n\n{table}{note}"


def _cell(value: object) -> str:
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")


def _store(runtime: Runtime) -> BaseStore:
    if runtime.store is None:
        raise ToolException("this graph was compiled without a store, so notes cannot be kept")
    return runtime.store
