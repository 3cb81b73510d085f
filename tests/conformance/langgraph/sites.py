"""A server that speaks the LangGraph wire, with the suite's graphs: Slipway, or the reference."""

import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conformance.langgraph.reference import reference_server
from tests.support.fake_script import Script, ToolCall
from tests.support.postgres import fresh_database
from tests.support.service import running_service

GRAPHS = "tests.conformance.langgraph.graphs"

SITES = [pytest.param("slipway"), pytest.param("reference", marks=pytest.mark.reference)]
"""For the parameter of a fixture: the reference only when `-m reference` asks for it."""


def script(**more: object) -> Script:
    """What the model says, to whatever it is asked; where a tool is offered it calls it first."""
    weather = ToolCall(name="weather", arguments={"city": "Paris"})
    return Script.model_validate({"tokens": ["It ", "is ", "so."], "tool_calls": [weather], **more})


@dataclass(frozen=True, slots=True)
class Site:
    url: str
    is_reference: bool


@asynccontextmanager
async def running_site(kind: str, *, model_url: str, admin_url: str, folder: Path, **env: str) -> AsyncIterator[Site]:
    """env: settings of Slipway."""
    if kind == "reference":
        program = os.environ.get("REFERENCE_LANGGRAPH", "langgraph")
        if not shutil.which(program):
            pytest.skip(f"needs the reference server: REFERENCE_LANGGRAPH names its program, and {program!r} is none")
        async with reference_server(program, folder, model_url) as url:
            yield Site(url, is_reference=True)
        return
    file = folder / "langgraph.json"
    file.write_text(json.dumps({"graphs": {"counter": f"{GRAPHS}:counter"}}), encoding="utf-8")
    settings = {
        "LANGGRAPH_CONFIG": str(file),
        "MODEL": "gpt-4o",
        "OPENAI_BASE_URL": model_url,
        "OPENAI_API_KEY": "sk-test",
        "WEBHOOK_HOSTS": "127.0.0.1",
        **env,
    }
    with fresh_database(admin_url) as database:
        async with running_service(database, AGENT_GRAPH=f"{GRAPHS}:served", **settings) as service:
            yield Site(service.url, is_reference=False)
