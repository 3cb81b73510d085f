"""A version against another: what is worse, at the bounds, and what is said when nothing can be."""

from dataclasses import replace
from typing import Any

import httpx
import pytest

from slipway_clients.prometheus import Prometheus
from slipway_doctor.checks.facts import Facts, Rollout
from slipway_doctor.checks.figures import Figures
from slipway_doctor.checks.finding import Status
from slipway_doctor.checks.reliability import rollout
from slipway_doctor.checks.versions import MIN_THUMBS, MIN_TURNS, VersionFigures, worse
from tests.doctor.checks.release import RELEASE, env, facts, figures
from tests.support.clock import WallClock

OLD = VersionFigures(RELEASE, "1", turns=1000, failed=10, first_token=1.0, cost=10.0, thumbs_up=90, thumbs_down=10)


def new(**changed: Any) -> VersionFigures:
    return replace(OLD, version="2", **changed)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, []),
        ({"failed": 0}, []),
        # 1 % more is the margin, and 1000 turns are enough to be sure of what lies above it.
        ({"failed": 20}, []),
        ({"failed": 21}, []),
        ({"failed": 30}, ["more of its turns fail"]),
        # The same share of a twentieth of the turns may be chance.
        ({"turns": 50, "failed": 1.5, "cost": 0.5}, []),
        ({"turns": 50, "failed": 4, "cost": 0.5}, ["more of its turns fail"]),
        ({"failed": 1000}, ["more of its turns fail"]),
        ({"first_token": 1.5}, []),
        ({"first_token": 1.51}, ["its first words come later"]),
        ({"first_token": None}, []),
        ({"cost": 15.0}, []),
        ({"cost": 15.1}, ["its turns cost more"]),
        # A tenth of the traffic at the same price a turn.
        ({"turns": 100, "failed": 1, "cost": 1.0}, []),
        ({"thumbs_up": 60, "thumbs_down": 40}, ["more of its answers get a thumb down"]),
        ({"thumbs_up": 80, "thumbs_down": 20}, []),
        ({"thumbs_up": 0, "thumbs_down": MIN_THUMBS - 1}, []),
        ({"thumbs_up": 0, "thumbs_down": MIN_THUMBS}, ["more of its answers get a thumb down"]),
        ({"failed": 100, "cost": 100.0}, ["more of its turns fail", "its turns cost more"]),
    ],
)
def test_what_is_worse(changed: dict[str, Any], said: list[str]) -> None:
    assert list(worse(new(**changed), OLD)) == said


def test_an_old_version_without_failures_or_costs_divides_by_nothing() -> None:
    nothing = VersionFigures(RELEASE, "1", turns=MIN_TURNS)

    assert list(worse(replace(nothing, version="2"), nothing)) == []
    assert list(worse(replace(nothing, version="2", cost=5.0, failed=6.0), nothing)) == ["more of its turns fail"]
    assert list(worse(replace(nothing, failed=MIN_TURNS), replace(nothing, failed=MIN_TURNS))) == []


def test_first_words_that_are_later_by_less_than_half_a_second_do_not_count() -> None:
    quick = replace(OLD, first_token=0.2)

    assert list(worse(replace(quick, first_token=0.7), quick)) == []
    assert list(worse(replace(quick, first_token=0.71), quick)) == ["its first words come later"]


def judged(*versions: VersionFigures, said: Rollout | None = None, of: Facts | None = None) -> tuple[Status, str]:
    verdict = rollout(replace(figures(versions=list(versions))(of or facts()), rollout=said or Rollout()))
    return verdict.status, verdict.reason


def test_below_the_floor_and_without_another_version_nothing_is_said() -> None:
    few, other = new(turns=MIN_TURNS - 1), VersionFigures("other", "1", turns=500)

    assert judged(few, OLD) == (Status.UNKNOWN, "TooFewTurns")
    assert judged(new(), replace(OLD, turns=MIN_TURNS - 1)) == (Status.UNKNOWN, "TooFewTurns")
    assert judged(OLD) == (Status.UNKNOWN, "TooFewTurns"), "the new one has had none"
    assert judged(new(turns=MIN_TURNS, failed=0, cost=0.5), OLD)[1] == "AsGood"
    assert judged(new()) == judged() == judged(new(), other) == (Status.UNKNOWN, "OneVersion")
    assert judged(new(), OLD, of=env(GRAPH_VERSION="")(facts())) == (Status.UNKNOWN, "VersionUnknown")
    assert rollout(replace(facts(), prometheus=None)).reason == "NoPrometheus"


def test_the_new_version_is_the_deployments_or_the_one_that_is_named() -> None:
    bad = new(failed=200)

    assert judged(bad, OLD) == (Status.FAIL, "Worse")
    assert judged(bad, OLD, said=Rollout(version="1")) == (Status.OK, "AsGood")


def test_of_several_versions_before_the_one_with_most_turns_counts() -> None:
    rolled_back = VersionFigures(RELEASE, "0", turns=60, failed=60)

    assert judged(new(failed=200), OLD, rolled_back) == (Status.FAIL, "Worse")


def test_a_canary_is_compared_with_the_release_that_is_its_baseline_whatever_its_version_is() -> None:
    stable = replace(OLD, release="stable")
    said = Rollout(baseline="stable")

    assert judged(new(failed=200), stable, OLD, said=said) == (Status.FAIL, "Worse")
    assert judged(new(), stable, said=said) == (Status.OK, "AsGood")
    assert judged(new(failed=200), replace(stable, version="2"), said=said) == (Status.FAIL, "Worse"), "another configuration"
    assert judged(new(), OLD, said=said) == (Status.UNKNOWN, "OneVersion")


def test_messages_hold_no_figure_that_changes_by_itself() -> None:
    texts = {rollout(figures(versions=[new(failed=count), OLD])(facts())).message for count in (200, 201.5, 300)}

    assert texts == {"version 2 of my-agent against 1 of my-agent: more of its turns fail"}


async def test_figures_by_version_that_prometheus_refuses_take_no_other_away() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        asked = request.url.params.get("query", "")
        if "by (job, version)" in asked:
            return httpx.Response(422, json={"status": "error", "errorType": "execution", "error": "too many samples"})
        none: dict[str, Any] = {"groups": [], "alerts": [], "resultType": "vector", "result": [{"metric": {}, "value": [0, "3"]}]}
        return httpx.Response(200, json={"status": "success", "data": none})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        found = await Figures(Prometheus(http, "http://prometheus"), WallClock()).of("prod", RELEASE)

    assert (found.error, found.up, found.p99_seconds, found.versions) == ("", 3, 3.0, ())
    assert "too many samples" in found.versions_error
