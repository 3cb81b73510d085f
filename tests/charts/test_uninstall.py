"""What `helm uninstall` leaves is on the page: what the charts tell Helm to keep, and what it never deletes."""

import re
from pathlib import Path

from tests.charts import slipway
from tests.charts.operator import chart as operator
from tests.support.charts import every

PAGE = Path(__file__).parents[2] / "docs" / "operations" / "chart.md"


def listed() -> set[str]:
    """Kind and name of what the page says is left, as `kubectl get --output=name` has them."""
    section = PAGE.read_text(encoding="utf-8").partition("\n## Uninstall\n")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `([a-z0-9.]+/[a-z0-9.-]+)` \|", section, re.MULTILINE))


def test_the_page_lists_what_both_charts_leave() -> None:
    found = [*slipway.manifests(), *operator.manifests()]
    annotated = [(m, m["metadata"].get("annotations") or {}) for m in found]
    kept = [m for m, notes in annotated if notes.get("helm.sh/resource-policy") == "keep" or "helm.sh/hook" in notes]
    (database,) = every(slipway.manifests(), "StatefulSet")
    secret = (slipway.CHART / "templates" / "secret-postgres.yaml").read_text(encoding="utf-8")  # rendered only in a cluster
    (claim,) = database["spec"]["volumeClaimTemplates"]

    assert "helm.sh/resource-policy: keep" in secret
    assert {re.sub(r"^([a-z]+)[a-z0-9.]*/", r"\1/", name) for name in listed()} == {
        *(f"{m['kind'].lower()}/{m['metadata']['name']}" for m in kept),
        f"persistentvolumeclaim/{claim['metadata']['name']}-{database['metadata']['name']}-0",
        f"secret/{database['metadata']['name']}",
        "lease/slipway-operator",
    }
