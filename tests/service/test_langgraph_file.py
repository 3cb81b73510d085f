"""langgraph.json: what it may say, and the line that names what is wrong with it."""

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from agent_service.errors import SettingsError
from agent_service.langgraph_file import (
    MAX_BYTES,
    MAX_DEPENDENCIES,
    MAX_GRAPHS,
    LanggraphFile,
    graph_sources,
    read_langgraph_file,
)
from agent_service.settings import graph_settings, load_settings

GRAPHS = {"graphs": {"one": "./one.py:graph"}}


def read(folder: Path, content: Any) -> LanggraphFile:
    """The file with this content: as JSON, or as it is if it is text or bytes."""
    file = folder / "langgraph.json"
    raw = (
        content if isinstance(content, bytes) else content.encode() if isinstance(content, str) else json.dumps(content).encode()
    )
    file.write_bytes(raw)
    return read_langgraph_file(file)


def test_graphs_are_text_or_objects_and_keep_their_order(tmp_path: Path) -> None:
    given = {"graphs": {"b": "./src/b.py:graph", "a": {"path": "pkg.mod:make", "description": "What a does"}}}

    b, a = read(tmp_path, given).graphs

    assert (b.name, b.file, b.attribute, b.description) == ("b", tmp_path / "src/b.py", "graph", "")
    assert (a.name, a.file, a.place, a.attribute, a.description) == ("a", None, "pkg.mod", "make", "What a does")
    assert str(b) == f"{tmp_path}/langgraph.json: graphs.b=./src/b.py:graph"


