"""Writes the table and the diagram of docs/developer/rotation.md from the state machine of the code (`make rotation-docs`)."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from agent_operator.reconcile.rotation.machine import TRANSITIONS, Effect, Transition, always
from agent_operator.reconcile.rotation.status import Phase

PAGE = Path(__file__).parent.parent / "docs" / "developer" / "rotation.md"

BEGIN = "<!-- Written by `make rotation-docs` from operator/agent_operator/reconcile/rotation/machine.py: -->\n"
END = "<!-- End of what is written by `make rotation-docs`. -->\n"


def render(page: str) -> str:
    """The page with its generated part as the machine is now. Raises ValueError for a page without its two marks."""
    head, _, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not end:
        raise ValueError(f"{PAGE.name}: expected the lines {BEGIN!r} and {END!r}")
    return f"{head}{BEGIN}\n{_diagram()}\n{_table()}\n{end}{tail}"


def _diagram() -> str:
    moves = dict.fromkeys((phase, row.phase) for phase in Phase for row in TRANSITIONS if row.phase and phase in row.phases)
    lines = [f"    {before} --> {after}: {_labels(before, after)}" for before, after in moves]
    return "\n".join(["```mermaid", "stateDiagram-v2", "    [*] --> Idle", *lines, "```", ""])


def _labels(before: Phase, after: Phase) -> str:
    rows = [row for row in TRANSITIONS if before in row.phases and row.phase is after]
    return ", ".join(dict.fromkeys(str(row.effect) if row.effect is not Effect.ENTER else _reason(row) for row in rows))


def _table() -> str:
    head = "| phase | event: the first that is so | effect | reason | next phase |\n| --- | --- | --- | --- | --- |\n"
    return head + "".join(
        f"| {' | '.join(cell or ' ' for cell in _cells(row))} |\n".replace("|   |", "| |") for row in TRANSITIONS
    )


def _cells(row: Transition) -> Iterator[str]:
    yield "each" if len(row.phases) == len(Phase) else ", ".join(f"`{phase}`" for phase in row.phases)
    yield _event(row)
    yield f"`{row.effect}`" + (", in a hurry" if row.hurried else "")
    yield _reason(row)
    yield f"`{row.phase}`" if row.phase else "stays"


def _event(row: Transition) -> str:
    text = (inspect.getdoc(row.event) or "").splitlines()[0]
    return f"*{text}*" if row.event is always else text


def _reason(row: Transition) -> str:
    if isinstance(row.reason, str):
        return row.reason
    return re.sub(r"\s+", " ", inspect.getdoc(row.reason) or "")


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
