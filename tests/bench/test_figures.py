import pytest

from bench.figures import Figure, Results, Row, markdown, percentile

MS = Figure("cpu", "CPU a turn", "ms")


def test_a_row_shows_the_median_and_the_spread() -> None:
    row = Row(MS, {"one": [3.0, 1.0, 2.04], "two": [7.0], "none": []})
    assert row.text("one") == "2.0 [1.0-3.0]"
    assert row.text("two") == "7.0"
    assert row.text("none") == row.text("unknown") == "-"


def test_thousands_are_told_apart() -> None:
    assert Row(Figure("rate", "turns", "/s", 0), {"one": [12345.6]}).text("one") == "12,346"


def test_the_percentile_is_a_value_that_was_measured() -> None:
    values = [float(value) for value in range(1, 101)]
    assert percentile(reversed(values), 0.95) == 96
    assert percentile([5.0], 0.95) == 5.0
    assert percentile([1.0, 9.0], 1.0) == 9.0


def test_the_percentile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        percentile([], 0.5)


def test_results_survive_json() -> None:
    results = Results({"Python": "3"}, failed={"paced": "no"})
    results.record(MS, "one", 1.0, 2.0)
    results.record(MS, "one", 4.0)
    again = Results.from_json(results.as_json())
    assert again == results
    assert again.median("cpu", "one") == 2.0
    assert again.median("cpu", "two") is None
    assert again.median("wal", "one") is None


def test_a_table_stands_in_line() -> None:
    lines = markdown(["figure", "x"], [["CPU a turn, ms", "1"], ["n", "22222"]]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1].replace("|", "").replace("-", "").strip() == ""
    assert lines[2] == "| CPU a turn, ms | 1     |"
