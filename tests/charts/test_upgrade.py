"""What the release before made, this one may change only where Kubernetes lets it: selectors and volume claims are for ever."""

from pathlib import Path
from typing import Any

import pytest

from tests.charts.operator import chart as operator
from tests.charts.slipway import CASES, CHART
from tests.support.charts import every, merged, refusal, render, values_of

RELEASES = sorted((Path(__file__).parent.parent / "data" / "charts").glob("slipway-[0-9]*.tgz"))

OF_THE_OPERATOR = sorted((Path(__file__).parent.parent / "data" / "charts").glob("slipway-operator-*.tgz"))


def immutable(chart: Path, values: dict[str, Any]) -> dict[str, Any]:
    """The fields that the API refuses to change, by kind and name."""
    found = render(chart, merged(values_of("checkCRDs=false"), values))
    claims = ("selector", "serviceName", "volumeClaimTemplates", "podManagementPolicy")
    fields = {"Deployment": ("selector",), "StatefulSet": claims, "Service": ("clusterIP",)}
    return {
        f"{kind}/{m['metadata']['name']}": {name: m["spec"].get(name) for name in names}
        for kind, names in fields.items()
        for m in every(found, kind)
    }


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.stem)
# Cases whose values the earlier releases know, too.
@pytest.mark.parametrize("case", ["default", "placed"])
def test_an_upgrade_changes_no_field_that_cannot_be_changed(release: Path, case: str) -> None:
    assert immutable(CHART, CASES[case]) == immutable(release, CASES[case])


@pytest.mark.parametrize("release", OF_THE_OPERATOR, ids=lambda path: path.stem)
def test_an_upgrade_of_the_operator_changes_no_field_that_cannot_be_changed_and_drops_no_kind(release: Path) -> None:
    def kinds(chart: Path) -> dict[str, set[str]]:
        """Versions that each CRD serves, by its name."""
        found = every(render(chart, values_of("checkCRDs=false")), "CustomResourceDefinition")
        return {m["metadata"]["name"]: {v["name"] for v in m["spec"]["versions"] if v["served"]} for m in found}

    before, now = kinds(release), kinds(operator.CHART)

    assert immutable(operator.CHART, {}) == immutable(release, {})
    assert before.keys() <= now.keys()
    assert [name for name in before if not before[name] <= now[name]] == []


RENAMED = {"postgres.port=6432": "networkPolicy.postgresPort"}
"""A value that the releases take, and the name that it has now."""


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.stem)
@pytest.mark.parametrize("before", RENAMED)
def test_a_value_of_a_release_that_is_renamed_is_refused_with_its_new_name(release: Path, before: str) -> None:
    values = values_of("checkCRDs=false", before)

    assert render(release, values)
    assert RENAMED[before] in refusal(CHART, values)


def test_there_are_releases_to_come_from() -> None:
    assert RELEASES
    assert OF_THE_OPERATOR