def test_a_path_with_dots_is_the_folder_that_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    read(tmp_path, GRAPHS)

    (one,) = read_langgraph_file(tmp_path / "sub/../langgraph.json").graphs

    assert one.file == tmp_path / "one.py"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "not JSON: Expecting value (line 1, column 1)"),
        ('{"graphs": {"a": "./a.py:g",}}', "not JSON"),
        ("[" * 100_000, "nested too deep"),
        ("[]", "expected an object with `graphs`, got list"),
        ("null", "expected an object with `graphs`, got nothing"),
        ('"text"', "got str"),
        (b"\xff\xfe{}", "not UTF-8 at byte 0"),
        ("{}", "graphs: expected an object such as"),
        ({"graphs": []}, "graphs: expected an object such as"),
        ({"graphs": {}}, "got an empty object"),
        ('{"graphs": {"a": "./a.py:g", "a": "./b.py:g"}}', "the key 'a' stands twice in one object"),
        ('{"graphs": {"a": "./a.py:g"}, "graphs": {"b": "./b.py:g"}}', "the key 'graphs' stands twice"),
        ({"graphs": {"a b": "./a.py:g"}}, "graphs: 'a b': a name has 1 to 64 of"),
        ({"graphs": {"": "./a.py:g"}}, "graphs: '': a name has"),
        ({"graphs": {"a\nb": "./a.py:g"}}, "graphs: 'a\\nb': a name has"),
        ({"graphs": {"-a": "./a.py:g"}}, "graphs: '-a': a name has"),
        ({"graphs": {"x" * 65: "./a.py:g"}}, f"graphs: '{'x' * 65}': a name has"),
        ({"graphs": {"ü": "./a.py:g"}}, "graphs: 'ü': a name has"),
        ({"graphs": {"a": 1}}, "graphs.a: expected text such as ./agent.py:graph, or an object with `path`, got int"),
        ({"graphs": {"a": None}}, "graphs.a: expected text such as"),
        ({"graphs": {"a": {}}}, "graphs.a: expected text such as"),
        ({"graphs": {"a": {"path": "./a.py:g", "desc": ""}}}, "graphs.a: expected `path` and `description`, got 'desc'"),
        ({"graphs": {"a": {"path": "./a.py:g", "description": 1}}}, "graphs.a.description: expected text, got int"),
        ({"graphs": {"a": {"path": "./a.py:g", "description": "x" * 1_001}}}, "graphs.a.description: expected at most 1000"),
        ({"graphs": {"a": "./a.py"}}, "graphs.a: expected package.module:attribute or ./path/file.py:attribute, got './a.py'"),
        ({"graphs": {"a": "./a.js:g"}}, "graphs.a: expected package.module:attribute"),
        ({"graphs": {"a": "./a.py:"}}, "graphs.a: expected"),
        ({"graphs": {"a": "./a.py:g()"}}, "graphs.a: expected"),
        ({"graphs": {"a": "a b:g"}}, "graphs.a: expected"),
        ({"graphs": {"a": "../a.py:g"}}, "graphs.a: '../a.py' is outside of the file's folder"),
        ({"graphs": {"a": "./x/../../a.py:g"}}, "is outside of the file's folder"),
        ({"graphs": {"a": "/etc/a.py:g"}}, "graphs.a: '/etc/a.py' is outside of the file's folder"),
        ({"graphs": {f"g{n}": "./a.py:g" for n in range(MAX_GRAPHS + 1)}}, f"graphs: expected at most {MAX_GRAPHS}, got 51"),
        ({**GRAPHS, "dependencies": "."}, "dependencies: expected a list of folders and packages"),
        ({**GRAPHS, "dependencies": [1]}, "dependencies: expected a list"),
        ({**GRAPHS, "dependencies": ["./none"]}, "dependencies: './none': no such folder"),
        ({**GRAPHS, "dependencies": ["no-such-library", "httpx", "nor-this>=2"]}, "library is not installed; nor-this is"),
        ({**GRAPHS, "dependencies": ["httpx<0.1"]}, "'httpx<0.1': 0."),
        ({**GRAPHS, "dependencies": ["two words"]}, "'two words' is neither a folder (./…) nor a package"),
        ({**GRAPHS, "env": []}, "env: expected the name of a file or an object, got list"),
        ({**GRAPHS, "env": "./none.env"}, "env: './none.env': no such file"),
        ({**GRAPHS, "env": "."}, "env: '.': not a file"),
        ({**GRAPHS, "env": {"A B": "x"}}, "env: 'A B': expected a variable's name and its text"),
        ({**GRAPHS, "env": {"A": ["x"]}}, "env: 'A': expected a variable's name and its text"),
        ({**GRAPHS, "env": {"A": "x\0"}}, "env: 'A': expected"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_in_one_short_line(tmp_path: Path, content: Any, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, content)

    assert caught.value.detail.startswith(f"LANGGRAPH_CONFIG={tmp_path}/langgraph.json: ")
    assert told in caught.value.detail
    assert "\n" not in caught.value.detail
    assert len(caught.value.detail) < 500


def test_a_file_that_is_not_there_or_none_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, told in ((tmp_path / "none.json", "no such file"), (tmp_path, "not a file"), (tmp_path / "pipe", "not a file")):
        with pytest.raises(SettingsError, match=re.escape(f"LANGGRAPH_CONFIG={path}: {told}")):
            read_langgraph_file(path)


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({**GRAPHS, "x": "y" * 1_000_000}),
        json.dumps({str(n): n for n in range(20_000)}),
        '{"a":' * 40_000,
        json.dumps({"graphs": {"a": "." * 200_000}}),
        json.dumps({"graphs": {"a" * 200_000: "./a.py:g"}}),
        json.dumps({**GRAPHS, "dependencies": ["a" * 20] * 9_000}),
        json.dumps({**GRAPHS, "dependencies": ["a" * 400] * MAX_DEPENDENCIES}),
        json.dumps({**GRAPHS, "dependencies": ["a" + "-" * 200_000]}),
        json.dumps({**GRAPHS, "env": {str(n): "" for n in range(10_000)}}),
    ],
    ids=range(9),
)
def test_a_large_file_is_refused_at_once_and_in_few_words(tmp_path: Path, content: str) -> None:
    began = time.thread_time()
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, content)

    assert time.thread_time() - began < 2
    assert len(caught.value.detail) < 1_000


def test_a_large_env_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=" + "x" * MAX_BYTES)
    with pytest.raises(SettingsError, match=f"larger than {MAX_BYTES} bytes"):
        read(tmp_path, {**GRAPHS, "env": ".env"})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("A=1\nB C=2\n", "line 2: expected NAME=value"),
        ("A=1\nB='x\n", "line 2: expected NAME=value"),
        ("A=${B}", "A: ${…} is not"),
    ],
)
def test_a_wrong_line_of_an_env_file_is_told_without_its_value(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / ".env").write_text(text)
    with pytest.raises(SettingsError, match=re.escape(told)):
        read(tmp_path, {**GRAPHS, "env": ".env"})


