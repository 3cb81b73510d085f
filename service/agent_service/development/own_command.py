"""How the command that runs is typed again: `make run` has it in `.venv/bin`, which is not on PATH."""

import os
import shlex
import shutil
import sys
from pathlib import Path


def own_command(folder: Path) -> str:
    """As it is typed in `folder`: by its name where PATH has it, else by the shorter of its two paths."""
    own = Path(os.path.abspath(sys.argv[0]))  # noqa: PTH100  # resolved, it would be the file behind a link
    on_path = shutil.which("slipway")
    if own.name != "slipway" or (on_path and os.path.abspath(on_path) == str(own)):  # noqa: PTH100  # likewise
        return "slipway"
    return shlex.quote(min(os.path.relpath(own, folder.absolute()), str(own), key=len))
