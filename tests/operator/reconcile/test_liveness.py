"""agent_operator.reconcile.liveness: what makes the probe fail."""

from agent_operator.reconcile.liveness import DEAF_AFTER, LONGEST_RECONCILE, LOOP_SILENCE, Liveness
from agent_operator.reconcile.tools import Key
from tests.support.clock import WallClock

KEY = Key("AlertPolicy", "team", "a")
MINUTE = 60


def minutes_of_looks(liveness: Liveness, clock: WallClock, minutes: int, versions: list[str]) -> None:
    for minute in range(minutes):
        clock.pass_by(MINUTE)
        liveness.looked({KEY: versions[min(minute, len(versions) - 1)]})


def test_a_quiet_cluster_is_no_reason_to_restart() -> None:
    clock = WallClock()
    liveness = Liveness(clock)
    liveness.heard(KEY, "1")

    minutes_of_looks(liveness, clock, 60, ["1"])

    assert liveness.complaints() == []


def test_before_the_first_list_it_is_not_ready() -> None:
    liveness = Liveness(WallClock())
    assert liveness.complaints() == ["objects could not be listed yet"]

    liveness.looked(None)
    assert liveness.complaints() == ["objects could not be listed yet"]

    liveness.looked({})
    assert liveness.complaints() == []


def test_a_loop_that_stopped_is_told() -> None:
    clock = WallClock()
    liveness = Liveness(clock)
    liveness.looked({})

    clock.pass_by(LOOP_SILENCE.total_seconds() + 1)

    assert liveness.complaints() == ["objects were last looked at 0:05:01 ago"]


def test_an_api_server_that_is_away_is_no_reason_to_restart() -> None:
    clock = WallClock()
    liveness = Liveness(clock)
    liveness.looked({})

    for _ in range(60):
        clock.pass_by(MINUTE)
        liveness.looked(None)

    assert liveness.complaints() == []


def test_a_watch_that_does_not_tell_of_a_change_is_deaf() -> None:
    clock = WallClock()
    liveness = Liveness(clock)
    liveness.heard(KEY, "1")

    minutes_of_looks(liveness, clock, 6, ["2"])

    assert liveness.complaints() == ["the watch is behind on 1 objects"]


def test_a_watch_that_never_began_is_deaf() -> None:
    clock = WallClock()
    liveness = Liveness(clock)

    minutes_of_looks(liveness, clock, 6, ["1"])

    assert liveness.deaf() == 1


def test_a_late_watch_is_forgiven() -> None:
    clock = WallClock()
    liveness = Liveness(clock)
    liveness.looked({KEY: "2"})
    clock.pass_by(DEAF_AFTER.total_seconds() - 1)

    liveness.heard(KEY, "2")
    liveness.looked({KEY: "2"})
    clock.pass_by(10)

    assert liveness.complaints() == []


def test_an_object_that_changes_all_the_time_is_not_taken_for_deafness() -> None:
    clock = WallClock()
    liveness = Liveness(clock)
    for version in range(60):
        clock.pass_by(MINUTE)
        liveness.looked({KEY: str(version + 1)})
        liveness.heard(KEY, str(version + 1))

    assert liveness.complaints() == []


def test_a_deleted_object_is_not_waited_for() -> None:
    clock = WallClock()
    liveness = Liveness(clock)
    liveness.looked({KEY: "1"})
    liveness.heard_end(KEY)

    for _ in range(10):
        clock.pass_by(MINUTE)
        liveness.looked({})

    assert liveness.complaints() == []


def test_a_reconcile_that_hangs_is_named() -> None:
    clock = WallClock()
    liveness = Liveness(clock)
    liveness.began(KEY)
    for _ in range(int(LONGEST_RECONCILE.total_seconds()) // MINUTE + 1):
        clock.pass_by(MINUTE)
        liveness.looked({})

    [complaint] = liveness.complaints()
    assert "hangs" in complaint
    liveness.ended(KEY)
    assert liveness.complaints() == []
