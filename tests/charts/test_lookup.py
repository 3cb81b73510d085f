"""What the chart makes of objects that are in the cluster: Helm's own `lookup`, against an API server that has them."""

import asyncio
import base64

import pytest
import yaml
from aiohttp import web
from helm_python import Chart, Config

from tests.charts.slipway import CHART
from tests.support.charts import Manifest, every, merged, values_of
from tests.support.http_server import http_server

NAME = "my-agent-slipway-auth"

OTHER_WAYS = {
    "jwks": ["auth.jwt.jwksUrl=https://login/keys"],
    "rotating": ["auth.jwt.rotatingSecret=signing"],
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
    resources = [{"name": "secrets", "kind": "Secret", "namespaced": True, "verbs": ["get", "list"]}]
    answers = {
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
        "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": resources},
        "/api/v1/namespaces/agents/secrets": {"kind": "SecretList", "apiVersion": "v1", "metadata": {}, "items": [found]},
        f"/api/v1/namespaces/agents/secrets/{NAME}": found,
    }

    async def answer(request: web.Request) -> web.Response:
        missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        return web.json_response(answers.get(request.path, missing), status=200 if request.path in answers else 404)

    def render(server: str) -> dict[str, str]:
        values = merged(values_of("checkCRDs=false", *sets))
        with Config(kube_apiserver=server, namespace="agents") as config, Chart.load(CHART) as chart:
            return config.render(chart, values, name="my-agent", namespace="agents", is_upgrade=True)

    async with http_server(answer) as server:
        texts = await asyncio.to_thread(render, server)
    documents = [each for path, text in texts.items() if path.endswith(".yaml") for each in yaml.safe_load_all(text)]
    return [each for each in documents if each]


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
