"""agent_operator.manifests.conditions"""

from datetime import UTC, datetime, timedelta

from agent_operator.manifests.conditions import Verdict, find_condition, is_true, set_conditions

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_a_new_condition_is_appended_with_its_time() -> None:
    assert set_conditions([], [Verdict("Ready", "True", "Fine", "all well")], generation=3, now=NOON) == [
        {
            "type": "Ready",
            "status": "True",
            "reason": "Fine",
            "message": "all well",
            "observedGeneration": 3,
            "lastTransitionTime": "2026-01-01T12:00:00Z",
        }
    ]


def test_the_time_moves_with_the_status_alone() -> None:
    first = set_conditions([], [Verdict("Ready", "True", "Fine", "")], generation=1, now=NOON)
    second = set_conditions(first, [Verdict("Ready", "True", "Better", "new words")], generation=2, now=NOON + timedelta(hours=1))
    third = set_conditions(second, [Verdict("Ready", "False", "Bad", "")], generation=2, now=NOON + timedelta(hours=2))

    assert (second[0]["lastTransitionTime"], second[0]["reason"]) == ("2026-01-01T12:00:00Z", "Better")
    assert third[0]["lastTransitionTime"] == "2026-01-01T14:00:00Z"


def test_others_stay_as_they_are_and_where_they_are() -> None:
    both = set_conditions([], [Verdict("A", "True", "x", "")], generation=1, now=NOON)
    both = set_conditions(both, [Verdict("B", "Unknown", "x", "")], generation=1, now=NOON)

    changed = set_conditions(both, [Verdict("A", "False", "y", "")], generation=2, now=NOON)

    assert [each["type"] for each in changed] == ["A", "B"]
    assert changed[1] == both[1]
    assert both[0]["status"] == "True"
    assert (is_true(changed, "A"), is_true(changed, "B"), find_condition(changed, "C")) == (False, False, None)


def test_a_message_beyond_the_limit_is_cut() -> None:
    [condition] = set_conditions([], [Verdict("A", "True", "x", "m" * 40_000)], generation=1, now=NOON)

    assert len(condition["message"]) == 4096
