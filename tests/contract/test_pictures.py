"""What the pictures of a terminal show is what the program prints."""

import re

import pytest

from tools.terminal_pictures import PICTURES, pictures


@pytest.fixture(scope="module")
def drawn() -> dict[str, str]:
    return pictures()


@pytest.mark.parametrize("name", ["agenthealth.svg", "doctor.svg"])
def test_a_picture_of_a_terminal_is_the_one_that_is_drawn_now(drawn: dict[str, str], name: str) -> None:
    assert (PICTURES / name).read_text(encoding="utf-8") == drawn[name], "run: make terminal-pictures"


def test_a_picture_loads_nothing_from_elsewhere(drawn: dict[str, str]) -> None:
    addresses = [address for svg in drawn.values() for address in re.findall(r"https?://[^\s\"')]+", svg)]

    assert set(addresses) <= {"http://www.w3.org/2000/svg"}
