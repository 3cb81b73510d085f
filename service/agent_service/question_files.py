"""Files that are asked about: pictures and PDFs, which reach the graph as content blocks of the question's message."""

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from agent_service.errors import InvalidRequest, TooLarge

# What a file is its first bytes say: a name or a type that came with it is its sender's. What may hold a script (SVG, HTML) is
# none of these.
MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"%PDF-", "application/pdf"),
)
"""Where the bytes stand, they, and the media type that they tell."""

TYPES = tuple(dict.fromkeys(kind for _, _, kind in MAGIC))

KINDS = "a PNG, JPEG, GIF or WebP picture, or a PDF"


class FileNote(TypedDict):
    """What is told of a file without its bytes."""

    name: str
    media_type: str
    bytes: int


@dataclass(frozen=True, slots=True)
class QuestionFile:
    """A file of a question. `data` is base64, as it came."""

    name: str
    media_type: str
    data: str
    size: int
    """Bytes of what `data` stands for."""

    @property
    def note(self) -> FileNote:
        return {"name": self.name, "media_type": self.media_type, "bytes": self.size}

    @property
    def block(self) -> dict[str, Any]:
        """As langchain's integrations take it, each of which makes its provider's own form of it."""
        kind = "image" if self.media_type.startswith("image/") else "file"
        return {"type": kind, "base64": self.data, "mime_type": self.media_type, "filename": self.name}


def media_type_of(data: bytes) -> str | None:
    """By its first bytes; None for what is not taken."""
    for at, magic, kind in MAGIC:
        if data[at : at + len(magic)] == magic and (kind != "image/webp" or data[:4] == b"RIFF"):
            return kind
    return None


def read_files(given: Sequence[tuple[str, str]], *, most: int, max_bytes: int) -> list[QuestionFile]:
    """Files by name and base64, checked.

    Raises:
        InvalidRequest: too many, no base64, empty, or not of a type that is taken.
        TooLarge: one has more than `max_bytes` bytes.
    """
    if len(given) > most:
        raise InvalidRequest(f"files: expected at most {most}, got {len(given)}", field="files")
    return list(_read(given, max_bytes))


def _read(given: Sequence[tuple[str, str]], max_bytes: int) -> Iterator[QuestionFile]:
    for number, (name, data) in enumerate(given):
        field = f"files.{number}.data"
        try:
            content = base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError):
            raise InvalidRequest(f"{field}: expected base64", field=field) from None
        if len(content) > max_bytes:
            raise TooLarge(f"{field}: {name} has {len(content)} bytes, expected at most {max_bytes}", field=field)
        kind = media_type_of(content)
        if kind is None:
            raise InvalidRequest(f"{field}: {name} is not {KINDS}", field=field)
        yield QuestionFile(name, kind, data, len(content))


def question_message(question: str, files: Sequence[QuestionFile]) -> dict[str, Any]:
    """The user's message: text alone, or the text and a block for each file."""
    if not files:
        return {"role": "user", "content": question}
    return {"role": "user", "content": [{"type": "text", "text": question}, *(file.block for file in files)]}


def content_of(block: Mapping[str, Any]) -> bytes:
    """The bytes of a block that was made here."""
    return base64.b64decode(block["base64"])
