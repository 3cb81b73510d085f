"""The report: a line for each finding with its fix, or JSON; and the exit code."""

import json
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console
from rich.table import Table
from rich.text import Text

from slipway_clients.egress.text import plain
from slipway_doctor.checks.finding import Area, Finding, Status

MARKS = {Status.OK: ("✓", "green"), Status.WARN: ("!", "yellow"), Status.FAIL: ("✗", "red"), Status.UNKNOWN: ("?", "dim")}

PASSED, FAILED, COULD_NOT_RUN = 0, 1, 2


LONGEST = 1000
"""Characters of one message."""


def cleaned(finding: Finding) -> Finding:
    """What a service, a pod or an object says goes to a terminal: on one line, bounded, without control characters."""
    return replace(finding, message=plain(finding.message, LONGEST), fix=plain(finding.fix, LONGEST))


def exit_code(findings: Sequence[Finding], *, strict: bool) -> int:
    """Warnings fail as well when strict."""
    bad = {Status.FAIL, Status.WARN} if strict else {Status.FAIL}
    return FAILED if any(finding.status in bad for finding in findings) else PASSED


def as_json(findings: Sequence[Finding]) -> str:
    """Keys and values of this document stay as they are within a version of the schema."""
    checks = [
        {
            "id": f.id,
            "area": f.area.value,
            "status": f.status.value,
            "reason": f.reason,
            "message": f.message,
            "fix": f.fix,
        }
        for f in findings
    ]
    return json.dumps({"schema": 1, "summary": _counts(findings), "checks": checks}, indent=2, ensure_ascii=False)


def print_report(findings: Sequence[Finding], console: Console) -> None:
    """Areas in the order of the checklist; what is well is one line, what is not has its fix below."""
    for area in Area:
        mine = [finding for finding in findings if finding.area is area]
        if mine:
            console.print(Text(area.value.capitalize(), style="bold"))
            console.print(_table(mine))
    counts = _counts(findings)
    console.print(
        f"{counts['ok']} passed, {counts['fail']} failed, {counts['warn']} warnings, {counts['unknown']} could not be told"
    )


def _table(findings: Sequence[Finding]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1), pad_edge=False)
    table.add_column(width=2, justify="right")
    table.add_column(width=22, overflow="fold")
    table.add_column(overflow="fold", ratio=1)
    for finding in findings:
        mark, style = MARKS[finding.status]
        text = Text(finding.message)
        if finding.fix and finding.status is not Status.OK:
            text.append(f"\n→ {finding.fix}", style="italic")
        table.add_row(Text(mark, style=style), finding.id, text)
    return table


def _counts(findings: Sequence[Finding]) -> dict[str, int]:
    return {status.value: sum(finding.status is status for finding in findings) for status in Status}
