"""docs/developer/architecture.md says what the code is: its diagrams, its layers, its paths."""

import configparser
import re
from pathlib import Path

import pytest

from tools.architecture_docs import COMPONENTS, PAGE, ROOT, images, needs, render

TEXT = PAGE.read_text(encoding="utf-8")
OPERATOR = (ROOT / "docs/developer/operator.md").read_text(encoding="utf-8")
CHANGES = TEXT.partition("## I want to change")[2].partition("\n## ")[0]


def contracts() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / ".importlinter", encoding="utf-8")
    return parser


def layers(contract: str) -> list[set[str]]:
    """From the top, the modules of each layer."""
    lines = contracts()[f"importlinter:contract:{contract}"]["layers"].split("\n")
    return [set(re.findall(r"\w+", line)) for line in lines if line.strip()]


def package(component: str) -> Path:
    [found] = (ROOT / component).glob("*/__init__.py")
    return found.parent


def test_the_diagrams_are_those_of_the_code() -> None:
    assert render(TEXT) == TEXT, "run: make architecture-docs"


def test_ten_changes_or_more_have_a_place_and_every_place_exists() -> None:
    rows = re.findall(r"^\| (?!I want|---)[^|]+\| ([^|]+) \|$", CHANGES, re.MULTILINE)
    named = [re.findall(r"`([^`]*[/.][^`]*)`", row) for row in rows]

    assert len(rows) >= 10
    assert [row for row, paths in zip(rows, named, strict=True) if not paths] == []
    assert [path for paths in named for path in paths if path != "pyproject.toml" and not (ROOT / path).exists()] == []


def test_every_command_of_the_page_is_one_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

    assert {word for words in re.findall(r"`make ([a-z -]+)`", TEXT) for word in words.split()} - targets == set()


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_package_has_layers_that_name_all_its_modules(component: str) -> None:
    name = package(component).name
    parser = contracts()
    [section] = [
        each for each in parser.sections() if parser[each].get("containers") == name and parser[each].get("type") == "layers"
    ]

    assert parser[section]["exhaustive"] == "True"


def test_the_page_has_the_layers_of_the_service_in_their_order() -> None:
    table = TEXT.partition("| layer | job |")[2].partition("\n\n")[0]
    described = [set(re.findall(r"`(\w+)`", line.split("|")[1])) for line in table.splitlines()[2:]]

    assert described == layers("service-layers")


def test_the_operator_s_page_has_its_layers_in_their_order() -> None:
    line = OPERATOR.partition("```\n")[2].partition("\n```")[0]

    assert [set(re.findall(r"\w+", each)) for each in line.split("→")] == layers("operator-layers")


def test_an_image_has_what_its_components_need_and_nothing_else() -> None:
    for image, components in images().items():
        reached, open_ones = set(), [image]
        while open_ones:
            reached.add(each := open_ones.pop())
            open_ones += needs(each)
        assert set(components) == reached, image
