"""The examples of docs/operations/key-rotation.md are objects that the definition takes and the operator understands."""

from pathlib import Path
from typing import Any

import jsonschema
import yaml
from markdown_it import MarkdownIt

from agent_operator.manifests.rotation_spec import KeyRotationSpec
from agent_operator.manifests.specs import read_spec
from agent_operator.reconcile.rotation.status import Pending, RotationStatus, dump_status, read_status
from tests.support.clock import WallClock

ROOT = Path(__file__).parents[2]
CRD = yaml.load((ROOT / "charts/slipway-operator/crds-source/keyrotations.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
SCHEMA = CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
NOW = WallClock().now()


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The API server drops what a schema does not name; here that is an error."""
    if "properties" not in schema:
        return schema
    properties = {name: closed(inner) for name, inner in schema["properties"].items()}
    return {**schema, "properties": properties, "additionalProperties": False}


def test_the_examples_of_the_page_are_understood() -> None:
    page = (ROOT / "docs/operations/key-rotation.md").read_text(encoding="utf-8")
    fences = [yaml.load(token.content, yaml.CSafeLoader) for token in MarkdownIt().parse(page) if token.info == "yaml"]
    objects = [each for each in fences if each.get("kind") == "KeyRotation"]

    assert objects
    for each in objects:
        jsonschema.validate(each["spec"], closed(SCHEMA["spec"]))
        assert read_spec(each, KeyRotationSpec).schedule is not None


def test_the_definition_takes_every_field_of_a_status() -> None:
    status = RotationStatus(
        phase_since=NOW,
        revision=2,
        key_id="a",
        previous_key_id="b",
        key_time=NOW,
        last_rotation=NOW,
        next_rotation=NOW,
        confirmed=NOW,
        overlap_until=NOW,
        pending=Pending(2, "name", NOW, "Scheduled", "a", verified=True),
        rotate_now="1",
        ignored_leak=9,
        unconfirmed=("agent-1 (1)",),
    ).failed("RateLimited", "later", NOW)

    written = dump_status(status)

    jsonschema.validate(written, closed(SCHEMA["status"]))
    assert read_status(written) == status
