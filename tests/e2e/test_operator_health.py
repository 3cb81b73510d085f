"""Ten faults, one after the other: AgentHealth names each within 30 s, and says that it is over; doctor agrees."""

import json
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.agent import CHART, SERVICE_IMAGE, Agent, default_values, open_door
from tests.e2e.operator import running_operator
from tests.support.cluster import fresh_namespace, require_api, wait_until
from tests.support.figures import Report
from tests.support.helm import Release

# A model endpoint in the cluster: knows /models alone, and can be told to refuse every key.

SCRIPT = """
import http.server
class Endpoint(http.server.BaseHTTPRequestHandler):
    status = 200
    def do_GET(self):
        self.send_response(Endpoint.status)
        self.end_headers()
    def do_POST(self):
        Endpoint.status = int(self.path.strip("/"))
        self.send_response(204)
        self.end_headers()
http.server.ThreadingHTTPServer(("", 8080), Endpoint).serve_forever()
"""

ANSWER_WITH = """
import urllib.request
urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:8080/{status}", method="POST"))
"""


def endpoint_manifests(image: str) -> list[dict[str, Any]]:
    """A Deployment and a Service, both named `model`."""
    labels = {"app": "model"}
    container = {
        "name": "model",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", SCRIPT],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "model"},
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "model"},
            "spec": {"selector": labels, "ports": [{"port": 8080}]},
        },
    ]


pytestmark = [pytest.mark.e2e, pytest.mark.timeout(480)]

TOLD_SECONDS = 30
"""From a fault to its reason in the object; two looks of the operator, and what the kubelet or Prometheus takes."""

START_SECONDS = 120
"""For a pod to start, or to crash: a busy machine took a minute."""

OVER_SECONDS = 120
"""From the repair to a condition that is True: pods have to start first."""

GONE = "agent_of_a_test_that_nobody_exports"


@dataclass(frozen=True, slots=True)
class Watched:
    agent: Agent

    @property
    def name(self) -> str:
        return self.agent.fullname

    def kubectl(self, *args: str, stdin: str | None = None) -> str:
        return self.agent.namespace.kubectl(*args, stdin=stdin)

    def condition(self, kind: str) -> dict[str, Any]:
        found = self.agent.namespace.get("agenthealth", self.name).get("status", {}).get("conditions", [])
        return next((dict(each) for each in found if each["type"] == kind), {})

    def wait_for(self, kind: str, status: str, reason: str | None, seconds: float) -> None:
        def look() -> bool:
            found = self.condition(kind)
            return found.get("status") == status and reason in {None, found["reason"]}

        try:
            wait_until(f"{kind}={status} {reason or ''}", look, seconds=seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it says {self.condition(kind)}") from None

    def patch(self, what: str, patch: dict[str, Any], kind: str = "strategic") -> None:
        self.kubectl("patch", what, f"--type={kind}", f"--patch={json.dumps(patch)}")

    def apply(self, manifest: dict[str, Any]) -> None:
        self.agent.namespace.apply(manifest)


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    """Two replicas with a model endpoint of their own, scraped and with rules, and the operator."""
    require_api("prometheusrules.monitoring.coreos.com")
    allowed = {"secretNames": ["model-key", "model-key-2"], "configMaps": True}
    with fresh_namespace("e2e-health") as namespace, running_operator(namespace, rights=allowed):
        for name, revision in (("model-key", "1"), ("model-key-2", "2")):
            data = {"current": "a-key", "revision": revision}
            namespace.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})
        for manifest in endpoint_manifests(SERVICE_IMAGE):
            namespace.apply(manifest)
        on = {"enabled": True}
        values = default_values() | {
            "replicaCount": 2,
            "model": {"name": "m", "baseUrl": "http://model:8080/v1", "existingSecret": "model-key"},
            "monitoring": {"serviceMonitor": on, "alerts": on, "dashboards": on},
            "operator": {"agentHealth": on},
            "networkPolicy": {"operatorNamespace": namespace.name},
        }
        release = Release(namespace, f"agent-{secrets.token_hex(3)}", CHART)
        release.upgrade(values)
        found = Watched(open_door(release, values))
        for kind in ("PodsReady", "DatabaseReachable", "ModelEndpointReachable", "Scraped", "RulesLoaded"):
            found.wait_for(kind, "True", None, 180)
        yield found


