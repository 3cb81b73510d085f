"""Of an error: which line of the user's own code raised it."""

import sysconfig
import traceback
from pathlib import Path

LIBRARIES = tuple({*sysconfig.get_paths().values(), str(Path(__file__).parent)} - {sysconfig.get_path("data")})
"""Folders of Python, of what is installed, and of this package: a user's own line is in none of them."""

OF_LIBRARIES = ("site-packages", "dist-packages", "<frozen")


def said_at(error: BaseException) -> str:
    """` (file:line)` of the user's code that raised, innermost first; empty where none did."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}:{error.lineno})"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not is_of_library(frame.filename):
            return f" ({frame.filename}:{frame.lineno})"
    return ""


def is_of_library(file: str) -> bool:
    return file.startswith((*LIBRARIES, "<")) or any(part in file for part in OF_LIBRARIES)


def one_line(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {' '.join(text.split())}".removesuffix(": ")
