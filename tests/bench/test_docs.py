import re
from pathlib import Path
from xml.etree import ElementTree

from bench.docs import PLOTS, page, write
from bench.figures import Figure, Results
from bench.goals import GOALS
from bench.servers import OWN, SHARED, TUTORIAL
from bench.sizing import sizing


def measured(**values: float) -> Results:
    """Slipway's figures, of both kinds alike; the tutorial's are four times as much."""
    results = Results({"Python": "3.11"})
    for key, value in values.items():
        for name, times in ((TUTORIAL, 4), (SHARED, 1), (OWN, 1)):
            results.record(Figure(key, f"title of {key}", "ms"), name, times * value)
    return results


TURNS = {"c16_postgres_cpu": 1.2, "c16_wal": 15.0, "c16_commits": 0.4}


def test_sizing_takes_the_worse_kind_and_leaves_room() -> None:
    results = measured(**TURNS)
    results.record(Figure("paced_streams", "", ""), SHARED, 200)
    results.record(Figure("paced_streams", "", ""), OWN, 100)
    found = sizing(results)
    assert found
    assert found.streams == 60
    assert found.pods == 3  # 167 streams at once
    assert found.transactions == 400
    assert found.end == 13_300
    assert found.limit == "its WAL"
    assert found.end_users == 798_000


def test_a_database_may_run_out_of_cores_first() -> None:
    found = sizing(measured(**TURNS | {"c16_postgres_cpu": 4.0}, paced_streams=100))
    assert found
    assert found.limit == "its CPU"
    assert found.end == 4_800


def test_there_is_no_advice_without_figures() -> None:
    assert sizing(Results()) is None
    assert sizing(measured(paced_streams=100)) is None
    assert sizing(measured(**TURNS)) is None
    assert sizing(measured(**TURNS, paced_streams=0)) is None
    assert "there is no advice" in page(measured(paced_streams=100))


def test_the_page_names_what_is_missed_and_what_was_not_measured() -> None:
    text = page(measured(c16_cpu=7.0))
    assert f"server CPU a turn of 50 tokens, c=16, {SHARED}: 7.0 ms (ratio 4.0)" in text
    [absent] = [line for line in text.splitlines() if line.startswith("Not measured in this run")]
    assert all((goal.title in absent) == (goal.key != "c16_cpu") for goal in GOALS)


def test_the_page_names_scenarios_that_failed() -> None:
    results = measured(c16_cpu=1.0)
    results.failed["paced"] = "it was not through after 330 s"
    assert "- paced (streams of 50 tokens/s until the p95 gap is above 50 ms): it was not through after 330 s" in page(results)


def test_a_page_where_all_is_reached_says_so() -> None:
    results = Results()
    for goal in GOALS:
        for name in (SHARED, OWN):
            results.record(Figure(goal.key, "", ""), name, goal.most if goal.most is not None else goal.least or 1)
        results.record(Figure(goal.key, "", ""), TUTORIAL, 1 if goal.least else 1000)
    assert "All of it is reached in this run." in page(results)


def test_page_and_plots_are_written_and_belong_together(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    results = measured(**TURNS, c16_cpu=6.0, c1_cpu=9.0, paced_gap_50=20.0, paced_streams=300.0)
    files = write(results, tmp_path)
    text = (tmp_path / "docs/performance.md").read_text()
    assert set(re.findall(r"\(performance/(\w+)\.svg\)", text)) == set(PLOTS)
    assert "$" not in text
    for file in files:
        assert file.is_file()
        if file.suffix == ".svg":
            ElementTree.parse(file)
    assert write(results, tmp_path) == files


def test_every_figure_is_on_the_page() -> None:
    keys = ("c1_cpu", "c64_wal", "tool_rate", "history_cpu", "growth_cpu", "replicas_rate", "notify_cpu_20", "idle_cpu")
    text = page(measured(**dict.fromkeys(keys, 1.0)))
    assert all(f"title of {key}" in text for key in keys)
