"""Structured logs: one JSON object a line, or a readable line on a terminal. No question, answer, key or token text."""

import logging
import re
import sys
import threading
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, TextIO

import structlog
from structlog.dev import ConsoleRenderer, plain_traceback
from structlog.processors import ExceptionRenderer, JSONRenderer
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import Processor

TRACEBACK_FRAMES = 30
"""Of each exception in a chain; a node of a graph is 15 to 20 deep in LangGraph."""

NOISY = {"psycopg.pool": logging.ERROR, "pypdf": logging.ERROR, "opentelemetry": logging.ERROR}
"""Their warnings come with each attempt and each odd object of a file; what fails for good is told as an error, or by health."""

HIDDEN = "[hidden]"

WITH_CONTENT = ("uvicorn.access", "aiohttp.access", "httpx", "httpcore", "openai")
"""Libraries that log whole addresses or bodies, and so questions; quiet at every level. The metrics count requests."""

_CREDENTIALS = re.compile(r"([?&]token=|[Bb]earer\s+)[\w.~+/=-]{8,}|\b(?:sk-|slw_|eyJ)[\w.-]{16,}")
"""Stream tokens in a query (EventSource cannot set headers), bearers, keys of OpenAI and of ours, JWTs."""

FRAMES = 8
"""Frames of an error in its log line: enough to find the node and the line."""


def _hide_credentials(_: Any, __: str, event: Any) -> Any:
    # Last, over the rendered line: a library's message and an exception's text may quote one too.
    return _CREDENTIALS.sub(lambda found: f"{found[1] or ''}{HIDDEN}", event) if isinstance(event, str) else event


def _without_colors(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event.pop("color_message", None)  # uvicorn's second copy of its message
    return event


def _renderers(*, readable: bool) -> list[Processor]:
    # Without locals: they hold questions, answers and keys, and to print them took 3 s of CPU for one exception.
    if readable:
        return [ConsoleRenderer(exception_formatter=plain_traceback)]
    tracebacks = ExceptionDictTransformer(show_locals=False, max_frames=TRACEBACK_FRAMES)
    return [ExceptionRenderer(tracebacks), JSONRenderer(sort_keys=True)]


def setup_logging(level: str, stream: TextIO = sys.stderr) -> None:
    """Routes structlog's, uvicorn's and every library's lines into one shape. Called once by a command."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _without_colors,
                *_renderers(readable=stream.isatty()),
                _hide_credentials,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
    for name in WITH_CONTENT:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name, lowest in NOISY.items():
        logging.getLogger(name).setLevel(logging.DEBUG if level == "debug" else lowest)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def _log_uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    # Python's own hooks print many lines that are no JSON.
    if error is None or issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error or kind(), trace)
    else:
        logger(__name__).critical("uncaught_exception", exc_info=(kind, error, trace))


def frames(error: BaseException) -> list[str]:
    """Where an error came from, innermost last: `file:line function`. Without its message, which may quote a question."""
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)[-FRAMES:]]


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """structlog's logger with its type: structlog itself says Any."""
    return structlog.stdlib.get_logger(name)
