"""What langgraph and langchain ask of ours in each turn is known."""

import inspect
from typing import Any, NoReturn

import pytest

from agent_service.agents.chat_model import EndpointChatModel
from agent_service.runs.checkpoints import Checkpointer


@pytest.mark.parametrize(
    ("method", "parameter"), [(Checkpointer.aput_writes, "task_path"), (EndpointChatModel._agenerate, "run_manager")]
)
def test_nothing_is_made_out_again_to_find_a_parameter(method: Any, parameter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def made_out(*_: object, **__: object) -> NoReturn:
        raise AssertionError("the signature is made out of the code again")

    monkeypatch.setattr(inspect, "_signature_from_function", made_out)
    found = inspect.signature(method.__get__(object())).parameters
    assert parameter in found
    assert "self" not in found
