"""`slipway costs`: the report, and its three forms."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from agent_service.commands.database import command_pool
from agent_service.errors import SettingsError
from agent_service.runs.usage import GROUPS, UsageReport, usage
from agent_service.settings import Settings

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Begin a formula in a spreadsheet; a user or a session may be called so by whoever calls."""


async def cost_report(settings: Settings, by: str, since: datetime, until: datetime | None = None) -> UsageReport:
    """Everyone's."""
    names = [name.strip().lower() for name in by.split(",")]
    groups = [group for group in GROUPS if group in names]
    if len(groups) != len(names):
        raise SettingsError(f"--by: expected some of {', '.join(GROUPS)}, each once, got {by!r}")
    async with command_pool(settings) as pool:
        return await usage(pool, None, groups, since=since, until=until)


def month_of(text: str) -> tuple[datetime, datetime]:
    """The month `2026-11`, from its first moment to the next one's. Raises SettingsError."""
    try:
        begins = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        raise SettingsError(f"--month: expected a month such as 2026-11, got {text!r}") from None
    return begins, begins.replace(year=begins.year + begins.month // 12, month=begins.month % 12 + 1)


def as_json(report: UsageReport) -> str:
    return json.dumps(asdict(report), default=float)  # the only thing that JSON does not know is a Decimal


def as_csv(report: UsageReport) -> str:
    """The rows with their header, costs to the last digit; the sum of a column is the total."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns(report))
    writer.writerows([f"'{cell}" if cell.startswith(FORMULA) else cell for cell in cells] for cells in as_cells(report.rows))
    return out.getvalue()


def columns(report: UsageReport) -> list[str]:
    return [*(report.rows[0] if report.rows else report.total)]


def as_cells(rows: Iterable[dict[str, Any]]) -> Iterator[list[str]]:
    """Each row's values as text, costs to the last digit."""
    for row in rows:
        yield [f"{value:f}" if isinstance(value, Decimal) else str(value) for value in row.values()]


def table(report: UsageReport) -> tuple[list[str], list[Sequence[str]]]:
    """Columns and rows, the total last."""
    if not report.rows:
        return ["no model calls in this time"], []
    (total,) = as_cells([report.total])
    groups = [""] * (len(report.rows[0]) - len(total))
    if groups:
        groups[0] = "total"
    return columns(report), [*as_cells(report.rows), *([[*groups, *total]] if groups else [])]


def remarks(report: UsageReport) -> Iterator[str]:
    """What the numbers do not say by themselves."""
    month = report.month
    yield f"{month.month}: {month.spent_usd:.2f} USD until now, about {month.projected_usd:.2f} USD in the end"
    if report.unpriced:
        named = ", ".join(f"{row['model']} ({row['model_calls']} calls)" for row in report.unpriced)
        yield f"without a price, and not in these sums: {named}"
    if estimated := report.total["estimated_calls"]:
        yield f"estimated, as the endpoint reported no usage: {estimated} of {report.total['model_calls']} calls"
    if report.truncated:
        yield f"only the first {len(report.rows)} rows are shown; the total is of all"
