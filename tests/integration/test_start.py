"""What a command or a fresh replica loads before its first word: counted in modules, as seconds vary with the machine."""

import json
import os
import socket
import subprocess
import sys
from typing import Any

import pytest

from tests.support.commands import command_paths

pytestmark = pytest.mark.slow
"""Each is an interpreter of its own: 1 to 3 s of CPU. What a command says and does, tests/service/test_cli.py tries in forks."""

HEAVY = frozenset(
    {"aiohttp", "fastapi", "httpx2", "jwt", "langchain_core", "langgraph", "lightkube", "openai", "sqlglot", "uvicorn"}
)
"""Each takes 0.1 to 1 s of CPU to import."""

UNNEEDED = frozenset(
    [
        "aiohttp",
        "cryptography",
        "grpc",
        "jwt",
        "lxml",
        "numpy",
        "openai",
        "langchain_openai",
        "opentelemetry.exporter",
        "pypdf",
        "sqlglot",
        "tiktoken",
    ]
)
"""By a replica with default settings."""

LIGHT_MODULES = 520
"""440 today: click, rich, pydantic and psycopg's reader of connection strings."""

COMMAND_MODULES = 1100
"""990 today, of `ingest`; most have 560."""

REPLICA_MODULES = 1850
"""1760 today, of them 730 of langchain_core, langgraph and langsmith; openai and langchain_openai would be 720 more."""

REPLICA_MB = 225
"""190 today, 30 of them pages of the tokenizer's vocabulary that all processes of a node share."""

COLLECTIONS = 10
"""1 today, of 60,000 objects that openai brings; Python's own threshold made it 280."""

AUTHORITIES = 3
"""How often certificate authorities are read, 35 ms of CPU each: as aiohttp is imported twice, as langchain_openai is once."""

ENDPOINT = {"MODEL": "gpt-4.1-mini", "OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}

COMMANDS = """
import json, sys
from agent_service.cli import main
for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit:
        pass
print(json.dumps(sorted(sys.modules)))
"""

REPLICA = """
import gc, json, os, pathlib, signal, ssl, sys
from agent_service.launch import launch
from agent_service.settings import load_settings
authorities = []
def counted(method):
    return lambda *given: authorities.append(method.__name__) or method(*given)
for name in ("load_verify_locations", "set_default_verify_paths"):
    setattr(ssl.SSLContext, name, counted(getattr(ssl.SSLContext, name)))
before = sum(each["collections"] for each in gc.get_stats())
def ready(_, __):
    collections = sum(each["collections"] for each in gc.get_stats()) - before
    from agent_service.api.app import ROUTERS
    read = [route.path for router in ROUTERS for route in router.routes if "dependant" in vars(route)]
    lines = pathlib.Path("/proc/self/smaps_rollup").read_text().splitlines()
    resident = next(int(line.split()[1]) for line in lines if line.startswith("Rss:"))
    counts = {"collections": collections, "authorities": len(authorities), "routes_read": read}
    print(json.dumps({"modules": sorted(sys.modules), "mb": resident / 1024, **counts}), flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
launch(load_settings(), ready)
"""


def run(code: str, *arguments: str, **env: str) -> Any:
    """What the code prints last, in a new interpreter with no other settings."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), **env}
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def replica(database_url: str, code: str = REPLICA, **env: str) -> Any:
    """The modules and megabytes of a replica that is ready, and ended by a SIGTERM at just that moment."""
    return run(code, AUTH="disabled", PORT="0", OPS_PORT="0", DATABASE_URL=database_url, **env)


@pytest.mark.parametrize(
    "commands",
    [
        [
            ["--version"],
            ["--help"],
            ["nonsense"],
            *([name, "--help"] for name in ("serve", "keys", "doctor", "migrate", "costs", "dev")),
        ],
        [["serve"], ["doctor"], ["keys", "list"], ["ingest", "/nowhere"], ["dev"]],
    ],
    ids=["help", "wrong"],
)
def test_help_and_errors_load_no_more_than_they_say(commands: list[list[str]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:  # what `dev` looks at last before it starts anything
        loaded = run(COMMANDS, json.dumps(commands), PORT=str(taken.getsockname()[1]))
    assert HEAVY & set(loaded) == set()
    assert len(loaded) < LIGHT_MODULES


CRON = "1ef3cefa-4c09-6926-96d0-3dc97fd5e39b"

GRAPHS = {"langchain_core", "langgraph"}

LOADED: list[tuple[set[str], list[list[str]]]] = [
    (set(), [["costs"], ["costs", "--csv"], ["crons", "list"], ["crons", "delete", CRON]]),
    (set(), [["init", "/proc/none"], ["budgets", "show"], ["budgets", "set", "--usd", "1"], ["budgets", "unset"]]),
    (
        set(),
        [["keys", "list", "--dir", "."], ["keys", "revoke", "x", "--dir", "."], ["keys", "create", "--user", "", "--dir", "."]],
    ),
    (GRAPHS, [["prune", "--dry-run"], ["migrate"]]),
    ({"langchain_core"}, [["ingest", __file__]]),
    ({"httpx2", "lightkube"}, [["doctor", "--local"]]),
]
"""What of HEAVY each command is about (the states of graphs, vectors, a cluster), and nothing else."""


@pytest.mark.parametrize(("needed", "commands"), LOADED, ids=lambda value: value[0][0] if isinstance(value, list) else "")
def test_a_command_loads_its_own_part_only(needed: set[str], commands: list[list[str]], database_url: str) -> None:
    loaded = set(run(COMMANDS, json.dumps(commands), DATABASE_URL=database_url))
    assert needed <= loaded
    assert (HEAVY - needed) & loaded == set()
    assert len(loaded) < COMMAND_MODULES


def test_every_command_is_among_them() -> None:
    tried = [command for _, commands in LOADED for command in commands]
    others = {("serve",), ("dev",)}  # see above; a replica has tests of its own

    assert [path for path in command_paths() if path not in others and not any(c[: len(path)] == [*path] for c in tried)] == []


def test_a_replica_loads_what_its_settings_need(database_url: str) -> None:
    fresh = replica(database_url)
    assert UNNEEDED & set(fresh["modules"]) == set()
    assert len(fresh["modules"]) < REPLICA_MODULES
    assert fresh["mb"] < REPLICA_MB
    assert fresh["routes_read"] == []


def test_a_replica_with_an_endpoint_loads_no_vocabulary_before_it_counts(database_url: str) -> None:
    fresh = replica(database_url, AGENT_GRAPH="bench.graph:shared", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", **ENDPOINT)
    loaded = set(fresh["modules"])
    assert {"openai", "langchain_openai", "opentelemetry.exporter.otlp.proto.http.trace_exporter"} <= loaded
    assert {"grpc", "numpy", "sqlglot", "langchain.agents", "jwt", "agent_service.agents.offline"} & loaded == set()
    assert fresh["mb"] < REPLICA_MB
    assert fresh["collections"] < COLLECTIONS
    assert fresh["authorities"] <= AUTHORITIES


GRPC = "opentelemetry.exporter.otlp.proto.grpc.trace_exporter"


@pytest.mark.parametrize(
    ("missing", "env"),
    [
        ("openai", ENDPOINT),
        (GRPC, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}),
    ],
)
def test_a_library_that_the_settings_need_is_missed_at_start(missing: str, env: dict[str, str], database_url: str) -> None:
    with pytest.raises(AssertionError, match=missing):
        replica(database_url, f"import sys; sys.modules[{missing!r}] = None\n{REPLICA}", **env)
