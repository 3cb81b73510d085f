"""values.yaml, its schema, the README's table and the templates agree."""

import json
import re
from pathlib import Path

import jsonschema
import pytest

from tests.charts.slipway import CHART
from tests.support.charts import refusal
from tools.chart_schema import leaves, read_values, schema, schema_text, with_table

VALUES = CHART / "values.yaml"

USE = re.compile(r"(?<![\w.])(?:\$(?:root)?)?\.Values((?:\.\w+)+)")


REMOVED = {
    name
    for line in VALUES.read_text(encoding="utf-8").splitlines()
    if line.startswith("# @removed ")
    for name in line.removeprefix("# @removed ").split()
}
"""Read by the refusal that says what replaced them."""

READ_AS_A_WHOLE = ("monitoring.alerts.thresholds.", "monitoring.alerts.objectives.")
"""By a loop over their names; test_prometheusrule.py holds each against the rules."""


def template_texts() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((CHART / "templates").rglob("*.*")))


def test_the_schema_is_what_the_comments_say() -> None:
    assert (CHART / "values.schema.json").read_text(encoding="utf-8") == schema_text(read_values(VALUES)), "make chart-docs"


def test_the_readme_lists_every_value() -> None:
    readme = (CHART / "README.md").read_text(encoding="utf-8")

    assert readme == with_table(readme, read_values(VALUES)), "make chart-docs"


def test_the_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(schema(read_values(VALUES)))


@pytest.mark.parametrize(
    "misspelt",
    [
        "replcaCount",
        "operator.agentHealth.limits.p99Second",
        "autoscaling.minReplica",
        "monitoring.alerts.enable",
        "image.version",
    ],
)
def test_a_misspelt_value_is_refused(misspelt: str) -> None:
    *parents, key = misspelt.split(".")
    values: dict[str, object] = {key: 1}
    for parent in reversed(parents):
        values = {parent: values}

    assert f"additional properties '{key}' not allowed" in refusal(CHART, values)


@pytest.mark.parametrize("budget", ["half", "-1", "50 %"])
def test_a_disruption_budget_that_is_neither_a_number_nor_a_percentage_is_refused(budget: str) -> None:
    assert "pdb/maxUnavailable" in refusal(CHART, {"pdb": {"maxUnavailable": budget}})


def test_a_parents_global_values_are_let_in() -> None:
    jsonschema.validate({"global": {"anything": 1}}, json.loads((CHART / "values.schema.json").read_text(encoding="utf-8")))


def test_every_value_that_a_template_reads_is_declared() -> None:
    declared = {value.name for value in leaves(read_values(VALUES))} | REMOVED
    branches = {name.rsplit(".", depth)[0] for name in declared for depth in range(1, name.count(".") + 1)}
    read = {match[1].removeprefix(".") for match in USE.finditer(template_texts())}
    # fields within a free-form value (resources.requests) are the user's
    unknown = {
        name
        for name in read
        - {"generatedSecrets", "global"}  # made by _secrets.tpl for the time of a render; handed to each chart by Helm
        if not (name in declared | branches or any(name.startswith(f"{leaf}.") for leaf in declared))
    }

    assert unknown == set()


def test_every_declared_value_is_read_by_a_template() -> None:
    text = template_texts()
    read = {match[1].removeprefix(".") for match in USE.finditer(text)}

    def is_read(name: str) -> bool:
        if name.startswith(READ_AS_A_WHOLE) or any(name == use or use.startswith(f"{name}.") for use in read):
            return True
        # read through `with .Values.branch` or a variable of it: the branch is named, and the last part is, as a field
        branches = {name.rsplit(".", depth)[0] for depth in range(1, name.count(".") + 1)}
        return bool(branches & read) and re.search(rf"\.{name.rsplit('.', 1)[1]}\b", text) is not None

    assert [value.name for value in leaves(read_values(VALUES)) if not is_read(value.name)] == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a:\n  # what\n  b: 1\n  c: 2\n", "a.c: no comment"),
        ("# what\na: null\n", "a: a value of null needs"),
        ("# what\na: []\n", "a: an empty array needs"),
        ("# what\na: {}\n", "a: an empty object needs"),
    ],
)
def test_a_value_that_says_too_little_about_itself_is_an_error(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(ValueError, match=complaint):
        read_values(file)


def test_a_comment_becomes_description_and_schema(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("# not ours\n\na:\n  # One\n  # two.\n  # @schema {minimum: 1}\n  b: 3\n", encoding="utf-8")

    made = schema(read_values(file))["properties"]["a"]

    assert made["additionalProperties"] is False
    assert made["properties"]["b"] == {"type": "integer", "description": "One two.", "default": 3, "minimum": 1}
