"""`langgraph.json`, the file that LangGraph's own servers read: which graphs there are, and what they need."""

import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from agent_service.errors import SettingsError

MAX_BYTES = 262_144
"""Of the file, and of its `env` file. One with fifty graphs has ten thousand."""

MAX_GRAPHS = 50
"""Each has series of its own in the metrics, about forty."""

MAX_DESCRIPTION = 1_000
"""Characters of a graph's description, which each client that lists the graphs gets."""

MAX_DEPENDENCIES = 500
"""Folders and packages; each package is looked for among the installed ones, which takes 0.2 ms."""

MAX_SHOWN = 100
"""Characters of what somebody wrote, in an error."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Of a graph: it is a model's name, a label and a part of addresses."""

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

DEFAULT_NAME = "agent"
"""Of the graph that AGENT_GRAPH leads to."""

READ = {"graphs", "env", "dependencies", "$schema"}

ELSEWHERE = {
    "api_version", "auth", "base_image", "checkpointer", "dockerfile_lines", "encryption", "http", "image_distro",
    "keep_pkg_tools", "node_version", "pip_config_file", "pip_installer", "python_version", "source", "store", "ui", "ui_config",
    "webhooks",
}  # fmt: skip
"""Keys of LangGraph's builder and server; Slipway has settings, an image and a chart for that."""


@dataclass(frozen=True, slots=True)
class GraphSource:
    """Where a graph comes from: `package.module:attribute`, or a file in place of the module."""

    name: str
    target: str
    said_by: str
    """The setting or file that says so, for errors."""
    folder: Path | None = None
    """That a file's relative path begins at; None is the working directory."""
    description: str = ""

    @property
    def place(self) -> str:
        return self.target.rpartition(":")[0]

    @property
    def attribute(self) -> str:
        return self.target.rpartition(":")[2]

    @property
    def file(self) -> Path | None:
        """The file that is named, if it is no module."""
        if not is_file(self.place):
            return None
        return Path(os.path.normpath((self.folder or Path.cwd()) / self.place))

    def __str__(self) -> str:
        return f"{self.said_by}={self.target}"


def graph_sources(agent_graph: str | None, folder: Path | None, file: "LanggraphFile | None") -> tuple[GraphSource, ...]:
    """The graphs of a process, by AGENT_GRAPH, AGENT_GRAPH_DIR and LANGGRAPH_CONFIG: the one that AGENT_GRAPH tells first.

    Raises:
        SettingsError: AGENT_GRAPH names a graph that is not in the file, or the file has its name.
    """
    listed = file.graphs if file else ()
    if agent_graph is None:
        return listed
    if NAME.fullmatch(agent_graph):
        first = [each for each in listed if each.name == agent_graph]
        if not first:
            names = ", ".join(each.name for each in listed) or "none: LANGGRAPH_CONFIG is not set"
            forms = "or ./agent.py:graph, or package.module:graph"
            raise SettingsError(f"AGENT_GRAPH={agent_graph}: expected the name of a graph in LANGGRAPH_CONFIG ({names}), {forms}")
        return (*first, *(each for each in listed if each.name != agent_graph))
    if taken := next((each for each in listed if each.name == DEFAULT_NAME), None):
        raise SettingsError(f"AGENT_GRAPH={agent_graph}: its name is {DEFAULT_NAME}, and so is that of {taken}")
    return (GraphSource(DEFAULT_NAME, agent_graph, "AGENT_GRAPH", folder), *listed)


def module_folders(sources: tuple[GraphSource, ...], folder: Path | None, file: "LanggraphFile | None") -> tuple[Path, ...]:
    """Folders for the module path, the first one first."""
    files = [each for each in sources if each.file and each.said_by == "AGENT_GRAPH"]
    beside = [place for each in files if each.file for place in (each.file.parent, each.folder or Path.cwd())]
    return tuple(dict.fromkeys([*([folder] if folder else []), *beside, *(file.folders if file else ())]))


def is_file(place: str) -> bool:
    """Whether `./agent.py` or `pkg/agent.py` is meant, and not `pkg.agent`."""
    return "/" in place or place.endswith(".py")


