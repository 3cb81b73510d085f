"""The context window: which messages of a long or broken history the model is shown."""

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage

from agent_service.agents.default.window import MESSAGE_TOKENS, context_window, without_dangling_calls
from agent_service.token_counts import count_tokens

PLENTY = 100_000


def call(*ids: str, text: str = "") -> AIMessage:
    return AIMessage(text, tool_calls=[{"name": "look", "args": {}, "id": i} for i in ids])


def result(call_id: str, text: str = "found") -> ToolMessage:
    return ToolMessage(text, tool_call_id=call_id)


def turn(number: int) -> list[AnyMessage]:
    return [HumanMessage(f"question {number}"), call(f"c{number}"), result(f"c{number}"), AIMessage(f"answer {number}")]


def texts(messages: list[AnyMessage]) -> list[str]:
    return [m.text for m in messages]


def test_shows_the_last_turns_whole() -> None:
    history = [*turn(1), *turn(2), *turn(3)]

    assert context_window(history, turns=2, tokens=PLENTY) == [*turn(2), *turn(3)]


def test_drops_whole_older_turns_to_fit_the_tokens() -> None:
    long: list[AnyMessage] = [HumanMessage("first"), AIMessage("word " * 500)]
    history: list[AnyMessage] = [*long, *turn(2), HumanMessage("now?")]

    shown = context_window(history, turns=5, tokens=200)

    assert shown == [*turn(2), HumanMessage("now?")]


def test_a_short_turn_older_than_a_long_one_is_not_shown_without_it() -> None:
    history: list[AnyMessage] = [*turn(1), HumanMessage("second"), AIMessage("word " * 500), HumanMessage("now?")]

    assert texts(context_window(history, turns=5, tokens=200)) == ["now?"]


def test_counts_each_message_with_its_overhead() -> None:
    history: list[AnyMessage] = [HumanMessage("older"), HumanMessage("now")]
    needed = sum(count_tokens(m.text) + MESSAGE_TOKENS for m in history)

    assert texts(context_window(history, turns=5, tokens=needed)) == ["older", "now"]
    assert texts(context_window(history, turns=5, tokens=needed - 1)) == ["now"]


def test_a_running_turn_that_is_too_long_keeps_its_question_and_last_exchange() -> None:
    running: list[AnyMessage] = [
        HumanMessage("now?"),
        call("a"),
        result("a", "word " * 300),
        call("b"),
        result("b", "word " * 300),
    ]

    shown = context_window(running, turns=5, tokens=200)

    assert shown == [running[0], *running[3:]]


def test_never_splits_a_call_from_its_results() -> None:
    running: list[AnyMessage] = [HumanMessage("now?"), call("a", "b"), result("a", "word " * 300), result("b", "word " * 300)]

    assert context_window(running, turns=5, tokens=10) == running


def test_drops_calls_that_a_cancelled_run_left_without_a_result() -> None:
    history: list[AnyMessage] = [HumanMessage("first"), call("lost"), HumanMessage("now?")]

    assert texts(context_window(history, turns=5, tokens=PLENTY)) == ["first", "now?"]


def test_keeps_the_answered_calls_and_the_words_of_a_message() -> None:
    history: list[AnyMessage] = [
        HumanMessage("first"),
        call("kept", "lost", text="I look."),
        result("kept"),
        HumanMessage("now?"),
    ]

    shown = without_dangling_calls(history)

    assert shown[1].text == "I look."
    assert isinstance(shown[1], AIMessage)
    assert [c["id"] for c in shown[1].tool_calls] == ["kept"]


def test_raw_calls_of_the_endpoint_do_not_come_back() -> None:
    raw = AIMessage("I look.", tool_calls=call("lost").tool_calls, additional_kwargs={"tool_calls": [{"id": "lost"}]})

    [shown] = without_dangling_calls([raw])

    assert shown.additional_kwargs == {}


def test_drops_results_whose_call_is_gone() -> None:
    assert texts(without_dangling_calls([HumanMessage("now?"), result("gone")])) == ["now?"]


def test_an_empty_history_stays_empty() -> None:
    assert context_window([], turns=5, tokens=10) == []