Fault = Callable[[Watched], AbstractContextManager[None]]


@contextmanager
def no_budget(watched: Watched) -> Iterator[None]:
    budget = watched.agent.namespace.get("pdb", watched.name)
    del budget["status"]
    watched.kubectl("delete", "pdb", watched.name)
    try:
        yield
    finally:
        watched.apply({**budget, "metadata": {key: budget["metadata"][key] for key in ("name", "labels")}})


@contextmanager
def single_replica(watched: Watched) -> Iterator[None]:
    watched.kubectl("scale", watched.agent.deployment, "--replicas=1")
    try:
        yield
    finally:
        watched.kubectl("scale", watched.agent.deployment, "--replicas=2")


@contextmanager
def metric_missing(watched: Watched) -> Iterator[None]:
    metric = {"type": "Pods", "pods": {"metric": {"name": GONE}, "target": {"type": "AverageValue", "averageValue": "1"}}}
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": watched.name}
    watched.apply(
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "broken"},
            "spec": {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 3, "metrics": [metric]},
        }
    )
    try:
        yield
    finally:
        watched.kubectl("delete", "hpa", "broken")


@contextmanager
def rule_not_loaded(watched: Watched) -> Iterator[None]:
    """The Prometheus operator leaves an object with a wrong expression out, and says so only in its log."""
    rule = {"alert": "Broken", "expr": "sum("}
    watched.apply(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": "broken", "labels": {"app.kubernetes.io/instance": watched.agent.release.name}},
            "spec": {"groups": [{"name": "broken", "rules": [rule]}]},
        }
    )
    try:
        yield
    finally:
        watched.kubectl("delete", "prometheusrule", "broken")


@contextmanager
def key_too_old(watched: Watched) -> Iterator[None]:
    watched.patch(f"agenthealth/{watched.name}", {"spec": {"limits": {"keyAgeDays": 0.0001}}}, "merge")
    try:
        yield
    finally:
        watched.patch(f"agenthealth/{watched.name}", {"spec": {"limits": None}}, "merge")


@contextmanager
def endpoint_refuses(watched: Watched) -> Iterator[None]:
    def answer_with(status: int) -> None:
        watched.kubectl("exec", "deployment/model", "--", "python", "-c", ANSWER_WITH.format(status=status))

    answer_with(401)
    try:
        yield
    finally:
        answer_with(200)


@contextmanager
def crash_loop(watched: Watched) -> Iterator[None]:
    """The rolling update keeps the old pods, so that nobody else notices."""
    watched.kubectl("set", "env", watched.agent.deployment, "--containers=agent", "MODEL_TIMEOUT=soon")
    wait_until("a second crash", lambda: any(pod.restarts for pod in watched.agent.pods()), seconds=START_SECONDS)
    try:
        yield
    finally:
        watched.kubectl("rollout", "undo", watched.agent.deployment)


@contextmanager
def revision_spread(watched: Watched) -> Iterator[None]:
    """A rollout to another Secret that stops after its first pod."""
    volumes = [{"name": "openai", "secret": {"secretName": "model-key-2"}}]
    spec = {"minReadySeconds": 600, "progressDeadlineSeconds": 900, "template": {"spec": {"volumes": volumes}}}
    watched.patch(watched.agent.deployment, {"spec": spec})
    wait_until("a third pod that is ready", lambda: len(watched.agent.serving()) > 2, seconds=START_SECONDS)  # two were
    try:
        yield
    finally:
        watched.patch(watched.agent.deployment, {"spec": {"minReadySeconds": 0}})
        watched.kubectl("rollout", "undo", watched.agent.deployment)


