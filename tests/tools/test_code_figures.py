"""What tools/code_figures.py counts."""

from tools.code_figures import Figures, report

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


def test_the_report_has_a_line_for_each_component_and_one_for_all() -> None:
    lines = [*report()]
    found = {line.split("  ")[0]: line for line in lines}

    assert {"clients", "doctor", "monitoring", "operator", "service", "all that is installed", "tests"} <= found.keys()
    parts = [int(found[name].split()[1]) for name in ("clients", "doctor", "monitoring", "operator", "service")]
    assert int(found["all that is installed"].removeprefix("all that is installed").split()[0]) == sum(parts)
    assert lines[-1].startswith("Helpers are 1")
