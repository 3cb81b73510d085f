"""Crons, by the SDK. None of them comes due: whether they do, tests/durability/test_crons.py tries."""

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError

from tests.conformance.langgraph.wire import AGENT, ASSISTANT, question

pytestmark = pytest.mark.asyncio(loop_scope="session")

YEARLY = "0 0 1 1 *"


async def test_a_cron_is_made_found_changed_and_deleted(sdk: LangGraphClient) -> None:
    mark = {"mark": uuid.uuid4().hex}
    made: Any = await sdk.crons.create(AGENT, schedule=YEARLY, input=question("hi"), metadata=mark, timezone="Europe/Paris")
    cron_id = made["cron_id"]
    found = await sdk.crons.search(metadata=mark)
    changed = await sdk.crons.update(cron_id, schedule="0 12 1 1 *", enabled=False, end_time=datetime(2999, 1, 1, tzinfo=UTC))
    cleared = await sdk.crons.update(cron_id, end_time=None)
    await sdk.crons.delete(cron_id)

    assert [each["cron_id"] for each in found] == [cron_id]
    assert (made["assistant_id"], made["schedule"], made["timezone"]) == (ASSISTANT, YEARLY, "Europe/Paris")
    assert (made["enabled"], made["metadata"]) == (True, {**made["metadata"], **mark})
    assert made["payload"]["input"] == question("hi")
    assert datetime.fromisoformat(made["next_run_date"]) > datetime.now(UTC)
    assert (changed["schedule"], changed["enabled"], str(changed["end_time"])[:4]) == ("0 12 1 1 *", False, "2999")
    assert cleared["end_time"] is None
    assert await sdk.crons.search(metadata=mark) == []


async def test_crons_of_a_thread_are_found_and_counted_by_it(sdk: LangGraphClient, thread: str) -> None:
    for n in range(3):
        await sdk.crons.create_for_thread(thread, AGENT, schedule=f"{n} 0 1 1 *", input=question("hi"))

    found = await sdk.crons.search(thread_id=thread, sort_by="created_at", sort_order="asc")
    assert [each["schedule"] for each in found] == ["0 0 1 1 *", "1 0 1 1 *", "2 0 1 1 *"]
    assert await sdk.crons.count(thread_id=thread) == 3
    assert len(await sdk.crons.search(thread_id=thread, limit=2)) == 2
    assert len(await sdk.crons.search(thread_id=thread, limit=2, offset=2)) == 1
    for each in found:
        await sdk.crons.delete(each["cron_id"])


async def test_a_cron_that_is_none_is_not_found(sdk: LangGraphClient) -> None:
    with pytest.raises(NotFoundError):
        await sdk.crons.update(str(uuid.uuid4()), enabled=True)
    with pytest.raises(NotFoundError):
        await sdk.crons.delete(str(uuid.uuid4()))
