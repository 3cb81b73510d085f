"""Writes docs/operations/settings.md from the settings of the code (`make settings-docs`)."""

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from agent_service.settings import Settings

PAGE = Path(__file__).parent.parent / "docs" / "operations" / "settings.md"

HEAD = """\
# Settings of the service

Written by `make settings-docs` from `agent_service/settings.py`; `slipway serve --help` prints the same list.

Settings are environment variables, read once at start. An empty one counts as not set. A wrong value ends the process with
exit code 2 and one line that names it; so does an unknown name that begins with `AGENT_`.

| setting | default | what |
| --- | --- | --- |
"""


def render() -> str:
    """The page, Markdown."""
    return HEAD + "".join(_row(name.upper(), field) for name, field in Settings.model_fields.items())


def _row(name: str, field: FieldInfo) -> str:
    default = _shown(field.get_default())
    text = " ".join(part for part in (field.description, _choices(field)) if part)
    return f"| `{name}` | {f'`{default}`' if default else ''} | {text.replace('|', chr(92) + '|')} |\n"


def _shown(default: Any) -> str:
    match default:
        case None:
            return ""
        case bool():
            return str(default).lower()
        case SecretStr():
            return default.get_secret_value()
        case float():
            return f"{default:g}"
    return str(default)


def _choices(field: FieldInfo) -> str:
    if get_origin(field.annotation) is not Literal:
        return ""
    return f"One of {', '.join(f'`{choice}`' for choice in get_args(field.annotation))}."


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
