"""k8s/database on a cluster: PgBouncer in transaction mode, TLS with a private authority, another password, another primary."""

import asyncio
import base64
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from tests.durability.test_password_rotation import EXAMPLE, PAGE, statements
from tests.e2e.agent import CHART, Agent, kit_values, open_door
from tests.e2e.measure import eventually, streams, words_at
from tests.field.test_database_tls import Certificate
from tests.support.cluster import Namespace, fresh_namespace, wait_until
from tests.support.figures import Report
from tests.support.helm import Release

# A PostgreSQL outside of the chart: a primary with a standby, both with TLS, and the PgBouncer of k8s/database before them.

IMAGE = os.environ.get("DATABASE_IMAGE", "localhost/slipway-database:e2e")

PATIENCE = 120
"""Seconds for what takes some on an idle machine."""

HBA = "local all all trust\nhostssl all all all scram-sha-256\nhostssl replication all all scram-sha-256\n"

FLAGS = (
    "-c listen_addresses='*' -c unix_socket_directories=/var/run/postgresql -c hba_file=/config/pg_hba.conf "
    "-c ssl=on -c ssl_cert_file=/tls/tls.crt -c ssl_key_file=/tls/tls.key"
)

PRIMARY = f"""[ -s "$PGDATA/PG_VERSION" ] || initdb --username=postgres --auth=scram-sha-256 --pwfile=/config/password
exec postgres {FLAGS}"""

COPY = 'pg_basebackup --pgdata="$PGDATA" --write-recovery-conf --checkpoint=fast --dbname="$(cat /config/primary)"'

STANDBY = f"""[ -s "$PGDATA/PG_VERSION" ] || until {COPY}; do sleep 1; done
exec postgres {FLAGS}"""

TO_PRIMARY = "host=postgres user=postgres password=admin sslmode=require application_name=standby"


@dataclass(frozen=True, slots=True)
class Database:
    """In a namespace; the Service `postgres` leads to the primary, `pgbouncer` to the pooler."""

    namespace: Namespace

    def start(self) -> None:
        authority, name = Certificate("authority"), self.namespace.name
        server, pooler = (Certificate(f"{host}.{name}.svc", by=authority) for host in ("postgres", "pgbouncer"))
        self.namespace.apply(
            secret("postgres-tls", **{"tls.crt": server.pem, "tls.key": server.private_pem}),
            secret("pgbouncer-tls", **{"tls.crt": pooler.pem, "tls.key": pooler.private_pem}),
            secret("postgres-ca", **{"ca.crt": authority.pem}),
            secret("pgbouncer-ca", **{"ca.crt": authority.pem}),
            secret("pgbouncer-login", **{"userlist.txt": '"pgbouncer" "pooler"\n'}),
            secret("postgres-config", **{"pg_hba.conf": HBA, "password": "admin", "primary": TO_PRIMARY}),
            self.address("slipway_a", "first"),
            leading_to("primary"),
            deployment("primary", PRIMARY),
        )
        self.namespace.wait_until_ready("primary", seconds=PATIENCE)
        for statement in ("CREATE ROLE slipway_data_reader NOLOGIN", "CREATE DATABASE slipway"):
            self.sql(statement, database="postgres")
        for statement in (*statements(PAGE, "## Rotate the password"), *statements(EXAMPLE / "README.md", "")):
            self.sql(statement)
        self.namespace.apply(deployment("standby", STANDBY), *self._pooler())
        self.namespace.wait_until_ready("standby", "pgbouncer", seconds=PATIENCE)
        # A commit waits for the standby: what a lost primary takes with it was told to nobody.
        self.sql("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        self.sql("SELECT pg_reload_conf()")
        synchronous = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        wait_until("the standby follows", lambda: self.sql(synchronous) == "1", seconds=PATIENCE)

    def _pooler(self) -> list[dict[str, Any]]:
        """Of k8s/database, in this namespace, by this image, to this server."""
        text = (EXAMPLE / "pgbouncer.yaml").read_text(encoding="utf-8")
        text = text.replace("namespace: agents", f"namespace: {self.namespace.name}")
        text = text.replace("host=db.internal", f"host=postgres.{self.namespace.name}.svc")
        objects = list(yaml.safe_load_all(text))
        [container] = objects[1]["spec"]["template"]["spec"]["containers"]
        container["image"] = IMAGE
        return objects

    def address(self, user: str, password: str) -> dict[str, Any]:
        """The agent's Secret."""
        return secret("agent-database", url=f"postgresql://{user}:{password}@pgbouncer.{self.namespace.name}.svc/slipway")

    def sql(self, statement: str, *, server: str = "primary", database: str = "slipway") -> str:
        """What the administrator's psql prints, without headings."""
        command = ("psql", "--username=postgres", f"--dbname={database}", "--no-psqlrc", "--tuples-only", "--no-align")
        options = ("--set=ON_ERROR_STOP=1", "--host=/var/run/postgresql", f"--command={statement}")
        return self.namespace.kubectl("exec", f"deployment/{server}", "--", *command, *options).strip()

    def fail_over(self) -> None:
        """The primary is lost with all it has; the standby takes over and the Service leads to it, as an operator does it."""
        self.namespace.kubectl("delete", "deployment", "primary", "--wait=false")
        self.namespace.kubectl("delete", "pods", "--selector=role=primary", "--grace-period=0", "--force", "--wait=false")
        self.sql("SELECT pg_promote()", server="standby")
        self.namespace.apply(leading_to("standby"))


def secret(name: str, **values: str) -> dict[str, Any]:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}


