"""Where the links of alerts lead, by the values: to pages that the release serves itself, unless somebody else does."""

import re
from collections.abc import Iterable
from typing import Any

import pytest

from tests.charts import slipway
from tests.charts.operator import chart as operator_chart
from tests.support.charts import Manifest, values_of

ALERTS = "monitoring.alerts.enabled=true"
DASHBOARDS = "monitoring.dashboards.enabled=true"
ROUTE = ("httpRoute.enabled=true", "httpRoute.parentRefs=[{name: main}]")


def rules_of(made: Manifest) -> list[dict[str, Any]]:
    return [rule for group in made["spec"]["groups"] for rule in group["rules"]]


def bases(rules: Iterable[dict[str, Any]]) -> set[str]:
    """Of the links, each of which is its base and the alert's own page."""
    found = set()
    for rule in rules:
        page = rule["annotations"]["runbook"].removeprefix("docs/runbooks/")
        assert rule["annotations"]["runbook_url"].endswith(f"/{page}")
        found.add(rule["annotations"]["runbook_url"].removesuffix(f"/{page}"))
    return found


@pytest.mark.parametrize(
    ("sets", "base"),
    [
        ((), "http://my-agent-slipway.agents.svc/runbooks"),
        (("fullnameOverride=bot",), "http://bot.agents.svc/runbooks"),
        (("ingress.host=agent.test",), "http://my-agent-slipway.agents.svc/runbooks"),
        (("ingress.enabled=true",), "http://my-agent-slipway.agents.svc/runbooks"),
        (("ingress.enabled=true", "ingress.host=agent.test"), "http://agent.test/runbooks"),
        (
            ("ingress.enabled=true", "ingress.host='*.agent.test'", "ingress.tlsSecret=crt", "ingress.hosts=[a.agent.test]"),
            "https://a.agent.test/runbooks",
        ),
        (("ingress.enabled=true", "ingress.host=agent.test", "ingress.tlsSecret=crt"), "https://agent.test/runbooks"),
        (("ingress.enabled=true", "ingress.hosts=[b.test, c.test]", "ingress.tlsSecret=crt"), "https://b.test/runbooks"),
        (
            ("ingress.enabled=true", "ingress.hosts=[b.test, c.test]", "ingress.tls=[{secretName: crt, hosts: [c.test]}]"),
            "http://b.test/runbooks",
        ),
        ((*ROUTE, "httpRoute.hostnames=['*.wild.test', agent.test]"), "https://agent.test/runbooks"),
        ((*ROUTE, "httpRoute.hostnames=['*.wild.test']"), "http://my-agent-slipway.agents.svc/runbooks"),
        (
            (*ROUTE, "httpRoute.hostnames=[agent.test]", "protocols.publicUrl=https://all.test/bot/"),
            "https://all.test/bot/runbooks",
        ),
        (("protocols.publicUrl=https://all.test", "monitoring.alerts.runbooksUrl=https://wiki.test/r/"), "https://wiki.test/r"),
    ],
)
def test_links_of_the_agent_lead_to_its_own_runbooks_unless_others_are_named(sets: tuple[str, ...], base: str) -> None:
    rule = slipway.made("PrometheusRule", values_of(ALERTS, *sets))
    policy = slipway.made("AlertPolicy", values_of("operator.alertPolicy.enabled=true", *sets))
    dashboards = [
        each["data"]
        for each in slipway.manifests(values_of(DASHBOARDS, *sets))
        if each["metadata"]["name"].endswith("-dashboard")
    ]

    assert bases(rules_of(rule)) == {base}
    assert policy["spec"]["links"] == {"runbooks": base}
    assert dashboards
    assert all(f'"query":"{base}"' in text for data in dashboards for text in data.values())


def test_a_policys_own_links_win() -> None:
    own = "operator.alertPolicy.spec.links.runbooks=https://wiki.test/r"
    policy = slipway.made(
        "AlertPolicy", values_of("operator.alertPolicy.enabled=true", own, "monitoring.alerts.grafanaUrl=https://grafana.test")
    )

    assert policy["spec"]["links"] == {"runbooks": "https://wiki.test/r", "grafana": "https://grafana.test"}


@pytest.mark.parametrize(
    ("sets", "base"),
    [
        ((), "http://slipway-operator-ops.slipway-system.svc:9090/runbooks"),
        (("monitoring.alerts.runbooksUrl=https://wiki.test/r/",), "https://wiki.test/r"),
    ],
)
def test_links_of_the_operator_lead_to_its_own_port_unless_others_are_named(sets: tuple[str, ...], base: str) -> None:
    values = values_of(ALERTS, DASHBOARDS, *sets)
    environment = operator_chart.pod(values)["containers"][0]["env"]
    (dashboard,) = operator_chart.made("ConfigMap", values)["data"].values()

    assert bases(rules_of(operator_chart.made("PrometheusRule", values))) == {base}
    assert [each["value"] for each in environment if each["name"] == "RUNBOOKS_URL"] == [base]
    assert f'"query":"{base}"' in dashboard


def test_a_name_of_the_default_is_a_service_that_the_chart_makes_and_a_port_that_it_opens() -> None:
    for made, url in (
        (slipway.made, "http://my-agent-slipway.agents.svc/runbooks"),
        (operator_chart.made, "http://slipway-operator-ops.slipway-system.svc:9090/runbooks"),
    ):
        found = re.fullmatch(r"http://([^.]+)\.[^.]+\.svc(?::(\d+))?/runbooks", url)
        assert found
        service = made("Service", name=found[1])
        assert [each["port"] for each in service["spec"]["ports"]] == [int(found[2] or 80)]


@pytest.mark.parametrize("refused", [slipway.refused, operator_chart.refused])
def test_a_path_is_no_address(refused: Any) -> None:
    assert "runbooksUrl" in refused("monitoring.alerts.runbooksUrl=docs/pages")


@pytest.mark.parametrize("made", [slipway.made, operator_chart.made])
def test_the_default_of_the_release_before_counts_as_none(made: Any) -> None:
    """An upgrade with --reuse-values brings it along."""
    with_it = made("PrometheusRule", values_of(ALERTS, "monitoring.alerts.runbooksUrl=docs/runbooks"))
    assert with_it == made("PrometheusRule", values_of(ALERTS))
