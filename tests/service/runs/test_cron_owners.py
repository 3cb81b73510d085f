"""Callers are noted once an hour, until they are written down."""

import time
from uuid import uuid4

import pytest

from agent_service.principal import Principal, StreamGrant
from agent_service.runs.cron_owners import NOTED_SECONDS, CronOwners

ANN, BOB = Principal("acme", "ann"), Principal("acme", "bob", by_key=True)


def test_a_caller_is_taken_once_an_hour_however_often_it_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    owners = CronOwners()
    for _ in range(3):
        owners.note(ANN)
        owners.note(BOB)
    assert owners.take() == {("acme", "ann"), ("acme", "bob")}
    owners.note(ANN)
    assert owners.take() == set()
    now += NOTED_SECONDS
    owners.note(ANN)
    assert owners.take() == {("acme", "ann")}


def test_who_reads_by_a_stream_token_has_shown_no_right_of_its_own() -> None:
    owners = CronOwners()
    owners.note(Principal("acme", "ann", grant=StreamGrant(uuid4(), starts=True)))
    assert owners.take() == set()


def test_what_could_not_be_written_is_taken_again_beside_what_came_meanwhile() -> None:
    owners = CronOwners()
    owners.note(ANN)
    taken = owners.take()
    owners.note(BOB)
    owners.put_back(taken)
    assert owners.take() == {("acme", "ann"), ("acme", "bob")}
