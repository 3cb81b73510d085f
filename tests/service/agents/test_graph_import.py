"""A graph named by its file: which module it becomes, and which line of the user's code is blamed."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_service.agents.graph_import import find, look, put_on_path
from agent_service.agents.loader import load_graph
from agent_service.errors import GraphError
from agent_service.langgraph_file import GraphSource
from tests.support.agents import make_context

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a file into a folder that is on the module path; what was imported is forgotten afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def to(name: str, text: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        put_on_path([tmp_path])
        return file

    yield to
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def named(target: str, folder: Path) -> GraphSource:
    return GraphSource("one", target, "graphs.one", folder)


def test_a_file_is_the_module_that_the_graphs_own_imports_get(write: Write, tmp_path: Path) -> None:
    write("bot/state.py", "class State: ...")
    write("bot/agent.py", "from .state import State as relative\nfrom bot.state import State as absolute\ngraph = 1")

    assert find(named("./bot/agent.py:graph", tmp_path)) == 1
    assert find(named("bot/agent.py:relative", tmp_path)) is find(named("bot.agent:absolute", tmp_path))
    assert find(named("./bot/state.py:State", tmp_path)) is find(named("bot.state:State", tmp_path))


def test_a_file_of_a_mounted_configmap_is_the_module_of_its_name(write: Write, tmp_path: Path) -> None:
    write("..2026_11_28/mounted.py", "graph = []")
    (tmp_path / "..data").symlink_to("..2026_11_28")
    (tmp_path / "mounted.py").symlink_to("..data/mounted.py")

    assert find(named("./mounted.py:graph", tmp_path)) is find(named("mounted:graph", tmp_path))


def test_files_of_one_name_in_two_folders_are_two_modules(write: Write, tmp_path: Path) -> None:
    write("a/agent.py", "graph = 'a'")
    write("b/agent.py", "graph = 'b'")

    assert [find(named(f"./{folder}/agent.py:graph", tmp_path)) for folder in "ab"] == ["a", "b"]


@pytest.mark.parametrize("name", ["my-agent.py", "2nd.py", "json.py", "yaml/agent.py", "class/agent.py", "a.b.py", "os.py"])
def test_a_file_whose_name_is_no_modules_or_anothers_is_imported_by_its_path_once(
    write: Write, tmp_path: Path, name: str
) -> None:
    write(name, "graph = []")

    found = find(named(f"./{name}:graph", tmp_path))

    assert found == []
    assert find(named(f"./{name}:graph", tmp_path)) is found


def test_state_of_a_class_in_such_a_file_is_found_by_its_module_again(write: Write, tmp_path: Path) -> None:
    write("my-agent.py", "class State: ...")

    state: Any = find(named("./my-agent.py:State", tmp_path))

    assert sys.modules[state.__module__].State is state


FAILING = """
from operator import floordiv


def divide():
    return floordiv(1, 0)


def build(context):
    return divide()


async def later(): ...
"""


@pytest.mark.parametrize(
    ("text", "target", "told"),
    [
        ("graph = 1\nx = [", "agent.py:graph", "importing ./agent.py raised SyntaxError: '[' was never closed ({file}:2)"),
        ("import os\n\nos.nothing", "agent.py:graph", "raised AttributeError: module 'os' has no attribute 'nothing' ({file}:3)"),
        ("import re\nre.compile('(')", "agent.py:graph", "subpattern at position 0 ({file}:2)"),
        ("\nraise SystemExit('no')", "agent.py:graph", "raised SystemExit: no ({file}:2)"),
        ("\nimport no_such", "agent.py:graph", "agent.py imports 'no_such', which is not installed ({file}:2)"),
        ("from agent2 import x", "agent.py:graph", "imports 'agent2', which is not installed ({file}:1)"),
        ("def __getattr__(name):\n    raise OSError(name)", "agent.py:graph", "'graph' raised OSError: graph ({file}:2)"),
        ("raise ValueError('two\\nlines')", "agent.py:graph", "ValueError: two lines ({file}:1)"),
        ("graph = 1", "agent.py:grap", "agent.py has no 'grap' (did you mean graph?)"),
        (FAILING, "agent.py:build", "calling it with the AgentContext raised ZeroDivisionError: integer division or modulo"),
        (FAILING, "agent.py:build", "({file}:6)"),
        (FAILING, "agent.py:later", "is an async function"),
        ("graph = 1", "none.py:graph", "no such file: {folder}/none.py"),
    ],
)  # fmt: skip
def test_an_error_names_the_graph_and_the_line_of_the_users_code(
    write: Write, tmp_path: Path, text: str, target: str, told: str
) -> None:
    file = write("agent.py", text)

    with pytest.raises(GraphError) as caught:
        load_graph(named(f"./{target}", tmp_path), make_context())

    assert caught.value.detail.startswith(f"graphs.one=./{target}")
    assert told.format(file=file, folder=tmp_path) in caught.value.detail
    assert "\n" not in caught.value.detail


FACTORIES = """
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, MessagesState, StateGraph

