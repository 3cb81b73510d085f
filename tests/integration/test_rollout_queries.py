"""What judges a new version: the doctor's queries and those of k8s/rollouts, in a real Prometheus that has two versions."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from agent_service.metrics import Metrics
from slipway_clients.clock import SystemClock
from slipway_clients.prometheus import Prometheus as Client
from slipway_doctor.checks.figures import Figures
from slipway_doctor.checks.versions import VersionFigures
from tests.support.programs import program
from tests.support.prometheus import Prometheus, running_prometheus

ROLLOUTS = Path(__file__).parents[2] / "k8s/rollouts"
MINUTES = 40
STEP = 15
"""Seconds between two scrapes."""

TURNS = {"1": 20, "2": 4}
"""Turns a minute: the new version has a sixth of the traffic."""


class Traffic:
    """One process of a version. Of the new one's turns a tenth fail; they are dear, slow, and half of them disliked."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.metrics = Metrics(models=("m",), version="0", graph="", guardrail_rules=(), graph_version=version)
        self.turns = 0

    def pass_minute(self) -> None:
        new, m = self.version == "2", self.metrics
        for _ in range(TURNS[self.version]):
            self.turns += 1
            failed = new and self.turns % 10 == 0
            m.runs.labels("failed" if failed else "completed", "agent", self.version).inc()
            m.first_token_seconds.labels("agent", self.version).observe(4.0 if new else 0.4)
            m.cost_usd.labels("m", self.version).inc(0.04 if new else 0.01)
            m.count_thumb(0 if new and self.turns % 2 else 1, self.version)

    def lines(self, at: float) -> Iterator[tuple[str, str]]:
        """Name of the series' family, and the sample as OpenMetrics writes it."""
        labels = {"namespace": "shop", "job": "bot", "pod": f"bot-{self.version}"}
        for family in self.metrics.registry.collect():
            for sample in family.samples:
                if sample.name.startswith("agent_") and not sample.name.endswith("_created"):
                    text = ",".join(f'{name}="{value}"' for name, value in {**labels, **sample.labels}.items())
                    yield family.name, f"{sample.name}{{{text}}} {sample.value} {at:.0f}"


def history(now: float) -> str:
    """Forty minutes of both versions, the families one after another as the format wants them."""
    families: dict[str, list[str]] = {}
    both = [Traffic(version) for version in TURNS]
    for minute in range(MINUTES):
        for traffic in both:
            traffic.pass_minute()
            for step in range(60 // STEP):
                for family, line in traffic.lines(now - (MINUTES - minute) * 60 + step * STEP):
                    families.setdefault(family, []).append(line)
    wanted = ("agent_runs", "agent_time_to_first_token_seconds", "agent_cost_usd", "agent_feedback")
    types = ("counter", "histogram", "counter", "counter")
    blocks = [f"# TYPE {name} {kind}\n" + "\n".join(families[name]) for name, kind in zip(wanted, types, strict=True)]
    return "\n".join([*blocks, "# EOF\n"])


@pytest.fixture
async def prometheus(tmp_path: Path) -> AsyncIterator[Prometheus]:
    (tmp_path / "history").write_text(history(time.time()), encoding="utf-8")
    command = [program("promtool", "prometheus"), "tsdb", "create-blocks-from", "openmetrics"]
    backfill = await asyncio.create_subprocess_exec(
        *command, tmp_path / "history", tmp_path / "tsdb", stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, told = await backfill.communicate()
    assert backfill.returncode == 0, told.decode()
    nobody = "http://127.0.0.1:9"
    async with running_prometheus(
        tmp_path, target=nobody, labels={"job": "nobody"}, rules=[], alertmanager=nobody, every="1m"
    ) as found:
        yield found


async def test_a_rollout_is_judged_by_its_figures(prometheus: Prometheus) -> None:
    async with httpx.AsyncClient() as http:
        facts = await Figures(Client(http, str(prometheus.client.base_url)), SystemClock()).of("shop", "bot")

    assert facts.error == ""
    found = {each.version: each for each in facts.versions}
    assert found.keys() == TURNS.keys()
    for version, a_minute in TURNS.items():
        assert found[version].turns == pytest.approx(30 * a_minute, rel=0.1)
        assert found[version].thumbs == pytest.approx(30 * a_minute, rel=0.1)
    assert found["2"].failed / found["2"].turns == pytest.approx(0.1, abs=0.02)
    assert found["2"].cost / found["2"].turns == pytest.approx(0.04, rel=0.1)
    assert found["1"] == VersionFigures(
        "bot", "1", found["1"].turns, 0.0, found["1"].first_token, found["1"].cost, found["1"].thumbs_up, 0.0
    )
    assert (found["2"].first_token or 0) > 3 * (found["1"].first_token or 0) > 0

    for name, query in [*argo(), *flagger()]:
        [row] = await prometheus.query(query)
        value = float(row["value"][1])
        # By each of them the new version is refused, but for the floor, which it is above.
        assert value > LIMITS[name], (name, value)
    for name, query in [*argo(version="1"), *flagger(version="1")]:
        [row] = await prometheus.query(query)
        assert (float(row["value"][1]) > LIMITS[name]) == name.endswith("turns"), name
    for name, query in [*argo(version="3"), *flagger(version="3")]:
        assert await prometheus.query(query) == [], f"{name}: without data there is no value, which is no success"


LIMITS = {
    "turns": 50,
    "failed": 0.02,
    "first-token": 1.5,
    "cost": 1.5,
    "feedback": 0.1,
    "agent-turns": 50,
    "agent-failed": 0.02,
    "agent-first-token": 1.5,
    "agent-cost": 1.5,
}
"""What the examples let pass; the last test reads them there."""


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.load_all((ROLLOUTS / name).read_text(encoding="utf-8"), yaml.CSafeLoader))


def argo(version: str = "2") -> Iterator[tuple[str, str]]:
    values = {"args.namespace": "shop", "args.release": "bot", "args.version": version}
    for metric in documents("argo-rollouts.yaml")[1]["spec"]["metrics"]:
        yield metric["name"], filled(metric["provider"]["prometheus"]["query"], values)


def flagger(version: str = "2") -> Iterator[tuple[str, str]]:
    values = {"namespace": "shop", "variables.release": "bot", "variables.version": version, "interval": "30m"}
    for template in documents("flagger.yaml")[1:]:
        yield template["metadata"]["name"], filled(template["spec"]["query"], values)


def filled(query: str, values: dict[str, str]) -> str:
    """With what Argo Rollouts or Flagger put in the place of a name in braces; a KeyError for a name that it does not know."""
    return re.sub(r"{{\s*([\w.]+)\s*}}", lambda found: values[found[1]], query)


def test_the_examples_have_these_limits_and_name_each_query() -> None:
    rollout, template = documents("argo-rollouts.yaml")
    canary, *templates = documents("flagger.yaml")
    numbers = {m["name"]: float(re.findall(r"[\d.]+$", m["successCondition"])[0]) for m in template["spec"]["metrics"]}
    for metric in canary["spec"]["analysis"]["metrics"]:
        (numbers[metric["name"]],) = metric["thresholdRange"].values()

    assert numbers == LIMITS
    assert {m["templateRef"]["name"] for m in canary["spec"]["analysis"]["metrics"]} == {t["metadata"]["name"] for t in templates}
    analysis = rollout["spec"]["strategy"]["canary"]["steps"][-1]["analysis"]
    assert {arg["name"] for arg in analysis["args"]} == {arg["name"] for arg in template["spec"]["args"]}
    assert analysis["templates"] == [{"templateName": template["metadata"]["name"]}]
