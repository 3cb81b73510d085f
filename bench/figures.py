"""What was measured: figures with a value a repetition for each server, their medians and their spread."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """`key` is what it is called in JSON; `digits` behind the point are what its noise lets one read."""

    key: str
    title: str
    unit: str
    digits: int = 1


@dataclass(slots=True)
class Row:
    figure: Figure
    samples: dict[str, list[float]] = field(default_factory=dict)
    """By server, or whatever else is compared: a value a repetition."""

    @property
    def title(self) -> str:
        return f"{self.figure.title}, {self.figure.unit}" if self.figure.unit else self.figure.title

    def median(self, name: str) -> float | None:
        """None where that was not measured."""
        return statistics.median(self.samples[name]) if self.samples.get(name) else None

    def text(self, name: str) -> str:
        """The median, and the least and the largest where there is more than one."""
        values = self.samples.get(name)
        if not values:
            return "-"
        digits = self.figure.digits
        middle = f"{statistics.median(values):,.{digits}f}"
        return middle if len(values) == 1 else f"{middle} [{min(values):,.{digits}f}-{max(values):,.{digits}f}]"


@dataclass(slots=True)
class Results:
    """Of one run of the bench. `failed`: scenarios that did not end, and why."""

    environment: dict[str, str] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def record(self, figure: Figure, name: str, *values: float) -> None:
        self.rows.setdefault(figure.key, Row(figure)).samples.setdefault(name, []).extend(values)

    def median(self, key: str, name: str) -> float | None:
        row = self.rows.get(key)
        return row.median(name) if row else None

    def as_json(self) -> dict[str, Any]:
        rows = [
            {"key": key, "title": row.figure.title, "unit": row.figure.unit, "digits": row.figure.digits, "samples": row.samples}
            for key, row in self.rows.items()
        ]
        return {"environment": self.environment, "failed": self.failed, "rows": rows}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "Results":
        rows = {
            row["key"]: Row(Figure(row["key"], row["title"], row["unit"], row["digits"]), row["samples"]) for row in found["rows"]
        }
        return cls(found["environment"], rows, found["failed"])


def percentile(values: Iterable[float], share: float) -> float:
    """The value that this share of all does not exceed (nearest rank).

    Raises:
        ValueError: there are no values.
    """
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values: nothing was measured")
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose columns stand in line in a terminal too."""
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(header))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


def everything(rows: Iterable[Row]) -> str:
    """A table of rows, with a column for whatever any of them compares; nothing of no rows."""
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row.samples))
    return markdown(["figure", *names], ([row.title, *map(row.text, names)] for row in rows)) if rows else ""
