"""A graph's state on its way into LangGraph's tables: rows that wait for the next commit.

The tables and what is in them are langgraph-checkpoint-postgres's own, so that a graph can be moved in and out; tests
compare the rows with those of its saver.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg.types.json import Jsonb

Row = tuple[Any, ...]
"""Of one of the tables, in the order of the names below; the first of these are the key."""

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
    work: bool = False
    """More than the question is in it, which the run's row has."""
    survived: bool = False
    """A step of the whole graph has ended: crashes are counted from here on."""
    bytes: int = 0
    """Of values, about: characters of strings that stand in a checkpoint's JSON count, too."""

    def __bool__(self) -> bool:
        return bool(self.checkpoints or self.writes or self.marks or self.survived)

    def add_checkpoint(self, row: Row, blobs: Iterable[Row], *, survived: bool, replaces: bool = False) -> str | None:
        """Columns as in CHECKPOINTS and BLOBS; the checkpoint and its metadata are JSON-like objects, a blob is bytes.

        `replaces`: of what is behind it, what still waits here is not stored: the state before it, whose parent becomes its
        own, and the results that made it. A third of what a turn writes is saved by it. Returns the id of the state that is left
        out.
        """
        before = row[3]
        if replaces:
            row = self._in_place_of_what_it_follows(row)
        self.checkpoints[row[:CHECKPOINT_KEY]] = row
        self.bytes += _inline_bytes(row)
        for blob in blobs:
            self.blobs.setdefault(blob[:BLOB_KEY], blob)
            self.bytes += len(blob[-1])
        self.survived = self.survived or survived
        return before if row[3] != before else None

    def add_writes(self, rows: Iterable[Row], *, marks: bool) -> None:
        """Rows as in WRITES without the last column. Of results the first stays, of marks the last counts."""
        for row in rows:
            key = row[:WRITE_KEY]
            if marks:
                self.marks[key] = row
            else:
                self.writes.setdefault(key, row)
            self.bytes += len(row[-1])

    def _in_place_of_what_it_follows(self, row: Row) -> Row:
        """The row with its new parent."""
        inside, key = row[:2], (*row[:2], row[3])
        self._drop(self.writes, [each for each in self.writes if each[:CHECKPOINT_KEY] == key])
        if key not in self.checkpoints:
            return row
        self._drop(self.marks, [each for each in self.marks if each[:CHECKPOINT_KEY] == key])
        before = self.checkpoints.pop(key)
        self.bytes -= _inline_bytes(before)
        kept = {
            version
            for other in (*self.checkpoints.values(), row)
            if other[:2] == inside
            for version in other[4]["channel_versions"].items()
        }
        self._drop(self.blobs, [each for each in self.blobs if each[:2] == inside and each[2:] not in kept])
        return (*row[:3], before[3], *row[4:])

    def _drop(self, rows: dict[Row, Row], keys: Iterable[Row]) -> None:
        for key in keys:
            self.bytes -= len(rows.pop(key)[-1])

    def absorb(self, later: "Steps") -> None:
        """Puts what came later behind this."""
        self.blobs |= {key: row for key, row in later.blobs.items() if key not in self.blobs}
        self.checkpoints |= later.checkpoints
        self.writes |= {key: row for key, row in later.writes.items() if key not in self.writes}
        self.marks |= later.marks
        self.work = self.work or later.work
        self.survived = self.survived or later.survived
        self.bytes += later.bytes


def _inline_bytes(checkpoint: Row) -> int:
    return sum(len(value) for value in checkpoint[4]["channel_values"].values() if isinstance(value, str))


BLOBS = ("blob_thread", "blob_ns", "blob_channel", "blob_version", "blob_type", "blob_value")
CHECKPOINTS = ("point_thread", "point_ns", "point_id", "point_parent", "point_body", "point_metadata")
WRITES = (
    "write_thread", "write_ns", "write_point", "write_task", "write_idx", "write_path",
    "write_channel", "write_type", "write_value", "write_is_mark",
)  # fmt: skip
"""Parameters of slipway.write_all, one for each column."""


def arguments(steps: Sequence[Steps]) -> dict[str, list[object]]:
    """What slipway.write_all is given of these; two runs have no key in common, as they have no thread in common."""
    blobs = [row for step in steps for row in step.blobs.values()]
    checkpoints = [(*row[:4], Jsonb(row[4]), Jsonb(row[5])) for step in steps for row in step.checkpoints.values()]
    writes = [(*row, False) for step in steps for row in step.writes.values()]
    marks = [(*row, True) for step in steps for row in step.marks.values()]
    return columns(BLOBS, blobs) | columns(CHECKPOINTS, checkpoints) | columns(WRITES, writes + marks)


def columns(names: Sequence[str], rows: Sequence[Row]) -> dict[str, list[object]]:
    """The rows turned: a list for each column; empty without rows."""
    return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=False)}
