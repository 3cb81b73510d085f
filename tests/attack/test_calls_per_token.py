"""What each streamed token costs in calls of the service's own functions: counted, as time tells nothing on a busy machine.

From the model's endpoint to the client's socket. A limit or a copy that is added for each token shows here and fails.
"""

import sys
from collections import Counter
from types import FrameType
from typing import Any

from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script
from tests.support.service import running_service

CALLS = 85
"""Of the service's functions for one token that arrives alone: 80 when this was written, each resumed coroutine counted."""

TOKENS_PER_SECOND = 60.0
"""So that none waits for the next: the reader passes on together what comes faster than 100 a second."""


class Profile:
    """Counts calls of functions in `agent_service` on this thread, which has the service's loop."""

    def __init__(self) -> None:
        self.calls = Counter[str]()

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        name = frame.f_code.co_filename
        if event == "call" and "agent_service" in name:
            self.calls[f"{name.rpartition('agent_service/')[2]}:{frame.f_code.co_name}"] += 1


async def calls_of(database_url: str, fake: FakeModel, tokens: int) -> Counter[str]:
    """Of one turn with so many tokens."""
    fake.script = Script(tokens=["word "] * tokens, tokens_per_second=TOKENS_PER_SECOND)
    env = {"MODEL": "fake-1", "OPENAI_BASE_URL": fake.url, "OPENAI_API_KEY": "sk-1", "AGENT_GRAPH": "tests.support.graphs:plain"}
    async with running_service(database_url, **env) as service, service.client() as client:
        profile = Profile()
        sys.setprofile(profile)
        try:
            response = await client.post("/chat/stream", json={"question": "hello"})
        finally:
            sys.setprofile(None)
    assert response.text.count("word") == tokens
    return profile.calls


async def test_a_token_costs_so_many_calls(database_url: str) -> None:
    async with FakeModel() as fake:
        few, many = await calls_of(database_url, fake, 30), await calls_of(database_url, fake, 130)
    more = Counter({name: (many[name] - few[name]) / 100 for name in many})
    each = sum(more.values())
    print(
        f"{each:.1f} calls of the service's functions for a token:",
        *(f"{n} {c:.2f}" for n, c in more.most_common(12)),
        sep="\n  ",
    )
    assert each < CALLS
