"""Whether a model is asked at all: one that is down is left alone until it answers again."""

import asyncio
import contextlib
import contextvars
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from agent_service.agents.endpoint_errors import without_status
from agent_service.errors import ModelUnavailable

log = structlog.stdlib.get_logger(__name__)

OPEN_SECONDS = 10.0
"""From the end of a probe to the next one, and Retry-After of who comes while one is under way. Retries have taken some seconds
before; a load balancer drops a dead endpoint within as many."""

UNWANTED_SECONDS = 600.0
"""After which a model that nobody calls any more is no longer probed."""

MAX_CIRCUITS = 100
"""Models whose calls fail that are followed: a graph may make names up."""

OnCircuit = Callable[[str, bool], None]
"""Told of a model whose circuit has opened (True) or closed."""

Probe = Callable[[str], Awaitable[bool]]
"""Whether a model answers a question that no caller has a hand in."""


async def _takes_it_for_up(_model: str) -> bool:
    return True


@dataclass(slots=True)
class Circuit:
    """Of one model. Closed, every call goes out; open, none does."""

    model: str
    failures: int = 0
    """Calls in a row that failed all their retries."""
    is_open: bool = False
    open_until: float = 0.0
    """When the model is asked again."""
    watch: asyncio.Task[None] | None = None
    """Asks the model, from a row of failures on until it answers."""
    trusted_until: float = 0.0
    """The model has answered: until then it is not asked again, however many calls fail."""
    wanted_at: float = 0.0
    """When it was called last."""


@dataclass(frozen=True, slots=True)
class CircuitBreaker:
    """The circuits of one endpoint, by model.

    What callers ask for may be why their calls fail: an endpoint can be made to answer 500, or nothing. So no call of theirs
    opens a circuit, be they one or many. A row of failures starts a probe, which asks the model itself: the circuit is open from
    the first probe that fails until one succeeds. Requests that the endpoint refuses, rate limits and refused keys never count.
    """

    limit: int
    """Failures in a row that start a probe; 0: none does."""
    on_change: OnCircuit = lambda _model, _opened: None
    probe: Probe = _takes_it_for_up
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _circuits: OrderedDict[str, Circuit] = field(default_factory=OrderedDict)

    def check(self, model: str) -> None:
        """Before a call; tell `answered` or `failed` of its end, unless that says nothing of the endpoint.

        Raises:
            ModelUnavailable: the circuit is open; says for how long.
        """
        circuit = self._circuits.get(model)
        if circuit and circuit.is_open:
            circuit.wanted_at = self.clock()
            left = circuit.open_until - self.clock()
            wait = math.ceil(left if left > 0 else OPEN_SECONDS)
            detail = f"the model endpoint failed {circuit.failures} calls in a row, and is asked again in {wait} s"
            raise without_status(ModelUnavailable(detail, retry_after=wait), timed_out=False)

    def answered(self, model: str) -> None:
        """The endpoint did, be it with a refusal of the request, or of one more request for now."""
        if circuit := self._circuits.get(model):
            self._close(circuit)

    def failed(self, model: str) -> None:
        """The call failed all its retries."""
        if self.limit == 0:
            return
        circuit = self._followed(model)
        circuit.failures += 1
        circuit.wanted_at = self.clock()
        if circuit.failures >= self.limit and circuit.watch is None and self.clock() >= circuit.trusted_until:
            # In a context of its own: it goes on after the caller's run, and is not theirs.
            circuit.watch = asyncio.create_task(self._watch(circuit), name="model-probe", context=contextvars.Context())

    @contextlib.asynccontextmanager
    async def closing(self) -> AsyncIterator[None]:
        """Asks no model any more after the block."""
        try:
            yield
        finally:
            watches = [circuit.watch for circuit in self._circuits.values() if circuit.watch]
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)

    async def _watch(self, circuit: Circuit) -> None:
        try:
            while not await self.probe(circuit.model):
                if self.clock() - circuit.wanted_at > UNWANTED_SECONDS:
                    break
                self._open(circuit)
                await self.sleep(OPEN_SECONDS)
        except Exception:  # nobody is kept out for a fault of ours
            log.exception("model_probe_failed", model=circuit.model)
        self._close(circuit)

    def _followed(self, model: str) -> Circuit:
        circuit = self._circuits.get(model)
        if circuit is None:
            if len(self._circuits) >= MAX_CIRCUITS:
                self._close(self._circuits.popitem(last=False)[1])
            circuit = self._circuits[model] = Circuit(model)
        return circuit

    def _open(self, circuit: Circuit) -> None:
        circuit.open_until = self.clock() + OPEN_SECONDS
        log.warning("model_circuit_opened", model=circuit.model, failures=circuit.failures, seconds=OPEN_SECONDS)
        if not circuit.is_open:
            circuit.is_open = True
            self.on_change(circuit.model, True)

    def _close(self, circuit: Circuit) -> None:
        if circuit.watch:
            if circuit.watch is not asyncio.current_task():
                circuit.watch.cancel()
            circuit.watch, circuit.trusted_until = None, self.clock() + OPEN_SECONDS
        if circuit.is_open:
            log.info("model_circuit_closed", model=circuit.model, failures=circuit.failures)
            self.on_change(circuit.model, False)
        circuit.failures, circuit.is_open = 0, False
