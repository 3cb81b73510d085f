"""A cluster by kubectl: a namespace for a module's tests, and ports of its pods on loopback."""

import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import pytest

T = TypeVar("T")

ASK_OPS_PORT = (
    "import http.client, sys; conn = http.client.HTTPConnection('127.0.0.1', 9090, timeout=5);"
    "conn.request('GET', sys.argv[1]); print(conn.getresponse().read().decode())"
)

RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


@dataclass(frozen=True, slots=True)
class Namespace:
    name: str

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        """Output of kubectl in this namespace; an AssertionError with its message when it fails."""
        return kubectl("--namespace", self.name, *args, stdin=stdin)

    def get(self, *args: str) -> Any:
        """What `kubectl get` finds, as JSON: an object, or the items of a list."""
        found = json.loads(self.kubectl("get", *args, "--output=json"))
        return found.get("items", found)

    def apply(self, *manifests: dict[str, Any]) -> None:
        self.kubectl("apply", "--filename=-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))

    def pods(self, labels: str) -> list["Pod"]:
        return [Pod.read(item) for item in self.get("pods", f"--selector={labels}")]

    def wait_until_ready(self, *deployments: str, seconds: int) -> None:
        """An AssertionError with the pods' states and last lines when one is not."""
        try:
            for name in deployments:
                self.kubectl("rollout", "status", f"deployment/{name}", f"--timeout={seconds}s")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.describe()}") from None

    def describe(self) -> str:
        """The pods, and the last lines of each: for a message when something went wrong."""
        pods = self.kubectl("get", "pods", "--output=name").split()
        logs = [self.kubectl("logs", pod, "--all-containers", "--prefix", "--tail=5", "--ignore-errors") for pod in pods]
        return "\n".join([self.kubectl("get", "pods", "--output=wide"), *logs])

    def ops(self, pod: str, path: str) -> str:
        """Body of an answer of the ops port, whatever its status.

        Asked by a process of its own in the pod: network policies let Prometheus in, and not the API server's proxy.
        """
        return self.kubectl("exec", pod, "--", "python", "-c", ASK_OPS_PORT, path)

    def python(self, target: str, script: str, *args: str) -> str:
        """What a script prints in `target`, a pod or a deployment whose image has Python."""
        return self.kubectl("exec", "--stdin", target, "--", "python", "-", *args, stdin=script)


@dataclass(frozen=True, slots=True)
class Pod:
    name: str
    node: str
    ready: bool
    leaving: bool
    restarts: int

    @classmethod
    def read(cls, item: dict[str, Any]) -> "Pod":
        status = item.get("status", {})
        conditions = {condition["type"]: condition["status"] for condition in status.get("conditions", ())}
        return cls(
            name=item["metadata"]["name"],
            node=item["spec"].get("nodeName", ""),
            ready=conditions.get("Ready") == "True",
            leaving="deletionTimestamp" in item["metadata"],
            restarts=sum(container["restartCount"] for container in status.get("containerStatuses", ())),
        )

    @property
    def serving(self) -> bool:
        return self.ready and not self.leaving


def kubectl(*args: str, stdin: str | None = None) -> str:
    done = subprocess.run(["kubectl", *args], input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"kubectl {' '.join(args)}: {done.stderr}"
    return done.stdout


@contextmanager
def fresh_namespace(prefix: str) -> Iterator[Namespace]:
    """Deleted afterwards. Its pods must keep to the restricted pod security standard."""
    namespace = Namespace(f"{prefix}-{uuid.uuid4().hex[:8]}")
    kubectl("create", "namespace", namespace.name)
    try:
        kubectl("label", "namespace", namespace.name, RESTRICTED)
        yield namespace
    finally:
        kubectl("delete", "namespace", namespace.name, "--wait=false")


def idle_pod(name: str, image: str) -> dict[str, Any]:
    """A pod of an image with Python that only waits, to run commands in."""
    security = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "python",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", "import time; time.sleep(3600)"],
        "securityContext": security,
    }
    spec = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def wait_until(what: str, look: Callable[[], T | None], *, seconds: float, every: float = 0.5) -> T:
    """What `look` finds, once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(every)
    return found


def node_addresses() -> dict[str, str]:
    """Addresses of the nodes by name: NodePorts answer there."""
    nodes = json.loads(kubectl("get", "nodes", "--output=json"))["items"]
    return {
        node["metadata"]["name"]: address["address"]
        for node in nodes
        for address in node["status"]["addresses"]
        if address["type"] == "InternalIP"
    }


def has_api(resource: str) -> bool:
    """Whether the cluster knows a resource such as `servicemonitors.monitoring.coreos.com`."""
    group = resource.partition(".")[2]
    return resource in kubectl("api-resources", f"--api-group={group}", "--output=name").split()


def require_api(resource: str) -> None:
    if not has_api(resource):
        pytest.skip(f"needs a cluster with {resource}")


def prometheus_api(call: str) -> Any:
    """Data that the Prometheus of the cluster's `monitoring` add-on answers a call such as `rules` with."""
    path = f"/api/v1/namespaces/monitoring/services/prometheus:web/proxy/api/v1/{call}"
    return json.loads(kubectl("get", "--raw", path))["data"]


def prometheus_query(query: str) -> list[dict[str, Any]]:
    """Samples with `metric` and `value`."""
    result: list[dict[str, Any]] = prometheus_api(f"query?query={quote(query)}")["result"]
    return result


def machine_tool() -> str:
    """CLUSTER_TOOL, which can kill nodes and cut them off; skips where there is none."""
    tool = os.environ.get("CLUSTER_TOOL")
    if not tool:
        pytest.skip("needs CLUSTER_TOOL, a program that can kill nodes (docs/developer/testing.md)")
    return tool


def machine(*command: str) -> None:
    tool = machine_tool()
    done = subprocess.run([tool, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{tool} {' '.join(command)}: {done.stderr}"
