"""AGENT_GRAPH: what can be named, and what is said when it leads nowhere."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore

from agent_service.agents.graph_import import put_on_path
from agent_service.agents.loader import Graph, compile_graph, load_graph, require_messages
from agent_service.errors import GraphError, SettingsError
from agent_service.langgraph_file import GraphSource
from agent_service.settings import check_folders, load_settings
from tests.support.agents import make_context

GRAPHS = """
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from typing_extensions import TypedDict


def say(state):
    return {"messages": [AIMessage("hello")]}


def make(schema=MessagesState):
    graph = StateGraph(schema)
    graph.add_node("say", say)
    graph.add_edge(START, "say")
    return graph


class Wordless(TypedDict):
    text: str


graph = make()
compiled = graph.compile()
wordless = make(Wordless)
unconnected = StateGraph(MessagesState)
number = 3


def build(context):
    assert context.settings.model == "offline"
    return make()


def build_agent(context):
    return create_agent(context.chat_model)


def returns_text(context):
    return "graph"


def fails(context):
    raise RuntimeError("no\\n  database")


async def build_later(context):
    return make()
"""

Mount = Callable[[str, str], Path]


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mount]:
    """Writes a package `mine` with one module into a folder; forgets it afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(module: str, source: str) -> Path:
        package = tmp_path / "mine"
        package.mkdir(exist_ok=True)
        (package / "__init__.py").touch()
        (package / f"{module}.py").write_text(source)
        return tmp_path

    yield write
    for name in [name for name in sys.modules if name.split(".")[0] == "mine"]:
        del sys.modules[name]


def load(target: str, folder: Path) -> Graph:
    """The graph of AGENT_GRAPH=target and AGENT_GRAPH_DIR=folder."""
    put_on_path([folder])
    source = GraphSource("agent", target, "AGENT_GRAPH", folder)
    graph = load_graph(source, make_context())
    require_messages(source, graph)
    return graph


@pytest.mark.parametrize("attribute", ["graph", "compiled", "build"])
async def test_serves_a_graph_a_compiled_graph_or_a_factory(mount: Mount, attribute: str) -> None:
    graph = load(f"mine.graphs:{attribute}", mount("graphs", GRAPHS))
    compiled = compile_graph(graph, checkpointer=InMemorySaver(), store=InMemoryStore())

    state = await compiled.ainvoke({"messages": [("user", "hi")]}, {"configurable": {"thread_id": "1"}})

    assert state["messages"][-1].text == "hello"


async def test_serves_what_create_agent_returns_with_our_checkpointer(mount: Mount) -> None:
    graph = load("mine.graphs:build_agent", mount("graphs", GRAPHS))
    saver = InMemorySaver()
    compiled = compile_graph(graph, checkpointer=saver, store=InMemoryStore())

    await compiled.ainvoke({"messages": [("user", "hi")]}, {"configurable": {"thread_id": "1"}})

    assert saver.get({"configurable": {"thread_id": "1"}}) is not None


def test_a_mounted_package_wins_over_an_installed_one(mount: Mount, tmp_path_factory: pytest.TempPathFactory) -> None:
    installed = tmp_path_factory.mktemp("site") / "mine"
    installed.mkdir()
    (installed / "__init__.py").touch()
    (installed / "graphs.py").write_text("graph = None")
    sys.path.insert(0, str(installed.parent))
    folder = mount("graphs", GRAPHS)

    load("mine.graphs:graph", folder)

    assert sys.path[0] == str(folder)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mine.grafs:graph", r"no module 'mine\.grafs' \(did you mean mine\.graphs\?\)"),
        ("mime.graphs:graph", r"no module 'mime' \(did you mean mine"),
        ("mine.graphs:grap", r"mine\.graphs has no 'grap' \(did you mean graph"),
        ("mine.graphs:number", r"mine\.graphs:number is of type int; expected a StateGraph"),
        ("mine.graphs:Wordless", r"is the class Wordless"),
        ("mine.graphs:returns_text", r"mine\.graphs:returns_text returned a value of type str"),
        ("mine.graphs:fails", r"mine\.graphs:fails: calling it .* raised RuntimeError: no database \(.*mine/graphs\.py:\d+\)$"),
        ("mine.graphs:build_later", r"is an async function"),
        ("mine.graphs:wordless", r"no `messages` \(it has text\)"),
    ],
)
def test_says_in_one_line_what_was_found_instead(mount: Mount, spec: str, message: str) -> None:
    folder = mount("graphs", GRAPHS)

    with pytest.raises(GraphError, match=message) as caught:
        load(spec, folder)

    assert "\n" not in caught.value.detail
    assert spec in caught.value.detail


def test_names_the_dependency_that_a_module_lacks(mount: Mount) -> None:
    folder = mount("needy", "import no_such_library")

    with pytest.raises(GraphError, match=r"mine\.needy imports 'no_such_library', which is not installed"):
        load("mine.needy:graph", folder)


def test_names_the_error_that_importing_a_module_raised(mount: Mount) -> None:
    folder = mount("broken", "1 / 0")

    told = r"importing mine\.broken raised ZeroDivisionError: division by zero \(.*mine/broken\.py:1\)$"
    with pytest.raises(GraphError, match=told):
        load("mine.broken:graph", folder)


def test_names_a_folder_that_is_not_there(tmp_path: Path) -> None:
    settings = load_settings({"AUTH": "disabled", "AGENT_GRAPH_DIR": str(tmp_path / "none")})
    with pytest.raises(SettingsError, match=re.escape(f"AGENT_GRAPH_DIR={tmp_path / 'none'}: no such folder")):
        check_folders(settings)


def test_says_that_a_graph_does_not_compile(mount: Mount) -> None:
    graph = load("mine.graphs:unconnected", mount("graphs", GRAPHS))

    with pytest.raises(GraphError, match="does not compile: ValueError"):
        compile_graph(graph, checkpointer=InMemorySaver(), store=InMemoryStore())
