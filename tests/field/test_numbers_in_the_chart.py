"""Names that look like numbers, and numbers that Helm writes as `1e+06`: https://github.com/bitnami/charts/issues/3856,
https://github.com/localstack/helm-charts/issues/59, https://github.com/prometheus-community/helm-charts/issues/6773 (numeric
namespaces), https://github.com/helm/helm/issues/6867 and https://github.com/helm/helm/issues/13254 (integers as floats).

Here a release in namespace `1234` could not be installed, a million replicas were `1e+06`, and a long number in `env` arrived
as another. Siblings: the release's name, `on`, `null`, `0777` and `1e5`, names of Secrets and classes, both charts, image tags.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.charts.operator import chart as operator
from tests.charts.slipway import CASES, CHART, EXTERNAL, MONITORED, ROUTED, SCALED, environment, made, manifests
from tests.charts.test_api_schemas import CRD_GROUPS
from tests.support.charts import MINORS, Manifest, check_with_api, different, merged, refusal, render, values_of

ODD = ["20161216", "1e5", "0777", "0x10", "on", "null"]

NAMES = (
    "name",
    "namespace",
    "secretName",
    "claimName",
    "serviceAccountName",
    "priorityClassName",
    "ingressClassName",
    "storageClassName",
)

ENTERED = [
    "postgres.existingSecret",
    "auth.jwt.existingSecret",
    "auth.apiKeys.existingSecret",
    "model.name",
    "model.existingSecret",
    "helmTest.existingSecret",
    "graph.configMap",
    "serviceAccount.name",
    "priorityClassName",
    "ingress.className",
    "ingress.tlsSecret",
    "networkPolicy.monitoringNamespace",
    "networkPolicy.operatorNamespace",
    "autoscaling.keda.authenticationRef",
]


def not_text(manifest: Any, place: str = "") -> Iterator[str]:
    """Places of names, labels and annotations that are no strings."""
    if isinstance(manifest, list):
        for item in manifest:
            yield from not_text(item, place)
    elif isinstance(manifest, dict):
        for key, value in manifest.items():
            inside = place.endswith((".labels", ".matchLabels", ".annotations", ".podSelector", ".stringData", ".data"))
            if not isinstance(value, dict | list | str) and (inside or key in NAMES):
                yield f"{place}.{key}={value!r}"
            yield from not_text(value, f"{place}.{key}")


def check(objects: list[Manifest]) -> None:
    found = [m for m in objects if m["kind"] != "CustomResourceDefinition"]
    assert [f"{m['kind']}{where}" for m in found for where in not_text(m)] == []
    check_with_api(different([found], CRD_GROUPS), MINORS[-1])


@pytest.mark.parametrize("odd", ODD)
def test_a_release_and_a_namespace_may_be_called_like_a_number(odd: str) -> None:
    check([m for case in ("default", "monitored", "scaled-keda") for m in manifests(CASES[case], name=odd, namespace=odd)])
    check(render(operator.CHART, {}, name=odd, namespace=odd))


@pytest.mark.parametrize("odd", ["20161216", "null"])
def test_whatever_is_named_in_the_values_stays_text(odd: str) -> None:
    entered = values_of(*(f"{name}={json.dumps(odd)}" for name in ENTERED), "graph.module=a:b", "auth.jwt.issuer=''")
    check(manifests(merged(EXTERNAL, ROUTED, MONITORED, SCALED["keda"], entered)))


def test_large_integers_stay_integers() -> None:
    million = values_of("replicaCount=1000000", "revisionHistoryLimit=2000000", "postgres.runAsUser=1000650000")
    spec = made("Deployment", million)["spec"]
    assert (spec["replicas"], spec["revisionHistoryLimit"]) == (1_000_000, 2_000_000)
    sizes = ("minReplicas=1000000", "maxReplicas=3000000", "targetConcurrency=4000000")
    large = values_of(*(f"autoscaling.{size}" for size in sizes), "streaming.maxConcurrentRuns=5000000")
    hpa = made("HorizontalPodAutoscaler", SCALED["pods-metric"], large)["spec"]
    keda = made("ScaledObject", SCALED["keda"], large)["spec"]
    assert (
        (hpa["minReplicas"], hpa["maxReplicas"]) == (keda["minReplicaCount"], keda["maxReplicaCount"]) == (1_000_000, 3_000_000)
    )
    assert hpa["metrics"][0]["pods"]["target"]["averageValue"] == keda["triggers"][0]["metadata"]["threshold"] == "4000000"
    assert keda["fallback"]["replicas"] == 1_000_000


def test_a_number_that_helm_cannot_hold_is_refused_and_its_text_is_taken() -> None:
    for number in (9007199254740993, 12345678901234567890, -9007199254740993, 1e300):
        assert "env: TENANT is a number that Helm cannot hold; put it in quotes" in refusal(CHART, {"env": {"TENANT": number}})
    kept = values_of("env.A='12345678901234567890'", "env.B=10000000", "env.C=1.5", "env.D=9007199254740991", "env.E=-3")
    assert {name: environment(kept)[name] for name in "ABCDE"} == {
        "A": "12345678901234567890",
        "B": "10000000",
        "C": "1.5",
        "D": "9007199254740991",
        "E": "-3",
    }


def test_a_tag_that_is_a_number_is_refused_by_its_name_and_its_text_is_taken() -> None:
    for tag, number in (("20161216", 20161216), ("1.10", 1.10), ("1e5", 1e5)):
        assert "image.tag: " in (said := refusal(CHART, {"image": {"tag": number}}))
        assert "is a number" in said
        assert "--set-string image.tag=" in said
        assert made("Deployment", values_of(f"image.tag='{tag}'"))["spec"]["template"]["spec"]["containers"][0]["image"].endswith(
            f":{tag}"
        )
