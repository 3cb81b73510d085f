"""The chat page in a real browser, for attackers who write what it shows."""

from tests.integration.page.conftest import _model, browser, model, open_chat, scripted

__all__ = ["_model", "browser", "model", "open_chat", "scripted"]
