"""Which changes of files make a graph anew."""

import sys
from pathlib import Path

import pytest

from agent_service.agents.graph_import import forget_modules, put_on_path, restore_modules
from agent_service.development.reload import folders_to_watch, is_wanted
from agent_service.errors import SettingsError
from agent_service.langgraph_file import GraphSource
from agent_service.settings import GraphSettings, Settings

ROOTS = [Path("/project/src"), Path("/project")]


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("agent.py", True),
        ("prompts/system.md", True),
        ("src/deep/tools.py", True),
        ("tables/prices.yaml", True),
        (".env", True),
        ("langgraph.json", True),
        (".agent.py.swp", False),
        ("agent.py~", False),
        ("data.sqlite", False),
        (".slipway/postgres/log.txt", False),
        (".git/config.json", False),
        (".venv/lib/python3.13/site-packages/a.py", False),
        ("env/lib/site-packages/a.py", False),
        ("src/__pycache__/agent.py", False),
        ("../elsewhere/agent.py", False),
    ],
)
def test_code_and_what_it_reads_count_and_nothing_that_programs_write(path: str, wanted: bool) -> None:
    assert is_wanted((ROOTS[1] / path).resolve(), ROOTS) is wanted


def test_the_built_in_graph_has_nothing_to_reload() -> None:
    default = Settings.model_fields["agent_graph"].default
    graphs = GraphSettings((GraphSource("agent", default, "AGENT_GRAPH"),), (), None, chosen=True)
    with pytest.raises(SettingsError, match="--reload: expected a graph of your own"):
        folders_to_watch(graphs, default)


def test_modules_below_a_folder_are_read_anew_packages_without_init_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "reload_space").mkdir()
    module = tmp_path / "reload_space" / "inner.py"
    module.write_text("value = 1")
    put_on_path([tmp_path])
    from reload_space import inner  # type: ignore[import-not-found]  # noqa: PLC0415  # written just now

    module.write_text("value = 2")
    before = forget_modules([tmp_path])
    try:
        assert set(before) == {"reload_space", "reload_space.inner"}
        from reload_space import inner as again  # noqa: PLC0415  # likewise

        assert (inner.value, again.value) == (1, 2)
        restore_modules(before)
        assert sys.modules["reload_space.inner"] is again
    finally:
        forget_modules([tmp_path])
