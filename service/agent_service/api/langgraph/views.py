"""Threads, runs and states as clients of LangGraph Platform read them: pure functions."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from langgraph.types import PregelTask, StateSnapshot

from agent_service.errors import InvalidRequest
from agent_service.runs.run_types import BREAKPOINT, Interrupt, Run
from agent_service.runs.run_view import STEP_LIMIT, error_view, run_error
from agent_service.runs.state_json import INTERRUPT_KEY, interrupts_json
from agent_service.runs.thread_types import Thread


def thread_view(thread: Thread, snapshot: StateSnapshot | None, *, values: Any) -> dict[str, Any]:
    """`values`: of the latest checkpoint, None before the first."""
    return {
        "thread_id": str(thread.id),
        "created_at": thread.created_at,
        "updated_at": thread.updated_at,
        "state_updated_at": thread.updated_at,
        "metadata": thread.metadata,
        "status": thread.status,
        "config": {},
        "values": values,
        "error": error_view(thread.error or STEP_LIMIT) if thread.status == "error" else None,
        "interrupts": {task.id: interrupts_json(task.interrupts) for task in snapshot.tasks if task.interrupts}
        if snapshot
        else {},
    }


def state_view(snapshot: StateSnapshot | None, thread_id: UUID) -> dict[str, Any]:
    """A state; of a thread that has none, the empty one."""
    if snapshot is None:
        return {
            "values": {}, "next": [], "tasks": [], "metadata": None, "created_at": None, "checkpoint": None,
            "parent_checkpoint": None, "interrupts": [], "checkpoint_id": None, "parent_checkpoint_id": None,
        }  # fmt: skip
    checkpoint = _checkpoint(snapshot.config, thread_id)
    parent = _checkpoint(snapshot.parent_config, thread_id)
    return {
        "values": snapshot.values,
        "next": list(snapshot.next),
        "tasks": [_task(task, thread_id) for task in snapshot.tasks],
        "metadata": {**(snapshot.metadata or {}), "thread_id": str(thread_id)},
        "created_at": snapshot.created_at,
        "checkpoint": checkpoint,
        "parent_checkpoint": parent,
        "interrupts": interrupts_json(snapshot.interrupts),
        "checkpoint_id": checkpoint and checkpoint["checkpoint_id"],
        "parent_checkpoint_id": parent and parent["checkpoint_id"],
    }


def state_of_fields(view: Mapping[str, Any], select: Sequence[str] | None) -> Mapping[str, Any]:
    """The fields of a state that were asked for, by name or as `values.<key>`; all of them by default.

    Raises:
        InvalidRequest: a state has no such field.
    """
    if not select:
        return view
    found: dict[str, Any] = {}
    for name in select:
        field, _, key = name.partition(".")
        if field not in view or (key and field != "values"):
            raise InvalidRequest(f"select: expected values.<key> or some of {', '.join(view)}, got {name!r}", field="select")
        if not key:
            found[field] = view[field]
        elif isinstance(view["values"], Mapping) and "values" not in select:
            found.setdefault("values", {}).update({key: view["values"][key]} if key in view["values"] else {})
    return found


def _task(task: PregelTask, thread_id: UUID) -> dict[str, Any]:
    inside = task.state if isinstance(task.state, StateSnapshot) else None
    config: Any = None if inside else task.state
    return {
        "id": task.id,
        "name": task.name,
        "path": list(task.path),
        "error": type(task.error).__name__ if task.error else None,  # its text may quote anything
        "interrupts": interrupts_json(task.interrupts),
        "checkpoint": _checkpoint(config, thread_id),
        "state": state_view(inside, thread_id) if inside else None,
        "result": task.result,
    }


def _checkpoint(config: Any, thread_id: UUID) -> dict[str, Any] | None:
    if not config:
        return None
    inside = config["configurable"]
    found = {
        "checkpoint_id": inside.get("checkpoint_id"),
        "thread_id": str(thread_id),
        "checkpoint_ns": inside.get("checkpoint_ns", ""),
    }
    return found | ({"checkpoint_map": inside["checkpoint_map"]} if "checkpoint_map" in inside else {})


def checkpoint_view(config: Any, thread_id: UUID) -> dict[str, Any]:
    """The answer to a change of state."""
    found = _checkpoint(config, thread_id)
    assert found is not None  # noqa: S101  # LangGraph returns the new checkpoint's config
    return {"checkpoint": found, "configurable": found, "checkpoint_id": found["checkpoint_id"]}


def waiting(interrupts: list[Interrupt] | None) -> list[dict[str, Any]]:
    """What a run has asked; nothing at a breakpoint, which asks for nothing."""
    return interrupts_json(item for item in interrupts or () if item["id"] != BREAKPOINT)


def outcome_view(run: Run, values: Any) -> Any:
    """What waiting for a run gives: the state, with what it asks; or its error."""
    if error := run_error(run):
        return {"__error__": error_view(error)}
    if run.outcome == "interrupted" and isinstance(values, Mapping):
        return {**values, INTERRUPT_KEY: waiting(run.interrupts)}
    return values
