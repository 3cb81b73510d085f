"""Checks what the charts and examples make of other projects' kinds against those projects' definitions.

    python -m tools.custom_resources FOLDER...

Each folder is searched for CustomResourceDefinitions in YAML: unpacked releases, or clones, of Argo CD, Argo Rollouts, Cilium,
CloudNativePG, External Secrets, Flagger, Flux, Gateway API, KEDA, the Prometheus operator. They are no part of this
repository, so no test runs it. A field that a definition does not know is an error here, where an API server drops it silently.
Exits with 1 when an object does not fit; kinds without a definition are listed.
"""

import copy
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from tests.charts import slipway
from tests.charts.operator import chart as operator_chart

ROOT = Path(__file__).parent.parent

BUILT_IN = ("v1", "apps/v1", "batch/v1", "policy/v1", "autoscaling/v2")
"""API versions that tests/charts/test_api_schemas.py checks, as it does those that end with .k8s.io but for Gateway API's."""

Kind = tuple[str, str]
Object = dict[str, Any]


class Loader(yaml.SafeLoader):
    """Takes the plain `=` that definitions of the Prometheus operator list."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda _, node: str(node.value))


def definitions(folders: Iterable[Path]) -> dict[Kind, Object]:
    """Schema by API version and kind."""
    found: dict[Kind, Object] = {}
    for path in sorted(each for folder in folders for each in folder.rglob("*.y*ml")):
        text = path.read_text(encoding="utf-8")
        if "kind: CustomResourceDefinition" not in text or "{{" in text.partition("spec:")[0]:
            continue
        for each in yaml.load_all(text, Loader):
            if each and each.get("kind") == "CustomResourceDefinition":
                spec = each["spec"]
                for version in spec["versions"]:
                    found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = _strict(
                        version["schema"]["openAPIV3Schema"]
                    )
    return found


def _strict(schema: Object) -> Object:
    schema = _closed(copy.deepcopy(schema))
    schema["properties"] = {**schema.get("properties", {}), **{name: {} for name in ("metadata", "apiVersion", "kind", "status")}}
    return schema


def _closed(schema: Any) -> Any:
    """As the API server reads it: names that are not declared are errors, and `int-or-string` has no one type."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        schema.pop("type", None)
    return {name: _closed(each) for name, each in schema.items()}


def objects() -> Iterator[tuple[str, Object]]:
    """Every object of the examples, and what the charts make of their tests' and platforms' values, with where it comes from."""
    for path in sorted((ROOT / "k8s").rglob("*.yaml")):
        yield from ((str(path.relative_to(ROOT)), each) for each in yaml.safe_load_all(path.read_text(encoding="utf-8")) if each)
    for chart, cases in (
        (slipway, {**slipway.CASES, **slipway.PLATFORMS}),
        (operator_chart, {**operator_chart.CASES, **operator_chart.PLATFORMS}),
    ):
        for name, values in cases.items():
            yield from ((f"{chart.CHART.name}, values {name}", each) for each in chart.manifests(values))


def problems(found: Object, schema: Object) -> list[str]:
    """What does not fit, with where it stands."""
    return [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}"
        for error in jsonschema.Draft202012Validator(schema).iter_errors(found)
    ]


def main(folders: list[str]) -> int:
    """Number of objects that do not fit, at most 1."""
    known = definitions(map(Path, folders))
    wrong, right, unknown = 0, 0, set()
    for where, each in objects():
        version, kind = each.get("apiVersion", ""), each.get("kind", "")
        if (version, kind) in known:
            said = problems(each, known[version, kind])
            right, wrong = right + (not said), wrong + bool(said)
            print(*(f"{where}: {kind} {each['metadata']['name']}: {line}\n" for line in said), sep="", end="")
        elif version and version not in BUILT_IN and ("gateway." in version or ".k8s.io" not in version):
            unknown.add(f"{version} {kind}")
    print(f"{right} objects fit, {wrong} do not; no definition of: {', '.join(sorted(unknown)) or 'none'}")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
