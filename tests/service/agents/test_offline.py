"""The offline model: what its rules choose, and that it streams, bills and calls tools as an endpoint does."""

from typing import Any

import psycopg
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool

from agent_service.agents.default import prompts
from agent_service.agents.offline import OfflineChatModel
from agent_service.agents.offline_data import describe_period, period, sql_for
from agent_service.agents.offline_rules import NOTICE, choose_tool, reply, route
from agent_service.data.data_reader import INTRODUCE
from agent_service.data.statement import prepare
from agent_service.documents.document import WEAK_NOTE
from agent_service.token_counts import count_tokens

SEARCH = {"name": "rag_search", "description": "Searches the documents."}
NOTES = [{"name": "save_note", "description": "Keeps a note."}, {"name": "list_notes", "description": "Lists notes."}]


@tool
def convert_units(expression: str) -> str:
    """Converts a quantity to another unit, such as 12 km in miles."""
    return expression


@tool
def book_room(guests: int, nights: float, size: str) -> str:
    """Books a hotel room."""
    return f"{guests} {nights} {size}"


def schema(name: str, description: str, **properties: dict[str, Any]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"name": name, "description": description, "parameters": parameters}


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("How do I configure the chart?", "RAG"),
        ("What is a lease?", "RAG"),
        ("Tell me about Slipway", "RAG"),
        ("What happens to runs on SIGTERM?", "RAG"),
        ("How do I limit the cost of a user?", "RAG"),
        ("How long are events of runs kept?", "RAG"),
        ("How do I see what our runs cost?", "RAG"),
        ("how does a queue of runs work?", "RAG"),
        ("price file", "RAG"),
        ("what is 2+2", "RAG"),
        ("Hello, how do keys rotate?", "RAG"),
        ("What did we spend today?", "DATA"),
        ("How did the runs end?", "DATA"),
        ("What is our usage?", "DATA"),
        ("Tokens by model", "DATA"),
        ("how many runs failed", "DATA"),
        ("SELECT 1 AS one", "DATA"),
        ("Hello there", "GENERAL"),
        ("hi!", "GENERAL"),
        ("What can you do?", "GENERAL"),
        ("hey, what can you do", "GENERAL"),
        ("Remember that runs cost too much", "GENERAL"),
        ("What are my notes?", "GENERAL"),
    ],
)
def test_routes_by_keywords(question: str, expected: str) -> None:
    assert route(question) == expected


async def test_answers_the_routing_prompt_with_a_route_alone() -> None:
    message = await OfflineChatModel().ainvoke([SystemMessage(prompts.ROUTE), HumanMessage("What did we spend?")])

    assert message.text == "DATA"


def test_searches_documents_with_the_question() -> None:
    assert choose_tool("How do keys rotate?", [SEARCH]) == ("rag_search", {"query": "How do keys rotate?"})


@pytest.mark.parametrize(
    ("question", "parts"),
    [
        ("What did we spend?", ["slipway_data.usage", "GROUP BY model"]),
        ("What did each model cost today?", ["GROUP BY model", "WHERE day >= CURRENT_DATE"]),
        ("Tokens per day", ["GROUP BY day"]),
        ("How did the runs end?", ["slipway_data.runs", "GROUP BY outcome"]),
        ("Runs by outcome today", ["outcome IS NOT NULL", "created_at >= CURRENT_DATE"]),
        ("Runs per day", ["created_at::date AS day", "GROUP BY day"]),
        ("What did we spend per session?", ["GROUP BY session_id"]),
        ("Tokens by route", ["GROUP BY route"]),
        ("Runs in the last 7 days", ["GROUP BY outcome"]),
        ("Cost of the last 7 days per day", ["GROUP BY day"]),
    ],
)
def test_writes_sql_that_fits_the_question(question: str, parts: list[str]) -> None:
    sql = sql_for(question)

    assert all(part in sql for part in parts)
    assert ("CURRENT_DATE" in sql) == ("today" in question or "last" in question)


FRIDAY = "DATE '2026-11-20'"


