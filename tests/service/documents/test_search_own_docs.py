"""What operators ask, answered by the offline model from the project's own pages."""

from pathlib import Path

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from agent_service.agents.default.tools import show_passages
from agent_service.agents.offline_rules import reply, route
from agent_service.child_processes import Workers
from agent_service.db.pool import Pool
from agent_service.documents.ingest import ingest
from agent_service.documents.search import DocumentSearch

DOCS = Path(__file__).parents[3] / "docs"
TOOL_OUTPUT_CHARS = 2000

QUESTIONS = {
    "How do I rotate the model's API key?": ("How to rotate the key without a failed request]", "as `current`"),
    "nginx streaming": ("Docker Compose › nginx]", "`proxy_buffering off`"),
    "How many database connections does a process open?": ("The database › Connections]", "`DATABASE_POOL_SIZE`"),
    "upgrade and migrations": ("Upgrade and roll back the schema]", "run `slipway migrate`"),
    "What happens when a pod is killed?": ("What happens in a crash]", "`LEASE_SECONDS`"),
    "How does a pod drain on SIGTERM?": ("What happens on SIGTERM]", "`DRAIN_SECONDS`"),
    "event retention": ("[Retention]", "`EVENT_RETENTION_HOURS`"),
    "How do I turn on LangSmith?": ("Logs › LangSmith]", "`LANGSMITH_TRACING=true`"),
    "How do I revoke an API key?": ("Create, list and revoke an API key]", "slipway keys revoke"),
    "JWT": ("Authentication › JWT]", "HS256"),
    "What does a 503 mean?": ("Callers get 503]", "`Retry-After`"),
    "What does /ready check?": ("The pod is not ready]", "`/ready` on the ops port"),
    "Which metric is for autoscaling?": ("The metric for autoscaling]", "`agent_runs_queued`"),
    "What is the format of the price file?": ("Format of PRICE_FILE]", "USD per million tokens"),
    "log fields": ("Logs › Log fields]", "`request_id`"),
    "How do I remove a document?": ("Remove a document]", "`slipway ingest docs/`"),
    "How do I back up?": ("Back up and restore]", "The database is all there is to back up"),
    "What do I do when AgentToolFailuresHigh fires?": (
        "AgentToolFailuresHigh › What to do when AgentToolFailuresHigh fires]",
        "`error`",
    ),
    "AgentDrainingStuck": ("AgentDrainingStuck › What to do when AgentDrainingStuck fires]", "LEASE_SECONDS"),
    "Are there per-user limits?": ("Limits per user]", "budgets of tokens and USD"),
}


@pytest.fixture
async def search(pool: Pool, workers: Workers) -> DocumentSearch:
    await ingest([DOCS], pool, workers)
    return DocumentSearch(pool)


async def answer(search: DocumentSearch, question: str) -> str:
    assert route(question) == "RAG"
    content = show_passages(await search.search(question), question, TOOL_OUTPUT_CHARS)
    result = ToolMessage(content, tool_call_id="1", name="rag_search")
    return reply([HumanMessage(question), AIMessage(""), result], [{"name": "rag_search"}])[0]


async def test_each_question_is_answered_with_the_section_and_the_words_that_matter(search: DocumentSearch) -> None:
    answers = {question: await answer(search, question) for question in QUESTIONS}

    lacking = {
        question: answers[question]
        for question, (section, words) in QUESTIONS.items()
        if section not in answers[question] or words not in answers[question]
    }
    assert not lacking, "\n\n".join(f"### {question}\n{text}" for question, text in lacking.items())


@pytest.mark.parametrize("question", ["what is 2+2", "What is the capital of France?", "write a poem about cats"])
async def test_what_the_pages_do_not_cover_finds_nothing(search: DocumentSearch, question: str) -> None:
    assert (await answer(search, question)).startswith("I found nothing")
    assert await search.search("hello") == []
