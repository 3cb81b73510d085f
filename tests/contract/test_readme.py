"""No block of the README is left untyped: the first hour types it, or another test does, for a reason."""

import re

from tests.first_hour.readme import NOT_HERE, PAGE, ROOT, TYPED, blocks, matching


def test_each_block_is_typed_in_the_first_hour_or_elsewhere_for_a_reason() -> None:
    patterns = [*TYPED.values(), *NOT_HERE]
    known = {block: sum(bool(re.fullmatch(pattern, block, re.DOTALL)) for pattern in patterns) for block in blocks()}

    assert known == dict.fromkeys(known, 1), "give it a line in tests/first_hour/readme.py"
    assert [pattern for pattern in patterns if len(matching(pattern)) != 1] == []
    assert [each for each in NOT_HERE.values() if each.by not in (ROOT / each.file).read_text(encoding="utf-8")] == []
    assert len(NOT_HERE) <= 1


def test_each_line_that_is_indented_like_a_command_is_a_block() -> None:
    """Under a list it would be a paragraph of the list."""
    indented = re.findall(r"(?:(?<=\n\n)|(?<=\n))    (\S.*)", re.sub(r"(?s)```.*?```", "", PAGE.read_text(encoding="utf-8")))
    lines = [line for block in blocks() for line in block.splitlines()]

    assert indented
    assert [line for line in indented if line not in lines] == []
