"""What is a file of a question, and what is refused: by its bytes, not by its name."""

import base64

import pytest

from agent_service.errors import InvalidRequest, TooLarge
from agent_service.question_files import content_of, media_type_of, question_message, read_files

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
PDF = b"%PDF-1.7\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF"


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0 and so on", "image/jpeg"),
        (b"GIF89a and so on", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (PDF, "application/pdf"),
    ],
)
def test_the_first_bytes_say_what_a_file_is(data: bytes, kind: str) -> None:
    assert media_type_of(data) == kind
    (file,) = read_files([("whatever.exe", encoded(data))], most=1, max_bytes=len(data))
    assert (file.media_type, file.size) == (kind, len(data))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        b"<!doctype html><script>alert(1)</script>",
        b"<script>/*%PDF-*/alert(1)</script>",
        b"RIFF\x00\x00\x00\x00AVI LIST",
        b"XXXX\x00\x00\x00\x00WEBPVP8 ",
        b"\x89PNG\n",
        b"MZ\x90\x00",
        b"PK\x03\x04",
        b" %PDF-1.7",
    ],
)
def test_what_is_no_picture_or_pdf_is_refused_by_its_name(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"files\.1\.data: cat\.png is not a PNG"):
        read_files([("ok.png", encoded(PNG)), ("cat.png", encoded(data))], most=2, max_bytes=1000)


@pytest.mark.parametrize(
    "data", ["%", "data:image/png;base64,iVBORw0KGgo=", encoded(PNG)[:-1], encoded(PNG) + "\n", "ü" * 8, "A" * 5]
)
def test_what_is_no_base64_is_refused(data: str) -> None:
    with pytest.raises(InvalidRequest, match=r"files\.0\.data: expected base64"):
        read_files([("cat.png", data)], most=1, max_bytes=1000)


def test_limits_are_kept_to_the_byte_and_to_the_file() -> None:
    read_files([("a.pdf", encoded(PDF))] * 3, most=3, max_bytes=len(PDF))
    with pytest.raises(InvalidRequest, match="files: expected at most 3, got 4"):
        read_files([("a.pdf", encoded(PDF))] * 4, most=3, max_bytes=len(PDF))
    with pytest.raises(TooLarge, match=rf"files\.0\.data: a\.pdf has {len(PDF)} bytes, expected at most {len(PDF) - 1}"):
        read_files([("a.pdf", encoded(PDF))], most=3, max_bytes=len(PDF) - 1)


def test_a_message_holds_the_text_and_a_block_for_each_file() -> None:
    files = read_files([("cat.png", encoded(PNG)), ("a.pdf", encoded(PDF))], most=2, max_bytes=1000)
    message = question_message("What is this?", files)
    assert [block["type"] for block in message["content"]] == ["text", "image", "file"]
    assert [content_of(block) for block in message["content"][1:]] == [PNG, PDF]
    assert question_message("What is this?", []) == {"role": "user", "content": "What is this?"}