def test_variables_come_from_a_file_or_an_object(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# comment\nexport KEY='a b'\nURL=http://x/?a=b\n\nEMPTY=\nMODEL\n")

    assert read(tmp_path, {**GRAPHS, "env": "./.env"}).env == {"KEY": "a b", "URL": "http://x/?a=b", "EMPTY": ""}
    assert read(tmp_path, {**GRAPHS, "env": {"A": "x", "N": 2, "B": True}}).env == {"A": "x", "N": "2", "B": "true"}
    assert read(tmp_path, GRAPHS).env == {}


def test_its_variables_are_settings_too_and_override_none_that_is_set(tmp_path: Path) -> None:
    read(tmp_path, {**GRAPHS, "env": {"MAX_STEPS": "7", "PORT": "1234", "AGENT_OF_THEIRS": "x"}})
    config = str(tmp_path / "langgraph.json")

    settings = load_settings({"AUTH": "disabled", "LANGGRAPH_CONFIG": config, "PORT": "4321"})

    assert (settings.max_steps, settings.port) == (7, 4321)


def test_folders_of_dependencies_stand_on_the_module_path_as_an_installation_has_them(tmp_path: Path) -> None:
    for folder in ("flat", "src_layout/src", "package", "../outside"):
        (tmp_path / "project" / folder).mkdir(parents=True)
    (tmp_path / "project/package/__init__.py").touch()
    project = tmp_path / "project"

    found = read(project, {**GRAPHS, "dependencies": ["./flat", "./src_layout", "./package", "../outside", "httpx>=0.20"]})

    expected = ["flat", "src_layout/src", "src_layout", "package", "", "../outside"]
    assert [os.path.relpath(each, project) for each in found.folders] == [os.path.normpath(each) for each in expected]


def test_keys_without_effect_are_told_apart_from_unknown_ones(tmp_path: Path) -> None:
    found = read(tmp_path, {**GRAPHS, "store": {}, "http": {}, "$schema": "x", "grafs": {}})

    assert found.ignored == ("http", "store")
    assert found.unknown == ("grafs",)


def names(**env: str) -> list[str]:
    return [each.name for each in graph_settings(load_settings({"AUTH": "disabled", **env})).sources]


def test_agent_graph_alone_is_one_graph_called_agent(tmp_path: Path) -> None:
    assert names() == ["agent"]
    assert names(AGENT_GRAPH="pkg.mod:graph") == ["agent"]

    (source,) = graph_sources("./a.py:graph", tmp_path, None)
    assert (source.file, str(source)) == (tmp_path / "a.py", "AGENT_GRAPH=./a.py:graph")


def test_agent_graph_stands_before_those_of_the_file_or_names_one_of_them(tmp_path: Path) -> None:
    read(tmp_path, {"graphs": {"a": "./a.py:graph", "b": "./b.py:graph"}})
    config = str(tmp_path / "langgraph.json")

    assert names(LANGGRAPH_CONFIG=config) == ["a", "b"]
    assert names(LANGGRAPH_CONFIG=config, AGENT_GRAPH="b") == ["b", "a"]
    assert names(LANGGRAPH_CONFIG=config, AGENT_GRAPH="pkg.mod:graph") == ["agent", "a", "b"]
    with pytest.raises(
        SettingsError, match=r"AGENT_GRAPH=c: expected the name of a graph in LANGGRAPH_CONFIG \(a, b\), or \./agent\.py:graph"
    ):
        names(LANGGRAPH_CONFIG=config, AGENT_GRAPH="c")
    with pytest.raises(SettingsError, match=r"AGENT_GRAPH=c: .*LANGGRAPH_CONFIG is not set"):
        names(AGENT_GRAPH="c")


def test_two_graphs_of_the_name_agent_are_refused(tmp_path: Path) -> None:
    read(tmp_path, {"graphs": {"agent": "./a.py:graph"}})
    with pytest.raises(SettingsError, match=r"AGENT_GRAPH=pkg.mod:graph: its name is agent, and so is that of .*graphs\.agent"):
        names(LANGGRAPH_CONFIG=str(tmp_path / "langgraph.json"), AGENT_GRAPH="pkg.mod:graph")
