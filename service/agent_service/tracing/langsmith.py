"""Runs in LangSmith: one tree per run, its root named by our run id, without content unless asked for."""

import asyncio
import contextvars
import re
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import UUID, uuid5

import langsmith
import requests
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers.langchain import LangChainTracer
from urllib3.util import Retry

from agent_service.logs import logger
from agent_service.settings import Settings

FLUSH_SECONDS = 3.0
"""What the end of a process waits for LangSmith; it comes out of the drain limit."""

SEND_TIMEOUT = (2.0, 5.0)
"""Seconds to connect, and between two bytes. A send that hangs when the process ends holds it up for as long: measured
with a server that hangs, 3.0 s to close and 4.2 s more until the process was gone."""

SEND_RETRIES = Retry(
    total=2,
    read=0,
    status_forcelist=(429, 500, 502, 503, 504),
    allowed_methods=None,
    backoff_factor=0.5,
    raise_on_status=False,
    respect_retry_after_header=False,
)
"""For blips; a server that hangs is not asked again, and none may tell the sending thread to sleep for long."""

MAX_PENDING_FEEDBACK = 1000
"""Ratings that wait for a LangSmith that is down, before further ones are dropped."""

FEEDBACK_KEY = "user_score"

SAFE_METADATA = re.compile(r"(ls_|langgraph_)\w+|thread_id|session_id|run_id|attempt|usage_metadata|graph_version|revision_id")
"""Names of metadata that are never content. A graph may put anything under any other name."""

ERROR_CLASS = re.compile(r"[A-Za-z_][\w.]*")

log = logger(__name__)


def redacted(run: Mapping[str, Any]) -> dict[str, Any]:
    """A run's fields, as `langsmith.Client` takes them, without what a question, an answer or a tool may have put there.

    The library's own hide_inputs and hide_outputs leave errors (with their traceback), events and metadata as they are.
    """
    kept = {name: value for name, value in run.items() if name not in {"attachments", "serialized"}}
    for name in ("inputs", "outputs"):
        if kept.get(name) is not None:
            kept[name] = {}
    if kept.get("error") is not None:
        found = ERROR_CLASS.match(str(kept["error"]))
        kept["error"] = found[0] if found else "error"
    if kept.get("events") is not None:
        kept["events"] = [{"name": event.get("name"), "time": event.get("time")} for event in kept["events"]]
    if kept.get("extra") is not None:
        kept["extra"] = _redacted_extra(kept["extra"])
    return kept


def _redacted_extra(extra: Mapping[str, Any]) -> dict[str, Any]:
    metadata = extra.get("metadata") or {}
    return {
        "runtime": extra.get("runtime") or {},
        "metadata": {name: value for name, value in metadata.items() if SAFE_METADATA.fullmatch(name)},
    }


class RedactingClient(langsmith.Client):
    """Redacts at the last point before the network, so that `@traceable` functions in a graph are covered too."""

    def create_run(self, name: str, inputs: dict[str, Any], run_type: Any, **fields: Any) -> None:
        super().create_run(name=name, run_type=run_type, **redacted({**fields, "inputs": inputs}))

    def update_run(self, run_id: UUID | str, **fields: Any) -> None:
        super().update_run(run_id, **redacted(fields))


class BoundedSession(requests.Session):
    """Never waits longer than SEND_TIMEOUT, and sends nothing once closed: the library's threads outlive its `close`."""

    closed = False

    def request(self, *args: Any, **kwargs: Any) -> Any:
        """Raises requests.RequestException, without the request: it holds the key."""
        if self.closed:
            raise requests.ConnectionError("the process is ending")
        try:
            return super().request(*args, **{**kwargs, "timeout": SEND_TIMEOUT})
        except requests.RequestException as error:
            error.request = None  # langsmith's log line would show the first and last characters of its key
            raise

    def close(self) -> None:
        """Ends the connections for good."""
        self.closed = True
        super().close()


class LangSmith:
    """Traces runs and sends feedback from threads of its own: LangSmith being slow or down costs a run nothing."""

    def __init__(self, client: langsmith.Client, project: str) -> None:
        self._client = client
        self._project = project
        # One thread, not the loop's own pool: a LangSmith that hangs would occupy it.
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="langsmith-feedback")
        self._pending: set[Future[None]] = set()

    def tracer(self) -> BaseCallbackHandler:
        """A handler for the config of one run, beside its `run_id`. It keeps what it saw, so take a new one for each."""
        return LangChainTracer(project_name=self._project, client=self._client)

    async def send_feedback(self, run_id: UUID, score: int, comment: str | None = None) -> None:
        """Hands the rating of a run to the sender and returns. A second rating replaces the first; failures are logged."""
        if len(self._pending) >= MAX_PENDING_FEEDBACK:
            log.warning("langsmith_feedback_dropped", run_id=str(run_id))
            return
        future = self._sender.submit(self._post_feedback, run_id, score, comment)
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)

    def _post_feedback(self, run_id: UUID, score: int, comment: str | None) -> None:
        try:
            self._client.flush(FLUSH_SECONDS)  # the project exists only when its first run has arrived
            self._client.create_feedback(
                run_id,
                FEEDBACK_KEY,
                score=score,
                comment=comment,
                session_id=self._client.read_project(project_name=self._project).id,
                feedback_id=uuid5(run_id, FEEDBACK_KEY),
                stop_after_attempt=2,
            )
        except Exception as error:  # whatever LangSmith does, a rating is kept in Postgres already
            log.warning("langsmith_feedback_failed", run_id=str(run_id), error=type(error).__name__)

    async def close(self) -> None:
        """Sends what waits, for at most FLUSH_SECONDS; the rest is dropped."""
        loop = asyncio.get_running_loop()
        done: Future[None] = self._sender.submit(self._client.flush, FLUSH_SECONDS)
        await asyncio.wait([asyncio.wrap_future(done, loop=loop)], timeout=FLUSH_SECONDS)
        self._sender.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._client.close, timeout=0)


@asynccontextmanager
async def open_langsmith(settings: Settings) -> AsyncIterator[LangSmith | None]:
    """LangSmith for the life of a process, or None when it is off.

    Either way langchain's own tracing, which its environment variables turn on, is off: it would trace a run a second
    time, or unredacted.
    """
    _set_automatic_tracing(False)
    try:
        if not settings.langsmith_tracing:
            yield None
            return
        langsmith_ = LangSmith(_make_client(settings), settings.langsmith_project)
        try:
            yield langsmith_
        finally:
            await langsmith_.close()
    finally:
        _set_automatic_tracing(None)


def _set_automatic_tracing(enabled: bool | None) -> None:
    # In a copy of the context: `configure` also sets a context variable, which would turn off our own tracer in every
    # task started from here.
    contextvars.copy_context().run(partial(langsmith.configure, enabled=enabled))


def _make_client(settings: Settings) -> langsmith.Client:
    key = settings.langsmith_api_key
    hide = settings.langsmith_hide_content
    kind = RedactingClient if hide else langsmith.Client
    return kind(
        api_url=settings.langsmith_endpoint,
        api_key=key.get_secret_value() if key else None,
        session=BoundedSession(),
        retry_config=SEND_RETRIES,
        hide_inputs=hide or None,
        hide_outputs=hide or None,
        tracing_mode="langsmith",
    )
