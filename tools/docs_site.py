"""Hooks of MkDocs for `make docs`: what the pages have on GitHub and the site does not have."""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent

LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)+[^)#\s]*)(?:#[^)\s]*)?\)")
"""To a place relative to the page's folder or above; no picture."""


def on_config(config: Any) -> Any:
    """Lists the runbooks where the navigation names their folder: one is added with each alert."""
    docs = Path(config["docs_dir"])
    for part in config["nav"]:
        for entry in next(iter(part.values())) if isinstance(part, dict) and isinstance(next(iter(part.values())), list) else []:
            if isinstance(entry, dict) and entry.get("Runbooks") == "runbooks":
                entry["Runbooks"] = [str(page.relative_to(docs)) for page in sorted(docs.glob("runbooks/**/*.md"))]
    return config


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:  # noqa: ARG001  # MkDocs names them
    """Says the path instead of a link that leads out of docs/, or to a folder: files of the repository are not in the site."""
    folder = Path(page.file.abs_src_path).parent
    docs = Path(config["docs_dir"])

    def said(link: re.Match[str]) -> str:
        target = (folder / link[2]).resolve()
        if target.is_relative_to(docs) and target.is_file():
            return link[0]
        place = target.relative_to(ROOT)
        return link[1] if f"`{place}`" in link[1] else f"{link[1]} (`{place}`)"

    return LINK.sub(said, markdown)
