"""A run in A2A's words, as 1.0 and 0.3 write them: a task, and its updates. The two differ more in names than in content."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from agent_service.api.openai import approval_text
from agent_service.runs.run_types import Run

STATES = {
    "completed": "completed",
    "iteration_limit": "completed",
    "interrupted": "input-required",
    "cancelled": "canceled",
    "failed": "failed",
    "timeout": "failed",
    "budget": "failed",
}
"""Of a task, by its run's outcome. One that stopped at its step limit has said so in its answer."""

STOPPED = {"timeout": "The turn took longer than it may.", "budget": "The run stopped at its budget."}


def state(run: Run) -> str:
    """In the words of 0.3."""
    if run.outcome:
        return STATES[run.outcome]
    return "working" if run.attempt else "submitted"


@dataclass(frozen=True, slots=True)
class Form:
    """One of the two ways of writing."""

    one: bool
    """1.0; else 0.3."""

    # Parts

    def _text(self, words: str) -> dict[str, Any]:
        return {"text": words} if self.one else {"kind": "text", "text": words}

    def _data(self, value: dict[str, Any]) -> dict[str, Any]:
        return {"data": value} if self.one else {"kind": "data", "data": value}

    def _kind(self, name: str) -> dict[str, str]:
        return {} if self.one else {"kind": name}

    def _message(
        self, message_id: str, role: str, task_id: UUID, context: str, parts: Sequence[dict[str, Any]]
    ) -> dict[str, Any]:
        ids = {"messageId": message_id, "taskId": str(task_id), "contextId": context}
        return {**self._kind("message"), **ids, "role": f"ROLE_{role.upper()}" if self.one else role, "parts": parts}

    # A task

    def task(self, task_id: UUID, run: Run, *, history: bool = False, answer: bool = True) -> dict[str, Any]:
        """The task as its run stands. `history`: with the question; `answer`: with the artifact, if there is one."""
        said = {"artifacts": [self._artifact(run, run.answer)]} if answer and run.answer else {}
        asked = self._message(f"{run.id}-question", "user", task_id, run.session_id, [self._text(run.question)])
        return {
            **self._kind("task"),
            "id": str(task_id),
            "contextId": run.session_id,
            "status": self._status(task_id, run),
            **said,
            **({"history": [asked]} if history else {}),
        }

    def _status(self, task_id: UUID, run: Run) -> dict[str, Any]:
        name = state(run)
        at = run.finished_at or run.started_at or run.created_at
        status: dict[str, Any] = {
            "state": f"TASK_STATE_{name.upper().replace('-', '_')}" if self.one else name,
            "timestamp": _utc(at),
        }
        if parts := self._why(run):
            status["message"] = self._message(f"{run.id}-status", "agent", task_id, run.session_id, parts)
        return status

    def _why(self, run: Run) -> list[dict[str, Any]]:
        if run.outcome == "interrupted":
            return [self._text(approval_text(run.id, follows_text=False)), self._data({"interrupts": run.interrupts})]
        if words := run.error["message"] if run.error else STOPPED.get(run.outcome or ""):
            return [self._text(words)]
        return []

    def _artifact(self, run: Run, text: str) -> dict[str, Any]:
        return {"artifactId": str(run.id), "name": "answer", "parts": [self._text(text)]}

    def sent(self, task: dict[str, Any]) -> dict[str, Any]:
        """The answer to a message."""
        return {"task": task} if self.one else task

    # What a stream says of it

    def artifact_update(self, task_id: UUID, run: Run, text: str, *, append: bool) -> dict[str, Any]:
        """More of the answer; all of it so far, if not `append`."""
        ids = {"taskId": str(task_id), "contextId": run.session_id}
        update = {**self._kind("artifact-update"), **ids, "artifact": self._artifact(run, text), "append": append}
        return {"artifactUpdate": update} if self.one else update

    def status_update(self, task_id: UUID, run: Run) -> dict[str, Any]:
        """How it stands; after the last one nothing comes."""
        update = {"taskId": str(task_id), "contextId": run.session_id, "status": self._status(task_id, run)}
        if self.one:
            return {"statusUpdate": update}
        return {"kind": "status-update", **update, "final": run.outcome is not None}


def _utc(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


V1, V03 = Form(one=True), Form(one=False)


def card(name: str, description: str, version: str, url: str, *, one: bool) -> dict[str, Any]:
    """The agent card. That of 0.3 has the interfaces, too: by them a client of 1.0 knows better."""
    common = {
        "name": name,
        "description": description,
        "version": version,
        "capabilities": {"streaming": True, "pushNotifications": False},
        "defaultInputModes": ["text/plain"],
        "defaultOutputModes": ["text/plain"],
        "skills": [{"id": name, "name": name, "description": description, "tags": ["agent"]}],
        "supportedInterfaces": [{"url": url, "protocolBinding": "JSONRPC", "protocolVersion": known} for known in ("1.0", "0.3")],
    }
    bearer = {"scheme": "Bearer", "description": "An API key or a JWT."}
    if one:
        return {
            **common,
            "securitySchemes": {"bearer": {"httpAuthSecurityScheme": bearer}},
            "securityRequirements": [{"schemes": {"bearer": {"list": []}}}],
        }
    return {
        **common,
        "protocolVersion": "0.3.0",
        "url": url,
        "preferredTransport": "JSONRPC",
        "securitySchemes": {"bearer": {"type": "http", **bearer}},
        "security": [{"bearer": []}],
    }
