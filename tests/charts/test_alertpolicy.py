"""`operator.alertPolicy`: thresholds of the release as an object that the operator turns into rules."""

import jsonschema
import yaml

from tests.charts.slipway import CHART, made, manifests, refused
from tests.support.charts import every, values_of

POLICY = values_of(
    "operator.alertPolicy.enabled=true",
    "operator.alertPolicy.spec.thresholds.costUsdPerHour=20",
    "operator.alertPolicy.spec.tools=[{name: search, failureRatio: 0.3}]",
    "operator.alertPolicy.spec.outputLabels={team: ai}",
    "monitoring.alerts.labels={release: prometheus}",
)


def test_it_is_off_by_default() -> None:
    assert every(manifests(), "AlertPolicy") == []


def test_the_policy_is_about_the_release_and_carries_the_labels_that_prometheus_selects_by() -> None:
    assert made("AlertPolicy", POLICY)["spec"] == {
        "release": "my-agent",
        "thresholds": {"costUsdPerHour": 20},
        "tools": [{"name": "search", "failureRatio": 0.3}],
        "outputLabels": {"release": "prometheus", "team": "ai"},
        "links": {"runbooks": "http://my-agent-slipway.agents.svc/runbooks"},
    }


def test_the_policy_fits_the_definition_that_the_operators_chart_brings() -> None:
    source = CHART.parent / "slipway-operator" / "crds-source" / "alertpolicies.yaml"
    [version] = yaml.load(source.read_text(encoding="utf-8"), yaml.CSafeLoader)["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]

    policy = made("AlertPolicy", POLICY)["spec"]

    assert policy.keys() <= schema.keys()
    jsonschema.validate(policy["tools"], {"type": "array", "items": {"required": schema["tools"]["items"]["required"]}})


def test_rules_twice_are_refused() -> None:
    message = refused("operator.alertPolicy.enabled=true", "monitoring.alerts.enabled=true")

    assert "each alert would fire twice" in message


def test_without_the_operators_chart_it_is_refused_with_a_hint() -> None:
    assert "install the chart slipway-operator first" in refused("operator.alertPolicy.enabled=true", "checkCRDs=true")
