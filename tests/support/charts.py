"""Charts rendered by Helm's own engine, without a cluster and without a helm program."""

import asyncio
import copy
import json
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from aiohttp import web
from helm_python import Chart, Config, HelmError
from kubernetes_validate.utils import all_versions, schema_contents  # type: ignore[import-untyped]  # it has no py.typed
from referencing import Registry, Resource

from tests.support.http_server import http_server

CHARTS = Path(__file__).parent.parent.parent / "charts"

Values = dict[str, Any]
Manifest = dict[str, Any]


def values_of(*sets: str) -> Values:
    """Values from `a.b=VALUE` lines, the value in YAML."""
    values: Values = {}
    for line in sets:
        path, _, text = line.partition("=")
        *parents, key = path.split(".")
        place = values
        for parent in parents:
            place = place.setdefault(parent, {})
        place[key] = yaml.load(text, yaml.CSafeLoader)
    return values


def merged(*several: Values) -> Values:
    """Later ones win, mapping by mapping."""
    result: Values = {}
    for values in copy.deepcopy(several):
        for key, value in values.items():
            both = isinstance(value, dict) and isinstance(result.get(key), dict)
            result[key] = merged(result[key], value) if both else value
    return result


def render_text(chart: Path, values: Values, *, name: str = "my-agent", namespace: str = "agents") -> dict[str, str]:
    """Template path, below the chart, to what it renders.

    Raises:
        HelmError: the values are refused.
    """
    with Chart.load(chart) as loaded:
        rendered = loaded.render(values, name=name, namespace=namespace)
        return {path.partition("/")[2]: text for path, text in sorted(rendered.items())}


def render(chart: Path, values: Values, *, name: str = "my-agent", namespace: str = "agents") -> list[Manifest]:
    """Every object that the values make, tests among them."""
    found: list[Manifest] = pickle.loads(_rendered(chart, json.dumps(values), name, namespace))
    return found


@cache
def _rendered(chart: Path, values: str, name: str, namespace: str) -> bytes:
    """Rendered and parsed once, 40 ms, for all tests that look at the same objects; each gets a copy of its own."""
    texts = render_text(chart, json.loads(values), name=name, namespace=namespace)
    return pickle.dumps(_parsed(texts))


def _parsed(texts: Mapping[str, str]) -> list[Manifest]:
    return [
        document
        for path, text in texts.items()
        if path.endswith(".yaml")
        for document in yaml.load_all(text, yaml.CSafeLoader)  # a tenth of the time
        if document is not None
    ]


async def render_in_cluster(
    chart: Path, values: Values, secrets: Sequence[Manifest], *, name: str, namespace: str
) -> list[Manifest]:
    """Every object of a release in a cluster whose namespace has these Secrets and nothing else: by Helm's own `lookup`."""
    resources = [{"name": "secrets", "kind": "Secret", "namespaced": True, "verbs": ["get", "list"]}]
    path = f"/api/v1/namespaces/{namespace}/secrets"
    answers: dict[str, Manifest] = {
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
        "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": resources},
        path: {"kind": "SecretList", "apiVersion": "v1", "metadata": {}, "items": [*secrets]},
        **{f"{path}/{each['metadata']['name']}": each for each in secrets},
    }

    async def answer(request: web.Request) -> web.Response:
        missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        return web.json_response(answers.get(request.path, missing), status=200 if request.path in answers else 404)

    def rendered(server: str) -> dict[str, str]:
        with Config(kube_apiserver=server, namespace=namespace) as config, Chart.load(chart) as loaded:
            return config.render(loaded, values, name=name, namespace=namespace)

    async with http_server(answer) as server:
        return _parsed(await asyncio.to_thread(rendered, server))


def one(manifests: Iterable[Manifest], kind: str, name: str | None = None) -> Manifest:
    """The only object of a kind, or of a kind and name."""
    (found,) = every(manifests, kind, name)
    return found


def every(manifests: Iterable[Manifest], kind: str, name: str | None = None) -> list[Manifest]:
    return [m for m in manifests if m["kind"] == kind and name in {None, m["metadata"]["name"]}]


def refusal(chart: Path, values: Values) -> str:
    """What Helm says to values that it must refuse."""
    with pytest.raises(HelmError) as caught:
        render_text(chart, values)
    return str(caught.value)


def pod_specs(manifests: Iterable[Manifest]) -> Iterator[Manifest]:
    """Each pod's specification, of whatever makes it."""
    for manifest in manifests:
        if manifest["kind"] == "Pod":
            yield manifest["spec"]
        elif manifest["kind"] in {"Deployment", "StatefulSet", "Job"}:
            yield manifest["spec"]["template"]["spec"]


MINORS = ("1.30", "1.32", "1.33", "1.34")
"""The charts' floor, and those in support."""


def check_with_api(manifests: Iterable[Manifest], minor: str) -> None:
    """Each is what the API of this Kubernetes takes, without a field that it does not know.

    Raises:
        jsonschema.ValidationError: it is not.
    """
    registry, folder = _api_schemas(minor)
    for manifest in manifests:
        group, _, version = manifest["apiVersion"].rpartition("/")
        file = "-".join([manifest["kind"].lower(), *([group.partition(".")[0]] if group else []), version])
        schema = schema_contents(f"{folder}/{file}.json", minor)
        jsonschema.Draft202012Validator(schema, registry=Resource.from_contents(schema) @ registry).validate(manifest)


@cache
def _api_schemas(minor: str) -> tuple[Registry[Any], str]:
    """`kubernetes_validate.validate` reads its 2 MB of definitions anew for each object: 30 ms."""
    release = next(each for each in all_versions() if each.startswith(f"{minor}."))
    folder = f"kubernetes-json-schema/v{release}-local-strict"
    definitions: Resource[Any] = Resource.from_contents(schema_contents(f"{folder}/_definitions.json", minor))
    return definitions @ Registry(), folder


def different(renders: Iterable[list[Manifest]], without: set[str]) -> list[Manifest]:
    """Each object of several renders once, but for these API groups. Most are in most."""
    texts = {json.dumps(manifest, sort_keys=True) for manifests in renders for manifest in manifests}
    return [m for m in map(json.loads, sorted(texts)) if m["apiVersion"].split("/")[0] not in without]