@dataclass(frozen=True, slots=True)
class LanggraphFile:
    """What the file says. The graphs stand in its order."""

    path: Path
    graphs: tuple[GraphSource, ...]
    folders: tuple[Path, ...]
    """For the module path, the first one first."""
    env: Mapping[str, str]
    ignored: tuple[str, ...]
    """Keys that mean nothing here."""
    unknown: tuple[str, ...]
    """Keys that mean nothing anywhere: a slip of the pen, or newer than this."""


def read_langgraph_file(path: Path) -> LanggraphFile:
    """Reads and checks the file; imports nothing, installs nothing.

    Raises:
        SettingsError: one line that names the file, the key and what was expected.
    """
    try:
        return _checked(Path(os.path.normpath(path.absolute())), _parsed(path))
    except _Wrong as wrong:
        raise SettingsError(f"LANGGRAPH_CONFIG={path}: {wrong}") from None


class _Wrong(ValueError):
    """What is wrong, without the file's name."""


def _checked(path: Path, given: dict[str, Any]) -> LanggraphFile:
    folder = path.parent
    graphs = tuple(_graphs(path, given.get("graphs")))
    others = given.keys() - READ
    return LanggraphFile(
        path=path,
        graphs=graphs,
        folders=tuple(dict.fromkeys([*_dependencies(folder, given.get("dependencies", [])), folder])),
        env=_env(folder, given.get("env", {})),
        ignored=tuple(sorted(others & ELSEWHERE)),
        unknown=tuple(sorted(others - ELSEWHERE)),
    )


def _text(path: Path, what: str) -> str:
    if not path.is_file():
        raise _Wrong(f"{what}no such file" if not path.exists() else f"{what}not a file")
    try:
        with path.open("rb") as file:
            found = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _Wrong(f"{what}{error.strerror}") from None
    if len(found) > MAX_BYTES:
        raise _Wrong(f"{what}larger than {MAX_BYTES} bytes")
    try:
        return found.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _Wrong(f"{what}not UTF-8 at byte {error.start}") from None