def make(*seen):
    graph = StateGraph(MessagesState).add_node("n", lambda state: {}).add_edge(START, "n")
    graph.seen = seen
    return graph

def nothing(): return make()
def keyword(*, debug=False): return make()
def by_name(config): return make(config)
def by_type(asked: RunnableConfig): return make(asked)
def by_text(asked: "RunnableConfig"): return make(asked)
def by_default(config: RunnableConfig = None): return make(config)
def ours(context): return make(context)
def ours_too(anything=None): return make(anything)
lambdas = lambda: make()
class Maker:
    def __call__(self): return make()
maker = Maker()
"""


@pytest.mark.parametrize(
    ("factory", "given"),
    [
        *((name, []) for name in ("nothing", "keyword", "lambdas", "maker")),
        *((name, [{"configurable": {}}]) for name in ("by_name", "by_type", "by_text", "by_default")),
        *((name, ["the context"]) for name in ("ours", "ours_too")),
    ],
)
def test_a_factory_is_given_what_it_takes(write: Write, tmp_path: Path, factory: str, given: list[Any]) -> None:
    write("factories.py", FACTORIES)
    context = make_context()

    graph: Any = load_graph(named(f"./factories.py:{factory}", tmp_path), context)

    assert ["the context" if each is context else each for each in graph.seen] == given


LAZY = """
import json as loads
from os import *
if True:
    try:
        import re as inner
    except ImportError:
        late = None
    else:
        (first, second) = 1, 2
for each in ():
    pass
raise SystemExit("this is not executed")
"""


@pytest.mark.parametrize("attribute", ["loads", "inner", "late", "first", "each", "whatever"])
def test_a_look_executes_nothing_and_believes_what_it_cannot_tell(write: Write, tmp_path: Path, attribute: str) -> None:
    write("lazy.py", LAZY)

    look(named(f"./lazy.py:{attribute}", tmp_path))


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("./plain.py:grap", "./plain.py has no 'grap' (did you mean graph?)"),
        ("plain:grap", "plain has no 'grap' (did you mean graph?)"),
        ("./none.py:graph", "no such file"),
        ("./broken.py:graph", "raised SyntaxError: invalid syntax (/"),
        ("broken:graph", "/broken.py:1)"),
        ("./deep.py:graph", "importing ./deep.py raised"),
        ("./zero.py:graph", "importing ./zero.py raised"),
    ],
)
def test_a_look_finds_what_is_wrong_without_an_import(write: Write, tmp_path: Path, target: str, told: str) -> None:
    write("plain.py", "raise SystemExit\ndef graph(): ...")
    write("broken.py", "def graph(:")
    write("deep.py", "x = " + "(" * 5_000)
    write("zero.py", "graph = 1\0")

    with pytest.raises(GraphError, match=re.escape(told)):
        look(named(target, tmp_path), [tmp_path])

    assert not {"plain", "broken"} & set(sys.modules)


def test_a_look_leaves_installed_modules_to_their_import(tmp_path: Path) -> None:
    look(named("json:nothing", tmp_path), [tmp_path])


def test_folders_of_the_module_path_keep_their_order_and_stand_there_once(write: Write, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    write("first/a.py", "")

    for _ in range(2):
        put_on_path([first, second])

    assert sys.path[:2] == [str(first), str(second)]
    assert sys.path.count(str(first)) == 1
