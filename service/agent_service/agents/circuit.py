"""Whether a model is asked at all: one that fails call after call is left alone for a while."""

import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import structlog

from agent_service.agents.endpoint_errors import without_status
from agent_service.errors import ModelUnavailable
from agent_service.principal import CALLER

log = structlog.stdlib.get_logger(__name__)

OPEN_SECONDS = 10.0
"""Without a call. Retries have taken some seconds before; a load balancer drops a dead endpoint within as many."""

TRIAL_SECONDS = 1
"""Retry-After of who comes while one call tries whether the model is back."""

MAX_CIRCUITS = 100
"""Of models, and of callers whose calls fail, that are followed: a graph may make names up."""

OnCircuit = Callable[[str, bool], None]
"""Told of a model whose circuit has opened (True) or closed."""


@dataclass(slots=True)
class Circuit:
    """Of one model, for all callers or for one: closed, every call goes out; open, none does; then one, which closes it or opens
    it again."""

    model: str
    failures: Counter[str] = field(default_factory=Counter)
    """Calls in a row that failed all their retries, by caller."""
    is_open: bool = False
    open_until: float = 0.0
    trying: bool = False


Circuits = OrderedDict[tuple[str, str], Circuit]


@dataclass(frozen=True, slots=True)
class Call:
    """A call under way, and the circuits that it goes through."""

    caller: str
    shared: Circuit
    own: Circuit | None
    """The caller's, if their last call has failed."""

    @property
    def circuits(self) -> list[Circuit]:
        return [self.shared, self.own] if self.own else [self.shared]


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """The circuits of one endpoint, by model.

    A caller whose calls keep failing is kept out alone: what they ask for may be the reason. The model is left alone by all when
    the calls of several fail, of which none counts for more than half of the limit.
    """

    limit: int
    """Failures in a row that open a circuit; 0: none does."""
    on_change: OnCircuit = lambda _model, _opened: None
    clock: Callable[[], float] = time.monotonic
    _shared: Circuits = field(default_factory=OrderedDict)
    _own: Circuits = field(default_factory=OrderedDict)

    def enter(self, model: str) -> Call:
        """For a call of CALLER that is about to be made; tell `succeeded`, `failed` or `left` of its end.

        Raises:
            ModelUnavailable: a circuit is open; says for how long.
        """
        caller = CALLER.get()
        call = Call(caller, self._circuit(self._shared, (model, "")), self._own.get((model, caller)))
        now = self.clock()
        entered = [circuit for circuit in call.circuits if circuit.is_open]
        for circuit in entered:
            if now < circuit.open_until or circuit.trying:
                raise _unavailable(circuit.failures.total(), max(TRIAL_SECONDS, math.ceil(circuit.open_until - now)))
        for circuit in entered:
            circuit.trying = True
        return call

    def succeeded(self, call: Call) -> None:
        """The endpoint answered, be it with a refusal of the request, or of one more request for now."""
        for circuit in call.circuits:
            self._close(circuit)
        if call.own and self._own.get((call.own.model, call.caller)) is call.own:
            del self._own[(call.own.model, call.caller)]

    def failed(self, call: Call) -> None:
        """The call failed all its retries."""
        if self.limit == 0:
            return
        model = call.shared.model
        # Those that are followed now: what the call entered by may be closed and forgotten, and nobody would close it again.
        shared, own = self._circuit(self._shared, (model, "")), self._circuit(self._own, (model, call.caller))
        half = (self.limit + 1) // 2
        for circuit in (shared, own):
            circuit.trying = False
            circuit.failures[call.caller if not circuit.is_open else ""] += 1
        counted = sum(min(count, half) for count in shared.failures.values())
        if shared.is_open or (len(shared.failures) > 1 and counted >= self.limit):
            self._open(shared, callers="all")
        if own.failures.total() >= self.limit:
            self._open(own, callers="one")

    def left(self, call: Call) -> None:
        """The call ended in a way that says nothing of the endpoint: it was cancelled, or a key was refused."""
        for circuit in call.circuits:
            circuit.trying = False

    def _circuit(self, circuits: Circuits, key: tuple[str, str]) -> Circuit:
        circuit = circuits.get(key)
        if circuit is None:
            if len(circuits) >= MAX_CIRCUITS:
                self._close(circuits.popitem(last=False)[1])
            circuit = circuits[key] = Circuit(key[0])
        return circuit

    def _open(self, circuit: Circuit, *, callers: Literal["one", "all"]) -> None:
        circuit.open_until = self.clock() + OPEN_SECONDS
        failures = circuit.failures.total()
        log.warning("model_circuit_opened", model=circuit.model, failures=failures, callers=callers, seconds=OPEN_SECONDS)
        if not circuit.is_open:
            circuit.is_open = True
            self.on_change(circuit.model, True)

    def _close(self, circuit: Circuit) -> None:
        if circuit.is_open:
            log.info("model_circuit_closed", model=circuit.model, failures=circuit.failures.total())
            self.on_change(circuit.model, False)
        circuit.failures.clear()
        circuit.trying = circuit.is_open = False


def _unavailable(failures: int, wait: int) -> ModelUnavailable:
    detail = f"the model endpoint failed {failures} calls in a row, and is asked again in {wait} s"
    return without_status(ModelUnavailable(detail, retry_after=wait), timed_out=False)
