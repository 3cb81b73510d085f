"""`slipway dev`: everything on this machine, each setting and port looked at before anything is started."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from pydantic import SecretStr

from agent_service.development.local_folder import NAME, Running, held, is_set, write_record
from agent_service.development.own_command import own_command
from agent_service.langgraph_file import read_env_file, read_langgraph_file
from agent_service.launch import launch
from agent_service.server.ports import check_free
from agent_service.settings import GraphSettings, Settings, check_folders, graph_settings, load_settings
from agent_service.terminal import read_documents

if TYPE_CHECKING:
    from agent_service.main import Beside

LANGGRAPH_FILE = Path("langgraph.json")
"""Where LangGraph's own server looks, in the working directory."""

ENV_FILE = Path(".env")

CALLERS = ("AUTH", "API_KEYS_DIR", "JWT_SECRET", "JWT_SECRET_DIR", "JWT_JWKS_URL", "OIDC_ISSUER")
"""One of them says who may call."""

ISSUERS = CALLERS[1:]


def run_dev(directory: Path, docs: Sequence[Path], *, reload: bool) -> None:
    """Serves until a signal says stop.

    Raises:
        SettingsError, GraphError: before anything is started.
    """
    directory = directory.resolve()
    variables = development_variables(directory)
    os.environ.update(variables)
    settings = load_settings()
    keys = directory / "keys"
    if settings.api_keys_dir == keys:
        keys.mkdir(parents=True, exist_ok=True)
    graphs = _look(settings)
    watching = _watching(graphs, settings) if reload else None
    keys.mkdir(parents=True, exist_ok=True)  # in which `slipway keys` looks
    if graphs.file:
        click.echo(f"graphs of {graphs.file.path}: {', '.join(each.name for each in graphs.file.graphs)}")
    from agent_service.db.migrate import migrate  # noqa: PLC0415  # half a second, after what can be wrong is told

    with _database(directory, settings) as url:
        click.echo("migrating …")
        migrate(url, lambda name: click.echo(f"  {name}"), settings.database_pooler)
        if not settings.database_url_file:  # which is followed
            settings = settings.model_copy(update={"database_url": SecretStr(url)})
        running = Running(url, str((settings.api_keys_dir or keys).absolute()), variables)
        write_record(directory, running)
        if docs:
            click.echo("ingesting documents …")
            report = read_documents(settings, docs)
            click.echo(f"  {report.ingested} new or changed, {report.unchanged} unchanged, {len(report.failed)} failed")

        def ready(address: str, ops_port: int) -> None:
            ops_url = f"http://{settings.ops_address}:{ops_port}"
            write_record(directory, replace(running, url=address, ops_url=ops_url))
            _say_ready(settings, address, directory)

        launch(settings, ready, watching)


def development_variables(directory: Path) -> dict[str, str]:
    """What `slipway dev` sets of what is not set: by the `env` of langgraph.json, by `.env`, and as its developer needs it.

    Raises:
        SettingsError: one of the files cannot be read.
    """
    environ, added = dict(os.environ), dict[str, str]()

    def default(name: str, value: str) -> None:
        if not is_set(environ, name):
            environ[name] = added[name] = value

    if not is_set(environ, "AGENT_GRAPH") and LANGGRAPH_FILE.is_file():
        default("LANGGRAPH_CONFIG", str(LANGGRAPH_FILE))
    if path := environ.get("LANGGRAPH_CONFIG"):
        for name, value in read_langgraph_file(Path(path)).env.items():
            default(name, value)
    if ENV_FILE.is_file():
        for name, value in read_env_file(ENV_FILE).items():
            default(name, value)
    if not any(is_set(environ, name) for name in CALLERS):
        default("AUTH", "disabled")
    elif not any(is_set(environ, name) for name in ISSUERS):
        default("API_KEYS_DIR", str(directory / "keys"))
    default("LOG_CONTENT", "on")
    default("OFFLINE_WORDS_PER_SECOND", "30")
    default("DEVELOPER_MODE", "on")
    default("API_DOCS", "on")
    return added


def _look(settings: Settings) -> GraphSettings:
    """Says what is wrong that can be told before anything is started."""
    from agent_service.agents.graph_import import look  # noqa: PLC0415  # only here

    check_folders(settings)
    if settings.price_file:
        from agent_service.prices import PriceFile  # noqa: PLC0415  # likewise

        PriceFile.open(settings.price_file)
    if settings.input_rules_file:
        from agent_service.agents.guardrails import own_rules  # noqa: PLC0415  # likewise

        own_rules(settings)
    graphs = graph_settings(settings)
    for source in graphs.sources:
        look(source, graphs.folders)
    check_free("PORT", settings.host, settings.port)
    check_free("OPS_PORT", settings.ops_address, settings.ops_port)
    return graphs


def _watching(graphs: GraphSettings, settings: Settings) -> "Beside":
    from agent_service.development import reload  # noqa: PLC0415  # only here

    default: str = type(settings).model_fields["agent_graph"].default
    folders = reload.folders_to_watch(graphs, default)
    reload.prepare()
    return lambda resources: reload.reload_forever(resources, folders)


@contextmanager
def _database(directory: Path, settings: Settings) -> Iterator[str]:
    """That of DATABASE_URL, or one of its own."""
    if settings.model_fields_set & {"database_url", "database_url_file"}:
        from agent_service.db.address import Address  # noqa: PLC0415  # only here

        click.echo("using the database of DATABASE_URL …")
        with held(directory):
            yield Address.of(settings)()
        return
    click.echo(f"starting PostgreSQL in {directory} …")
    from agent_service.development.embedded import embedded_postgres  # noqa: PLC0415  # only here

    with embedded_postgres(directory) as url:
        click.echo(f"  {url}")
        yield url


def _say_ready(settings: Settings, address: str, directory: Path) -> None:
    command = own_command(Path.cwd())
    callers = "anyone on this machine" if settings.auth == "disabled" else "with a credential"
    if settings.auth == "required" and settings.api_keys_dir == directory / "keys":
        callers += f": {command} keys create --user me"
    lines = [f"\nSlipway is ready: {address}   (Ctrl-C stops it)", f"  callers   {callers}"]
    if settings.api_docs == "on":
        lines.append(f"  HTTP API  {address}/docs")
    if directory == Path.cwd() / NAME:
        lines.append(f"  commands  {command} costs, ingest, keys, doctor …: from this folder they find its database")
    else:
        lines.append("  commands  set DATABASE_URL to the address above: only a .slipway in the folder is found by itself")
    click.echo("\n".join([*lines, ""]))
