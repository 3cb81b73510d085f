from bench.figures import Figure, Results
from bench.goals import GOALS, Goal, table, verdict
from bench.servers import DIRECT, OWN, SHARED, TUTORIAL

CPU = Goal("c16_cpu", "CPU", "ms", most=6, times=5.5)
STREAMS = Goal("paced_streams", "streams", least=200, times=6)


def results(key: str, **values: float) -> Results:
    found = Results()
    for name, value in values.items():
        found.record(Figure(key, key, ""), {"tutorial": TUTORIAL, "shared": SHARED, "own": OWN, "direct": DIRECT}[name], value)
    return found


def test_less_is_better_by_how_often_it_goes_into_the_tutorials() -> None:
    assert CPU.ratio(results("c16_cpu", tutorial=33, shared=6), SHARED) == 5.5


def test_more_is_better_where_there_is_a_least() -> None:
    assert STREAMS.ratio(results("paced_streams", tutorial=30, shared=210), SHARED) == 7


def test_a_goal_that_is_reached_by_both_kinds_says_so() -> None:
    assert verdict(CPU, results("c16_cpu", tutorial=33, shared=6, own=5)) == "yes"


def test_a_goal_names_what_is_missed_and_by_which_kind() -> None:
    found = results("c16_cpu", tutorial=30, shared=5, own=5.9)
    assert verdict(CPU, found) == "no, own ChatOpenAI: 5.5 times better"
    assert verdict(CPU, results("c16_cpu", tutorial=30, shared=7, own=7)) == "no: ≤ 6 ms, 5.5 times better"


def test_a_goal_that_was_not_measured_is_neither_missed_nor_in_the_table() -> None:
    assert not CPU.missed(Results(), SHARED)
    assert "CPU" not in table(Results())
    assert STREAMS.ratio(results("paced_streams", tutorial=30), SHARED) is None


def test_a_ratio_under_one_lets_slipway_take_more_than_the_tutorial() -> None:
    wal = Goal("c16_wal", "WAL", "kB", times=1 / 1.2)
    assert wal.text == "≤ 1.2 times the tutorial's"
    assert verdict(wal, results("c16_wal", tutorial=10, shared=11.9, own=12.1)) == (
        "no, own ChatOpenAI: ≤ 1.2 times the tutorial's"
    )


def test_a_ratio_without_its_baseline_is_not_reached() -> None:
    assert verdict(Goal("c1_cpu", "CPU", times=5.5), results("c1_cpu", shared=1, own=1)).startswith("unknown")


def test_the_table_has_baseline_limit_ratio_and_goal() -> None:
    found = results("c16_rate", tutorial=30, shared=150, own=120, direct=900)
    [line] = [line for line in table(found).splitlines() if "turns a second" in line]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:] == ["30.0", "900.0", "150.0", "120.0", "5.0 / 4.0", "≥ 150 /s", "no, own ChatOpenAI: ≥ 150 /s"]


def test_every_goal_asks_for_something_once() -> None:
    assert all(goal.text for goal in GOALS)
    assert len({goal.key for goal in GOALS}) == len(GOALS)
