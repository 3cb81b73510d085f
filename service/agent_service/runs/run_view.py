"""A run as clients of LangGraph Platform read it: pure functions."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid5

from agent_service.runs.run_types import Run, RunError

ASSISTANTS = UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")
"""Namespace of LangGraph's own ids of assistants: people have that of `agent` in their clients' settings."""

RUN_STATUS: Mapping[str, str] = {
    "completed": "success",
    "interrupted": "success",  # clients take "interrupted" for a run that was stopped; the thread says that it waits
    "cancelled": "interrupted",
    "timeout": "timeout",
}
"""Of a run that has ended, by its outcome; every other one is an error."""

STEP_LIMIT: RunError = {"code": "GraphRecursionError", "message": "the run took more steps than it may", "retryable": False}
"""Of a run that ended so; on Slipway's own wire that is an answer."""


def assistant_id(graph: str) -> UUID:
    """The same on each server that serves a graph of this name, LangGraph's too."""
    return uuid5(ASSISTANTS, graph)


def assistant_of(run: Run) -> str:
    """The id of the assistant whose run it is; of a caller who named none, the graph's own."""
    metadata: Mapping[str, str] = run.input.get("wire", {}).get("metadata", {})
    return metadata.get("assistant_id") or str(assistant_id(run.graph))


def run_status(run: Run) -> str:
    """One of pending, running, success, error, timeout, interrupted."""
    if run.status != "finished":
        return "pending" if run.status == "queued" else "running"
    return RUN_STATUS.get(run.outcome or "", "error")


def run_view(run: Run) -> dict[str, Any]:
    """The run's JSON."""
    wire: Mapping[str, Any] = run.input.get("wire", {})
    return {
        "run_id": str(run.id),
        "thread_id": str(UUID(run.session_id)),
        "assistant_id": assistant_of(run),
        "metadata": wire.get("metadata", {}),
        "status": run_status(run),
        "kwargs": wire.get("kwargs", {}),
        "multitask_strategy": wire.get("multitask_strategy", "enqueue"),
        "created_at": run.created_at,
        "updated_at": run.finished_at or run.started_at or run.created_at,
    }


def error_view(error: RunError) -> dict[str, str]:
    """What failed, by code and sentence; never the text of an exception, which may quote anything."""
    return {"error": error["code"], "message": error["message"]}


def run_error(run: Run) -> RunError | None:
    """Why it failed; None when it did not."""
    return run.error or (STEP_LIMIT if run.outcome == "iteration_limit" else None)