@contextmanager
def drain_stuck(watched: Watched) -> Iterator[None]:
    """What a lost node or a forgotten finalizer does: the pod should be gone, and is not."""
    name = watched.agent.serving()[0].name
    watched.patch(f"pod/{name}", {"metadata": {"finalizers": ["slipway.test/held"]}}, "merge")
    watched.kubectl("delete", "pod", name, "--grace-period=1", "--wait=false")
    try:
        yield
    finally:
        watched.patch(f"pod/{name}", {"metadata": {"finalizers": None}}, "merge")


@contextmanager
def database_gone(watched: Watched) -> Iterator[None]:
    database = f"statefulset/{watched.name}-postgres"
    watched.kubectl("scale", database, "--replicas=0")
    try:
        yield
    finally:
        watched.kubectl("scale", database, "--replicas=1")


FAULTS = [
    (key_too_old, "KeyFresh", "KeyTooOld"),
    (rule_not_loaded, "RulesLoaded", "RulesNotLoaded"),
    (metric_missing, "AutoscalerAble", "MetricMissing"),
    (endpoint_refuses, "ModelEndpointReachable", "KeyRefused"),
    (no_budget, "DisruptionBudget", "NoBudget"),
    (single_replica, "ReplicasEnough", "SingleReplica"),
    (drain_stuck, "DrainsEnd", "DrainStuck"),
    (revision_spread, "KeyRevisionsEqual", "RevisionSpread"),
    (crash_loop, "PodsReady", "CrashLoop"),
    (database_gone, "DatabaseReachable", "DatabaseUnreachable"),
]


@pytest.mark.parametrize(("fault", "kind", "reason"), FAULTS, ids=[fault.__name__ for fault, *_ in FAULTS])
def test_a_fault_is_named_within_half_a_minute_and_then_over(
    watched: Watched, report: Report, fault: Fault, kind: str, reason: str
) -> None:
    with fault(watched):
        began = time.monotonic()
        watched.wait_for(kind, "False", reason, TOLD_SECONDS)
        report(f"AgentHealth: {fault.__name__} is {kind} {reason} after {time.monotonic() - began:.0f} s")
        assert "Fix: " in watched.condition(kind)["message"]
    if kind == "AutoscalerAble":
        watched.wait_for(kind, "False", "NoAutoscaler", OVER_SECONDS)
    else:
        watched.wait_for(kind, "True", None, OVER_SECONDS)
    watched.wait_for("PodsReady", "True", None, OVER_SECONDS)


def doctor(watched: Watched) -> tuple[int, dict[str, str]]:
    """Exit code, and the reason of each check."""
    program = shutil.which("slipway-doctor", path=str(sys.exec_prefix) + "/bin")
    assert program
    release, namespace = watched.agent.release.name, watched.agent.namespace.name
    where = ["--release", release, "-n", namespace, "--prometheus", "monitoring/prometheus:9090"]
    done = subprocess.run([program, *where, "--json"], capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    return done.returncode, {check["id"]: check["reason"] for check in json.loads(done.stdout)["checks"]}


def test_doctor_passes_a_good_release_through_its_network_policy(watched: Watched) -> None:
    code, found = doctor(watched)

    assert (code, found["PodsReady"], found["DatabaseReachable"], found["RulesLoaded"], found["Permissions"]) == (
        0,
        "AllReady",
        "Answers",
        "Loaded",
        "Allowed",
    )


def test_doctor_fails_a_bad_release(watched: Watched) -> None:
    with no_budget(watched), single_replica(watched):
        code, found = doctor(watched)

    assert (code, found["DisruptionBudget"], found["ReplicasEnough"]) == (1, "NoBudget", "SingleReplica")
