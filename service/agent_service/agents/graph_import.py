"""From a GraphSource to the object that it names: by a module's name or a file's path. Light: it imports no library of graphs."""

import ast
import importlib
import linecache
import os
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from zlib import crc32

from agent_service.errors import GraphError
from agent_service.langgraph_file import GraphSource
from agent_service.user_code import is_of_library, one_line, said_at


def put_on_path(folders: Iterable[Path]) -> None:
    """Puts folders on the module path, the first one first, so that a mounted package wins over an installed one."""
    ours = [str(folder.resolve()) for folder in folders]
    if sys.path[: len(ours)] != ours:
        sys.path[:] = [*ours, *(entry for entry in sys.path if entry not in ours)]
        # A folder may have been filled since the import system last listed it.
        importlib.invalidate_caches()


def find(source: GraphSource) -> object:
    """The object that a source names.

    Raises:
        GraphError: one line that names the source, what was found and, of an error, the line of the user's code.
    """
    module = _import_file(source, source.file) if source.file else _import(source, source.place)
    try:
        return getattr(module, source.attribute)
    except AttributeError:
        raise _no_attribute(source, vars(module)) from None
    except Exception as error:  # of the module's own __getattr__
        raise GraphError(f"{source}: {source.attribute!r} raised {one_line(error)}{said_at(error)}") from error


def look(source: GraphSource, folders: Sequence[Path] = ()) -> None:
    """What can be told without executing anything: no such file, its syntax, no such attribute.

    Raises:
        GraphError: as `find`.
    """
    file = source.file or _file_of(source.place, folders)
    if file is None:
        return  # installed, or not there: its import will tell
    if not file.is_file():
        raise GraphError(f"{source}: no such file: {file}")
    try:
        names = set(_defined(ast.parse(file.read_bytes(), str(file)).body))
    except (SyntaxError, ValueError, RecursionError) as error:
        raise _import_failed(source, error) from None
    if not names & {source.attribute, "*", "__getattr__"}:
        raise _no_attribute(source, names)


def _import(source: GraphSource, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(f"{missing}."):
            raise GraphError(f"{source}: no module {missing!r}{_hint(missing, _siblings(missing))}") from None
        raise _lacks_library(source, error) from error
    except (Exception, SystemExit) as error:
        raise _import_failed(source, error) from error


def _import_file(source: GraphSource, file: Path) -> ModuleType:
    """By its name on the module path if it has one, so that the graph's own imports get the same module; else by its path."""
    if not file.is_file():
        raise GraphError(f"{source}: no such file: {file}")
    for name in _names_of(file):
        if _leads_to(name, file):
            return _import(source, name)
    name = f"graph_{crc32(str(file).encode()):08x}"  # the same in each process: stored state names its classes by it
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, file)
    assert spec is not None  # noqa: S101  # a .py has a loader
    assert spec.loader is not None  # noqa: S101  # likewise
    module = sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        if isinstance(error, ModuleNotFoundError):
            raise _lacks_library(source, error) from error
        raise _import_failed(source, error) from error
    return module


def _names_of(file: Path) -> Iterator[str]:
    """Dotted names by which the module path may lead to a file, the shortest first."""
    entries = {Path(entry).resolve() for entry in sys.path if entry}
    # A file of a ConfigMap is a link into a folder of no module's name.
    for place in dict.fromkeys((file.parent.resolve() / file.name, file.resolve())):
        for folder in place.parents:
            parts = place.relative_to(folder).with_suffix("").parts
            if folder in entries and all(part.isidentifier() for part in parts):
                yield ".".join(parts)


def _leads_to(name: str, file: Path) -> bool:
    try:
        spec = find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return False  # a part of the name is some other module
    return bool(spec and spec.origin and Path(spec.origin).resolve() == file.resolve())


def _file_of(module: str, folders: Sequence[Path]) -> Path | None:
    for folder in folders:
        place = folder.joinpath(*module.split("."))
        for file in (place / "__init__.py", place.with_suffix(".py")):
            if file.is_file():
                return file
    return None


def _defined(body: Iterable[ast.stmt]) -> Iterator[str]:
    """Names that a module's top level binds; `*` for those that nobody can tell."""
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Import() | ast.ImportFrom():
                yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
            case ast.Assign() | ast.AnnAssign() | ast.AugAssign() | ast.Expr():
                yield from _bound(node)
            case _:
                yield from _bound(node)
                for field in ("body", "orelse", "finalbody", "handlers", "cases"):
                    inner = getattr(node, field, [])
                    yield from _defined(inner if isinstance(inner, list) else [])


def _bound(node: ast.AST) -> Iterator[str]:
    return (each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store))


def _no_attribute(source: GraphSource, names: Iterable[str]) -> GraphError:
    return GraphError(f"{source}: {source.place} has no {source.attribute!r}{_hint(source.attribute, names)}")


def _import_failed(source: GraphSource, error: BaseException) -> GraphError:
    return GraphError(f"{source}: importing {source.place} raised {one_line(error)}{said_at(error)}")


def _lacks_library(source: GraphSource, error: ModuleNotFoundError) -> GraphError:
    return GraphError(f"{source}: {source.place} imports {error.name!r}, which is not installed{said_at(error)}")


def _siblings(missing: str) -> list[str]:
    """Modules that could have been meant: those beside the missing one, with its package's prefix."""
    parent, _, _ = missing.rpartition(".")
    if parent:
        spec = find_spec(parent)
        paths = list(spec.submodule_search_locations or []) if spec else []
        return [f"{parent}.{module.name}" for module in pkgutil.iter_modules(paths)]
    return [module.name for module in pkgutil.iter_modules(sys.path[:1])]


def _hint(wanted: str, names: Iterable[str]) -> str:
    close = get_close_matches(wanted, [n for n in names if not n.startswith("__")], n=3)
    return f" (did you mean {', '.join(close)}?)" if close else ""


def forget_modules(folders: Iterable[Path]) -> dict[str, ModuleType]:
    """Lets go of the user's modules below the folders, so that the next import reads their files; returns them."""
    linecache.checkcache()
    importlib.invalidate_caches()
    roots = tuple(f"{folder.resolve()}{os.sep}" for folder in folders)
    gone = {name: module for name, module in [*sys.modules.items()] if name != "__main__" and _is_below(module, roots)}
    for name in gone:
        del sys.modules[name]
    return gone


def restore_modules(before: Mapping[str, ModuleType]) -> None:
    """Those that no import has brought back: a run that is going may yet ask for them."""
    for name, module in before.items():
        sys.modules.setdefault(name, module)


def _is_below(module: ModuleType, roots: tuple[str, ...]) -> bool:
    # A package without __init__.py has no file, and holds on to its modules all the same.
    place = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
    return isinstance(place, str) and f"{Path(place).resolve()}{os.sep}".startswith(roots) and not is_of_library(place)
