"""Whether a model is asked at all: one that fails call after call is left alone for a while."""

import asyncio
import contextlib
import contextvars
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
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
"""Retry-After of who comes while it is tried whether the model is back."""

TRIAL_PATIENCE_SECONDS = 10.0
"""After which another call of the same caller may try, too: one that hangs must not keep out the others meanwhile."""

MAX_CIRCUITS = 100
"""Of models, and of callers whose calls fail, that are followed: a graph may make names up."""

Callers = Literal["one", "all"]

OnCircuit = Callable[[str, Callers, bool], None]
"""Told of a model whose circuit, of one caller or of all, has opened (True) or closed."""

Probe = Callable[[str], Awaitable[bool]]
"""Whether a model answers a question that no caller has a hand in."""


async def _takes_it_for_up(_model: str) -> bool:
    return True


@dataclass(slots=True)
class Circuit:
    """Of one model, for all callers or for one: closed, every call goes out; open, none does."""

    model: str
    callers: Callers
    failures: int = 0
    """Calls in a row that failed all their retries."""
    is_open: bool = False
    open_until: float = 0.0
    trial_until: float = 0.0
    """A call of the caller tries whether the model is back; 0: none does."""
    watch: asyncio.Task[None] | None = None
    """Asks the model, from a row of failures on until it answers: only then may all be kept out."""
    trusted_until: float = 0.0
    """The model has answered the probe: until then it is not asked again, however many calls fail."""

    def wait(self, now: float) -> float:
        """Seconds until a call may be made; 0: now."""
        if not self.is_open:
            return 0.0
        tried = self.watch is not None or now < self.trial_until
        return max(self.open_until - now, TRIAL_SECONDS if tried else 0.0)


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

    What callers ask for may be why their calls fail: an endpoint can be made to answer 500, or nothing. So failures of theirs
    keep out themselves alone, each by their own. That the model is down for all is for the probe to find out, which a row of
    failures starts: all are kept out while it fails, and until it succeeds; no number of accounts can bring that about.
    Requests that the endpoint refuses, rate limits and refused keys never count.
    """

    limit: int
    """Failures in a row that open a circuit; 0: none does."""
    on_change: OnCircuit = lambda _model, _callers, _opened: None
    probe: Probe = _takes_it_for_up
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _shared: Circuits = field(default_factory=OrderedDict)
    _own: Circuits = field(default_factory=OrderedDict)

    def enter(self, model: str) -> Call:
        """For a call of CALLER that is about to be made; tell `succeeded`, `failed` or `left` of its end.

        Raises:
            ModelUnavailable: a circuit is open; says for how long.
        """
        caller = CALLER.get()
        call = Call(caller, self._of_all(model), self._own.get((model, caller)))
        now = self.clock()
        for circuit in call.circuits:
            if wait := circuit.wait(now):
                raise _unavailable(circuit, math.ceil(wait))
        if call.own and call.own.is_open:
            call.own.trial_until = now + TRIAL_PATIENCE_SECONDS
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
        shared, own = self._of_all(model), self._circuit(self._own, (model, call.caller), "one")
        for circuit in (shared, own):
            circuit.failures += 1
        own.trial_until = 0.0
        if own.failures >= self.limit:
            self._open(own)
        if shared.failures >= self.limit and shared.watch is None and self.clock() >= shared.trusted_until:
            # In a context of its own: it goes on after the caller's run, and is not theirs.
            shared.watch = asyncio.create_task(self._watch(shared), name="model-probe", context=contextvars.Context())

    def left(self, call: Call) -> None:
        """The call ended in a way that says nothing of the endpoint: it was cancelled, or a key was refused."""
        if call.own:
            call.own.trial_until = 0.0

    @contextlib.asynccontextmanager
    async def closing(self) -> AsyncIterator[None]:
        """Asks no model any more after the block."""
        try:
            yield
        finally:
            watches = [circuit.watch for circuit in self._shared.values() if circuit.watch]
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)

    async def _watch(self, circuit: Circuit) -> None:
        try:
            while not await self.probe(circuit.model):
                self._open(circuit)
                await self.sleep(OPEN_SECONDS)
        except Exception:  # nobody is kept out for a fault of ours
            log.exception("model_probe_failed", model=circuit.model)
        circuit.watch = None
        circuit.trusted_until = self.clock() + OPEN_SECONDS
        self._close(circuit)

    def _of_all(self, model: str) -> Circuit:
        return self._circuit(self._shared, (model, ""), "all")

    def _circuit(self, circuits: Circuits, key: tuple[str, str], callers: Callers) -> Circuit:
        circuit = circuits.get(key)
        if circuit is None:
            if len(circuits) >= MAX_CIRCUITS:
                self._close(circuits.popitem(last=False)[1])
            circuit = circuits[key] = Circuit(key[0], callers)
        return circuit

    def _open(self, circuit: Circuit) -> None:
        circuit.open_until = self.clock() + OPEN_SECONDS
        told = {"model": circuit.model, "callers": circuit.callers, "failures": circuit.failures}
        log.warning("model_circuit_opened", seconds=OPEN_SECONDS, **told)
        if not circuit.is_open:
            circuit.is_open = True
            self.on_change(circuit.model, circuit.callers, True)

    def _close(self, circuit: Circuit) -> None:
        if circuit.watch:
            circuit.watch.cancel()
            circuit.watch = None
        if circuit.is_open:
            log.info("model_circuit_closed", model=circuit.model, callers=circuit.callers, failures=circuit.failures)
            self.on_change(circuit.model, circuit.callers, False)
        circuit.failures = 0
        circuit.is_open, circuit.trial_until = False, 0.0


def _unavailable(circuit: Circuit, wait: int) -> ModelUnavailable:
    whose = "calls" if circuit.callers == "all" else "calls of yours"
    detail = f"the model endpoint failed {circuit.failures} {whose} in a row, and is asked again in {wait} s"
    return without_status(ModelUnavailable(detail, retry_after=wait), timed_out=False)
