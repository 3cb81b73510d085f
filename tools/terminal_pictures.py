"""Draws what the terminal shows as SVG, from the code that prints it (`make terminal-pictures`).

The release is the tests' one, which meets every line of the checklist until it is spoiled here; no cluster is needed.
"""

import asyncio
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from slipway_clients.cluster.kinds import DISRUPTION_BUDGET
from slipway_clients.prometheus import Prometheus
from slipway_doctor.by_release import examine_with
from slipway_doctor.checks.figures import Figures
from slipway_doctor.checks.gather import by_address
from slipway_doctor.examination import WIDTH
from slipway_doctor.report import print_report
from tests.doctor.test_by_release import MINE, Reviewing
from tests.operator.reconcile.test_agenthealth import CRD, KEY, PROMETHEUS, World

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"

COLUMNS = 112
"""Of the terminal for kubectl: its longest reason fits."""

GAP = "   "
"""Between two columns, as kubectl has it."""

THEME = TerminalTheme(
    (24, 27, 32),
    (216, 220, 226),
    [
        (24, 27, 32),
        (240, 113, 120),
        (126, 200, 120),
        (230, 190, 90),
        (110, 170, 250),
        (200, 140, 240),
        (90, 200, 210),
        (216, 220, 226),
    ],
)

SVG = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }}
.{unique_id}-matrix {{ font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""Rich's own, without the fonts that it loads from elsewhere."""


def pictures() -> dict[str, str]:
    """SVG by file name."""
    return {"agenthealth.svg": asyncio.run(_agent_health()), "doctor.svg": asyncio.run(_doctor())}


def main() -> None:
    for name, svg in pictures().items():
        (PICTURES / name).write_text(svg, encoding="utf-8")


async def _agent_health() -> str:
    """A release that is well, then without its disruption budget, then with a database that is away."""
    world, console = World(), _console(COLUMNS)
    rows = [_row(await world.look())]
    world.cluster.drop(DISRUPTION_BUDGET, KEY.namespace, "my-agent-slipway")
    rows.append(_row(await world.look()))
    world.health["dependencies"]["database"].update(ok=False, detail="connection refused")
    last = await world.look()
    _typed(console, f"kubectl get agenthealth {KEY.name} -n {KEY.namespace} --watch")
    for line in _aligned([_header(), *rows, _row(last)]):
        console.print(_coloured(line))
    _typed(console, f"kubectl describe agenthealth {KEY.name} -n {KEY.namespace} | grep Fix:")
    for condition in last["conditions"]:
        if "Fix:" in condition["message"]:
            console.print(f"    Message:               {condition['message']}", highlight=False)
    return _svg(console, "kubectl get agenthealth")


async def _doctor() -> str:
    """A release whose database is reached without TLS, and that has no disruption budget."""
    world, console = World(Reviewing), _console(WIDTH)
    world.cluster.drop(DISRUPTION_BUDGET, KEY.namespace, "my-agent-slipway")
    world.status["database"]["tls"] = False
    async with httpx.AsyncClient(transport=httpx.MockTransport(world.answer)) as http:
        figures = Figures(Prometheus(http, PROMETHEUS), world.clock)
        findings = await examine_with(world.cluster, world.clock, by_address(http), MINE, figures)
    _typed(console, f"slipway doctor --release {KEY.name} -n {KEY.namespace} --prometheus monitoring/prometheus:9090")
    print_report(findings, console)
    return _svg(console, "slipway doctor")


def _console(columns: int) -> Console:
    return Console(
        record=True,
        width=columns,
        file=io.StringIO(),
        force_terminal=True,
        color_system="standard",
    )


def _svg(console: Console, title: str) -> str:
    return console.export_svg(title=title, theme=THEME, code_format=SVG, unique_id=title.replace(" ", "-"))


def _typed(console: Console, command: str) -> None:
    console.print(Text("$ ", style="bold green") + Text(command, style="bold"))


def _columns() -> list[dict[str, Any]]:
    """What `kubectl get` shows without `-o wide`."""
    columns = yaml.safe_load(CRD.read_text(encoding="utf-8"))["spec"]["versions"][0]["additionalPrinterColumns"]
    return [column for column in columns if not column.get("priority")]


def _header() -> list[str]:
    return ["NAME", *(column["name"] for column in _columns())]


def _row(status: dict[str, Any]) -> list[str]:
    return [KEY.name, *(_value(status, column["jsonPath"]) for column in _columns())]


def _value(status: dict[str, Any], path: str) -> str:
    """Of `.status.x`, or of `.status.conditions[?(@.type=="x")].y`: those are what the definition has."""
    name = path.removeprefix(".status.")
    if not name.startswith("conditions"):
        return str(status[name])
    return str(_condition(status, name.partition('"')[2].partition('"')[0])[name.rpartition(".")[2]])


def _condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(each for each in status["conditions"] if each["type"] == kind)


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _coloured(line: str) -> Text:
    """kubectl has no colours; the picture marks what its reader looks for."""
    text = Text(line)
    text.highlight_words(["Healthy"], "green")
    text.highlight_words(["Warning"], "yellow")
    text.highlight_words(["Unhealthy"], "red")
    return text


if __name__ == "__main__":
    main()
