"""The composition of one process: the only module that knows what the operator is made of."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version

from prometheus_client import make_wsgi_app, start_http_server

from agent_operator.leases import Fences
from agent_operator.metrics import Metrics
from agent_operator.metrics_api import metrics_api
from agent_operator.reconcile.agenthealth import agent_health
from agent_operator.reconcile.alertpolicy import AlertPolicies
from agent_operator.reconcile.controller import Controller
from agent_operator.reconcile.rotation import key_rotation
from agent_operator.reconcile.tools import Reconcile, Tools
from agent_operator.runbooks import with_runbooks
from agent_operator.settings import OperatorSettings
from slipway_clients.clock import SystemClock
from slipway_clients.cluster.http_cluster import connect
from slipway_clients.cluster.kinds import AGENT_HEALTH, ALERT_POLICY, KEY_ROTATION
from slipway_clients.egress.client import guarded_client

VERSION = version("slipway-operator")


@asynccontextmanager
async def operator(settings: OperatorSettings) -> AsyncIterator[Controller]:
    """A controller at work, the Leases asked for, metrics served. Raises ClusterError when no cluster is configured."""
    clock = SystemClock()
    asking = guarded_client(settings.loopback, ca_file=settings.prometheus_ca_file)
    async with connect(clock=clock) as cluster, guarded_client(settings.loopback) as http, asking as prometheus_http:
        fences = Fences(cluster, clock, holder=settings.holder, namespaces=settings.namespaces)
        metrics = Metrics(VERSION)
        metrics.lease_held.set_function(lambda: fences.held_now)
        tools = Tools(cluster, clock, fences, metrics, http, settings, prometheus_http)
        controller = Controller(tools, reconcilers(tools))
        served = _served(metrics, settings.listen_address, settings.metrics_port)
        async with served, metrics_api(tools), fences.held(), controller.running():
            yield controller


def reconcilers(tools: Tools) -> Mapping[str, Reconcile]:
    """A reconcile for each kind of our own, by the kind's name: a new kind is one line here."""
    return {
        AGENT_HEALTH.kind: agent_health(tools),
        ALERT_POLICY.kind: AlertPolicies(tools).reconcile,
        KEY_ROTATION.kind: key_rotation(tools),
    }


@asynccontextmanager
async def _served(metrics: Metrics, address: str, port: int) -> AsyncIterator[None]:
    # On a thread of its own: it answers while the event loop is busy.
    server, thread = start_http_server(port, address, registry=metrics.registry)
    server.set_app(with_runbooks(make_wsgi_app(metrics.registry)))
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
