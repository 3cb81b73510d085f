"""Every alert on histories of its metrics, by Prometheus' own test runner: one process for all of them."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway_monitoring.rules import Selector, Slo, Thresholds, render
from tests.monitoring.rules.cases import RATIOS, absolute
from tests.monitoring.rules.history import RELEASE, Case
from tests.monitoring.rules.options import options
from tests.monitoring.rules.promtool import promtool, write

pytestmark = pytest.mark.slow

SELECTOR = Selector(**RELEASE)


def default_cases() -> list[Case]:
    return [*(case for ratio in RATIOS for case in ratio.cases()), *absolute()]


def rules_of(alert: str, thresholds: Thresholds, slos: Iterable[Slo] = ()) -> list[dict[str, Any]]:
    groups = render(thresholds, selector=SELECTOR, slos=slos)
    return [rule for group in groups for rule in group["rules"] if rule["alert"] == alert]


def write_all(folder: Path) -> Iterator[Path]:
    sets = [(Thresholds(), (), default_cases()), *((each.thresholds, each.slos, [*each.cases]) for each in options())]
    number = 0
    for thresholds, slos, cases in sets:
        by_alert = sorted(cases, key=lambda case: (case.alert, case.step))
        for (alert, _), same in groupby(by_alert, key=lambda case: (case.alert, case.step)):
            number += 1
            yield write(folder, number, [*same], rules_of(alert, thresholds, slos))


def test_every_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    promtool("test", "rules", *write_all(tmp_path))


def test_each_alert_has_a_case_in_which_it_fires_one_in_which_it_does_not_and_one_in_which_it_ends() -> None:
    cases = [*default_cases(), *(case for each in options() for case in each.cases)]
    every = {rule["alert"] for group in all_groups() for rule in group["rules"]}

    assert {case.alert for case in cases if any(seen.labels for seen in case.seen)} == every
    assert {case.alert for case in cases if not any(seen.labels for seen in case.seen)} == every
    assert {case.alert for case in cases if "resolves" in case.title} == every


def all_groups() -> list[dict[str, Any]]:
    slos = (Slo("availability", 0.999), Slo("latency", 0.99))
    return render(Thresholds(daily_budget_usd=100), selector=SELECTOR, slos=slos)


def test_prometheus_accepts_the_rules_of_every_option(tmp_path: Path) -> None:
    every = tmp_path / "every.yaml"
    every.write_text(yaml.safe_dump({"groups": all_groups()}), encoding="utf-8")

    assert "SUCCESS" in promtool("check", "rules", every)
