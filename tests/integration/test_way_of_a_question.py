"""The way of docs/developer/architecture.md is the one that a question takes."""

import sys
from pathlib import Path
from types import FrameType

import httpx

import agent_service
from tests.support.service import running_service
from tools.architecture_docs import PAGE, from_the_route, listed

HOME = Path(agent_service.__path__[0])


async def test_a_question_comes_by_every_file_of_the_page_eight_at_most_from_its_route(database_url: str) -> None:
    called: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            called.add(frame.f_code.co_filename)

    async with running_service(database_url) as service, httpx.AsyncClient(base_url=service.url) as http:
        sys.setprofile(note)
        try:
            answer = await http.get("/chat/stream", params={"question": "How do I rotate keys?"})
        finally:
            sys.setprofile(None)

    page = PAGE.read_text(encoding="utf-8")
    way = [path for path, _ in listed(page)]
    assert "[DONE]" in answer.text
    assert 1 < len(from_the_route(page)) <= 8
    assert [path for path in way if str(HOME / path) not in called] == []
