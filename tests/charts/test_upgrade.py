"""What the release before made, this one may change only where Kubernetes lets it: selectors and volume claims are for ever."""

from pathlib import Path
from typing import Any

import pytest

from tests.charts.slipway import CASES, CHART
from tests.support.charts import every, merged, render, values_of

RELEASES = sorted((Path(__file__).parent.parent / "data" / "charts").glob("slipway-*.tgz"))


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


def test_there_is_a_release_to_come_from() -> None:
    assert RELEASES
