"""NetworkPolicy is on, and enforced: a stranger in another namespace reaches neither the database nor the ops port."""

from collections.abc import Iterator

import pytest

from tests.e2e.agent import SERVICE_IMAGE, Agent
from tests.e2e.measure import streams, words_at
from tests.support.cluster import Namespace, fresh_namespace, idle_pod
from tests.support.figures import Report

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

REACHED, SILENT = "reached", "timed out"

CONNECT = (
    "import socket, sys\n"
    "try: socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3).close(); print('reached')\n"
    "except TimeoutError: print('timed out')\n"
    "except OSError as error: print('refused', error)"
)


@pytest.fixture(scope="module")
def stranger() -> Iterator[Namespace]:
    """A namespace with one pod, `stranger`, that only waits."""
    with fresh_namespace("e2e-stranger") as namespace:
        namespace.apply(idle_pod("stranger", SERVICE_IMAGE))
        namespace.kubectl("wait", "--for=condition=Ready", "pod/stranger", "--timeout=60s")
        yield namespace


async def test_the_service_works_behind_its_policy(agent: Agent) -> None:
    async with streams(agent, 5, words_at("policy", words=5, pace=5)) as measured:
        await measured.all_reading()

    measured.check()


def test_a_stranger_reaches_the_api_and_nothing_else(agent: Agent, stranger: Namespace, report: Report) -> None:
    addresses = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in agent.namespace.get("pods")}
    replica, database = addresses[agent.pods()[0].name], addresses[agent.pods("postgres")[0].name]

    found = {
        "API": reach(stranger, replica, 8000),
        "ops port": reach(stranger, replica, 9090),
        "database": reach(stranger, database, 5432),
    }
    report(f"network policy: a stranger's connection to {', '.join(f'{what}: {how}' for what, how in found.items())}")

    assert found == {"API": REACHED, "ops port": SILENT, "database": SILENT}


def reach(stranger: Namespace, address: str, port: int) -> str:
    return stranger.kubectl("exec", "stranger", "--", "python", "-c", CONNECT, address, str(port)).strip()
