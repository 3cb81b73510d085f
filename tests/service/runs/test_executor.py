"""How an attempt whose graph raises ends, and what its log says."""

from agent_service.logs import setup_logging
from tests.service.runs import graphs
from tests.service.runs.conftest import Database, Serve, begin
from tests.service.test_logs import Log, restoring

QUESTION = "how-secret-is-my-question"


async def test_a_nodes_own_timeout_fails_the_run(serve: Serve, database: Database) -> None:
    async with serve(graphs.raises(TimeoutError)) as service:
        run = await database.finished(await begin(service, question="q"))

    assert (run["outcome"], run["error"]["code"]) == ("failed", "graph_failed")


async def test_a_turn_over_its_time_limit_ends_as_timeout(serve: Serve, effects: graphs.Effects, database: Database) -> None:
    async with serve(graphs.gated(effects), MAX_TURN_SECONDS="0.1") as service:
        run = await database.finished(await begin(service, question="q"))

    assert (run["outcome"], run["error"]["code"]) == ("timeout", "timeout")


async def test_an_exceptions_text_is_in_no_line_nor_in_the_answer(serve: Serve, database: Database) -> None:
    """It quotes the question. LOG_CONTENT=on shows it, for whoever develops; LOG_LEVEL=debug does not."""
    log = Log()
    with restoring():
        setup_logging("debug", log.stream)
        async with serve(graphs.raises(ValueError)) as service:
            run = await database.finished(await begin(service, question=QUESTION))

    assert [line["error"] for line in log.named("graph_raised")] == ["ValueError"]
    assert log.named("graph_raised")[0]["at"][-1].endswith(" fail")
    assert QUESTION not in log.text
    assert QUESTION not in str(run["error"])

    with restoring():
        setup_logging("info", log.stream)
        async with serve(graphs.raises(ValueError), LOG_CONTENT="on") as service:
            await database.finished(await begin(service, question=QUESTION))
    assert QUESTION in log.named("graph_raised")[1]["message"]
