"""What the chart makes of objects that are in the cluster: Helm's own `lookup`, against an API server that has them."""

import base64

import pytest

from tests.charts.slipway import CHART
from tests.support.charts import Manifest, every, merged, render_in_cluster, values_of

NAME = "my-agent-slipway-auth"

OTHER_WAYS = {
    "jwks": ["auth.jwt.jwksUrl=https://login/keys"],
    "rotating": ["auth.jwt.existingSecret=signing", "auth.jwt.key=''"],
    "own": ["auth.jwt.existingSecret=own"],
    "by its own name": [f"auth.jwt.existingSecret={NAME}"],
    "api keys": ["auth.apiKeys.existingSecret=keys"],
    "disabled": ["auth.mode=disabled", "auth.disabledOnAnyAddress=true"],
}


def secret(owner: str | None) -> Manifest:
    """As Helm leaves it in the cluster; without an owner it is somebody's own of the same name."""
    notes = {"meta.helm.sh/release-name": owner} if owner else {}
    metadata = {"name": NAME, "namespace": "agents", "annotations": notes}
    data = {"jwt-secret": base64.b64encode(b"signed with it").decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


async def rendered(found: Manifest, *sets: str) -> list[Manifest]:
    """The chart's objects in a cluster that has this Secret and no other."""
    values = merged(values_of("checkCRDs=false", *sets))
    return await render_in_cluster(CHART, values, [found], name="my-agent", namespace="agents")


@pytest.mark.parametrize("way", OTHER_WAYS)
async def test_the_generated_secret_stays_when_pods_no_longer_ask_for_it_as_those_of_before_do(way: str) -> None:
    found = await rendered(secret("my-agent"), *OTHER_WAYS[way])

    [kept] = every(found, "Secret", NAME)
    assert kept["data"] == secret(None)["data"]
    [deployment] = every(found, "Deployment")
    asked = [e["valueFrom"]["secretKeyRef"]["name"] for e in environment(deployment) if e["name"] == "JWT_SECRET"]
    assert asked == {"own": ["own"], "by its own name": [NAME]}.get(way, [])


async def test_while_it_is_used_it_keeps_its_value() -> None:
    [kept] = every(await rendered(secret("my-agent")), "Secret", NAME)

    assert kept["data"] == secret(None)["data"]


@pytest.mark.parametrize("owner", [None, "another"])
async def test_a_secret_of_its_name_that_is_not_the_releases_is_left_alone(owner: str | None) -> None:
    assert every(await rendered(secret(owner), *OTHER_WAYS["jwks"]), "Secret", NAME) == []


def environment(deployment: Manifest) -> list[Manifest]:
    found: list[Manifest] = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    return found
