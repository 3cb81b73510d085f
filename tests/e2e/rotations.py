"""What a rotation needs in a cluster: a fake OpenAI in a pod, and somebody who kills the operator."""

import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

from tests.e2e.agent import SERVICE_IMAGE
from tests.support.cluster import Namespace, kubectl
from tests.support.fake_openai_state import ADMIN_KEY
from tests.support.helm import Release

ROOT = Path(__file__).parent.parent.parent

FAKE_FILES = ("fake_openai_admin", "fake_openai_state", "fake_model", "fake_script")
RESTRICTED = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def end_rotations(namespace: Namespace) -> None:
    """While the operator still runs: nobody else takes the finalizer off, and the namespace would stay."""
    if names := namespace.kubectl("get", "keyrotations", "--output=name").split():
        namespace.kubectl("delete", *names, "--timeout=60s")


def secret(name: str, data: dict[str, str], labels: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": labels}, "stringData": data}


@contextmanager
def killed_at_random(namespace: Namespace, release: Release, *, every: tuple[float, float], seed: int) -> Iterator[list[float]]:
    """SIGKILL to the operator's pod again and again, from a thread; the moments at which it happened."""
    ended, moments, pauses = Event(), list[float](), random.Random(seed)

    def kill() -> None:
        while not ended.wait(pauses.uniform(*every)):
            selector = f"app.kubernetes.io/instance={release.name}"
            namespace.kubectl("delete", "pod", f"--selector={selector}", "--grace-period=0", "--force", "--wait=false")
            moments.append(time.monotonic())

    thread = Thread(target=kill, name="killer")
    thread.start()
    try:
        yield moments
    finally:
        ended.set()
        thread.join()


def start_fake_openai(namespace: Namespace) -> str:
    """A fake OpenAI in a pod; the base URL, which ends in /v1. The operator's admin key is in the Secret openai-admin."""
    files = {f"{name}.py": (ROOT / "tests/support" / f"{name}.py").read_text(encoding="utf-8") for name in FAKE_FILES}
    url = f"http://fake-openai.{namespace.name}:8080/v1"
    labels = {"app": "fake-openai"}
    namespace.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "fake-openai"}, "data": {"__init__.py": "", **files}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "fake-openai"},
            "spec": {"selector": labels, "ports": [{"port": 8080}]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "fake-openai"},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": _fake_pod()},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "openai-admin", "annotations": {"slipway.dev/allow": f"{namespace.name}/proj_e2e"}},
            "stringData": {"admin-key": ADMIN_KEY, "base-url": url},
        },
    )
    namespace.wait_until_ready("fake-openai", seconds=120)
    return url


def fake_state(namespace: Namespace) -> dict[str, Any]:
    """What the fake OpenAI knows: keys, service accounts, refused model calls."""
    path = f"/api/v1/namespaces/{namespace.name}/services/fake-openai:8080/proxy/_state"
    state: dict[str, Any] = json.loads(kubectl("get", "--raw", path))
    return state


def _fake_pod() -> dict[str, Any]:
    program = ["python", "-m", "tests.support.fake_openai_admin", "--host", "0.0.0.0", "--port", "8080"]
    container = {
        "name": "fake-openai",
        "image": SERVICE_IMAGE,
        "command": [*program, "--tokens", "10", "--tokens-per-second", "20"],
        "env": [{"name": "PYTHONPATH", "value": "/opt/fake"}],
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/_state", "port": 8080}, "periodSeconds": 2},
        "securityContext": RESTRICTED,
        "volumeMounts": [{"name": "files", "mountPath": "/opt/fake/tests/support"}],
    }
    return {"containers": [container], "volumes": [{"name": "files", "configMap": {"name": "fake-openai"}}]}
