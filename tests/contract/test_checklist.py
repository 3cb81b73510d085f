"""The page on production readiness has the lines that the code checks, in their order and areas."""

import re
from pathlib import Path

from slipway_doctor.checks.registry import CHECKS

PAGE = Path(__file__).parents[2] / "docs/operations/production-readiness.md"


def test_the_checklist_is_the_one_of_the_code() -> None:
    area, listed = "", []
    for first in re.findall(r"^\| (\*\*\w+\*\*|`\w+`) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE):
        if first.startswith("**"):
            area = first.strip("*").lower()
        else:
            listed.append((area, first.strip("`")))

    assert listed == [(check.area.value, check.id) for check in CHECKS]
