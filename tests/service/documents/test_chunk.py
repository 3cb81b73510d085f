from hypothesis import given
from hypothesis import strategies as st

from agent_service.documents.chunk import MAX_CHARS, TARGET_CHARS, chunk
from agent_service.documents.document import Block, Document, Section
from agent_service.documents.parse import parse


def document(*blocks: Block) -> Document:
    return Document("T", (Section(("A", "B"), blocks),))


def texts(*blocks: Block) -> list[str]:
    return [c.text for c in chunk(document(*blocks))]


def test_short_neighbours_share_a_passage_and_headings_part_them() -> None:
    chunks = chunk(parse("a.md", b"# T\n\nintro\n\n## A\n\none\n\ntwo\n\n### B\n\nthree\n"))

    assert [(c.section, c.text) for c in chunks] == [("", "intro"), ("A", "one\n\ntwo"), ("A › B", "three")]


def test_code_block_that_fits_stays_whole_even_between_long_paragraphs() -> None:
    code = Block("\n".join(f"line {n}" for n in range(150)), "code")
    assert TARGET_CHARS < len(code.text) <= MAX_CHARS

    assert code.text in texts(Block("x" * 1000), code, Block("y" * 1000))


def test_code_block_beyond_the_limit_is_cut_between_lines() -> None:
    lines = [f"value_{n}: {n}" for n in range(400)]

    parts = texts(Block("\n".join(lines), "code"))

    assert len(parts) > 1
    assert [line for part in parts for line in part.split("\n")] == lines


def test_long_table_is_cut_between_rows_and_repeats_its_header() -> None:
    header = "| setting | meaning |\n| --- | --- |"
    rows = [f"| S_{n} | what setting number {n} is for |" for n in range(100)]

    parts = texts(Block("\n".join([header, *rows]), "table"))

    assert len(parts) > 1
    assert all(part.startswith(f"{header}\n") for part in parts)
    assert [row for part in parts for row in part.split("\n")[2:]] == rows


def test_long_paragraph_is_cut_at_sentence_ends() -> None:
    parts = texts(Block(" ".join(f"Sentence number {n} says little." for n in range(100))))

    assert len(parts) > 1
    assert all(part.endswith(".") for part in parts)


def test_word_without_an_end_is_cut_anyway() -> None:
    assert [len(part) for part in texts(Block("x" * 3000))] == [1200, 1200, 600]


words = st.text(alphabet="ab.| \n-", min_size=1, max_size=4000).filter(str.strip)
blocks = st.lists(st.builds(Block, words, st.sampled_from(["text", "code"])), min_size=1, max_size=6)


@given(blocks)
def test_no_character_is_lost_and_no_passage_is_too_long(parts: list[Block]) -> None:
    chunks = texts(*parts)

    assert all(len(part) <= MAX_CHARS for part in chunks)
    assert "".join("".join(chunks).split()) == "".join("".join(b.text for b in parts).split())


@given(st.text(max_size=3000))
def test_any_markdown_table_keeps_the_limit(text: str) -> None:
    assert all(len(part) <= MAX_CHARS for part in texts(Block(text, "table")))
