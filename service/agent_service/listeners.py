"""Callback handlers that hear a model call's text as it is read, with no object of langchain's for each token."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any
from uuid import UUID


class TextListener(ABC):
    """Of a call that a node awaits (`ainvoke`, `invoke`), its chunks follow by `on_llm_new_token`, their text in one piece."""

    @abstractmethod
    def on_model_text(self, run_id: UUID, text: str) -> None:
        """Called on the event loop with the next piece of the text of the call `run_id`."""

    def on_model_thought(self, run_id: UUID, thought: str) -> None:  # noqa: B027  # most listen for text only
        """The next piece of what the model thinks; it comes again, in one piece, by `on_llm_new_token`."""

    def on_model_arguments(self, run_id: UUID, characters: int) -> None:  # noqa: B027  # most listen for text only
        """So many characters of calls of tools were read, of which nothing is heard before the model is through with them."""

    @abstractmethod
    def on_llm_new_token(self, token: Any, *, run_id: UUID, chunk: Any = None, **_: Any) -> Any:
        """langchain's. `token`: text, or the chunk's content blocks."""


def only_listeners(handlers: Iterable[object]) -> list[TextListener]:
    """The handlers, if all that want to know of tokens hear text as it is read; else none: the others need every chunk."""
    wanting = [handler for handler in handlers if _wants_tokens(handler)]
    listeners = [handler for handler in wanting if isinstance(handler, TextListener)]
    return listeners if len(listeners) == len(wanting) else []


def _wants_tokens(handler: object) -> bool:
    """Whether its class has an `on_llm_new_token` of its own; langchain's base class has one that does nothing."""
    method = getattr(type(handler), "on_llm_new_token", None)
    return method is not None and not method.__module__.startswith("langchain_core.callbacks.base")
