"""A cluster by kubectl: a namespace for a module's tests, and ports of its pods on loopback."""

import re
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


@dataclass(frozen=True, slots=True)
class Namespace:
    name: str

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        """Output of kubectl in this namespace; an AssertionError with its message when it fails."""
        return kubectl("--namespace", self.name, *args, stdin=stdin)

    def wait_until_ready(self, *deployments: str, seconds: int) -> None:
        """An AssertionError with the pods' states and last lines when one is not."""
        try:
            for name in deployments:
                self.kubectl("rollout", "status", f"deployment/{name}", f"--timeout={seconds}s")
        except AssertionError as error:
            pods = self.kubectl("get", "pods", "--output=wide")
            logs = [
                self.kubectl("logs", f"deployment/{name}", "--all-containers", "--prefix", "--tail=10", "--ignore-errors")
                for name in deployments
            ]
            raise AssertionError("\n".join([str(error), pods, *logs])) from None

    @contextmanager
    def port_forward(self, target: str, port: str) -> Iterator[str]:
        """Base URL of a port of `target`, such as `deployment/slipway`."""
        command = ["kubectl", "--namespace", self.name, "port-forward", target, f":{port}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                match = re.search(r"127\.0\.0\.1:(\d+)", line)
                assert match, f"kubectl port-forward {target} {port}: {line}"
                yield f"http://127.0.0.1:{match[1]}"
            finally:
                process.terminate()


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