@pytest.mark.parametrize(
    ("question", "days", "said"),
    [
        ("What did we spend today?", [20], "of today"),
        ("What did we spend yesterday?", [19], "of yesterday"),
        ("What did we spend this week?", [16, 17, 18, 19, 20], "of this week"),
        ("What did we spend last week?", [9, 10, 11, 12, 13, 14, 15], "of last week"),
        ("What did we spend in the last 3 days?", [18, 19, 20], "of the last 3 days, today included"),
        ("What did we spend per day?", [*range(1, 21)], "of all time"),
        ("What did we spend since March?", [*range(1, 21)], "I did not understand the time"),
        ("What did we spend in the last hour?", [*range(1, 21)], "I did not understand the time"),
    ],
)
def test_figures_are_of_the_days_that_the_question_names(database_url: str, question: str, days: list[int], said: str) -> None:
    where = " AND ".join(["true", *period(question).bounds("day")]).replace("CURRENT_DATE", FRIDAY)
    query = f"SELECT extract(day FROM day)::int FROM generate_series(DATE '2026-11-01', {FRIDAY}, '1 day') AS day WHERE {where}"
    with psycopg.connect(database_url) as conn:
        assert [day for (day,) in conn.execute(query.encode()).fetchall()] == days

    assert said in describe_period(question)


@pytest.mark.parametrize(
    "question", ["Runs today", "Runs per day this week", "Runs per session", "Cost last week", "Cost per day"]
)
def test_its_sql_is_allowed_and_runs(database_url: str, question: str) -> None:
    statement = prepare(sql_for(question), ("slipway_data",))

    with psycopg.connect(database_url) as conn:
        conn.execute(INTRODUCE, ("acme", "ann"))
        assert conn.execute(statement.text.encode()).fetchall() == []


def test_says_of_which_time_its_figures_are() -> None:
    result = ToolMessage("| 1 |", tool_call_id="1", name="query_data")
    text, _ = reply([HumanMessage("runs since May?"), AIMessage(""), result], [{"name": "query_data"}])

    assert "all time" in text


@pytest.mark.parametrize(
    "question",
    [
        "SELECT count(*) FROM slipway_data.runs",
        "Run this: SELECT count(*) FROM slipway_data.runs;",
        "```sql\nSELECT count(*) FROM slipway_data.runs\n```",
    ],
)
def test_runs_the_sql_that_the_user_gives(question: str) -> None:
    assert sql_for(question) == "SELECT count(*) FROM slipway_data.runs"


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("Remember that Ann is on call", "Ann is on call"),
        ("Save a note: buy milk", "buy milk"),
        ("please note: the budget is $50", "the budget is $50"),
        ("save this: x", "x"),
    ],
)
def test_saves_a_note_without_the_words_that_ask_for_it(question: str, text: str) -> None:
    assert choose_tool(question, NOTES) == ("save_note", {"text": text})


def test_lists_notes_when_asked_for_them() -> None:
    assert choose_tool("Show my notes", NOTES) == ("list_notes", {})


def test_calls_no_tool_for_small_talk() -> None:
    assert choose_tool("Good morning!", NOTES) is None


def test_calls_a_foreign_tool_whose_words_fit_with_the_question_as_text() -> None:
    convert = schema("convert_units", "Converts a quantity.", expression={"type": "string"})
    weather = schema("get_weather", "Weather of a city.", city={"type": "string"})

    assert choose_tool("convert 12 km in miles", [weather, convert]) == (
        "convert_units",
        {"expression": "convert 12 km in miles"},
    )


def test_fills_numbers_and_choices_from_the_question() -> None:
    room = schema(
        "book_room",
        "Books a room.",
        guests={"type": "integer"},
        nights={"type": "number"},
        size={"type": "string", "enum": ["small", "large"]},
    )

    assert choose_tool("Book a large room for 2 guests, 1.5 nights", [room]) == (
        "book_room",
        {"guests": 2, "nights": 1.5, "size": "large"},
    )


def test_leaves_a_tool_alone_whose_arguments_it_cannot_find() -> None:
    room = schema("book_room", "Books a room.", guests={"type": "integer"})

    assert choose_tool("Book a room", [room]) is None


def test_quotes_passages_with_their_citation_and_says_what_it_is() -> None:
    result = ToolMessage(
        "[1] Operating › Keys (keys.md)\nThe file is read on each call.\n\n[2] Graphs (graphs.md)\nBring a graph.",
        tool_call_id="1",
        name="rag_search",
    )
    text, calls = reply([HumanMessage("keys?"), AIMessage(""), result], [SEARCH])

    assert "> The file is read on each call.\n\n[Operating › Keys]" in text
    assert "> Bring a graph.\n\n[Graphs]" in text
    assert text.endswith(NOTICE)
    assert calls == []


def test_quotes_the_part_of_a_long_passage_that_answers() -> None:
    rows = [f"| `SETTING_{i}` | default of number {i}, which nobody asked for |" for i in range(30)]
    table = "\n".join(["| name | what |", "| --- | --- |", *rows, "| `DRAIN` | seconds until pods leave |"])
    result = ToolMessage(f"[1] Settings (settings.md)\n{table}", tool_call_id="1", name="rag_search")
    text, _ = reply([HumanMessage("when do pods leave?"), AIMessage(""), result], [SEARCH])

    assert "> | name | what |\n> | --- | --- |\n> | `DRAIN` | seconds until pods leave |\n\n[Settings]" in text


