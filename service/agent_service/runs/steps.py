"""A graph's state on its way into LangGraph's tables: rows that wait for the next commit, and the statements that take them.

The tables and what is in them are langgraph-checkpoint-postgres's own, so that a graph can be moved in and out; tests
compare the rows with those of its saver. The statements take the rows of many runs at once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg.types.json import Jsonb

Row = tuple[Any, ...]
"""Of one of the tables, in the order of its statement's columns; the first KEY_COLUMNS of these are the key."""

Statement = tuple[str, Sequence[Any]]

BLOB_KEY, CHECKPOINT_KEY, WRITE_KEY = 4, 3, 5
"""How many columns the keys have."""


@dataclass(slots=True)
class Steps:
    """What one run has not yet committed, by key: a statement may meet a row once only."""

    blobs: dict[Row, Row] = field(default_factory=dict)
    checkpoints: dict[Row, Row] = field(default_factory=dict)
    writes: dict[Row, Row] = field(default_factory=dict)
    """Results of a task: what is there stays."""
    marks: dict[Row, Row] = field(default_factory=dict)
    """What LangGraph notes about a task (an interrupt, its answer, an error): the last one counts."""
    survived: bool = False
    """A step of the whole graph has ended: crashes are counted from here on."""
    bytes: int = 0
    """Of values, about: characters of strings that stand in a checkpoint's JSON count, too."""

    def __bool__(self) -> bool:
        return bool(self.checkpoints or self.writes or self.marks or self.survived)

    def add_checkpoint(self, row: Row, blobs: Iterable[Row], *, survived: bool) -> None:
        """Columns as in CHECKPOINTS and BLOBS; the checkpoint and its metadata are JSON-like objects, a blob is bytes."""
        self.checkpoints[row[:CHECKPOINT_KEY]] = row
        self.bytes += sum(len(value) for value in row[4]["channel_values"].values() if isinstance(value, str))
        for blob in blobs:
            self.blobs.setdefault(blob[:BLOB_KEY], blob)
            self.bytes += len(blob[-1])
        self.survived = self.survived or survived

    def add_writes(self, rows: Iterable[Row], *, marks: bool) -> None:
        for row in rows:
            key = row[:WRITE_KEY]
            if marks:
                self.marks[key] = row
            else:
                self.writes.setdefault(key, row)
            self.bytes += len(row[-1])

    def absorb(self, later: "Steps") -> None:
        """Puts what came later behind this."""
        self.blobs |= {key: row for key, row in later.blobs.items() if key not in self.blobs}
        self.checkpoints |= later.checkpoints
        self.writes |= {key: row for key, row in later.writes.items() if key not in self.writes}
        self.marks |= later.marks
        self.survived = self.survived or later.survived
        self.bytes += later.bytes


def statements(steps: Sequence[Steps]) -> list[Statement]:
    """The statements that write these; two runs have no key in common, as they have no thread in common."""
    blobs = [row for step in steps for row in step.blobs.values()]
    checkpoints = [(*row[:4], Jsonb(row[4]), Jsonb(row[5])) for step in steps for row in step.checkpoints.values()]
    writes = [row for step in steps for row in step.writes.values()]
    marks = [row for step in steps for row in step.marks.values()]
    rows = ((BLOBS, blobs), (CHECKPOINTS, checkpoints), (WRITES, writes), (MARKS, marks))
    return [(statement, [list(column) for column in zip(*found, strict=True)]) for statement, found in rows if found]


BLOBS = """
INSERT INTO public.checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
SELECT b.thread_id, b.checkpoint_ns, b.channel, b.version, b.type, CASE WHEN b.type <> 'empty' THEN b.blob END
FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %b::bytea[])
     AS b (thread_id, checkpoint_ns, channel, version, type, blob)
ON CONFLICT (thread_id, checkpoint_ns, channel, version) DO NOTHING
"""

CHECKPOINTS = """
INSERT INTO public.checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::jsonb[], %s::jsonb[])
ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id) DO UPDATE SET checkpoint = EXCLUDED.checkpoint, metadata = EXCLUDED.metadata
"""

_WRITES = """
INSERT INTO public.checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, task_path, channel, type, blob)
SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::int[], %s::text[], %s::text[], %s::text[], %b::bytea[])
ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
"""

WRITES = f"{_WRITES} DO NOTHING"

MARKS = f"{_WRITES} DO UPDATE SET channel = EXCLUDED.channel, type = EXCLUDED.type, blob = EXCLUDED.blob"
