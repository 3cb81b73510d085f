"""`slipway init`: a small project to start from."""

import re
from collections.abc import Iterator
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from agent_service.errors import SettingsError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Of the folder: it is the name of an image, too."""


def make_project(folder: Path, command: str = "slipway") -> list[str]:
    """Writes the project and returns the names of its files. `command` is `slipway` as it is typed in the folder.

    Raises:
        SettingsError: the folder has something in it, or a name of which none can be made. Nothing was written.
    """
    name = folder.resolve().name
    if not NAME.fullmatch(name):
        raise SettingsError(
            f"{folder}: expected a folder's name of 1 to 64 letters, digits, '.', '_' and '-', the first a letter or digit"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingsError(f"{folder}: is there already, and not empty; nothing was written")
    written = dict(_template(name, command))
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in written.items():
        (folder / file).write_text(text, encoding="utf-8")
    return sorted(written)


def _template(name: str, command: str) -> Iterator[tuple[str, str]]:
    if command.lstrip("'").startswith("/"):
        command = "slipway"  # a path of this machine helps nobody who reads the project elsewhere
    # The interpreter beside the command has LangChain; the one of PATH may not.
    python = re.sub(r"slipway('?)$", r"python\1", command)
    for entry in (files("agent_service") / "development" / "template").iterdir():
        text = entry.read_text(encoding="utf-8").replace("VERSION", version("slipway"))
        # An image's name has small letters only.
        text = text.replace("-t NAME", f"-t {name.lower()}").replace("NAME", name)
        text = text.replace("SLIPWAY ", f"{command} ").replace("PYTHON ", f"{python} ")
        yield re.sub(r"^dot\b", "", entry.name).removesuffix(".in"), text
