"""What waits of a graph's state: which of it still has to be stored once more of it comes."""

from typing import Any

from agent_service.runs.steps import Row, Steps

THREAD = "t"


def checkpoint(name: str, parent: str | None, versions: dict[str, str], *, namespace: str = "", **inline: Any) -> Row:
    return (THREAD, namespace, name, parent, {"channel_versions": versions, "channel_values": inline}, {})


def blob(channel: str, version: str, *, namespace: str = "", value: bytes = b"value") -> Row:
    return (THREAD, namespace, channel, version, "msgpack", value)


def write(of: str, *, index: int = 0, value: bytes = b"written") -> Row:
    return (THREAD, "", of, "task", index, "", "messages", "msgpack", value)


def waiting(*rows: tuple[Row, list[Row]], replaces: bool = True) -> Steps:
    steps = Steps()
    for row, blobs in rows:
        steps.add_checkpoint(row, blobs, survived=False, replaces=replaces)
    return steps


def test_a_state_takes_the_place_and_the_parent_of_the_one_before_it_which_was_not_stored_yet() -> None:
    steps = waiting((checkpoint("1", "0", {}), []), (checkpoint("2", "1", {}), []), (checkpoint("3", "2", {}), []))

    assert [(row[2], row[3]) for row in steps.checkpoints.values()] == [("3", "0")]


def test_where_every_state_is_asked_for_all_of_them_are_stored() -> None:
    steps = waiting((checkpoint("1", "0", {}), []), (checkpoint("2", "1", {}), []), replaces=False)
    steps.add_writes([write("1")], marks=False)

    assert [(row[2], row[3]) for row in steps.checkpoints.values()] == [("1", "0"), ("2", "1")]
    assert steps.writes


def test_values_go_with_the_only_state_that_has_them() -> None:
    steps = waiting(
        (checkpoint("1", None, {"__start__": "1", "kept": "1"}), [blob("__start__", "1"), blob("kept", "1")]),
        (checkpoint("2", "1", {"__start__": "2", "kept": "1"}), []),
    )
    assert [row[2:4] for row in steps.blobs.values()] == [("kept", "1")]

    steps = waiting(
        (checkpoint("1", None, {"messages": "1"}), [blob("messages", "1")]),
        (checkpoint("2", "1", {"messages": "2"}), [blob("messages", "2")]),
        (checkpoint("a", None, {"messages": "1"}, namespace="sub"), [blob("messages", "1", namespace="sub")]),
    )
    assert [row[1:4] for row in steps.blobs.values()] == [("", "messages", "2"), ("sub", "messages", "1")]


def test_a_value_that_two_branches_share_stays_when_one_of_them_goes_on() -> None:
    steps = waiting(
        (checkpoint("1", "0", {"messages": "1"}), [blob("messages", "1")]),
        (checkpoint("2", "0", {"messages": "1"}), []),
        (checkpoint("3", "2", {"messages": "2"}), [blob("messages", "2")]),
    )

    assert {row[2] for row in steps.checkpoints.values()} == {"1", "3"}
    assert {row[3] for row in steps.blobs.values()} == {"1", "2"}


def test_results_and_marks_go_with_their_state_and_of_a_stored_one_the_results_that_made_the_next() -> None:
    steps = waiting((checkpoint("1", "0", {}), []))
    for of in ("0", "1"):
        steps.add_writes([write(of)], marks=False)
        steps.add_writes([write(of, index=-3)], marks=True)
    steps.add_checkpoint(checkpoint("2", "1", {}), [], survived=True, replaces=True)
    assert [key[2] for key in steps.writes] == ["0"]
    assert [key[2] for key in steps.marks] == ["0"]

    stored = Steps()
    stored.add_writes([write("1")], marks=False)
    stored.add_writes([write("1", index=-3)], marks=True)
    stored.add_checkpoint(checkpoint("2", "1", {}), [], survived=True, replaces=True)
    assert [row[3] for row in stored.checkpoints.values()] == ["1"]
    assert not stored.writes
    assert [key[2] for key in stored.marks] == ["1"], "an answer to an interrupt of a stored state is kept with that"


def test_what_waits_weighs_what_is_left_of_it() -> None:
    steps = waiting((checkpoint("1", None, {"a": "1"}, said="x" * 100), [blob("a", "1", value=b"x" * 1_000)]))
    steps.add_writes([write("1", value=b"x" * 500)], marks=False)
    assert steps.bytes == 1_600

    steps.add_checkpoint(
        checkpoint("2", "1", {"a": "2"}, said="xx"), [blob("a", "2", value=b"xxx")], survived=True, replaces=True
    )

    assert steps.bytes == 5
