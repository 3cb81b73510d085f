"""What children of the test are asked to do; imports nothing of ours, as a child imports it."""

import ctypes
import os
import time
from pathlib import Path


def forever() -> None:
    while True:
        pass


def forever_after_a_word(said: Path) -> None:
    said.touch()
    forever()


def forever_in_c() -> None:
    """Holds the interpreter, so that no handler of Python runs."""
    sum(range(10**15))


def stand_still() -> None:
    time.sleep(3_600)


def devour() -> int:
    return len(b"x" * (8 * 2**30))


def crash() -> None:
    ctypes.string_at(0)


def leave() -> None:
    os._exit(3)


def pid() -> int:
    return os.getpid()
