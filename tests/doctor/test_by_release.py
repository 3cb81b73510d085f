"""doctor on a release: the checks of AgentHealth, and what the caller may not read."""

from collections.abc import Awaitable, Callable

import httpx
import pytest

from slipway_clients.cluster import Forbidden, Manifest, Unavailable
from slipway_clients.cluster.kinds import DEPLOYMENT
from slipway_clients.cluster.proxy import pod_url, service_url
from slipway_doctor.by_release import LOOK_SECONDS, Release, examine_with, prometheus_of, until_judged
from slipway_doctor.checks.finding import Area, Finding, Status
from slipway_doctor.checks.gather import by_address
from slipway_doctor.errors import CouldNotRun
from tests.doctor.checks import release
from tests.operator.reconcile.test_agenthealth import World
from tests.support.clock import WallClock
from tests.support.fake_cluster import FakeCluster

MINE = Release(release.RELEASE, release.NAMESPACE)


class Reviewing(FakeCluster):
    """Answers access reviews: everything is allowed but what `refused` names."""

    refused: tuple[str, ...] = ()

    async def create(self, manifest: Manifest) -> Manifest:
        asked = manifest["spec"]["resourceAttributes"]
        return {**manifest, "status": {"allowed": asked["resource"] not in self.refused}}


class SomeRefused(Reviewing):
    refused = ("secrets", "pods")


async def examined(world: World) -> dict[str, Finding]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(world.answer)) as http:
        found = await examine_with(world.cluster, world.clock, by_address(http), MINE, None)
    return {finding.id: finding for finding in found}


async def test_a_release_is_judged_like_by_agent_health() -> None:
    found = await examined(World(Reviewing))

    assert (found["PodsReady"].reason, found["DatabaseReachable"].reason, found["Permissions"].reason) == (
        "AllReady",
        "Answers",
        "Allowed",
    )
    assert found["RulesLoaded"].reason == "NoPrometheus"


async def test_what_the_caller_may_not_do_is_named() -> None:
    found = await examined(World(SomeRefused))

    assert found["Permissions"].message == "you may not list pods, get pods/proxy, get secrets"


@pytest.mark.parametrize("missing", [True, False])
async def test_who_may_not_list_deployments_gets_no_report(missing: bool) -> None:
    world = World(Reviewing)
    if missing:
        world.cluster.drop(DEPLOYMENT, release.NAMESPACE, "my-agent-slipway")
    world.cluster.fail(Forbidden("deployments.apps is forbidden"), verb="list", kind=DEPLOYMENT)

    with pytest.raises(CouldNotRun, match="you may not list deployments in namespace prod"):
        await examined(world)


async def test_who_may_not_list_pods_does_not_pass() -> None:
    assert (await examined(World(SomeRefused)))["Permissions"].status is Status.FAIL


async def test_a_release_that_is_not_there_is_no_report() -> None:
    world = World(Reviewing)
    world.cluster.drop(DEPLOYMENT, release.NAMESPACE, "my-agent-slipway")

    with pytest.raises(CouldNotRun, match="no Deployment of a release my-agent in namespace prod"):
        await examined(world)


async def test_prometheus_is_reached_by_url_or_through_the_api_server() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url).partition("?")[0])
        return httpx.Response(200, json={"status": "success", "data": {"alerts": []}})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        for address in ("monitoring/prometheus:web", "http://prometheus.example:9090"):
            prometheus = prometheus_of(address, http, http)
            assert prometheus
            await prometheus.alerts()
        with pytest.raises(CouldNotRun, match="NAMESPACE/SERVICE:PORT"):
            prometheus_of("prometheus", http, http)

    base = "http://kubernetes/api/v1/namespaces/monitoring/services/prometheus:web/proxy"
    assert asked == [f"{base}/api/v1/alerts", "http://prometheus.example:9090/api/v1/alerts"]
    assert service_url("monitoring", "prometheus", "web") == base
    assert pod_url(release.pod_manifest("a", "node1"), 9090).endswith("/namespaces/prod/pods/a:9090/proxy")


class Passing(WallClock):
    """Sleeping is what makes time pass."""

    async def sleep(self, seconds: float) -> None:
        self.pass_by(seconds)


def looks(*verdicts: tuple[Status, str]) -> tuple[list[str], Callable[[], Awaitable[list[Finding]]]]:
    """Examinations with these verdicts on the rollout, the last one for ever; and what was told so far."""
    told: list[str] = []

    async def examine() -> list[Finding]:
        status, reason = verdicts[min(len(told), len(verdicts) - 1)]
        told.append(reason)
        other = Finding("PodsReady", Area.HEALTH, Status.OK, "AllReady", "every pod is ready")
        return [other, Finding("RolloutHealthy", Area.RELIABILITY, status, reason, "said")]

    return told, examine


@pytest.mark.parametrize(
    ("verdicts", "seconds", "asked", "status"),
    [
        ([(Status.UNKNOWN, "OneVersion"), (Status.UNKNOWN, "TooFewTurns"), (Status.OK, "AsGood")], 60, 3, Status.OK),
        ([(Status.UNKNOWN, "PrometheusUnreachable"), (Status.FAIL, "Worse"), (Status.OK, "AsGood")], 60, 2, Status.FAIL),
        ([(Status.UNKNOWN, "TooFewTurns")], 60, 1 + 60 / LOOK_SECONDS, Status.FAIL),
        ([(Status.UNKNOWN, "VersionUnknown")], 60, 1, Status.FAIL),
        ([(Status.UNKNOWN, "TooFewTurns")], 0, 1, Status.UNKNOWN),
    ],
)
async def test_it_waits_until_the_rollout_is_judged_and_a_rollout_that_never_is_has_failed(
    verdicts: list[tuple[Status, str]], seconds: int, asked: float, status: Status
) -> None:
    told, examine = looks(*verdicts)

    other, found = await until_judged(examine, Passing(), seconds)

    assert (len(told), found.status, other.status) == (asked, status, Status.OK)
    assert ("not judged within 60 s" in found.message) == (status is Status.FAIL and told[-1] != "Worse")


async def test_an_api_server_that_is_away_for_a_moment_does_not_end_the_wait_and_one_that_stays_away_does() -> None:
    told, judged = looks((Status.UNKNOWN, "TooFewTurns"), (Status.OK, "AsGood"))
    away = iter((False, True, True, False))

    async def examine() -> list[Finding]:
        if next(away, True):
            raise Unavailable("503")
        return await judged()

    assert (await until_judged(examine, Passing(), 60))[1].status is Status.OK
    assert told == ["TooFewTurns", "AsGood"]
    for seconds in (0, 60):
        with pytest.raises(Unavailable):
            await until_judged(examine, Passing(), seconds)
