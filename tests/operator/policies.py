"""A policy in a cluster in memory, and a Prometheus that answers what a test says."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from agent_operator.leases import Fences
from agent_operator.manifests.conditions import find_condition
from agent_operator.metrics import Metrics
from agent_operator.reconcile.alertpolicy import AlertPolicies
from agent_operator.reconcile.tools import Key, Tools
from agent_operator.settings import OperatorSettings
from slipway_clients.cluster import Manifest
from slipway_clients.cluster.kinds import ALERT_POLICY, PROMETHEUS_RULE
from tests.support.clock import WallClock
from tests.support.fake_cluster import FakeCluster

KEY = Key("AlertPolicy", "team", "main")
MADE = "main-alertpolicy"


def policy(**spec: Any) -> Manifest:
    return {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "AlertPolicy",
        "metadata": {"name": "main", "namespace": "team"},
        "spec": {"release": "demo", **spec},
    }


@dataclass
class FakePrometheus:
    """Runs the groups it was given, and saw every metric but `unseen`."""

    groups: list[dict[str, Any]] = field(default_factory=list)
    firing: set[str] = field(default_factory=set)
    broken: dict[str, str] = field(default_factory=dict)
    unseen: set[str] = field(default_factory=set)
    down: bool = False
    asked: list[str] = field(default_factory=list)

    def load(self, cluster: FakeCluster) -> None:
        """What the Prometheus operator does some seconds after the object changed."""
        rule = cluster.find(PROMETHEUS_RULE, "team", MADE)
        self.groups = rule["spec"]["groups"] if rule else []

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.url.host}{request.url.path}")
        if self.down:
            raise httpx.ConnectError("connection refused", request=request)
        if request.url.path.endswith("/rules"):
            groups = [{"name": group["name"], "rules": [self._rule(rule) for rule in group["rules"]]} for group in self.groups]
            return httpx.Response(200, json={"status": "success", "data": {"groups": groups}})
        wanted = request.url.params["match[]"].split('"')[1].split("|")
        return httpx.Response(200, json={"status": "success", "data": [name for name in wanted if name not in self.unseen]})

    def _rule(self, rule: dict[str, Any]) -> dict[str, Any]:
        name = rule["alert"]
        return {
            "name": name,
            "annotations": rule["annotations"],
            "health": "err" if name in self.broken else "ok",
            "lastError": self.broken.get(name, ""),
            "state": "firing" if name in self.firing else "inactive",
        }


@dataclass
class Bench:
    cluster: FakeCluster
    prometheus: FakePrometheus
    clock: WallClock
    tools: Tools

    async def reconcile(self) -> float | None:
        return await AlertPolicies(self.tools).reconcile(KEY)

    def made(self) -> Manifest:
        found = self.cluster.find(PROMETHEUS_RULE, "team", MADE)
        assert found is not None
        return found

    def condition(self, type_: str) -> tuple[str, str, str]:
        """Status, reason and message."""
        found = self.cluster.find(ALERT_POLICY, "team", "main")
        assert found is not None
        condition = find_condition(found["status"]["conditions"], type_)
        assert condition is not None
        return condition["status"], condition["reason"], condition["message"]


def settings(prometheus_url: str) -> OperatorSettings:
    return OperatorSettings(prometheus_url=prometheus_url, prometheus_urls=("http://other",))


@asynccontextmanager
async def bench(*objects: Manifest, prometheus_url: str = "http://prometheus") -> AsyncIterator[Bench]:
    cluster, prometheus, clock = FakeCluster(objects), FakePrometheus(), WallClock()
    async with httpx.AsyncClient(transport=httpx.MockTransport(prometheus.answer)) as http:
        tools = Tools(cluster, clock, Fences(cluster, clock, holder="pod"), Metrics("1"), http, settings(prometheus_url))
        yield Bench(cluster, prometheus, clock, tools)
