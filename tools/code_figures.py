"""Figures of the code, by component (`make code-figures`): sizes, docstrings, `Any`, hops, the tests' helpers.

A function is a function or a method, with its signature and docstring, without its decorators. Public is what has no `_` before
its name nor before that of its class, and is neither nested in a function, an overload nor a test.
"""

import ast
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

from tools.architecture_docs import PAGE, ROTATION, from_the_route, listed

ROOT = Path(__file__).parent.parent

PRODUCT = ("clients", "doctor", "monitoring", "operator", "service")

BESIDE = ("bench", "tools", "tests")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(slots=True)
class Figures:
    """Of some files. Lengths are in lines."""

    files: list[int] = field(default_factory=list)
    functions: list[int] = field(default_factory=list)
    public_functions: int = 0
    with_docstring: int = 0
    public_classes: int = 0
    classes_with_docstring: int = 0
    anys: int = 0
    """Times that `Any` stands in an annotation, a base or an alias."""

    @property
    def lines(self) -> int:
        return sum(self.files)

    def add(self, text: str) -> None:
        """Counts one file."""
        tree = ast.parse(text)
        self.files.append(text.count("\n"))
        for node in ast.walk(tree):
            if isinstance(node, Function):
                self.functions.append((node.end_lineno or node.lineno) - node.lineno + 1)
            self.anys += isinstance(node, ast.Name) and node.id == "Any"
        for node in public(tree.body):
            has = ast.get_docstring(node) is not None
            if isinstance(node, ast.ClassDef):
                self.public_classes += 1
                self.classes_with_docstring += has
            else:
                self.public_functions += 1
                self.with_docstring += has

    def row(self) -> list[str]:
        return [
            str(len(self.files)),
            str(self.lines),
            spread(self.files),
            str(len(self.functions)),
            spread(self.functions),
            share(self.with_docstring, self.public_functions),
            share(self.classes_with_docstring, self.public_classes),
            f"{100 * self.anys / max(1, self.lines):.2f}",
        ]


COLUMNS = ("files", "lines", "of a file", "functions", "of one", "docstrings", "of classes", "Any / 100 lines")


def public(body: Iterable[ast.stmt]) -> Iterator[Function | ast.ClassDef]:
    """Public functions and classes of a module, and the methods of those."""
    for node in body:
        if not isinstance(node, Function | ast.ClassDef) or node.name.startswith(("_", "test_")) or is_overload(node):
            continue
        yield node
        if isinstance(node, ast.ClassDef):
            yield from public(node.body)


def is_overload(node: Function | ast.ClassDef) -> bool:
    return any(isinstance(each, ast.Name) and each.id == "overload" for each in node.decorator_list)


def spread(lengths: list[int]) -> str:
    """Median, 90th percentile and the longest."""
    if len(lengths) < 2:  # noqa: PLR2004  # quantiles need two
        return " / ".join(map(str, lengths)) or "-"
    return f"{median(lengths):.0f} / {quantiles(lengths, n=10)[-1]:.0f} / {max(lengths)}"


def share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} % of {whole}" if whole else "-"


def sources(component: str) -> list[Path]:
    """Python files of a component, without those that are made or brought in."""
    return sorted(path for path in (ROOT / component).rglob("*.py") if not {"build", "node_modules"} & set(path.parts))


def of_files(paths: Iterable[Path]) -> Figures:
    figures = Figures()
    for path in paths:
        figures.add(path.read_text(encoding="utf-8"))
    return figures


def helpers(paths: Iterable[Path]) -> float:
    """Lines of the tests' files that hold no test, as a share of all; `tests/contract/test_mirror.py` has the limit."""
    lines = {path: path.read_bytes().count(b"\n") for path in paths}
    return sum(count for path, count in lines.items() if not path.name.startswith("test_")) / sum(lines.values())


def table(rows: list[list[str]]) -> Iterator[str]:
    """Lines, the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        yield "  ".join([first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))])


def rows(installed: Sequence[str], beside: Sequence[str]) -> Iterator[list[str]]:
    """Of the table: a component each, and all that are installed together."""
    found = {component: sources(component) for component in (*installed, *beside)}
    yield ["", *COLUMNS]
    for component in installed:
        yield [component, *of_files(found[component]).row()]
    yield ["all that is installed", *of_files(path for component in installed for path in found[component]).row()]
    for component in beside:
        yield [component, *of_files(found[component]).row()]


def hops() -> Iterator[str]:
    """Files to read for the two longest ways, which `tests/integration/test_way_of_*.py` go, too."""
    ways = {
        "A question, from route to wire": from_the_route(PAGE.read_text(encoding="utf-8")),
        "A rotation, from object to provider": [path for path, _ in listed(ROTATION.read_text(encoding="utf-8"))],
    }
    for name, files in ways.items():
        yield f"{name}: {len(files)} files, {' > '.join(files)}."


def report() -> Iterator[str]:
    """The whole output, line by line."""
    yield from table([*rows(PRODUCT, BESIDE)])
    yield "Lengths are lines: median / 90th percentile / longest. Docstrings: of public functions and methods."
    yield from hops()
    yield f"Helpers are {100 * helpers(sources('tests')):.1f} % of the lines of the tests."


if __name__ == "__main__":
    sys.stdout.write("\n".join(report()) + "\n")
