"""From what is to be examined to the printed report and its exit code."""

import asyncio
import os
import shutil
import sys
from dataclasses import dataclass

import click
from rich.console import Console

from slipway_clients.egress.client import terminals_client
from slipway_clients.egress.text import plain
from slipway_doctor.by_environment import examine_environment
from slipway_doctor.by_ops import examine_ops
from slipway_doctor.by_release import Release, examine_release
from slipway_doctor.by_url import Target, examine
from slipway_doctor.checks.finding import Finding
from slipway_doctor.errors import CouldNotRun
from slipway_doctor.report import COULD_NOT_RUN, as_json, cleaned, exit_code, print_report

__all__ = ["Release", "Target", "Wanted", "report"]

WIDTH = 100
"""Columns at most: longer lines are hard to read; fewer when the terminal has fewer."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to examine; `local` is the environment of this process."""

    target: Target | None
    ops_url: str | None
    replicas: int
    release: Release | None
    local: bool


def report(wanted: Wanted, *, strict: bool, json_wanted: bool) -> int:
    """Prints what was found; the exit code of the command."""
    try:
        findings = asyncio.run(_examine(wanted))
    except CouldNotRun as error:
        print(f"slipway: {plain(error, 1000)}", file=sys.stderr)  # noqa: T201  # the message is for whoever typed the command
        return COULD_NOT_RUN
    findings = [cleaned(each) for each in (*findings, *(examine_environment(os.environ) if wanted.local else ()))]
    if json_wanted:
        click.echo(as_json(findings))
    else:
        print_report(findings, Console(width=min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)))
    return exit_code(findings, strict=strict)


async def _examine(wanted: Wanted) -> list[Finding]:
    found: list[Finding] = []
    async with terminals_client() as client:
        if wanted.target:
            found += await examine(wanted.target, client)
        if wanted.ops_url:
            found += await examine_ops(wanted.ops_url, wanted.replicas, client)
    if wanted.release:
        found += await examine_release(wanted.release)
    return found
