"""Structured logs: one JSON object a line, or a readable line on a terminal. No question, answer, key or token text."""

import logging
import re
import sys
from typing import Any, TextIO

import structlog

QUERY_TOKEN = re.compile(r"([?&]token=)[^&\s\"']+")


def _hide_query_token(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    # EventSource cannot set headers, so stream tokens travel in the query; uvicorn would log them.
    if isinstance(event.get("event"), str):
        event["event"] = QUERY_TOKEN.sub(r"\1[hidden]", event["event"])
    return event


def setup_logging(level: str, stream: TextIO = sys.stderr) -> None:
    """Routes structlog's, uvicorn's and every library's lines into one shape. Called once by a command."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _hide_query_token,
    ]
    pretty = stream.isatty()
    final: list[Any] = (
        [structlog.dev.ConsoleRenderer()]
        if pretty
        else [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer(sort_keys=True)]
    )
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
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
    # The access log repeats what the metrics count, once a probe every few seconds; libraries' chatter is for debugging.
    for name in ("uvicorn.access", "httpx", "httpcore", "aiohttp.access", "psycopg.pool", "openai"):
        logging.getLogger(name).setLevel(logging.DEBUG if level == "debug" else logging.WARNING)


def logger(name: str) -> structlog.stdlib.BoundLogger:
    return structlog.stdlib.get_logger(name)
