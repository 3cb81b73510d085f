"""What the README tells its reader to type, and which of it cannot be typed here."""

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "README.md"

TYPED = {
    "run": r"make run",
    "model": r"OPENAI_API_KEY=… MODEL=\S+ make run",
    "crash": r"make run\nkill [^\n]+\nmake run",
    "graph": r"# agent\.py\n.+",
    "own graph": r"AGENT_GRAPH=\./agent\.py:graph OPENAI_API_KEY=… make run",
    "init": r"\S+ init my-agent\ncd my-agent && \S+ dev --reload",
    "several graphs": r"LANGGRAPH_CONFIG=path/to/langgraph\.json make run",
    "curl": r"curl [^\n]+",
}
"""Of each block that `test_readme` types: its name there, and what it looks like."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A block that is typed by another test: why, in which file, and the text there that does it."""

    why: str
    file: str
    by: str


NOT_HERE = {
    r"helm install my-agent charts/slipway": Elsewhere(
        "needs a cluster", "tests/e2e/test_install.py", "release.upgrade(default_values())"
    ),
}


def blocks() -> list[str]:
    """Code blocks, indented or fenced, without the space around them."""
    tokens = MarkdownIt("commonmark").parse(PAGE.read_text(encoding="utf-8"))
    return [token.content.strip() for token in tokens if token.type in {"fence", "code_block"}]


def matching(pattern: str) -> list[str]:
    return [each for each in blocks() if re.fullmatch(pattern, each, re.DOTALL)]


def in_the_text() -> list[str]:
    """What stands between backquotes in sentences and tables."""
    tokens = MarkdownIt("commonmark").enable("table").parse(PAGE.read_text(encoding="utf-8"))
    return [child.content for token in tokens for child in token.children or () if child.type == "code_inline"]
