"""What of a session's history the model sees: the last turns within a token budget, in a form that endpoints accept.

A turn begins with a message of the user. An exchange is a model's message with the results of its tool calls; the two
are never split, as endpoints refuse the one without the other.
"""

from collections.abc import Callable, Iterable, Sequence

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage

from agent_service.token_counts import count_tokens, most_tokens

MESSAGE_TOKENS = 4
"""Tokens that the wire format adds to each message: role and separators."""

Group = list[AnyMessage]


def context_window(messages: Sequence[AnyMessage], *, turns: int, tokens: int) -> list[AnyMessage]:
    """The last `turns` turns, older ones dropped until all fit `tokens`.

    The question of the running turn and its last exchange stay even if they alone are more.
    """
    groups = _turns(without_dangling_calls(messages))[-turns:]
    if sum(_cost(group, most_tokens) for group in groups) <= tokens:
        return _flat(groups)  # as with most: nothing need be counted
    current = _fit_turn(groups[-1], tokens)
    room = tokens - _cost(current)
    kept = [current]
    for turn in reversed(groups[:-1]):
        room -= _cost(turn)
        if room < 0:
            break
        kept.append(turn)
    return _flat(reversed(kept))


def without_dangling_calls(messages: Sequence[AnyMessage]) -> list[AnyMessage]:
    """Drops tool calls that a cancelled or crashed run left without a result, and results without a call."""
    answered = {m.tool_call_id for m in messages if isinstance(m, ToolMessage)}
    asked = {call["id"] for m in messages if isinstance(m, AIMessage) for call in m.tool_calls}
    kept: list[AnyMessage] = []
    for message in messages:
        if isinstance(message, AIMessage) and message.tool_calls:
            kept.extend(_answered_only(message, answered))
        elif not isinstance(message, ToolMessage) or message.tool_call_id in asked:
            kept.append(message)
    return kept


def _answered_only(message: AIMessage, answered: set[str]) -> list[AnyMessage]:
    calls = [call for call in message.tool_calls if call["id"] in answered]
    if len(calls) == len(message.tool_calls):
        return [message]
    if not calls and not message.text:
        return []
    # A new message: additional_kwargs keep the raw calls, which langchain-openai sends when tool_calls is empty.
    return [AIMessage(content=message.text, tool_calls=calls, id=message.id)]


def _turns(messages: Sequence[AnyMessage]) -> list[Group]:
    return _split(messages, HumanMessage)


def _fit_turn(turn: Group, tokens: int) -> Group:
    """Drops the oldest exchanges of a turn that is too long; the question and the last exchange stay."""
    question, *exchanges = _split(turn, AIMessage)
    room = tokens - _cost(question)
    kept: list[Group] = []
    for exchange in reversed(exchanges):
        room -= _cost(exchange)
        if kept and room < 0:
            break
        kept.append(exchange)
    return _flat([question, *reversed(kept)])


def _split(messages: Sequence[AnyMessage], opening: type[AnyMessage]) -> list[Group]:
    """Cuts before each message of the type; what stands before the first one is a group too."""
    groups: list[Group] = []
    for message in messages:
        if isinstance(message, opening) or not groups:
            groups.append([])
        groups[-1].append(message)
    return groups


def _flat(groups: Iterable[Group]) -> list[AnyMessage]:
    return [message for group in groups for message in group]


def _cost(group: Group, count: Callable[[str], int] = count_tokens) -> int:
    return sum(_message_tokens(message, count) for message in group)


def _message_tokens(message: AnyMessage, count: Callable[[str], int]) -> int:
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    return MESSAGE_TOKENS + count(message.text) + sum(count(f"{call['name']}{call['args']}") for call in calls)
