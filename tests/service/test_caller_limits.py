"""When one more run may begin: the arithmetic of the sliding window."""

from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent_service.caller_limits import RESPONSE_HEADERS, WINDOW_SECONDS, CallerLimits, Rate, Standing, StandingRow
from agent_service.errors import RateLimited, TooManyRuns

RATES = st.builds(
    Rate,
    limit=st.integers(1, 1_000),
    recent=st.integers(0, 2_000),
    earlier=st.integers(0, 2_000),
    elapsed=st.floats(0, 59.99),
)


def later(rate: Rate, seconds: float) -> Rate:
    """The same caller, who has begun nothing meanwhile."""
    elapsed = rate.elapsed + seconds
    minutes, elapsed = int(elapsed // WINDOW_SECONDS), elapsed % WINDOW_SECONDS
    counted = {0: (rate.recent, rate.earlier), 1: (0, rate.recent)}.get(minutes, (0, 0))
    return replace(rate, recent=counted[0], earlier=counted[1], elapsed=elapsed)


@given(RATES)
def test_after_the_wait_one_more_may_begin_and_a_second_before_it_may_not(rate: Rate) -> None:
    assume(rate.remaining == 0)

    assert later(rate, rate.retry_after).remaining > 0
    assert rate.retry_after == 1 or later(rate, rate.retry_after - 1.001).remaining == 0


@given(RATES)
def test_no_wait_is_longer_than_two_windows(rate: Rate) -> None:
    assert 1 <= rate.retry_after <= 2 * WINDOW_SECONDS
    assert 0 <= rate.remaining <= rate.limit


def test_the_minute_before_counts_by_its_share_of_the_last_sixty_seconds() -> None:
    assert [Rate(100, 0, 100, elapsed).remaining for elapsed in (0, 15, 30, 59)] == [0, 25, 50, 99]


def standing(refused: Literal["rate", "runs"] | None, recent: int) -> Standing:
    row: StandingRow = {"refused": refused, "recent": recent, "earlier": 0, "elapsed": 20.0, "going": 3}
    return Standing.of(row, CallerLimits(per_minute=10, at_a_time=3))


def test_who_may_begin_is_told_what_is_left() -> None:
    told: dict[str, str] = {}
    RESPONSE_HEADERS.set(told)

    standing(None, 4).tell()

    assert told == {
        "RateLimit-Limit": "10",
        "RateLimit-Remaining": "5",
        "RateLimit-Reset": "40",
        "RateLimit-Policy": "10;w=60",
    }


def test_who_may_not_is_told_the_limit_its_setting_and_the_wait() -> None:
    told: dict[str, str] = {}
    RESPONSE_HEADERS.set(told)

    with pytest.raises(RateLimited, match=r"10 runs a minute.*RATE_LIMIT_PER_MINUTE") as refused:
        standing("rate", 10).tell()
    assert refused.value.retry_after == 41
    assert (told["RateLimit-Remaining"], told["RateLimit-Reset"]) == ("0", "41")

    with pytest.raises(TooManyRuns, match=r"3 runs of yours are going, of 3.*MAX_RUNS_PER_PRINCIPAL"):
        standing("runs", 4).tell()
    assert told["RateLimit-Remaining"] == "6"


def test_outside_of_a_request_there_is_nobody_to_tell() -> None:
    standing(None, 4).tell()
