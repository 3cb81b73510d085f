"""What the scenarios share: an agent with the test graph, and the lines of the summary at the end."""

from collections.abc import Callable, Iterator

import pytest

from tests.e2e.agent import Agent, kit_values, running_agent
from tests.support.cluster import has_api

Report = Callable[[str], None]

LINES = pytest.StashKey[list[str]]()

REPLICAS = 3

INGRESS_HOST, ROUTE_HOST = "ingress.slipway.test", "route.slipway.test"


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LINES] = []


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> Report:
    """A line of the summary that `make e2e` ends with; also printed at once, as the whole takes long."""

    def write(line: str) -> None:
        print(line)  # noqa: T201  # the product of `make e2e`, which does not capture
        pytestconfig.stash[LINES].append(line)

    return write


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if lines := config.stash[LINES]:
        terminalreporter.section("what was measured")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def agent() -> Iterator[Agent]:
    """Three replicas with the test graph, everything of the chart on that this cluster can take. Scenarios leave it well."""
    values = kit_values(
        replicaCount=REPLICAS,
        streaming={"maxTurnSeconds": 300},
        limits={"ratePerMinute": 0, "runsPerCaller": 0},  # all scenarios are one caller
        monitoring={
            "serviceMonitor": {"enabled": has_api("servicemonitors.monitoring.coreos.com")},
            "alerts": {"enabled": has_api("prometheusrules.monitoring.coreos.com")},
            "dashboards": {"enabled": True},
        },
        ingress={"enabled": True, "host": INGRESS_HOST},
        httpRoute={
            "enabled": has_api("httproutes.gateway.networking.k8s.io"),
            "parentRefs": [{"name": "main", "namespace": "ingress"}],
            "hostnames": [ROUTE_HOST],
        },
    )
    with running_agent("e2e-agent", values) as found:
        yield found
