"""@langchain/langgraph-sdk under Node: checks.mjs makes the calls, methods.mjs one of each method."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.langgraph_js.conftest import BUILT, Stage

pytestmark = [pytest.mark.clients, pytest.mark.asyncio(loop_scope="session")]


async def told(stage: Stage, script: str, sdk: Path = BUILT / "sdk" / "node_modules") -> dict[str, Any]:
    """What a script prints, on the SDK of that folder."""
    env = {**os.environ, "SDK": str(sdk)}
    path = Path(__file__).with_name(script)
    child = await asyncio.create_subprocess_exec("node", str(path), stage.url, env=env, stdout=asyncio.subprocess.PIPE)
    out, _ = await child.communicate()
    found: dict[str, Any] = json.loads(out)
    return found


async def test_the_javascript_sdk_gets_what_it_asks_for(stage: Stage) -> None:
    checks = await told(stage, "checks.mjs")
    assert {name: result for name, result in checks.items() if result != "ok"} == {}
    assert len(checks) > 15


async def test_every_method_of_the_javascript_sdk_is_served_or_refused_by_the_name_of_its_field(stage: Stage) -> None:
    if stage.is_reference:
        pytest.skip("what is refused is ours")
    walked = await told(stage, "methods.mjs")
    wrong = [f"{name}: {result}" for name, result in walked["results"].items() if result != "ok"]
    assert not wrong, "\n".join(wrong)
    assert len(walked["methods"]) >= 45


async def test_a_method_that_a_new_version_of_the_sdk_brings_is_to_be_decided_on(stage: Stage, tmp_path: Path) -> None:
    newer = tmp_path / "node_modules" / "@langchain" / "langgraph-sdk"
    newer.mkdir(parents=True)
    real = BUILT / "sdk" / "node_modules" / "@langchain" / "langgraph-sdk"
    (newer / "index.js").write_text(
        f"const sdk = module.exports = require({json.dumps(str(real))});\n"
        'Object.getPrototypeOf(new sdk.Client({ apiUrl: "http://localhost" }).store).vacuum = async function () {};\n'
    )
    walked = await told(stage, "methods.mjs", newer.parent.parent)
    assert "nobody decided on this method" in walked["results"]["store.vacuum"]
