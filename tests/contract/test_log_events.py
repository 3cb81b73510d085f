"""A log event is a name for programs, in snake_case, with what is particular in fields beside it; docs select by such names."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FOLDERS = ("clients", "doctor", "monitoring", "operator", "service")

LEVELS = frozenset({"debug", "info", "warning", "error", "exception", "critical"})

EVENT = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")

SELECTED = re.compile(r'\.event == "([^"]*)"')
"""In jq, as the runbooks have it."""


def events(source: str) -> Iterator[tuple[int, str]]:
    """Line and event of each call of a logger; the event is empty where it is no literal."""
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in LEVELS
            and _is_log(node.func)
        ):
            given = node.args[0] if node.args else None
            yield node.lineno, str(given.value) if isinstance(given, ast.Constant) else ""


def _is_log(method: ast.Attribute) -> bool:
    """Of `log`, `self._log`, `logger(__name__)`, `log.bind(…)`."""
    name = ast.unparse(method.value).partition("(")[0].removesuffix(".bind").rpartition(".")[2]
    return name.lstrip("_").lower() in {"log", "logger", "get_logger"}


def all_events() -> dict[str, str]:
    """Place -> event."""
    return {
        f"{path.relative_to(ROOT)}:{line}": event
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, event in events(path.read_text(encoding="utf-8"))
    }


def test_every_event_is_a_name_in_snake_case() -> None:
    found = all_events()

    assert len(found) > 50
    assert {place: event for place, event in found.items() if not EVENT.fullmatch(event)} == {}


def test_docs_select_events_that_exist() -> None:
    known = set(all_events().values())
    selected = {
        (path.name, event)
        for path in sorted((ROOT / "docs").rglob("*.md"))
        for event in SELECTED.findall(path.read_text(encoding="utf-8"))
    }

    assert selected
    assert {(page, event) for page, event in selected if event not in known} == set()


@pytest.mark.parametrize(
    ("line", "event"),
    [
        ('log.info("run_ended", seconds=1)', "run_ended"),
        ('log.info("run ended")', "run ended"),
        ('self._log.error("Run_ended")', "Run_ended"),
        ('logger(__name__).critical("uncaught exception")', "uncaught exception"),
        ('log.bind(run=1).warning("a b")', "a b"),
        ('log.warning(f"run {x}")', ""),
        ("log.warning(message)", ""),
        ("log.exception()", ""),
    ],
)
def test_the_event_of_a_call_is_found(line: str, event: str) -> None:
    assert list(events(line)) == [(1, event)]


@pytest.mark.parametrize("line", ['console.print("a b")', 'events.error("a b")', 'flash.info("a b")'])
def test_other_calls_are_left_alone(line: str) -> None:
    assert list(events(line)) == []
