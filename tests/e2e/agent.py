"""An installed chart, and the way to it from outside: NodePorts, since a port-forward dies with its pod."""

import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jwt

from tests.support.cluster import Namespace, Pod, fresh_namespace, node_addresses, wait_until
from tests.support.helm import Release, Values

CHART = Path(__file__).parent.parent.parent / "charts" / "slipway"

SERVICE_IMAGE = os.environ.get("SLIPWAY_IMAGE", "localhost/slipway:e2e")
OPERATOR_IMAGE = os.environ.get("OPERATOR_IMAGE", "localhost/slipway-operator:e2e")
POSTGRES_IMAGE = os.environ.get("POSTGRES_IMAGE", "localhost/slipway-postgres:e2e")
TESTKIT_IMAGE = os.environ.get("TESTKIT_IMAGE", "localhost/slipway-testkit:e2e")
TESTKIT_NEXT_IMAGE = os.environ.get("TESTKIT_NEXT_IMAGE", "localhost/slipway-testkit:e2e-next")

SILENCE_SECONDS = 5.0
"""A careful client's patience with a stream: words come each second here, and heartbeats each two."""

CONNECT_SECONDS = 1.0
"""After which a client tries the next address: a kernel answers in milliseconds, a node that died never. As long as TCP waits
before it repeats itself."""

QUERY = """
import json, os, sys, psycopg
with psycopg.connect(os.environ["DATABASE_URL"]) as conn:
    cursor = conn.execute(sys.argv[1], sys.argv[2:])
    print(json.dumps(cursor.fetchall() if cursor.description else [], default=str))
"""

COUNT_EFFECTS = "SELECT count(*), coalesce(sum(times), 0)::int FROM testkit_effects WHERE effect LIKE %s"


@dataclass(frozen=True, slots=True)
class Agent:
    release: Release
    values: Values
    doors: list[str]
    """Base URLs: a NodePort on every node. A dead node's does not answer; the client goes on to the next."""
    jwt_secret: str

    @property
    def namespace(self) -> Namespace:
        return self.release.namespace

    @property
    def fullname(self) -> str:
        return fullname(self.release.name)

    @property
    def deployment(self) -> str:
        return f"deployment/{self.fullname}"

    def urls(self) -> list[str]:
        return self.doors

    def pods(self, component: str = "agent") -> list[Pod]:
        return pods_of(self.release, component)

    def serving(self) -> list[Pod]:
        return [pod for pod in self.pods() if pod.serving]

    def upgrade(self, changes: Values, *options: str) -> None:
        self.release.upgrade(self.values | changes, *options)

    def token(self, user: str = "e2e") -> str:
        return jwt.encode({"sub": user, "exp": int(time.time()) + 3600}, self.jwt_secret, "HS256")

    def client(self, **headers: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            headers={"Authorization": f"Bearer {self.token()}", **headers},
            timeout=httpx.Timeout(30, connect=CONNECT_SECONDS, read=SILENCE_SECONDS),
            limits=httpx.Limits(max_connections=1000, max_keepalive_connections=0),
        )

    def effects(self, prefix: str) -> tuple[int, int]:
        """How many effects whose name begins so the test graph has had, and how many times in all."""
        [[different, times]] = self.query(COUNT_EFFECTS, f"{prefix}%")
        return different, times

    def query(self, statement: str, *values: str) -> list[list[Any]]:
        """Rows of a statement, as the service's own role; types that JSON lacks come as text."""
        rows: list[list[Any]] = json.loads(self.namespace.python(self.deployment, QUERY, statement, *values))
        return rows


def fullname(release: str) -> str:
    return release if "slipway" in release else f"{release}-slipway"


def selector(release: str, component: str) -> dict[str, str]:
    names = {"name": "slipway", "instance": release, "component": component}
    return {f"app.kubernetes.io/{name}": value for name, value in names.items()}


def pods_of(release: Release, component: str) -> list[Pod]:
    labels = selector(release.name, component)
    return release.namespace.pods(",".join(f"{name}={value}" for name, value in labels.items()))


def image_values(image: str) -> Values:
    repository, tag = image.rsplit(":", 1)
    return {"repository": repository, "tag": tag}


def default_values() -> Values:
    """A quick start, but for where the images are."""
    return {"image": image_values(SERVICE_IMAGE), "postgres": {"image": image_values(POSTGRES_IMAGE)}}


def kit_values(**more: Any) -> Values:
    """The test graph. Heartbeats are so short that a client can tell a dead connection from a quiet one."""
    return default_values() | {"image": image_values(TESTKIT_IMAGE), "env": {"HEARTBEAT_SECONDS": 2}, **more}


@contextmanager
def running_agent(prefix: str, values: Values, *, chart: Path = CHART) -> Iterator[Agent]:
    """Installed in a namespace of its own, ready, and reachable; everything is deleted afterwards."""
    with fresh_namespace(prefix) as namespace:
        # Unlike any other release of the cluster: a drain selects its pods by this label alone.
        release = Release(namespace, f"agent-{secrets.token_hex(3)}", CHART)
        release.upgrade(values, chart=chart)
        yield open_door(release, values)


def open_door(release: Release, values: Values) -> Agent:
    namespace = release.namespace
    name = f"{release.name}-door"
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {
                "type": "NodePort",
                "selector": selector(release.name, "agent"),
                "ports": [{"port": 80, "targetPort": 8000}],
            },
        }
    )
    secret = namespace.kubectl(
        "get", "secret", f"{fullname(release.name)}-auth", '--output=go-template={{index .data "jwt-secret" | base64decode}}'
    )
    port = namespace.get("service", name)["spec"]["ports"][0]["nodePort"]
    doors = [f"http://{address}:{port}" for address in node_addresses().values()]
    wait_until("every node leads to the Service", lambda: all(map(leads, doors)), seconds=60)
    return Agent(release, values, doors, secret)


def leads(url: str) -> bool:
    """kube-proxy brings a new Service to its node within a second or two; until then connections are refused."""
    try:
        return httpx.get(f"{url}/live", timeout=CONNECT_SECONDS).is_success
    except httpx.HTTPError:
        return False
