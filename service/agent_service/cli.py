"""The `slipway` command. Exit codes: 0 done, 1 failed, 2 a wrong setting or argument, 3 done in part."""

import asyncio
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, TypeVar
from uuid import UUID

import click
import psycopg

from agent_service.development.local_folder import find_folder, find_running, is_set
from agent_service.errors import SettingsError, SlipwayError
from agent_service.launch import launch
from agent_service.settings import Settings, load_settings, settings_table
from agent_service.terminal import plain, print_rows, print_table, read_documents

_Function = TypeVar("_Function", bound=Callable[..., Any])

DATABASE = ("DATABASE_URL", "DATABASE_URL_FILE")
"""One of them says where it is."""

DOCTOR = "doctor"

DOCTOR_TARGETS = ("--url", "--ops-url", "--release", "--local", "--help", "-h")

PARTIAL = 3
"""Exit code of `ingest` when some files could not be read."""


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except SettingsError as error:
        raise SystemExit(_complain(error.detail, 2)) from None
    except SlipwayError as error:
        raise SystemExit(_complain(error.detail, 1)) from None
    except psycopg.Error as error:
        raise SystemExit(_complain(f"database: {str(error).strip().splitlines()[0]}{_where_from()}", 1)) from None
    except OSError as error:
        raise SystemExit(_complain(str(error), 1)) from None


def _where_from() -> str:
    """What may be meant by a command in a folder of `slipway dev` that does not run."""
    if any(is_set(os.environ, name) for name in DATABASE):
        return ""
    return "; DATABASE_URL is not set, and no `slipway dev` runs in this folder" + (": start it" if find_folder() else "")


def _complain(detail: str, code: int) -> int:
    print(f"slipway: {detail}", file=sys.stderr)  # noqa: T201  # the message is for whoever typed the command
    return code


class _Command(click.Command):
    """Every command's errors are one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        with _one_line_errors():
            return super().invoke(ctx)


class _Group(click.Group):
    command_class = _Command


def _plugin(name: str) -> click.Command | None:
    """A command that another installed component brings, as slipway-doctor does."""
    for entry in entry_points(group="slipway.commands", name=name):
        command: click.Command = entry.load()
        return command
    return None


@click.command(DOCTOR, context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("_", nargs=-1)
def _no_doctor(_: object) -> None:
    """Finds what is wrong with a service: needs the package slipway-doctor."""
    raise SystemExit(
        _complain("doctor needs the package slipway-doctor (doctor/ of the repository): pip install slipway-doctor", 2)
    )


class _Main(_Group):
    """Our commands, and those that other components bring."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *entry_points(group="slipway.commands").names, DOCTOR})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or _plugin(cmd_name) or (_no_doctor if cmd_name == DOCTOR else None)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """`slipway doctor` without a target examines the `slipway dev` that runs here."""
        name, command, rest = super().resolve_command(ctx, args)
        if name == DOCTOR and not any(each.startswith(DOCTOR_TARGETS) for each in rest):
            running = find_running()
            if running and running.url:
                rest = ["--url", running.url, "--ops-url", running.ops_url, "--development", *rest]
        return name, command, rest


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="slipway", prog_name="slipway")
def main() -> None:
    """Runs LangGraph agents in production. Settings are environment variables: `slipway serve --help`."""


def _command_settings() -> Settings:
    """Settings of a command that opens no port: it must not ask who may call. Without DATABASE_URL those of the `slipway dev`
    that runs here."""
    running = None if any(is_set(os.environ, name) for name in DATABASE) else find_running()
    beside = {**running.variables, "DATABASE_URL": running.database_url, "DATABASE_URL_FILE": ""} if running else {}
    env = {**beside, **{name: value for name, value in os.environ.items() if value}, "AUTH": "disabled", "HOST": "127.0.0.1"}
    # A job of a release has the variables of `serve` without the mounts.
    if not Path(env.get("LANGGRAPH_CONFIG", "")).is_file():
        env.pop("LANGGRAPH_CONFIG", None)
    if env.get("DATABASE_URL") and not Path(env.get("DATABASE_URL_FILE", "")).is_file():
        env.pop("DATABASE_URL_FILE", None)
    return load_settings(env)


@main.command(epilog=f"\b\nSettings (environment variables):\n{settings_table()}\n\nExample:\n  AUTH=disabled slipway serve")
def serve() -> None:
    """Serves the API and the chat page until SIGTERM."""
    launch(load_settings())


@main.command(epilog="\b\nExample:\n  DATABASE_URL=postgresql://… slipway migrate")
@click.option("--wait", default=0.0, metavar="SECONDS", help="Wait so long for a database that does not answer yet.")
def migrate(wait: float) -> None:
    """Brings the database to this version's schema; safe to run twice, also at once."""
    from agent_service.db.address import Address  # noqa: PLC0415  # imported by the command that needs it
    from agent_service.db.migrate import migrate as apply  # noqa: PLC0415  # imported by the command that needs it
    from agent_service.db.migrate import wait_for_database  # noqa: PLC0415  # imported by the command that needs it

    settings = _command_settings()
    url = Address.of(settings)()
    wait_for_database(url, wait, lambda reason: click.echo(f"waiting for the database: {reason}", err=True))
    count = apply(url, lambda name: click.echo(f"applying {name}"), settings.database_pooler)
    click.echo(f"{count} migration{'' if count == 1 else 's'} applied; the schema is current")


