"""Renders docs/runbooks as the pages that a release serves at /runbooks (`make runbooks`).

Plain HTML with one style sheet: no script, no picture. Each keeps its Markdown's path, `.md` and all, so that an address of
runbooks may be a release's or that of a repository's viewer, and links between runbooks lead on in both. A link to a page
that is no runbook has nothing behind it in a release: its text stays, with the path in the repository.
"""

from collections.abc import Iterator
from html import escape
from pathlib import Path, PurePosixPath
from posixpath import normpath

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "docs" / "runbooks"
PAGES = ROOT / "monitoring" / "slipway_monitoring" / "runbook_pages"

HTML = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="{up}style.css">
</head>
<body>
<nav><a href="{up}./">All runbooks</a></nav>
<main>
{body}</main>
</body>
</html>
"""

STYLE = """\
:root { color-scheme: light dark; }
body { max-width: 48rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.6 system-ui, sans-serif; overflow-wrap: break-word; }
h1, h2 { line-height: 1.25; }
h2 { margin-top: 2rem; font-size: 1.25rem; }
pre { overflow-x: auto; padding: 0.75rem 1rem; border: 1px solid #8888; border-radius: 0.4rem; }
code { font-family: ui-monospace, monospace; font-size: 0.92em; }
table { border-collapse: collapse; }
th, td { padding: 0.25rem 0.75rem 0.25rem 0; text-align: left; vertical-align: top; }
"""


def rendered() -> dict[str, str]:
    """Each file by its path below PAGES."""
    sources = {str(PurePosixPath(page.relative_to(SOURCE))): page for page in sorted(SOURCE.rglob("*.md"))}
    texts = {path: source.read_text(encoding="utf-8") for path, source in sources.items()}
    return {
        "style.css": STYLE,
        "index.html": _html("index.md", "Runbooks", f"<h1>Runbooks</h1>\n<ul>\n{''.join(_items(texts))}</ul>\n"),
        **{_file(path): _html(path, _title(text), _body(path, text, texts)) for path, text in texts.items()},
    }


def _items(texts: dict[str, str]) -> Iterator[str]:
    for path, text in texts.items():
        yield f'<li><a href="{escape(path)}">{escape(_title(text))}</a></li>\n'


def _file(path: str) -> str:
    return str(PurePosixPath(path).with_suffix(".html"))


def _title(text: str) -> str:
    return text.splitlines()[0].removeprefix("# ")


def _html(path: str, title: str, body: str) -> str:
    return HTML.format(title=escape(title), up="../" * path.count("/"), body=body)


def _body(path: str, text: str, pages: dict[str, str]) -> str:
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    for token in tokens:
        if token.children:
            token.children = list(_within(token.children, path, pages))
    return str(markdown.renderer.render(tokens, markdown.options, {}))


def _within(tokens: list[Token], path: str, pages: dict[str, str]) -> Iterator[Token]:
    """Without the links that lead out of the runbooks and are no addresses: links do not nest, so one is open at a time."""
    left = ""
    for token in tokens:
        if token.type == "link_open":
            target = str(token.attrGet("href")).partition("#")[0]
            known = not target or "://" in target or _beside(path, target) in pages
            left = "" if known else normpath(f"docs/runbooks/{PurePosixPath(path).parent}/{target}")
            if left:
                continue
        if token.type == "link_close" and left:
            yield Token("text", "", 0, content=": ")
            yield Token("code_inline", "code", 0, content=left)
            left = ""
            continue
        yield token


def _beside(path: str, target: str) -> str:
    return normpath(str(PurePosixPath(path).parent / target))


def write() -> None:
    """Writes what is to be there, and takes away what is not."""
    wanted = rendered()
    for old in [each for each in PAGES.rglob("*") if each.is_file()]:
        if str(PurePosixPath(old.relative_to(PAGES))) not in wanted:
            old.unlink()
    for path, text in wanted.items():
        (PAGES / path).parent.mkdir(parents=True, exist_ok=True)
        (PAGES / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
