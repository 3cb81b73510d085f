import pytest

from agent_service.documents.document import Block, Document, Section, UnreadableDocument
from agent_service.documents.parse import MAX_FILE_BYTES, parse
from tests.service.documents.pdf import encrypt, make_pdf

MARKDOWN = """\
---
draft: true
---
# Running *it*

Before any heading.

## Install

<!-- generated -->
- One:

  ```sh
  helm install
  ```
- Two

### On a laptop

```sh
# not a heading
make run
```

| a | b |
| --- | --- |
| 1 | 2 |

Remove
------

Gone.
"""


def paths(document: Document) -> list[tuple[str, ...]]:
    return [section.path for section in document.sections]


def test_markdown_becomes_sections_with_the_path_of_their_headings() -> None:
    document = parse("guide.md", MARKDOWN.encode())

    assert document.title == "Running it"
    assert document.sections == (
        Section((), (Block("Before any heading."),)),
        Section(("Install",), (Block("- One:\n\n  ```sh\n  helm install\n  ```", "code"), Block("- Two"))),
        Section(
            ("Install", "On a laptop"),
            (
                Block("```sh\n# not a heading\nmake run\n```", "code"),
                Block("| a | b |\n| --- | --- |\n| 1 | 2 |", "table"),
            ),
        ),
        Section(("Remove",), (Block("Gone."),)),
    )


def test_front_matter_may_name_the_document() -> None:
    document = parse("x.md", b'---\ntitle: "Named"\n---\n# Other\n\ntext')

    assert document.title == "Named"
    assert paths(document) == [("Other",)]


@pytest.mark.parametrize("name", ["key-rotation_guide.md", "key-rotation_guide.txt", "key-rotation_guide.html"])
def test_document_without_a_title_is_called_like_its_file(name: str) -> None:
    assert parse(name, b"only text").title == "key rotation guide"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_is_read_in_the_encodings_that_editors_write(encoding: str) -> None:
    document = parse("a.txt", "Größe\r\n\r\nzwei".encode(encoding))

    assert document.sections == (Section((), (Block("Größe"), Block("zwei"))),)


HTML = """\
<!doctype html><html><head><title>From head</title><style>p {}</style></head><body>
<nav>Menu</nav><main>
<h1>Alerts</h1>Loose <b>text</b> here.
<h2>Noise</h2><p>A <a href="x">link</a>,<br>a break.</p><ul><li>one</li><li>two <ul><li>deep</li></ul></li></ul>
<pre><code>alert: X
  for: 5m</code></pre>
<table><tr><th>k</th><th>v</th></tr><tr><td>a
 b</td><td>2</td></tr></table><script>evil()</script>
</main><footer>Imprint</footer></body></html>
"""


def test_html_becomes_sections_of_its_main_text() -> None:
    document = parse("a.html", HTML.encode())

    assert document.title == "Alerts"
    assert document.sections == (
        Section((), (Block("Loose text here."),)),
        Section(
            ("Noise",),
            (
                Block("A link,"),
                Block("a break."),
                Block("one"),
                Block("two"),
                Block("deep"),
                Block("alert: X\n  for: 5m", "code"),
                Block("| k | v |\n| a b | 2 |", "table"),
            ),
        ),
    )


def test_html_in_a_declared_encoding_is_read_in_it() -> None:
    page = '<meta charset="iso-8859-1"><title>Zoë</title><p>Größe'.encode("iso-8859-1")

    document = parse("a.htm", page)

    assert document.title == "Zoë"
    assert document.sections[0].blocks == (Block("Größe"),)


def test_pdf_becomes_a_section_per_page_with_text() -> None:
    document = parse("a.pdf", make_pdf("Drain takes 30 s.", "", "Leases take 10 s.", title="Handbook"))

    assert document.title == "Handbook"
    assert paths(document) == [("page 1",), ("page 3",)]
    assert "Leases take 10 s." in document.sections[1].blocks[0].text


def test_pdf_that_opens_without_a_password_is_read() -> None:
    document = parse("a.pdf", encrypt(make_pdf("Readable."), ""))

    assert "Readable." in document.sections[0].blocks[0].text


PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"

BAD = {
    "empty": ("a.md", b"", "no text"),
    "blank": ("a.txt", b" \n\t\n", "no text"),
    "headings only": ("a.md", b"# A\n\n## B\n", "no text"),
    "html without text": ("a.html", b"<html><body><script>x()</script></body></html>", "no text"),
    "empty html": ("a.html", b"", "no text"),
    "wrong encoding": ("a.md", "Größe".encode("latin-1"), "UTF-8"),
    "html that lies about its encoding": ("a.html", b'<meta charset="ascii"><p>\xff\x00', "ascii"),
    "html in an unknown encoding": ("a.html", b'<meta charset="klingon"><p>\xff', "klingon"),
    "picture named .md": ("a.md", PNG, "not UTF-8"),
    "NUL bytes named .txt": ("a.txt", b"abc\0def", "binary"),
    "encrypted PDF": ("a.pdf", encrypt(make_pdf("Secret."), "password"), "encrypted"),
    "scanned PDF": ("a.pdf", make_pdf("", ""), "scan"),
    "cut PDF": ("a.pdf", make_pdf("Text.")[:300], "not a readable PDF"),
    "text named .pdf": ("a.pdf", b"just text", "not a readable PDF"),
    "empty PDF": ("a.pdf", b"", "not a readable PDF"),
    "unknown kind": ("a.xlsx", b"PK", "unknown kind"),
    "too large": ("a.txt", b"x" * (MAX_FILE_BYTES + 1), "larger"),
}


@pytest.mark.parametrize(("name", "content", "reason"), BAD.values(), ids=BAD.keys())
def test_file_that_cannot_be_read_says_why(name: str, content: bytes, reason: str) -> None:
    with pytest.raises(UnreadableDocument, match=reason):
        parse(name, content)
