"""Whether a model is asked at all: one that fails call after call is left alone for a while."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from agent_service.agents.endpoint_errors import without_status
from agent_service.errors import ModelUnavailable

log = structlog.stdlib.get_logger(__name__)

OPEN_SECONDS = 10.0
"""Without a call. Retries have taken some seconds before; a load balancer drops a dead endpoint within as many."""

TRIAL_SECONDS = 1
"""Retry-After of who comes while one call tries whether the model is back."""

MAX_MODELS = 100
"""Whose calls are followed: a graph may make names up."""


OnCircuit = Callable[[str, bool], None]
"""Told of a model whose circuit has opened (True) or closed."""


@dataclass(slots=True)
class Circuit:
    """Of one model: closed, every call goes out; open, none does; then one, which closes it or opens it again."""

    model: str
    failures: int = 0
    """Calls in a row that failed all their retries."""
    open_until: float = 0.0
    trying: bool = False
    told: bool = False
    """Somebody was told that it is open."""


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """The circuits of one endpoint, by model."""

    limit: int
    """Failures in a row that open a circuit; 0: none does."""
    on_change: OnCircuit = lambda _model, _opened: None
    clock: Callable[[], float] = time.monotonic
    _circuits: dict[str, Circuit] = field(default_factory=dict)

    def enter(self, model: str) -> Circuit:
        """For a call that is about to be made; tell `succeeded`, `failed` or `left` of its end.

        Raises:
            ModelUnavailable: the circuit is open; says for how long.
        """
        circuit = self._circuits.get(model)
        if circuit is None:
            if len(self._circuits) >= MAX_MODELS:
                self._close(self._circuits.pop(next(iter(self._circuits))))
            circuit = self._circuits[model] = Circuit(model)
        if self._is_open(circuit):
            left = circuit.open_until - self.clock()
            if left > 0 or circuit.trying:
                raise _unavailable(circuit.failures, math.ceil(left) if left > 0 else TRIAL_SECONDS)
            circuit.trying = True
        return circuit

    def succeeded(self, circuit: Circuit) -> None:
        """The endpoint answered, be it with a refusal of the request, or of one more request for now."""
        self._close(circuit)

    def failed(self, circuit: Circuit) -> None:
        """The call failed all its retries."""
        circuit.failures += 1
        circuit.trying = False
        if self._is_open(circuit):
            circuit.open_until = self.clock() + OPEN_SECONDS
            log.warning("model_circuit_opened", model=circuit.model, failures=circuit.failures, seconds=OPEN_SECONDS)
            if not circuit.told and self._circuits.get(circuit.model) is circuit:
                circuit.told = True
                self.on_change(circuit.model, True)

    def left(self, circuit: Circuit) -> None:
        """The call ended in a way that says nothing of the endpoint: it was cancelled, or a key was refused."""
        circuit.trying = False

    def _is_open(self, circuit: Circuit) -> bool:
        return self.limit > 0 and circuit.failures >= self.limit

    def _close(self, circuit: Circuit) -> None:
        if self._is_open(circuit):
            log.info("model_circuit_closed", model=circuit.model, failures=circuit.failures)
        if circuit.told:
            self.on_change(circuit.model, False)
        circuit.failures, circuit.trying, circuit.told = 0, False, False


def _unavailable(failures: int, wait: int) -> ModelUnavailable:
    detail = f"the model endpoint failed {failures} calls in a row, and is asked again in {wait} s"
    return without_status(ModelUnavailable(detail, retry_after=wait), timed_out=False)
