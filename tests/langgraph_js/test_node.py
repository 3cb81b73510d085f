"""@langchain/langgraph-sdk under Node: checks.mjs makes the calls."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from tests.langgraph_js.conftest import BUILT, Stage

pytestmark = [pytest.mark.clients, pytest.mark.asyncio(loop_scope="session")]


async def test_the_javascript_sdk_gets_what_it_asks_for(stage: Stage) -> None:
    script = Path(__file__).with_name("checks.mjs")
    env = {**os.environ, "SDK": str(BUILT / "sdk" / "node_modules")}
    child = await asyncio.create_subprocess_exec("node", str(script), stage.url, env=env, stdout=asyncio.subprocess.PIPE)
    out, _ = await child.communicate()
    checks = json.loads(out)
    assert {name: result for name, result in checks.items() if result != "ok"} == {}
    assert len(checks) > 15