def _parsed(path: Path) -> dict[str, Any]:
    try:
        given = json.loads(_text(path, ""), object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise _Wrong(f"not JSON: {error.msg} (line {error.lineno}, column {error.colno})") from None
    except RecursionError:
        raise _Wrong("nested too deep") from None
    if not isinstance(given, dict):
        raise _Wrong(f"expected an object with `graphs`, got {_kind(given)}")
    return given


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _Wrong(f"the key {shown(name)} stands twice in one object")
        found[name] = value
    return found


def _graphs(path: Path, given: object) -> Iterator[GraphSource]:
    if not isinstance(given, dict) or not given:
        raise _Wrong(f'graphs: expected an object such as {{"agent": "./agent.py:graph"}}, got {_kind(given)}')
    if len(given) > MAX_GRAPHS:
        raise _Wrong(f"graphs: expected at most {MAX_GRAPHS}, got {len(given)}")
    for name, value in given.items():
        if not NAME.fullmatch(name):
            raise _Wrong(
                f"graphs: {shown(name)}: a name has 1 to 64 of A-Z, a-z, 0-9, '.', '_', '-', the first a letter or digit"
            )
        target, description = _graph(name, value)
        source = GraphSource(name, target, f"{path}: graphs.{name}", path.parent, description)
        if source.file and not source.file.is_relative_to(path.parent):
            raise _Wrong(f"graphs.{name}: {shown(source.place)} is outside of the file's folder, {path.parent}")
        yield source


def _graph(name: str, value: object) -> tuple[str, str]:
    description: object = None
    if isinstance(value, dict):
        if extra := value.keys() - {"path", "description"}:
            raise _Wrong(f"graphs.{name}: expected `path` and `description`, got {shown(min(extra))}")
        description, value = value.get("description"), value.get("path")
    if not isinstance(value, str):
        raise _Wrong(f"graphs.{name}: expected text such as ./agent.py:graph, or an object with `path`, got {_kind(value)}")
    if not isinstance(description, str | None):
        raise _Wrong(f"graphs.{name}.description: expected text, got {_kind(description)}")
    if description and len(description) > MAX_DESCRIPTION:
        raise _Wrong(f"graphs.{name}.description: expected at most {MAX_DESCRIPTION} characters")
    try:
        return check_target(value), description or ""
    except ValueError as error:
        raise _Wrong(f"graphs.{name}: {error}") from None


def check_target(target: str) -> str:
    """Raises ValueError: neither `package.module:attribute` nor `./path/file.py:attribute`."""
    place, colon, attribute = target.rpartition(":")
    is_module = all(part.isidentifier() for part in place.split("."))
    if not (colon and attribute.isidentifier() and (place.endswith(".py") if is_file(place) else is_module)):
        raise ValueError(f"expected package.module:attribute or ./path/file.py:attribute, got {shown(target)}")
    return target


def _dependencies(folder: Path, given: object) -> Iterator[Path]:
    """Folders for the module path. Raises for what is not there, all packages in one line."""
    if not isinstance(given, list) or not all(isinstance(item, str) for item in given):
        raise _Wrong('dependencies: expected a list of folders and packages, such as [".", "httpx>=0.28"]')
    if len(given) > MAX_DEPENDENCIES:
        raise _Wrong(f"dependencies: expected at most {MAX_DEPENDENCIES}, got {len(given)}")
    missing: list[str] = []
    for item in given:
        if item.startswith((".", "/")):
            yield from _modules_of(Path(os.path.normpath(folder / item)), item)
        elif reason := _lacks(item):
            missing.append(reason)
    if missing:
        raise _Wrong(f"dependencies: {'; '.join(missing[:5])}. Slipway installs nothing: put it into the image")


def _modules_of(folder: Path, item: str) -> Iterator[Path]:
    """As an installation of the folder would have it: `src/`, the folder, and what it stands in if it is a package itself."""
    if not folder.is_dir():
        raise _Wrong(f"dependencies: {shown(item)}: no such folder")
    if (folder / "src").is_dir():
        yield folder / "src"
    yield folder
    if (folder / "__init__.py").exists():
        yield folder.parent


def _lacks(item: str) -> str | None:
    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415  # 30 ms, of a file that names packages

    try:
        wanted = Requirement(item)
    except InvalidRequirement:
        return f"{shown(item)} is neither a folder (./…) nor a package"
    if wanted.marker and not wanted.marker.evaluate():
        return None
    try:
        found = version(wanted.name)
    except PackageNotFoundError:
        return f"{wanted.name[:MAX_SHOWN]} is not installed"
    return None if wanted.specifier.contains(found, prereleases=True) else f"{shown(item)}: {found} is installed"


def _env(folder: Path, given: object) -> dict[str, str]:
    if isinstance(given, str):
        return _env_file(Path(os.path.normpath(folder / given)), f"env: {shown(given)}: ") if given else {}
    if not isinstance(given, dict):
        raise _Wrong(f"env: expected the name of a file or an object, got {_kind(given)}")
    for name, value in given.items():
        if not VARIABLE.fullmatch(name) or not isinstance(value, str | int | float) or "\0" in str(value):
            raise _Wrong(f"env: {shown(name)}: expected a variable's name and its text")
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in given.items()}


def _env_file(path: Path, what: str) -> dict[str, str]:
    from dotenv import dotenv_values  # noqa: PLC0415  # 40 ms, of a file that names another
    from dotenv.parser import parse_stream  # noqa: PLC0415  # likewise

    text = _text(path, what)
    if wrong := next((line.original for line in parse_stream(io.StringIO(text)) if line.error), None):
        raise _Wrong(f"{what}line {wrong.line}: expected NAME=value")
    found = dotenv_values(stream=io.StringIO(text), interpolate=False)
    if refers := next((name for name, value in found.items() if "${" in (value or "")), None):
        raise _Wrong(f"{what}{refers}: ${{…}} is not filled in; write the value")
    return {name: value for name, value in found.items() if value is not None}


def read_env_file(path: Path) -> dict[str, str]:
    """A file of `NAME=value` lines that stands alone. Raises SettingsError: one line that names it."""
    try:
        return _env_file(path, "")
    except _Wrong as wrong:
        raise SettingsError(f"{path}: {wrong}") from None


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    return "an empty object" if value == {} else f"{type(value).__name__}"


def shown(text: str) -> str:
    """Of what somebody wrote: short, and on one line."""
    return repr(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…")
