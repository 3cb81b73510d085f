"""agent_operator.manifests.specs and the definitions of the chart: what one refuses, the other does not let through."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from agent_operator.manifests.alert_objects import Policy, groups_of
from agent_operator.manifests.rotation_spec import KeyRotationSpec
from agent_operator.manifests.specs import AgentHealthSpec, AlertPolicySpec, Block, WrongSpec, duration, read_spec
from slipway_clients.cluster.kinds import SECRET
from slipway_clients.cluster.paths import label_selector, object_path
from tests.operator.specs import GOOD, HOSTILE_TEXTS, fields, hostile

DEFINITIONS = Path(__file__).parents[3] / "charts/slipway-operator/crds-source"
SHAPES: dict[str, type[Block]] = {"KeyRotation": KeyRotationSpec, "AlertPolicy": AlertPolicySpec, "AgentHealth": AgentHealthSpec}

FREE_TEXT = {"because", "user", "tenant", "channel", "team"}
"""Fields for people: they lead nowhere, and are held to one line without a template."""

DURATIONS = {"keyLifetime", "interval", "jitter", "timeout", "overlap", "deadline", "confirmTimeout"}


def schema_of(kind: str) -> dict[str, Any]:
    for path in DEFINITIONS.glob("*.yaml"):
        definition = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
        if definition["spec"]["names"]["kind"] == kind:
            found: dict[str, Any] = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
            return found
    raise LookupError(kind)


def strings(schema: dict[str, Any], where: str = "spec") -> list[tuple[str, dict[str, Any]]]:
    inner = [(f"{where}.{name}", each) for name, each in schema.get("properties", {}).items()]
    inner += [(f"{where}[]", schema["items"])] if "items" in schema else []
    free = schema.get("additionalProperties")
    inner += [(f"{where}{{}}", free)] if isinstance(free, dict) else []
    own = [(where, schema)] if schema.get("type") == "string" else []
    return own + [each for name, block in inner for each in strings(block, name)]


def manifest(kind: str, spec: Any) -> dict[str, Any]:
    metadata = {"namespace": "team", "name": "main", "uid": "u1"}
    return {"apiVersion": "slipway.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


@pytest.mark.parametrize("kind", SHAPES)
def test_every_text_of_a_definition_has_a_pattern_and_a_length(kind: str) -> None:
    loose = [
        where
        for where, block in strings(schema_of(kind))
        if "enum" not in block and not {"pattern", "maxLength"} <= block.keys() and not where.endswith(".because")
    ]
    assert loose == []


@pytest.mark.parametrize(("kind", "spec"), GOOD)
def test_a_good_object_is_taken_by_both_as_it_is(kind: str, spec: dict[str, Any]) -> None:
    jsonschema.Draft4Validator(schema_of(kind)).validate(spec)  # whose exclusiveMinimum is that of Kubernetes
    assert in_seconds(as_read(manifest(kind, spec), SHAPES[kind])) == in_seconds(spec)


def as_read(about: dict[str, Any], shape: type[Block]) -> dict[str, Any]:
    """The spec as far as it was understood, with the names of the definition."""
    return read_spec(about, shape).model_dump(by_alias=True, exclude_unset=True)


def in_seconds(value: Any, name: str = "") -> Any:
    """With durations in one form: the definition has them as text."""
    if isinstance(value, dict):
        return {key: in_seconds(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [in_seconds(each) for each in value]
    return duration(value).total_seconds() if name in DURATIONS else value


@pytest.mark.parametrize(("kind", "spec"), GOOD)
def test_the_good_objects_of_these_tests_fill_in_what_the_definition_has(kind: str, spec: dict[str, Any]) -> None:
    """So that a new field cannot be forgotten below."""
    known = {where.rpartition(".")[2].strip("[]{}") for where, _ in strings(schema_of(kind))}
    used = {str(step) for each, good in GOOD if each == kind for path in fields(good) for step in path}
    assert known - used - {"interval", "allow"} == set()
    assert spec


def test_what_the_operator_takes_leads_nowhere_else() -> None:
    taken = refused = 0
    for kind, told, spec in hostile():
        found, complaint = judged(kind, spec)
        if found is None:
            refused += 1
            assert len(complaint) < 1200, told
            assert complaint.isprintable(), told
        else:
            taken += 1
            leads_nowhere(kind, told, found)
    assert refused > taken * 5, f"{refused} refused, {taken} taken"


def judged(kind: str, spec: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    try:
        return as_read(manifest(kind, spec), SHAPES[kind]), ""
    except WrongSpec as error:
        return None, str(error)


def leads_nowhere(kind: str, told: str, found: dict[str, Any]) -> None:
    for where in fields(found):
        value: Any = found
        name = next((str(step) for step in reversed(where) if isinstance(step, str)), "")
        for step in where:
            value = value[step]
        if isinstance(value, str):
            assert value.isprintable() or name == "because", told  # which a condition shows as one line
            assert "{{" not in value or name in {"user", "tenant", "because"}, told
        if name in {"secretName", "recordsSecretName"} or (where[-1] == "name" and "Secret" in str(where[-2])):
            object_path(SECRET, "team", value)
    if kind == "KeyRotation":
        label_selector(found["consumers"]["selector"]["matchLabels"])


@pytest.mark.parametrize("text", [each for each in HOSTILE_TEXTS if each])
def test_no_text_leaves_its_matcher(text: str) -> None:
    """Past the definition and past `read_spec`: a rule still looks at its own release alone."""
    policy = Policy(manifest("AlertPolicy", {}), AlertPolicySpec.model_construct(release=text))
    for group in groups_of(policy):
        for rule in group["rules"]:
            strings_out = outside_of_strings(rule["expr"])
            assert text not in strings_out or text in {"..", ""}


def outside_of_strings(expression: str) -> str:
    """What is left of a PromQL expression without its string literals."""
    left, inside, escaped = [], False, False
    for each in expression:
        if inside:
            inside, escaped = (each != '"' or escaped), (each == "\\" and not escaped)
        elif each == '"':
            inside = True
        else:
            left.append(each)
    assert not inside
    return "".join(left)


@pytest.mark.parametrize("spec", [None, 7, "x", [], {"release": {}}, {"provider": {"pool": None}}])
@pytest.mark.parametrize("kind", SHAPES)
def test_a_spec_of_another_shape_is_refused_with_its_fields(kind: str, spec: Any) -> None:
    with pytest.raises(WrongSpec, match=r"^spec\."):
        read_spec(manifest(kind, spec), SHAPES[kind])


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1h30m", 5400), ("720h", 2592000), ("0s", 0)])
def test_durations_are_read_as_go_writes_them(text: str, seconds: float) -> None:
    assert duration(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "5", "5d", "-5s", "1h 30m", "500ms", "1.5h", "30m1h", "1h\n", "٣h", "1234567h"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        duration(text)