@main.command(
    epilog="\b\nExit codes:\n  0  everything is in\n  1  the database or an endpoint failed; what came before is in"
    "\n  2  a wrong setting or argument\n  3  some files could not be read; the others are in"
    "\n\n\b\nExample:\n  slipway ingest docs/ handbook.pdf"
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def ingest(paths: tuple[Path, ...], as_json: bool) -> None:
    """Reads Markdown, text, HTML, PDF, Word, CSV and JSON into the documents that rag_search searches; again replaces."""
    if not as_json:
        click.echo("reading …", err=True)
    report = read_documents(_command_settings(), paths, quiet=as_json)
    from agent_service.commands import ingestion  # noqa: PLC0415  # imported by the command that needs it

    click.echo(ingestion.as_json(report) if as_json else "\n".join(ingestion.summary(report)))
    for path, reason in () if as_json else report.failed:
        click.echo(f"  {path}: {reason}", err=True)
    if report.failed:
        raise SystemExit(PARTIAL)


@main.command(epilog="\b\nExample:\n  AGENT_GRAPH=my_package.agent:graph slipway dev --docs ./handbook")
@click.option(
    "--dir",
    "directory",
    default=Path(".slipway"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="Where its PostgreSQL lives.",
)
@click.option(
    "--docs", multiple=True, type=click.Path(exists=True, path_type=Path), help="Documents to ingest first. Repeatable."
)
@click.option("--reload", is_flag=True, help="Serve a file of the graph that changes from the next run on.")
@click.option("--port", type=click.IntRange(0, 65535), help="In place of PORT; 0 is any free one.")
def dev(directory: Path, docs: tuple[Path, ...], reload: bool, port: int | None) -> None:
    """Everything on this machine: an embedded PostgreSQL, migrations, documents, and the service, open to loopback only.

    Without AGENT_GRAPH and LANGGRAPH_CONFIG it serves the graphs of the folder's langgraph.json, if there is one.
    """
    from agent_service.development.dev import run_dev  # noqa: PLC0415  # only here

    if port is not None:
        os.environ["PORT"] = str(port)
    run_dev(directory, docs, reload=reload)


@main.command(epilog="\b\nExample:\n  slipway init my-agent && cd my-agent && slipway dev --reload")
@click.argument("folder", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Makes a small project: an agent with a tool, langgraph.json, a test, a Dockerfile. It runs without a key."""
    from agent_service.development.own_command import own_command  # noqa: PLC0415  # only here
    from agent_service.development.project import make_project  # noqa: PLC0415  # likewise

    command = own_command(folder)
    for name in make_project(folder, command):
        click.echo(f"  {folder / name}")
    click.echo(f"\ncd {shlex.quote(str(folder))} && {command} dev --reload")


@main.command(epilog="\b\nExample:\n  SESSION_RETENTION_DAYS=90 slipway prune --dry-run")
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")
def prune(dry_run: bool, as_json: bool) -> None:
    """Removes expired events, old checkpoints and old sessions, as `serve` does in the background."""
    click.echo("looking for what is past its time …", err=True)
    from agent_service.commands.pruning import prune_database  # noqa: PLC0415  # imported by the command that needs it

    done = asyncio.run(prune_database(_command_settings(), dry_run=dry_run))
    if done is None:
        raise SlipwayError("another process is pruning; nothing was done here")
    if as_json:
        click.echo(json.dumps(asdict(done)))
        return
    would = "would be " if dry_run else ""
    click.echo(f"events of {done.runs} runs ({done.event_rows} rows) {would}removed; {done.sessions} sessions {would}erased")
    kept = f", {done.delta_threads} left alone (DeltaChannel)" if done.delta_threads else ""
    click.echo(f"{done.threads} threads {would}cut to their latest checkpoint{kept}")


@main.command(
    epilog="\b\nExample:\n  slipway costs --by user,model --days 7\n  slipway costs --by month,route --month 2026-10 --csv"
)
@click.option(
    "--by", default="day,model", show_default=True, help="day, month, model, user, session, route, graph; separated by commas."
)
@click.option("--days", default=30, show_default=True, type=click.IntRange(1, 3650), help="How many days back.")
@click.option("--month", metavar="YYYY-MM", help="One month (UTC) instead.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print the rows as CSV, for a spreadsheet.")
def costs(by: str, days: int, month: str | None, as_json: bool, as_csv: bool) -> None:
    """Tokens and USD of everyone, from the ledger, and what the month will have cost."""
    from agent_service.commands import costs as report  # noqa: PLC0415  # imported by the command that needs it

    if as_json and as_csv:
        raise SettingsError("--json, --csv: expected one of them")
    since, until = report.month_of(month) if month else (datetime.now(UTC) - timedelta(days=days), None)
    found = asyncio.run(report.cost_report(_command_settings(), by, since, until))
    if as_json or as_csv:
        click.echo(report.as_json(found) if as_json else report.as_csv(found), nl=as_json)
        return
    print_table(*report.table(found))
    for line in report.remarks(found):
        click.echo(line)


@main.group(cls=_Group)
def budgets() -> None:
    """What a user may spend in a day, and a tenant in a month (UTC); without one, the settings' limits hold."""


def _whose(command: _Function) -> _Function:
    user = click.option("--user", default="", help="A user's day. Without: the tenant's month.")
    return user(click.option("--tenant", default="default", show_default=True)(command))


@budgets.command(
    "set",
    epilog="\b\nExample:\n  slipway budgets set --user alice --usd 5 --tokens 2000000",
)
@_whose
@click.option("--tokens", type=click.IntRange(0, 2**63 - 1), help="Input and output together. Without: no limit.")
@click.option("--usd", type=float, help="By the price table. Without: no limit.")
def set_budget(tenant: str, user: str, tokens: int | None, usd: float | None) -> None:
    """Sets a budget, in place of the one before; it holds within 5 s, also for runs that are going."""
    from agent_service.commands.budgeting import set_budget as apply  # noqa: PLC0415  # imported by the command that needs it

    asyncio.run(apply(_command_settings(), tenant, user, tokens=tokens, usd=None if usd is None else Decimal(str(usd))))
    limits = ("any number of" if value is None else str(value) for value in (tokens, usd))
    click.echo("set: {} tokens, {} USD".format(*limits))


@budgets.command("unset", epilog="\b\nExample:\n  slipway budgets unset --user alice")
@_whose
def unset_budget(tenant: str, user: str) -> None:
    """Removes a budget: the settings' limits hold again."""
    from agent_service.commands.budgeting import unset_budget as apply  # noqa: PLC0415  # imported by the command that needs it

    if not asyncio.run(apply(_command_settings(), tenant, user)):
        raise SlipwayError(f"{tenant}{'/' if user else ''}{user} has no budget of its own")
    click.echo("removed")


@budgets.command("show", epilog="\b\nExample:\n  slipway budgets show --json")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_budgets(as_json: bool) -> None:
    """Budgets that were set, and whoever has spent anything in this day or month, with what is left."""
    from agent_service.commands.budgeting import all_budgets  # noqa: PLC0415  # imported by the command that needs it

    rows, truncated = asyncio.run(all_budgets(_command_settings()))
    print_rows(rows, truncated=truncated, as_json=as_json, nothing="nothing is set, and nothing was spent")


@main.group(cls=_Group)
def crons() -> None:
    """Runs at a schedule, which callers make by LangGraph's clients."""


@crons.command("list", epilog="\b\nExample:\n  slipway crons list --json")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_crons(as_json: bool) -> None:
    """Everybody's crons, the next first, with why the last run was not begun, if so."""
    from agent_service.commands.scheduling import all_crons  # noqa: PLC0415  # imported by the command that needs it

    rows, truncated = asyncio.run(all_crons(_command_settings()))
    print_rows(rows, truncated=truncated, as_json=as_json, nothing="there are no crons")


@crons.command("delete", epilog="\b\nExample:\n  slipway crons delete 1ef3cefa-4c09-6926-96d0-3dc97fd5e39b")
@click.argument("cron_id", type=click.UUID)
def delete_cron(cron_id: UUID) -> None:
    """Deletes a cron of anybody's; runs that were begun stay."""
    from agent_service.commands.scheduling import delete_cron as apply  # noqa: PLC0415  # imported by the command that needs it

    if not asyncio.run(apply(_command_settings(), cron_id)):
        raise SlipwayError(f"there is no cron {cron_id}")
    click.echo("deleted")


@main.group(cls=_Group)
def keys() -> None:
    """API keys: hashed records in a folder (API_KEYS_DIR)."""


def _or_that_of_dev(ctx: click.Context, param: click.Parameter, value: Path | None) -> Any:
    """The folder that is given, or that of a `slipway dev` that runs here, or would with AUTH=required."""
    if value is None:
        running, folder = find_running(), find_folder()
        found = running.api_keys_dir if running else folder / "keys" if folder else None
        if found is None:
            raise click.MissingParameter(ctx=ctx, param=param)
        return param.type.convert(found, param, ctx)
    return value


def _directory(*, exists: bool) -> Callable[[_Function], _Function]:
    return click.option(
        "--dir",
        "directory",
        envvar="API_KEYS_DIR",
        callback=_or_that_of_dev,
        show_envvar=True,
        type=click.Path(exists=exists, file_okay=False, path_type=Path),
        help="Folder of the key records. Default: of the `slipway dev` of this folder.",
    )


@keys.command("create", epilog="\b\nExample:\n  slipway keys create --user alice --dir ./keys")
@_directory(exists=False)
@click.option("--user", required=True, help="Whose sessions and budget it uses.")
@click.option("--tenant", default="default", show_default=True)
@click.option("--role", default="user", show_default=True, type=click.Choice(["user", "admin", "platform"], case_sensitive=False))
@click.option("--days", type=click.IntRange(1, 3650), help="Expires after so many days. Default: never.")
def create_key(directory: Path, user: str, tenant: str, role: Literal["user", "admin", "platform"], days: int | None) -> None:
    """Makes a key and prints it: this is the only time it is seen."""
    from agent_service.auth import api_keys  # noqa: PLC0415  # imported by the command that needs it

    expires = datetime.now(UTC) + timedelta(days=days) if days else None
    click.echo(api_keys.create_key(directory, user=user, tenant=tenant, role=role, expires_at=expires))


@keys.command("list", epilog="\b\nExample:\n  slipway keys list --dir ./keys")
@_directory(exists=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_keys(directory: Path, as_json: bool) -> None:
    """The keys' ids, owners and ages; never the keys."""
    from agent_service.auth import api_keys  # noqa: PLC0415  # imported by the command that needs it

    records = [
        {"id": r.id, "tenant": r.tenant, "user": r.user, "role": r.role, "created_at": r.created_at, "expires_at": r.expires_at}
        for r in api_keys.list_keys(directory)
    ]
    if as_json:
        click.echo(json.dumps(records, default=plain))
        return
    cells = [["" if value is None else str(plain(value)) for value in record.values()] for record in records]
    print_table(["id", "tenant", "user", "role", "created", "expires"], cells)


@keys.command("revoke", epilog="\b\nExample:\n  slipway keys revoke k3x9w2ab --dir ./keys")
@_directory(exists=True)
@click.argument("key_id")
def revoke_key(directory: Path, key_id: str) -> None:
    """Deletes a key's record; running processes refuse it within 2 s."""
    from agent_service.auth import api_keys  # noqa: PLC0415  # imported by the command that needs it

    api_keys.revoke_key(directory, key_id)
    click.echo(f"{key_id} revoked")
