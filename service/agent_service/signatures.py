"""Signatures that are asked for in each turn."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def with_signature(function: F) -> F:
    """The same function, whose signature is known once and for all: to make it out takes 50 us, four times as long.

    langgraph asks a saver's `aput_writes` in each run whether it takes a `task_path`, langchain a model's `_agenerate` in each
    call whether it takes a `run_manager`.
    """
    function.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]  # PEP 362: what `inspect` looks for first
    return function
