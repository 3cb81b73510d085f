"""A cluster with pods, kubelets that bring a Secret to them when told to, a provider, and a clock; all in memory."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx

from agent_operator.leases import Fences
from agent_operator.metrics import Metrics
from agent_operator.reconcile.rotation.reconciler import KeyRotationReconciler
from agent_operator.reconcile.rotation.sources import Sources
from agent_operator.reconcile.tools import Key, Tools
from agent_operator.settings import OperatorSettings
from slipway_clients.cluster import Manifest
from slipway_clients.cluster.kinds import KEY_ROTATION, SECRET
from slipway_clients.egress.origins import origins
from tests.support.clock import WallClock
from tests.support.fake_cluster import FakeCluster
from tests.support.fake_openai_admin import transport
from tests.support.fake_openai_state import ADMIN_KEY, OpenAIState

NAMESPACE, NAME, OPERATOR = "team", "model-key", "slipway-system"
KEY = Key("KeyRotation", NAMESPACE, NAME)
SETTINGS = OperatorSettings(pod_namespace=OPERATOR, key_hosts=origins("http://model"))
LABELS = {"app.kubernetes.io/instance": "my-agent"}
OPENAI = {"openAI": {"projectID": "proj_1", "adminKey": {"secretName": "openai-admin"}}}


class Crash(Exception):
    """The operator dies right after a side effect."""


@dataclass
class FakePod:
    """A pod with the files it has loaded. It presents `current`, and is judged by that alone."""

    name: str
    address: str
    files: dict[str, str] = field(default_factory=dict)
    records: dict[str, str] = field(default_factory=dict)
    ready: bool = True
    stuck: bool = False
    """Its kubelet brings nothing new."""

    silent: bool = False
    status_key: str = "openai"

    def manifest(self) -> Manifest:
        conditions = [{"type": "Ready", "status": str(self.ready)}]
        status = {"phase": "Running", "podIP": self.address, "conditions": conditions}
        metadata = {"namespace": NAMESPACE, "name": self.name, "labels": LABELS}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status}


@dataclass
class PodAnswers:
    """`agent_operator.reconcile.rotation.consumers.PodClient`."""

    world: "World"

    async def status(self, address: str, port: int) -> dict[str, Any] | None:
        assert port == 9090
        pod = self.world.pods[address]
        return None if pod.silent else {"keys": {pod.status_key: self.world.status_of(pod)}}


@dataclass
class World:
    provider: dict[str, Any] = field(default_factory=lambda: OPENAI)
    options: dict[str, Any] = field(default_factory=dict)
    pod_count: int = 2
    status_key: str = "openai"
    status_of: Callable[[FakePod], str] = lambda pod: pod.files.get("revision", "")

    def __post_init__(self) -> None:
        self.clock = WallClock()
        self.cluster = FakeCluster()
        self.openai = OpenAIState(now=lambda: self.clock.now().timestamp())
        self.pods = {
            f"10.0.0.{n}": FakePod(f"agent-{n}", f"10.0.0.{n}", status_key=self.status_key) for n in range(1, self.pod_count + 1)
        }
        self.effects: list[str] = []
        self.sent_to: list[str] = []
        self.crash_after: int | None = None
        self.cluster.watchers.append(lambda call: self._effect(f"{call.verb} {call.kind}"))
        self._seed()
        self.restart()

    def restart(self) -> None:
        """A new operator, which remembers nothing."""
        fences = Fences(self.cluster, self.clock, holder="operator")
        self.http = httpx.AsyncClient(transport=httpx.MockTransport(self._provide))
        self.metrics = Metrics("test")
        self.tools = Tools(self.cluster, self.clock, fences, self.metrics, self.http, SETTINGS)
        self.operator = KeyRotationReconciler(self.tools, PodAnswers(self), Sources(self.tools))

    # What is in the cluster.

    @property
    def object(self) -> Manifest:
        found = self.cluster.find(KEY_ROTATION, NAMESPACE, NAME)
        assert found is not None
        return found

    @property
    def status(self) -> dict[str, Any]:
        return dict(self.object.get("status", {}))

    def secret(self, name: str = "openai-key") -> dict[str, str]:
        """The Secret's files as text; empty when it is not there."""
        found = self.cluster.find(SECRET, NAMESPACE, name)
        return {key: base64.b64decode(value).decode() for key, value in (found or {}).get("data", {}).items()}

    def condition(self, type_: str) -> dict[str, Any]:
        return next(dict(each) for each in self.status["conditions"] if each["type"] == type_)

    def reasons(self) -> list[str]:
        return [event.reason for event in self.cluster.events]

    def annotate(self, **annotations: str) -> None:
        changed = self.object
        notes = {f"slipway.dev/{name.replace('_', '-')}": value for name, value in annotations.items()}
        changed["metadata"]["annotations"] = {**changed["metadata"].get("annotations", {}), **notes}
        self.cluster.put(changed)

    def respec(self, **options: Any) -> None:
        changed = self.object
        changed["spec"] |= options
        self.cluster.put(changed)

    # Time.

    async def turn(self) -> float | None:
        """One call of reconcile; the world is checked after each side effect of it and at its end."""
        pause = await self.operator(KEY)
        self.check()
        return pause

    async def until(
        self, reached: Callable[[], bool], *, seconds: float = 3600, kubelets: bool = True, every: float = 5.0
    ) -> None:
        """Reconciles as the queue would: when the operator asked to be called, and `every` so many seconds while kubelets have
        something to bring. An operator that dies is started again.
        """
        end = self.clock.now() + timedelta(seconds=seconds)
        while not reached():
            assert self.clock.now() < end, f"not within {seconds} s: {self.status}"
            try:
                pause = await self.turn()
            except Crash:
                self.restart()
                pause = 0.0
            if reached():
                return
            step = every if pause is None else pause
            self.clock.pass_by(min(step, every) if kubelets and self._news() else step)
            if kubelets:
                self.sync()

    async def rotate(self, **more: Any) -> None:
        """Until a whole rotation is over."""
        wanted = self.status.get("revision", 0) + 1
        await self.until(lambda: self.status.get("revision", 0) >= wanted and self.idle, **more)

    @property
    def idle(self) -> bool:
        return self.status.get("phase") == "Idle" and "pending" not in self.status

    def sync(self) -> None:
        """Every kubelet that can brings the Secrets to its pod."""
        for pod in self.pods.values():
            if not pod.stuck:
                self.load(pod)

    def _news(self) -> bool:
        """Whether a kubelet has something to bring."""
        files, records = self.secret(), self.secret("api-keys")
        reached = [pod for pod in self.pods.values() if not pod.stuck]
        return any((pod.files, pod.records) != (files or pod.files, records or pod.records) for pod in reached)

    def show(self, pod: FakePod) -> None:
        """The API server learns of the pod's state."""
        self.cluster.put(pod.manifest())

    def load(self, pod: FakePod) -> None:
        pod.files = self.secret() or pod.files  # the files of a Secret that was deleted stay in the pod
        pod.records = self.secret("api-keys") or pod.records

    # What must hold at every moment.

    def check(self) -> None:
        if "openAI" in self.provider:
            for pod in self.pods.values():
                if pod.ready and "current" in pod.files:
                    assert self.openai.knows(pod.files["current"]), f"{pod.name} uses a revoked key; {self.effects[-5:]}"
        told = json.dumps(self.object) + repr(self.cluster.events)
        for value in self._values():
            assert value not in told

    def _values(self) -> list[str]:
        live = [key.value for key in self.openai.keys.values()]
        staged = [value for name, value in self.secret().items() if name != "revision"]
        return [ADMIN_KEY, *live, *staged]

    # Inside.

    def _seed(self) -> None:
        spec = {
            "target": {"secretName": "openai-key"},
            "consumers": {"selector": {"matchLabels": LABELS}},
            "provider": self.provider,
            "schedule": {"interval": "24h"},
            "overlap": "1m",
            **self.options,
        }
        meta = {"namespace": NAMESPACE, "name": NAME}
        self.cluster.put({"apiVersion": "slipway.dev/v1alpha1", "kind": "KeyRotation", "metadata": meta, "spec": spec})
        self.put_secret(OPERATOR, "openai-admin", {"admin-key": ADMIN_KEY}, annotations={"slipway.dev/allow": "team/proj_1"})
        for pod in self.pods.values():
            self.show(pod)

    def put_secret(self, namespace: str, name: str, files: dict[str, str], **metadata: Any) -> None:
        data = {key: base64.b64encode(value.encode()).decode() for key, value in files.items()}
        meta = {"namespace": namespace, "name": name, **metadata}
        self.cluster.put({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data})

    async def _provide(self, request: httpx.Request) -> httpx.Response:
        self.sent_to.append(str(request.url))
        response = await transport(self.openai).handle_async_request(request)
        if request.method != "GET":
            self._effect(f"{request.method} {request.url.path.rpartition('/')[2]}")
        return response

    def _effect(self, what: str) -> None:
        self.effects.append(what)
        self.check()
        if self.crash_after is not None and len(self.effects) == self.crash_after:
            raise Crash(what)


async def started(world: World) -> World:
    """The first key is published and in every pod."""
    await world.rotate()
    return world


def only_the_current_key_is_left(world: World) -> bool:
    """No orphan, and the key in use is not lost."""
    return [key.value for key in world.openai.keys.values()] == [world.secret().get("current")]