def test_says_that_the_documents_have_no_answer() -> None:
    result = ToolMessage("No passage of the documents matches these words.", tool_call_id="1", name="rag_search")
    text, _ = reply([HumanMessage("what is 2+2"), AIMessage(""), result], [SEARCH])

    assert text.startswith("I found nothing about this in the documents")


def test_names_but_does_not_quote_passages_with_few_words_of_the_question() -> None:
    weak = f"{WEAK_NOTE}\n\n[1] Operating › Keys (operating.md)\nThe file is read on each call."
    result = ToolMessage(weak, tool_call_id="1", name="rag_search")
    text, _ = reply([HumanMessage("who reads poems?"), AIMessage(""), result], [SEARCH])

    assert text.startswith("I found nothing about this in the documents")
    assert "- [Operating › Keys]" in text
    assert "The file is read" not in text

    strong = f"[1] Poems (poems.md)\nEverybody reads poems.\n\n{weak.replace('[1]', '[2]')}"
    result = ToolMessage(strong, tool_call_id="1", name="rag_search")
    text, _ = reply([HumanMessage("who reads poems?"), AIMessage(""), result], [SEARCH])
    assert "> Everybody reads poems.\n\n[Poems]" in text
    assert "Operating" not in text
    assert WEAK_NOTE not in text


def test_a_greeting_is_answered_with_questions_that_each_route_takes() -> None:
    text, calls = reply([HumanMessage("hello")], NOTES)
    samples = [line.removeprefix("- ") for line in text.splitlines() if line.startswith("- ")]

    assert [route(sample) for sample in samples] == ["RAG", "DATA", "GENERAL"]
    assert calls == []


def test_says_that_a_tool_failed() -> None:
    result = ToolMessage("`query_data` failed: no such table", tool_call_id="1", name="query_data", status="error")
    text, calls = reply([HumanMessage("runs?"), AIMessage(""), result], [{"name": "query_data"}])

    assert "`query_data` failed" in text
    assert "no such table" in text
    assert calls == []


def test_a_result_of_an_earlier_turn_does_not_answer_this_one() -> None:
    earlier = ToolMessage("found", tool_call_id="1", name="rag_search")
    _, calls = reply([HumanMessage("first?"), AIMessage(""), earlier, HumanMessage("second?")], [SEARCH])

    assert calls == [("rag_search", {"query": "second?"})]


async def test_streams_word_by_word_and_ends_with_usage() -> None:
    chunks = [chunk async for chunk in OfflineChatModel().astream("Hello")]

    assert len([c for c in chunks if c.text]) > 10
    assert [bool(c.usage_metadata) for c in chunks] == [False] * (len(chunks) - 1) + [True]
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert isinstance(whole, AIMessageChunk)
    assert whole.usage_metadata == {
        "input_tokens": count_tokens("Hello"),
        "output_tokens": count_tokens(whole.text),
        "total_tokens": count_tokens("Hello") + count_tokens(whole.text),
    }
    assert whole.response_metadata["model_name"] == "offline"


async def test_streams_the_same_text_as_it_returns_at_once() -> None:
    model = OfflineChatModel()

    streamed = "".join([chunk.text async for chunk in model.astream("Hello")])

    assert streamed == (await model.ainvoke("Hello")).text == model.invoke("Hello").text


async def test_calls_bound_tools_for_real() -> None:
    message = await OfflineChatModel().bind_tools([convert_units, book_room]).ainvoke("convert 12 km in miles")

    assert [(call["name"], call["args"]) for call in message.tool_calls] == [
        ("convert_units", {"expression": "convert 12 km in miles"})
    ]


async def test_a_call_has_the_same_id_when_computed_again_and_another_in_another_turn() -> None:
    model = OfflineChatModel().bind_tools([convert_units])

    first, again, other = [(await model.ainvoke([HumanMessage("convert 1 km", id=i)])).tool_calls[0]["id"] for i in "aab"]

    assert first == again
    assert first != other


async def test_waits_the_set_time_before_each_word(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("agent_service.agents.offline.asyncio.sleep", sleep)
    chunks = [chunk async for chunk in OfflineChatModel().at_pace(4).astream("Hello")]

    assert waits == [0.25] * len([c for c in chunks if c.response_metadata or c.text])
