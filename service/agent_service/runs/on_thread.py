"""How a run of a client of LangGraph begins on its thread: beside what is going, behind what waits for an answer."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal
from uuid import UUID

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from agent_service.db.pool import Connection
from agent_service.errors import AlreadyExists, InvalidRequest, SessionBusy
from agent_service.runs.branches import branch_at
from agent_service.runs.cancelling import cancel_runs
from agent_service.runs.cron_store import Tick, take_tick
from agent_service.runs.run_rows import TITLE_CHARS, Asked, one
from agent_service.runs.run_types import BREAKPOINT, CommandInput

Strategy = Literal["reject", "enqueue", "interrupt", "rollback"]
"""Of a client of LangGraph: `rollback` stops what is going and undoes it."""


@dataclass(frozen=True, slots=True)
class OnThread:
    """How the run of a client of LangGraph begins on its thread."""

    strategy: Strategy = "enqueue"
    metadata: Mapping[str, object] = field(default_factory=dict)
    """Put into the thread's."""
    ephemeral: bool = False
    """The thread is for this run only."""
    delay_seconds: float = 0.0
    strict_resume: bool = False
    """An answer that nothing waits for is refused."""
    tick: Tick | None = None
    """Of the cron whose run it is."""


async def prepare(conn: Connection, asked: Asked, thread: str, state: DictRow, how: OnThread) -> Asked:
    """The run as it is to be stored, on a thread whose row is locked. What waits for an answer is answered, or passed over.

    Raises:
        SessionBusy, InvalidRequest, AlreadyExists
    """
    active = state["active"]
    if active and how.strategy == "reject":
        raise SessionBusy("a run of this thread is going; wait for its end or cancel it", retry_after=1)
    if active and how.strategy == "rollback":
        going = await (await conn.execute(GOING, (thread,))).fetchall()
        undone = {undo for row in going for undo in (str(row["id"]), *(row["rolls_back"] or ()))}
        asked = replace(asked, input={**asked.input, "rolls_back": sorted(undone)})
    if active and how.strategy in {"interrupt", "rollback"}:
        await cancel_runs(conn, thread=thread, undo=how.strategy == "rollback")
    if how.strict_resume:
        await _refuse_stray_answer(conn, asked, state["waiting"])
    asked = await _branching(conn, asked, thread)
    if state["waiting"]:
        asked = await _answered(conn, asked, state["waiting"])
    elif active:
        if asked.input.get("command", {}).get("resume") is not None:
            raise SessionBusy("a run of this thread is going, and nothing waits for an answer", retry_after=1)
        # What is going may come to ask: this run waits behind it, and not for the answer.
        asked = replace(asked, goes_past=True)
    if (active or state["stopped"]) and "state" in asked.input and how.strategy != "rollback":
        asked = replace(asked, input={**asked.input, "mend": True})
    if how.tick and not await take_tick(conn, how.tick, asked.id):
        raise AlreadyExists("another process has begun this run of the cron")
    await conn.execute(MARK_THREAD.encode(), (Jsonb(how.metadata), how.ephemeral, asked.question[:TITLE_CHARS], thread))
    return asked


async def _pending(conn: Connection, waiting: UUID) -> list[str]:
    """Ids of the interrupts that a run waits with."""
    row = await one(conn, "SELECT interrupts FROM slipway.runs WHERE id = %s", waiting)
    return [item["id"] for item in (row or {}).get("interrupts") or () if item["id"] != BREAKPOINT]


async def _refuse_stray_answer(conn: Connection, asked: Asked, waiting: UUID | None) -> None:
    """Raises InvalidRequest: an answer by ids names one that does not wait, or nothing waits at all."""
    resume = asked.input.get("command", {}).get("resume")
    if resume is None:
        return
    pending = await _pending(conn, waiting) if waiting else []
    named = set(resume) if isinstance(resume, dict) else set[str]()
    by_id = all(INTERRUPT_ID.fullmatch(key) for key in named)
    if not pending or (by_id and not named <= set(pending)):
        known = f"expected answers to some of {', '.join(pending)}" if pending else "nothing waits for an answer"
        raise InvalidRequest(f"command.resume: {known}", field="command.resume")


async def _branching(conn: Connection, asked: Asked, thread: str) -> Asked:
    """The run with its branch, if it begins at an earlier state of the session itself."""
    at = asked.input.get("checkpoint", {})
    if "checkpoint_id" not in at or "checkpoint_ns" in at:
        return asked
    asks = asked.input.get("state") is not None
    return replace(asked, branch=await branch_at(conn, thread, at["checkpoint_id"], asks=asks))


async def _answered(conn: Connection, asked: Asked, waiting: UUID) -> Asked:
    """The run, as the one that brings the answer; one that brings something else passes the question over."""
    command = asked.input.get("command")
    goes_on = command is None and asked.input.get("state") is None
    resume = command.get("resume") if command else None
    if resume is None and not goes_on:
        return replace(asked, goes_past=True)
    pending = await _pending(conn, waiting)
    if resume is None or not pending:
        return replace(asked, resumes=waiting)
    by_interrupt = isinstance(resume, dict) and bool(resume) and resume.keys() <= set(pending)
    if len(pending) > 1 and not by_interrupt:
        raise InvalidRequest(f"command.resume: expected an answer for each of {', '.join(pending)}", field="command.resume")
    answers = resume if by_interrupt else {pending[0]: resume}
    keyed: CommandInput = {**(command or {}), "resume": answers, "by_interrupt": True}
    return replace(asked, resumes=waiting, input={**asked.input, "command": keyed})


INTERRUPT_ID = re.compile("[0-9a-f]{32}")
"""As LangGraph makes them: an object whose keys all look so answers by ids."""

GOING = """
SELECT id, input->'rolls_back' AS rolls_back FROM slipway.runs WHERE session_id = %s AND status <> 'finished' FOR UPDATE
"""

MARK_THREAD = """
UPDATE slipway.sessions SET metadata = metadata || %s, ephemeral = ephemeral OR %s,
    title = CASE title WHEN '' THEN %s ELSE title END
WHERE id = %s
"""
