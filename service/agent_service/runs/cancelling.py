"""Stopping runs by their rows: whichever process executes them is told, and who waits in the queue ends there."""

from uuid import UUID

from agent_service.db.pool import Connection
from agent_service.runs import events
from agent_service.runs.buffer import EventBuffer
from agent_service.runs.notices import CANCEL_CHANNEL, EVENTS_CHANNEL, WORK_CHANNEL
from agent_service.runs.records import pack
from agent_service.runs.run_rows import EXTERNAL_ID
from agent_service.runs.run_types import used


async def cancel_runs(conn: Connection, *, run: UUID | None = None, thread: str | None = None, undo: bool = False) -> None:
    """A run, or those of a thread. One that nobody has begun ends here, and its readers see it end.

    `undo`: what they did to their thread's state is undone as they end (migration 0024).
    """
    rows = await (await conn.execute(CANCEL.encode(), {"run": run, "thread": thread, "undo": undo})).fetchall()
    for row in (row for row in rows if row["status"] == "finished"):
        said = EventBuffer(row["attempt"])
        said.publish(events.begun(row["id"], row["session_id"], row["attempt"], row["question"]))
        said.publish(events.usage("cancelled", used([])))
        said.publish(events.end())
        await conn.execute(INSERT_EVENTS, (row["id"], row["attempt"], len(said.events), pack(said.events).decode()))


# A run that nobody has begun ends here: it may stand behind one that is going, or wait for a decision.
CANCEL = f"""
WITH asked AS (
    UPDATE slipway.runs r
    SET cancel_requested = true, undo = r.undo OR %(undo)s, attempt = attempt + unbegun::int,
        status = CASE WHEN unbegun THEN 'finished' ELSE status END,
        outcome = CASE WHEN unbegun THEN 'cancelled' END, finished_at = CASE WHEN unbegun THEN now() END
    FROM (SELECT id, status = 'queued' AND attempt = 0 AS unbegun FROM slipway.runs
          WHERE (id = %(run)s OR session_id = %(thread)s) AND status <> 'finished' FOR UPDATE) AS locked
    WHERE r.id = locked.id
    RETURNING r.id, r.session_id, r.question, r.attempt, r.status
)
SELECT asked.id, {EXTERNAL_ID} AS session_id, question, attempt, status,
       CASE status WHEN 'queued' THEN pg_notify('{WORK_CHANNEL}', '')
                   WHEN 'running' THEN pg_notify('{CANCEL_CHANNEL}', asked.id::text)
                   ELSE pg_notify('{EVENTS_CHANNEL}', asked.id::text) END
FROM asked JOIN slipway.sessions s ON s.id = asked.session_id
"""

INSERT_EVENTS = "INSERT INTO slipway.run_events (run_id, attempt, first_seq, last_seq, events) VALUES (%s, %s, 1, %s, %s)"
