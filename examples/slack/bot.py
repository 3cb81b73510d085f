"""Answers mentions in Slack with an agent of Slipway. A thread in Slack is a session, which the agent remembers."""

import os
import re
from collections.abc import Callable
from typing import Any

import httpx

TURN_SECONDS = 300
"""As long as a turn may take: MAX_TURN_SECONDS of the service."""


def answer(event: dict[str, Any], say: Callable[..., Any]) -> None:
    """Asks what the message says, and answers in its thread."""
    thread = event.get("thread_ts", event["ts"])
    session = f"slack-{event['channel']}-{thread}".replace(".", "-")  # a session's id has letters, digits, _ and -
    asked = httpx.post(
        f"{os.environ['SLIPWAY']}/chat",
        json={
            "question": re.sub(r"<@\w+>", "", event["text"]).strip(),
            "session_id": session,
        },
        headers={
            "Authorization": f"Bearer {os.environ.get('SLIPWAY_KEY', 'none')}",
            # Slack may tell of a message twice: the second call gets the first one's run.
            "Idempotency-Key": f"slack-{event['channel']}-{event['ts']}",
        },
        timeout=TURN_SECONDS,
    )
    say(text=what_to_say(asked), thread_ts=thread)


def what_to_say(asked: httpx.Response) -> str:
    """The answer, or what became of the question."""
    said = asked.json()
    if asked.is_error:
        return f"That did not work: {said.get('detail') or said['title']}"
    return str(said["answer"]) or f"There is no answer: the run is {said['outcome']}."


def main() -> None:
    from slack_bolt import App  # type: ignore[import-not-found]  # noqa: PLC0415  # not needed to try `answer`
    from slack_bolt.adapter.socket_mode import SocketModeHandler  # type: ignore[import-not-found]  # noqa: PLC0415  # likewise

    app = App(token=os.environ["SLACK_BOT_TOKEN"])
    app.event("app_mention")(answer)
    SocketModeHandler(app, os.environ["SLACK_APP_TOKEN"]).start()


if __name__ == "__main__":
    main()
