"""Structured logs in the service's shape: one JSON object a line, or a readable line on a terminal. No key, no token."""

import logging
import re
import sys
from typing import Any, TextIO

import structlog
from structlog.processors import ExceptionRenderer, JSONRenderer
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import Processor

QUIET = ("httpx", "httpx2", "httpcore", "httpcore2", "aiohttp.access", "kopf.activities", "kopf.objects")
"""They log each call, probe and event; the metrics count reconciles."""

_CREDENTIALS = re.compile(r"([Bb]earer\s+)[\w.~+/=-]{8,}|\b(?:sk-|slw_|eyJ)[\w.-]{16,}")


def _hide_credentials(_: Any, __: str, event: Any) -> Any:
    # Last, over the rendered line: a library's message and an exception's text may quote one too.
    return _CREDENTIALS.sub(lambda found: f"{found[1] or ''}[hidden]", event) if isinstance(event, str) else event


def setup_logging(level: str, stream: TextIO = sys.stderr) -> None:
    """Routes our lines and kopf's into one shape. Called once, by the process."""
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
    # Without locals, which may hold keys.
    tracebacks = ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
    readable = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    renderers: list[Processor] = [readable] if stream.isatty() else [tracebacks, JSONRenderer(sort_keys=True)]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers, _hide_credentials],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
