"""What tools/code_figures.py counts."""

import re
from pathlib import Path

from tools.architecture_docs import from_the_route
from tools.code_figures import COLUMNS, Figures, helpers, hops, rows, table

TEXT = '''
from typing import Any, overload

class Box:
    """Has a docstring."""

    def take(self, what: Any) -> dict[str, Any]:
        def inner() -> None:
            pass
        return {}

    def _put(self) -> None: ...

class _Hidden:
    def shown(self) -> None: ...

@overload
def made(x: int) -> int: ...
def made(x):
    """Made."""
    return x

def test_it() -> None: ...
'''


def test_public_functions_and_classes_count_by_their_docstrings_and_each_any_by_itself() -> None:
    figures = Figures()
    figures.add(TEXT)

    assert (figures.public_functions, figures.with_docstring) == (2, 1)  # take, made
    assert (figures.public_classes, figures.classes_with_docstring) == (1, 1)
    assert sorted(figures.functions) == [1, 1, 1, 1, 2, 3, 4]
    assert figures.anys == 2
    assert figures.files == [TEXT.count("\n")]


def test_the_table_has_a_row_for_each_component_and_one_for_all() -> None:
    found = {name: figures for name, *figures in rows(("clients", "doctor"), ("tools",))}

    assert [*found] == ["", "clients", "doctor", "all that is installed", "tools"]
    for column in ("files", "lines", "functions"):
        at = COLUMNS.index(column)
        assert int(found["all that is installed"][at]) == int(found["clients"][at]) + int(found["doctor"][at]) > 0
    assert len({len(line) for line in table([*rows(("clients",), ())])}) == 1


def test_what_holds_no_test_is_a_helper(tmp_path: Path) -> None:
    for name, lines in (("test_a.py", 30), ("conftest.py", 8), ("support.py", 2)):
        (tmp_path / name).write_text("x = 1\n" * lines)
    assert helpers(tmp_path.iterdir()) == 0.25


def test_the_hops_of_a_question_begin_at_its_route_and_those_of_a_rotation_at_its_object() -> None:
    question, rotation = hops()
    assert re.search(r": \d files, api/chat\.py > .+ > api/sse\.py\.$", question)
    assert re.search(r": \d files, handlers/engine\.py > .+ > slipway_clients/egress/read\.py\.$", rotation)


def test_what_every_request_passes_before_its_route_is_no_hop_of_it() -> None:
    page = "1. `server/protocol.py`: bytes\n2. `api/chat.py`: a run\n3. `api/sse.py`: the wire\n"
    assert from_the_route(page) == ["api/chat.py", "api/sse.py"]
