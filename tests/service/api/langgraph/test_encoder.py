"""Signs of life of a stream whose reader asked for little."""

from collections.abc import AsyncIterator

import pytest

from agent_service.api.langgraph.encoder import never_silent


async def test_news_that_a_reader_did_not_ask_for_leave_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("agent_service.api.langgraph.encoder.time.monotonic", lambda: now[0])

    async def frames() -> AsyncIterator[bytes]:
        for seconds, frame in [(0.0, b"a"), (1.0, b""), (1.0, b""), (1.0, b""), (1.0, b"b"), (1.0, b""), (9.0, b"")]:
            now[0] += seconds
            yield frame

    assert [frame async for frame in never_silent(frames(), b":", 6.0)] == [b"a", b":", b"b", b":"]
