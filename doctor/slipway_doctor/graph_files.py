"""The graphs that settings name by their files: are they there, and can Python read them? Nothing is executed."""

import ast
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from slipway_doctor.checks.finding import Verdict, fail, ok

MAX_BYTES = 262_144
"""As the service takes of a langgraph.json; of a file with a graph ten times that is read."""


class _Broken(Exception):
    """What is wrong with one file: a reason, and a sentence that names graph, file and line."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


def judge_graphs(environ: Mapping[str, str]) -> Verdict | None:
    """None where no file is named: an installed module is found by the service alone."""
    try:
        files = dict(_named(environ))
        for name, file in files.items():
            _parse(name, file)
    except _Broken as broken:
        return fail(broken.reason, broken.message, "correct it: the service would end at its start (docs/developer/graphs.md)")
    return ok("Found", f"Python reads the files of {', '.join(files)}") if files else None


def _named(environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    place = environ.get("AGENT_GRAPH", "").rpartition(":")[0]
    if "/" in place or place.endswith(".py"):
        yield "AGENT_GRAPH", Path(environ.get("AGENT_GRAPH_DIR") or ".") / place
    if config := environ.get("LANGGRAPH_CONFIG"):
        for name, value in _graphs(Path(config)).items():
            target = value.get("path") if isinstance(value, dict) else value
            place = target.rpartition(":")[0] if isinstance(target, str) else ""
            if "/" in place or place.endswith(".py"):
                yield f"graphs.{name}", Path(config).parent / place


def _graphs(config: Path) -> dict[str, object]:
    said = f"LANGGRAPH_CONFIG={config}"
    try:
        given = json.loads(_read(said, config, MAX_BYTES))
    except (ValueError, RecursionError) as error:
        raise _Broken("ConfigBroken", f"{said}: not JSON: {error}") from None
    graphs = given.get("graphs") if isinstance(given, dict) else None
    if not isinstance(graphs, dict) or not graphs:
        raise _Broken("ConfigBroken", f"{said}: expected an object with `graphs`, such as {{'agent': './agent.py:graph'}}")
    return graphs


def _parse(name: str, file: Path) -> None:
    try:
        ast.parse(_read(name, file, 10 * MAX_BYTES), str(file))
    except SyntaxError as error:
        raise _Broken("GraphBroken", f"{name}: {error.msg} ({file}:{error.lineno})") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise _Broken("GraphBroken", f"{name}: {file}: {type(error).__name__}") from None


def _read(said: str, file: Path, most: int) -> bytes:
    if not file.is_file():
        raise _Broken("FileMissing", f"{said}: no such file: {os.path.normpath(file)}")
    try:
        with file.open("rb") as opened:
            found = opened.read(most + 1)
    except OSError as error:
        raise _Broken("Unreadable", f"{said}: {file}: {error.strerror}") from None
    if len(found) > most:
        raise _Broken("TooLarge", f"{said}: {file} has more than {most} bytes")
    return found
