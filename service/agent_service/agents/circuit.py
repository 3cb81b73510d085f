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

TRIAL_PATIENCE_SECONDS = 10.0
"""After which another call may try, too: a caller whose question keeps the endpoint silent must not keep all out meanwhile."""

MIN_CALLERS = 3
"""Whose calls fail before a model is taken for down: what two ask for, by accident or together, says nothing of the endpoint."""

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
    trial_until: float = 0.0
    """A call tries whether the model is back; 0: none does."""
    refuted: dict[str, float] = field(default_factory=dict)
    """Callers whose trial has failed since it was opened last, and until when they are to wait."""

    def wait(self, caller: str, now: float) -> float:
        """Seconds until the caller may call; 0: their call may be made, and tries."""
        if not self.is_open:
            return 0.0
        until = max(self.open_until, self.refuted.get(caller, 0.0))
        return max(until - now, TRIAL_SECONDS if now < self.trial_until else 0.0)


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
    the calls of MIN_CALLERS fail, and none in between goes well; no caller counts for more than their part of the limit. As many
    are to find it down before all wait once more. Requests that the endpoint refuses, rate limits and refused keys never count.
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
            if wait := circuit.wait(caller, now):
                raise _unavailable(circuit.failures.total(), math.ceil(wait))
        for circuit in entered:
            circuit.trial_until = now + TRIAL_PATIENCE_SECONDS
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
        for circuit in (shared, own):
            circuit.trial_until = 0.0
            circuit.failures[call.caller if not circuit.is_open else ""] += 1
        if self._is_down(shared, call.caller):
            self._open(shared, callers="all")
        if own.failures.total() >= self.limit:
            self._open(own, callers="one")

    def _is_down(self, shared: Circuit, caller: str) -> bool:
        """Whether a failure of the caller's is the one by which the model is left alone by all, at first or again."""
        if not shared.is_open:
            part = math.ceil(self.limit / MIN_CALLERS)
            counted = sum(min(count, part) for count in shared.failures.values())
            return len(shared.failures) >= MIN_CALLERS and counted >= self.limit
        now = self.clock()
        if now < shared.open_until:  # the call had begun before
            return False
        shared.refuted = {each: until for each, until in shared.refuted.items() if now < until} | {caller: now + OPEN_SECONDS}
        return len(shared.refuted) >= MIN_CALLERS

    def left(self, call: Call) -> None:
        """The call ended in a way that says nothing of the endpoint: it was cancelled, or a key was refused."""
        for circuit in call.circuits:
            circuit.trial_until = 0.0

    def _circuit(self, circuits: Circuits, key: tuple[str, str]) -> Circuit:
        circuit = circuits.get(key)
        if circuit is None:
            if len(circuits) >= MAX_CIRCUITS:
                self._close(circuits.popitem(last=False)[1])
            circuit = circuits[key] = Circuit(key[0])
        return circuit

    def _open(self, circuit: Circuit, *, callers: Literal["one", "all"]) -> None:
        circuit.open_until = self.clock() + OPEN_SECONDS
        circuit.refuted.clear()
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
        circuit.refuted.clear()
        circuit.is_open, circuit.trial_until = False, 0.0


def _unavailable(failures: int, wait: int) -> ModelUnavailable:
    detail = f"the model endpoint failed {failures} calls in a row, and is asked again in {wait} s"
    return without_status(ModelUnavailable(detail, retry_after=wait), timed_out=False)
