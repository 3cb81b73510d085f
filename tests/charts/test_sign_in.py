"""Sign-in to the page by an OpenID provider: its variables, the way out to it, and what is refused at install."""

from typing import Any

import pytest

from agent_service.settings import load_settings
from tests.charts.slipway import environment, made, manifests, refused
from tests.support.charts import pod_specs, values_of

OIDC = ("auth.oidc.issuer=https://login.example:8443/main", "auth.oidc.clientId=slipway")
PUBLIC = "protocols.publicUrl=https://chat.example"
NAMES = {"OIDC_ISSUER", "OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET", "OIDC_SCOPES", "PUBLIC_URL", "JWT_SECRET"}


def set_by(*values: str) -> dict[str, Any]:
    return {name: value for name, value in environment(values_of(*values)).items() if name in NAMES}


def test_each_value_has_its_setting_and_no_secret_is_generated() -> None:
    assert set_by(*OIDC, PUBLIC, "auth.oidc.existingSecret=client", "auth.oidc.scopes=openid offline_access") == {
        "OIDC_ISSUER": "https://login.example:8443/main",
        "OIDC_CLIENT_ID": "slipway",
        "OIDC_CLIENT_SECRET": {"secretKeyRef": {"name": "client", "key": "client-secret"}},
        "OIDC_SCOPES": "openid offline_access",
        "PUBLIC_URL": "https://chat.example",
    }


def test_an_ingress_with_a_certificate_is_where_people_are_sent_back_to() -> None:
    found = set_by(*OIDC, "ingress.enabled=true", "ingress.host=chat.example", "ingress.tlsSecret=cert")
    assert found["PUBLIC_URL"] == "https://chat.example"


def test_the_service_takes_the_variables_of_every_container_that_has_them() -> None:
    containers = [
        container
        for spec in pod_specs(manifests(values_of(*OIDC, PUBLIC)))
        for container in (*spec.get("initContainers", ()), *spec["containers"])
    ]
    given = [{e["name"]: e["value"] for e in each.get("env", ()) if "value" in e} for each in containers]
    told = [env for env in given if "OIDC_ISSUER" in env]
    assert told
    assert {load_settings(env).oidc_issuer for env in told} == {"https://login.example:8443/main"}


def test_the_way_out_to_the_provider_is_open() -> None:
    policy = made("NetworkPolicy", values_of(*OIDC, PUBLIC), name="my-agent-slipway")
    assert 8443 in {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        ((*OIDC, "protocols.publicUrl=http://chat.example"), "protocols.publicUrl"),
        ((*OIDC, PUBLIC, "auth.oidc.scopes=profile"), "scopes"),
        (("env.OIDC_ISSUER=https://login.example",), "set auth.oidc.issuer"),
    ],
)
def test_what_cannot_work_is_refused_with_the_name_of_the_value(sets: tuple[str, ...], told: str) -> None:
    """And what contradicts itself: test_checks.py."""
    assert told in refused(*sets)