def leading_to(role: str) -> dict[str, Any]:
    spec = {"selector": {"role": role}, "ports": [{"name": "postgres", "port": 5432}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "postgres"}, "spec": spec}


def deployment(role: str, script: str) -> dict[str, Any]:
    """One PostgreSQL; what it has is gone with its pod."""
    container = {
        "name": "postgres",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-euc", script],
        "readinessProbe": {
            "exec": {"command": ["pg_isready", "--quiet", "--username=postgres", "--host=/var/run/postgresql"]},
            "periodSeconds": 2,
        },
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "data", "mountPath": "/var/lib/postgresql/data"},
            {"name": "config", "mountPath": "/config"},
            {"name": "tls", "mountPath": "/tls"},
        ],
    }
    ids = {"runAsUser": 999, "runAsGroup": 999, "fsGroup": 999}
    spec = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 5,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, **ids},
        "containers": [container],
        "volumes": [
            {"name": "data", "emptyDir": {}},
            {"name": "config", "secret": {"secretName": "postgres-config", "defaultMode": 0o440}},
            {"name": "tls", "secret": {"secretName": "postgres-tls", "defaultMode": 0o440}},
        ],
    }
    template = {"metadata": {"labels": {"role": role}}, "spec": spec}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": role},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"role": role}}, "template": template},
    }


pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

REPLICAS = 2

STREAMS = 30

NAME = "external"

SEEN_SECONDS = 150
"""For a kubelet to bring a changed Secret to its pods: it looks at each once in about a minute."""


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with fresh_namespace("e2e-database") as namespace:
        found = Database(namespace)
        found.start()
        yield found


@pytest.fixture(scope="module")
def agent(database: Database) -> Agent:
    """By the example's values, as far as they are about the database."""
    example = yaml.safe_load((EXAMPLE / "agent.values.yaml").read_text(encoding="utf-8"))
    limits = {"ratePerMinute": 0, "runsPerCaller": 0}  # all streams are one caller
    about = {part: example[part] for part in ("postgres", "networkPolicy")}
    values = kit_values(replicaCount=REPLICAS, limits=limits, **about)
    release = Release(database.namespace, NAME, CHART)
    release.upgrade(values)
    return open_door(release, values)


def of_the_first(database: Database) -> str:
    return database.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'slipway_a'")


async def test_a_password_is_replaced_and_the_old_user_locked_out_under_load(
    database: Database, agent: Agent, report: Report
) -> None:
    assert of_the_first(database) != "0"
    async with streams(agent, STREAMS, words_at("rotated", words=20, pace=1)) as measured:
        await measured.all_reading()
        changed = time.monotonic()
        await asyncio.to_thread(database.namespace.apply, database.address("slipway_b", "second"))
        await eventually(lambda: of_the_first(database) == "0", SEEN_SECONDS)
        seconds = time.monotonic() - changed
        await asyncio.to_thread(database.sql, "ALTER ROLE slipway_a NOLOGIN")
        await asyncio.sleep(2)  # turns begin and end without the first user
    report(f"{measured.line('database password replaced, through PgBouncer')}; the old user was gone after {seconds:.0f} s")

    measured.check()
    assert [pod.restarts for pod in agent.pods()] == [0] * REPLICAS


async def test_a_primary_is_lost_and_its_standby_takes_over_under_load(database: Database, agent: Agent, report: Report) -> None:
    async with streams(agent, STREAMS, words_at("failover", words=30, pace=1)) as measured:
        await measured.all_reading()
        await asyncio.to_thread(database.fail_over)
    report(measured.line("database primary lost, standby promoted"))

    measured.check()
    await eventually(lambda: len(agent.serving()) == REPLICAS, PATIENCE)
    assert database.sql("SELECT pg_is_in_recovery()", server="standby") == "f"
