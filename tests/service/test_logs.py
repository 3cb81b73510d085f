"""What the log of a serving process says, and what it never says."""

import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog

from agent_service.logs import setup_logging
from tests.service.api.conftest import plain_service
from tests.support import sse
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Fault, Script, ToolCall
from tests.support.service import JWT_SECRET, running_service
from tests.support.tokens import bearer

QUESTION = "how-secret-is-my-question"
ANSWER = "very-secret-answer"
IDS = ("run_id", "session_id", "principal", "trace_id")
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@dataclass
class Log:
    stream: io.StringIO = field(default_factory=io.StringIO)

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    def named(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == event]


@contextmanager
def restoring() -> Iterator[None]:
    """Puts back what setup_logging changes in the process."""
    root, config = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    hooks = sys.excepthook, threading.excepthook
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.configure(**config)
        logging.captureWarnings(capture=False)
        sys.excepthook, threading.excepthook = hooks


@pytest.fixture
def restored() -> Iterator[None]:
    with restoring():
        yield


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    with restoring():
        setup_logging("debug", log.stream)
        yield log


async def test_every_line_of_a_request_carries_its_ids_and_its_principal(log: Log, database_url: str) -> None:
    async with (
        FakeModel() as model,
        plain_service(database_url, model, AUTH="required", JWT_SECRET=JWT_SECRET) as service,
        service.client() as client,
    ):
        headers = {**bearer("alice", "acme"), "X-Request-ID": "req-1", "traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}
        answer = await client.post("/chat", json={"question": "hi", "session_id": "s1"}, headers=headers)
        assert answer.headers["x-request-id"] == "req-1"
        run_id = answer.json()["run_id"]
        (ended,) = log.named("run_ended")
        assert {key: ended.get(key) for key in (*IDS, "request_id", "level", "outcome")} == {
            "run_id": run_id, "session_id": "s1", "request_id": "req-1", "principal": "acme/alice", "trace_id": TRACE_ID,
            "level": "info", "outcome": "completed",
        }  # fmt: skip
        assert ended["timestamp"].endswith("Z")
        assert ended["logger"]


async def test_lines_of_tools_nodes_and_libraries_within_a_run_carry_its_ids_too(log: Log, database_url: str) -> None:
    script = Script(tool_calls=[ToolCall(name="explode", arguments={"query": "x"})])
    async with FakeModel(script) as model, plain_service(database_url, model) as service, service.client() as client:
        run = (await client.post("/chat", json={"question": "hi"})).json()
    of_run = [line for line in log.lines if line.get("run_id") == run["run_id"]]
    assert {"node_failed", "graph_raised", "run_ended"} <= {line["event"] for line in of_run}
    assert [line for line in of_run if not set(IDS) <= line.keys()] == []
    assert len({line["trace_id"] for line in of_run}) == 1


async def test_a_request_id_that_is_none_is_replaced(database_url: str) -> None:
    async with running_service(database_url) as service, service.client() as client:
        for given in ("", "a b", "x" * 65, "é", '"}'):
            answer = await client.get("/live", headers=[(b"X-Request-ID", given.encode())])
            assert len(answer.headers["x-request-id"]) == 32
        first, second = await client.get("/live"), await client.get("/live")
        assert first.headers["x-request-id"] != second.headers["x-request-id"]


async def test_no_question_answer_token_or_key_is_in_any_line(log: Log, database_url: str) -> None:
    script = Script(tokens=[ANSWER], faults=[Fault(kind="server_error"), Fault(kind="cut", after_tokens=1)])
    async with (
        FakeModel(script) as model,
        plain_service(
            database_url, model, AUTH="required", JWT_SECRET=JWT_SECRET, OPENAI_API_KEY="sk-verysecretkeyverysecretkey"
        ) as service,
        service.client() as client,
    ):
        headers = bearer("alice")
        await client.post("/chat", json={"question": QUESTION}, headers=headers)
        token = (await client.post("/auth/stream-token", headers=headers)).json()["token"]
        stream = await sse.read(client, "GET", "/chat/stream", params={"question": QUESTION, "token": token})
        assert stream.text == ANSWER
        await client.get("/runs/nope", params={"token": token}, headers={"Authorization": "Bearer nonsense-nonsense-nonsense"})
    secrets = (QUESTION, ANSWER, token, headers["Authorization"], "nonsense-nonsense", JWT_SECRET, "sk-verysecret")
    assert len(log.named("run_ended")) == 2
    assert [secret for secret in secrets if secret in log.text] == []


async def test_what_a_graph_raises_is_one_json_line_with_its_place_and_without_its_message(log: Log, database_url: str) -> None:
    async with running_service(database_url, AGENT_GRAPH="tests.support.graphs:raising") as service, service.client() as client:
        await client.post("/chat", json={"question": QUESTION})
    (raised,) = log.named("graph_raised")
    assert raised["error"] == "RuntimeError"
    assert raised["at"][-1].endswith(" _raise")
    assert not any("secret detail of the graph" in str(line) for line in log.lines if line["level"] != "debug")
    assert QUESTION not in log.text


async def test_an_unexpected_error_is_500_with_the_id_that_its_line_has(
    log: Log, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_service(database_url) as service, service.client() as client:

        async def broken(*_: object, **__: object) -> None:
            raise RuntimeError("secret detail")

        monkeypatch.setattr(type(service.resources.sessions), "list", broken)
        answer = await client.get("/sessions")
        assert (answer.status_code, answer.json()["code"]) == (500, "internal")
        assert "secret" not in answer.text
        (line,) = log.named("unexpected_error")
        assert (line["request_id"], line["path"]) == (answer.headers["x-request-id"], "/sessions")
        assert await service.metric("agent_http_requests_total", route="/sessions", code="500") == 1


def test_credentials_in_other_libraries_lines_are_hidden(log: Log) -> None:
    for quoted in (
        "GET /runs/1/stream?x=1&token=abcdefghijklmnop HTTP/1.1",
        "Authorization: Bearer abcdefghijklmnop",
        "bad key sk-proj-abcdefghijklmnopqrst",
        "bad key slw_abcdefgh_ijklmnopqrstuvwxyz",
        "jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.abc",
    ):
        logging.getLogger("library").warning(quoted)
    assert len(log.lines) == 5
    assert all("[hidden]" in line["event"] for line in log.lines)
    assert "mnop" not in log.text
    assert "eyJ" not in log.text


def test_words_that_only_look_like_credentials_stay(log: Log) -> None:
    logging.getLogger("library").warning("the task-oriented bearer of news, /risk-management?token")
    assert log.lines[0]["event"] == "the task-oriented bearer of news, /risk-management?token"


@pytest.mark.usefixtures("restored")
def test_a_terminal_gets_readable_lines_without_locals() -> None:
    terminal = Terminal()
    setup_logging("info", terminal)

    def fail(question: str) -> None:
        raise ValueError(len(question))

    try:
        fail(QUESTION)
    except ValueError:
        structlog.stdlib.get_logger("x").exception("it broke", code="7")
    assert "it broke" in terminal.getvalue()
    assert "Traceback (most recent call last)" in terminal.getvalue()
    assert QUESTION not in terminal.getvalue()


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize(("level", "shown"), [("debug", 3), ("info", 2), ("error", 0)])
def test_the_level_holds_for_libraries_too(level: str, shown: int) -> None:
    log = Log()
    setup_logging(level, log.stream)
    for name in ("agent_service.x", "uvicorn.error", "psycopg.pool", "httpx", "uvicorn.access", "openai"):
        logging.getLogger(name).info("line")
    assert len(log.lines) == shown


def test_warnings_and_what_nobody_caught_are_json_lines_too(log: Log) -> None:
    warnings.showwarning("old thing", DeprecationWarning, "file.py", 1)
    failing = threading.Thread(target=lambda: 1 / 0)
    failing.start()
    failing.join()
    try:
        raise KeyError("x")  # noqa: TRY301  # what the interpreter would hand to its hook
    except KeyError as error:
        sys.excepthook(type(error), error, error.__traceback__)

    warning, in_thread, at_the_end = log.lines
    assert (warning["logger"], warning["level"]) == ("py.warnings", "warning")
    assert in_thread["exception"][0]["exc_type"] == "ZeroDivisionError"
    assert (at_the_end["event"], at_the_end["exception"][0]["exc_type"]) == ("uncaught_exception", "KeyError")
