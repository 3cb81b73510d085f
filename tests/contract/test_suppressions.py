"""Who silences the linter or the type checker says why, on the same line."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FOLDERS = ("bench", "clients", "doctor", "monitoring", "operator", "service", "tools")

DIRECTIVE = re.compile(
    r"#\s*(?:noqa|type:\s*ignore|pragma|mypy|pyright|ruff)\b"
    r"(?::\s*[\w, :-]+?(?=\s*#|$)|\[[\w, -]+\])?"  # its codes
)

WORDS = re.compile(r"[A-Za-z]{2,}")


def bare(source: str) -> Iterator[int]:
    """Lines whose comment silences a tool and says nothing else."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if (
            token.type == tokenize.COMMENT
            and DIRECTIVE.search(token.string)
            and not WORDS.search(DIRECTIVE.sub("", token.string))
        ):
            yield token.start[0]


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_suppression_has_its_reason(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    found = [f"{path.relative_to(ROOT)}:{line}" for path in files for line in bare(path.read_text(encoding="utf-8"))]
    assert found == []


@pytest.mark.parametrize(
    ("line", "is_bare"),
    [
        ("x = 1  # noqa", True),
        ("x = 1  # noqa: E501", True),
        ("x = 1  # noqa: S101, PLR2004", True),
        ("x = 1  # type: ignore", True),
        ("x = 1  # type: ignore[no-untyped-call, arg-type]", True),
        ("x = 1  # type: ignore[operator]  # noqa: PLC0415", True),
        ("x = 1  # noqa: E501  #", True),
        ("x = 1  # noqa: E501  # a table", False),
        ("x = 1  # type: ignore[import-untyped]  # noqa: PLC0415  # lacks py.typed", False),
        ("x = '# noqa'", False),
        ("x = 1  # why", False),
    ],
)
def test_a_reason_is_told_from_a_code(line: str, is_bare: bool) -> None:
    assert list(bare(f"{line}\n")) == ([1] if is_bare else [])
