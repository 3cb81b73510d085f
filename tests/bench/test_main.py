import json
from pathlib import Path

import pytest

from bench import __main__ as bench
from bench.client import WrongAnswer
from bench.figures import Figure, Results
from bench.run import leaves
from bench.scenarios import SCENARIOS
from bench.servers import SHARED


def test_list_names_every_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--list"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == [scenario.name for scenario in SCENARIOS]


def test_quick_takes_fewer_scenarios_and_only_takes_those_that_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--list", "--quick"]) == 0
    assert len(capsys.readouterr().out.splitlines()) < len(SCENARIOS)
    assert bench.main(["--list", "--only", "paced", "--only", "start"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["start", "paced"]


def test_an_unknown_scenario_is_a_usage_error_that_names_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--only", "pacde"]) == 2
    said = capsys.readouterr().err
    assert "pacde" in said
    assert "paced" in said


def test_an_unknown_option_is_a_usage_error() -> None:
    with pytest.raises(SystemExit) as ended:
        bench.main(["--fast"])
    assert ended.value.code == 2


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.main(["--help"])
    assert ended.value.code == 0
    assert "--only paced" in capsys.readouterr().out


def test_an_earlier_run_is_shown_without_measuring(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = Results({"Python": "3.11"})
    results.record(Figure("c16_cpu", "50 tokens, c=16: server CPU a turn", "ms"), SHARED, 5.0, 6.0)
    file = tmp_path / "bench.json"
    file.write_text(json.dumps(results.as_json()))
    assert bench.main(["--read", str(file)]) == 0
    assert "5.5 [5.0-6.0]" in capsys.readouterr().out
    results.failed["paced"] = "it was not through after 330 s"
    file.write_text(json.dumps(results.as_json()))
    assert bench.main(["--read", str(file)]) == 3
    assert "paced FAILED: it was not through" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"rows": 1, "environment": {}, "failed": {}}'])
def test_a_file_of_something_else_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str) -> None:
    file = tmp_path / "bench.json"
    file.write_text(content)
    assert bench.main(["--read", str(file)]) == 2
    assert str(file) in capsys.readouterr().err
    assert bench.main(["--read", str(tmp_path / "missing.json")]) == 2


def test_a_wrong_answer_is_found_in_groups_of_groups() -> None:
    wrong = WrongAnswer("x")
    group = ExceptionGroup("", [OSError("y"), ExceptionGroup("", [wrong])])
    assert wrong in leaves(group)
    assert list(leaves(wrong)) == [wrong]


def test_pages_are_written_of_whole_runs_only(capsys: pytest.CaptureFixture[str]) -> None:
    for part in (["--quick"], ["--only", "paced"]):
        assert bench.main(["--write-docs", *part]) == 2
        assert "--write-docs" in capsys.readouterr().err
