"""`slipway doctor --local` on the graphs that settings name by their files."""

from pathlib import Path

import pytest

from slipway_doctor.by_environment import examine_environment
from slipway_doctor.checks.finding import Status
from slipway_doctor.graph_files import judge_graphs

ONE = '{"graphs": {"a": "./a.py:graph"}}'


@pytest.mark.parametrize(
    ("files", "reason", "told"),
    [
        ({}, "FileMissing", "LANGGRAPH_CONFIG={folder}/langgraph.json: no such file"),
        ({"langgraph.json": "{"}, "ConfigBroken", "not JSON: Expecting property name enclosed in double quotes: line 1"),
        ({"langgraph.json": "[" * 100_000}, "ConfigBroken", "not JSON"),
        ({"langgraph.json": "[]"}, "ConfigBroken", "expected an object with `graphs`"),
        ({"langgraph.json": '{"graphs": []}'}, "ConfigBroken", "expected an object with `graphs`"),
        ({"langgraph.json": " " * 300_000}, "TooLarge", "has more than 262144 bytes"),
        ({"langgraph.json": ONE}, "FileMissing", "graphs.a: no such file: {folder}/a.py"),
        ({"langgraph.json": ONE, "a.py": "x = (\n"}, "GraphBroken", "graphs.a: '(' was never closed ({folder}/a.py:1)"),
        ({"langgraph.json": ONE, "a.py": "x = 1\0"}, "GraphBroken", "graphs.a: "),
        ({"langgraph.json": '{"graphs": {"a": {"path": "./a.py:g"}}}'}, "FileMissing", "graphs.a: no such file: {folder}/a.py"),
    ],
)
def test_what_would_end_the_start_is_told_with_graph_file_and_line(
    tmp_path: Path, files: dict[str, str], reason: str, told: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    verdict = judge_graphs({"LANGGRAPH_CONFIG": str(tmp_path / "langgraph.json")})

    assert verdict
    assert (verdict.status, verdict.reason) == (Status.FAIL, reason)
    assert told.format(folder=tmp_path) in verdict.message


def test_files_that_python_reads_are_well_and_modules_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("raise SystemExit  # is not executed")
    (tmp_path / "langgraph.json").write_text('{"graphs": {"a": "./a.py:graph", "b": "pkg.mod:graph", "c": 1}}')
    config = str(tmp_path / "langgraph.json")

    both = {"LANGGRAPH_CONFIG": config, "AGENT_GRAPH": "./a.py:graph", "AGENT_GRAPH_DIR": str(tmp_path)}
    found = {finding.id: finding for finding in examine_environment(both)}["GraphsFound"]

    assert (found.status, found.message) == (Status.OK, "Python reads the files of AGENT_GRAPH, graphs.a")
    assert judge_graphs({"AGENT_GRAPH": "pkg.mod:graph"}) is None
    assert judge_graphs({}) is None
