"""agent_operator.logs: one style of events, and no credentials."""

import ast
import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

import agent_operator
import slipway_clients
from agent_operator.logs import setup_logging

HOMES = [Path(each) for package in (agent_operator, slipway_clients) for each in package.__path__]
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


def events() -> Iterator[tuple[str, ast.Call]]:
    """Each call of a logger in the code of the operator and its clients, and where it stands."""
    for path in (each for home in HOMES for each in home.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(
                        value=ast.Name(id="log" | "said") | ast.Call(func=ast.Attribute(attr="get_logger")), attr=level
                    )
                ) if level in LEVELS:
                    yield f"{path}:{node.lineno}", node


def test_an_event_is_a_snake_case_name_and_what_varies_stands_in_fields() -> None:
    found = dict(events())
    named = {
        where: each.args[0].value
        for where, each in found.items()
        if len(each.args) == 1 and isinstance(each.args[0], ast.Constant)
    }

    assert len(found) > 10
    assert found.keys() - named.keys() == set()
    assert {where: name for where, name in named.items() if not re.fullmatch(r"[a-z]+(_[a-z]+)+", str(name))} == {}


def test_an_event_about_an_object_says_which_one() -> None:
    """By `namespace` and `name`, or by the fields of a key."""
    for where, call in events():
        given = {each.arg for each in call.keywords}
        if "name" in given:
            assert {"namespace", "kind"} <= given, where


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    logger = logging.getLogger()
    handlers, level = logger.handlers, logger.level
    yield logger
    logger.handlers = handlers
    logger.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize("secret", ["sk-proj-abcdefghijklmnopqrstuv", "slw_abcd1234_0123456789abcdef", "Bearer abcdefgh12345678"])
@pytest.mark.usefixtures("root")
def test_a_line_is_one_json_object_without_credentials(secret: str) -> None:
    stream = io.StringIO()
    setup_logging("info", stream)

    structlog.stdlib.get_logger("x").warning("call_failed", error=f"401 for {secret}")
    logging.getLogger("a.library").error("with %s", secret)

    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["logger"] for line in lines] == ["x", "a.library"]
    assert lines[0]["event"] == "call_failed"
    assert secret.removeprefix("Bearer ") not in stream.getvalue()
