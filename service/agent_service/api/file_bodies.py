"""Bodies of questions with files: they may be larger than others by their files alone, and few are in memory at once."""

import asyncio
import string
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import Response

from agent_service.api.callers import bearer
from agent_service.api.json_body import JsonRequest, JsonRoute
from agent_service.errors import BodyTooSlow, Overloaded, TooLarge, TooManyFileBodies
from agent_service.principal import Principal
from agent_service.settings import Settings

PATHS = ("/chat", "/chat/stream")
"""Of the routes that take files."""

PLACES = 3
"""Bodies beyond MAX_BODY_BYTES that a process holds at once, from there until their runs are stored. Each is in memory about five
times then: 240 MiB of the default 16 MiB."""

PLACES_OF_CALLER = 2
"""So that nobody has them all. A person sends one at a time."""

WAIT_SECONDS = 10.0
"""For a place: a body is stored in well under a second once it has come."""

BODY_SECONDS = 60.0
"""In which the rest of such a body must come: 2.2 Mbit/s for 16 MiB, 0.5 for a photo of 4 MB. Who is slower holds no place."""

BASE64 = (string.ascii_letters + string.digits + "+/=").encode()

KEY = "slipway.file_place"


def largest_bodies(settings: Settings) -> dict[str, int]:
    """Bytes of a body by path, where that is more than MAX_BODY_BYTES."""
    larger = settings.file_graphs and settings.max_file_body_bytes > settings.max_body_bytes
    return dict.fromkeys(PATHS, settings.max_file_body_bytes) if larger else {}


class Place:
    """Of one body, until `leave`."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave: Callable[[], None] | None = leave

    def leave(self) -> None:
        """Once more does nothing."""
        if self._leave:
            self._leave()
            self._leave = None


class FilePlaces:
    """The places of a process. They are taken in the order of asking."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(PLACES)
        self._by_owner: Counter[tuple[str, str]] = Counter()

    async def take(self, principal: Principal) -> Place:
        """Raises TooManyFileBodies, Overloaded."""
        owner = (principal.tenant, principal.user)
        if self._by_owner[owner] >= PLACES_OF_CALLER:
            raise TooManyFileBodies(f"at most {PLACES_OF_CALLER} questions with large files of one caller at once", retry_after=1)
        self._by_owner[owner] += 1
        try:
            await asyncio.wait_for(self._free.acquire(), WAIT_SECONDS)
        except TimeoutError:
            self._forget(owner)
            raise Overloaded("too many questions with large files are arriving", retry_after=5) from None
        except BaseException:
            self._forget(owner)
            raise

        def leave() -> None:
            self._free.release()
            self._forget(owner)

        return Place(leave)

    def _forget(self, owner: tuple[str, str]) -> None:
        self._by_owner[owner] -= 1
        if not self._by_owner[owner]:
            del self._by_owner[owner]


class _FileRequest(JsonRequest):
    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            self._body = await self._read()
        return self._body

    async def json(self) -> Any:
        settings: Settings = self.app.state.resources.settings
        usual = settings.max_body_bytes
        if len(await self.body()) <= usual:
            return await super().json()
        # All but base64 is what any other route would have to take; a megabyte of values is looked at, never sixteen.
        if len(self._body.translate(None, BASE64)) > usual:
            raise _too_large(usual)
        given = await super().json()
        beside = len(self._body) - _file_chars(given)
        self._body = b""  # it is held as the files now
        if beside > usual:
            raise _too_large(usual)
        return given

    async def _read(self) -> bytes:
        usual = self.app.state.resources.settings.max_body_bytes
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(None) as limit:
                async for chunk in self.stream():
                    chunks.append(chunk)
                    size += len(chunk)
                    if size > usual and KEY not in self.scope:
                        places: FilePlaces = self.app.state.file_places
                        self.scope[KEY] = await places.take(await bearer(self))
                        limit.reschedule(asyncio.get_running_loop().time() + BODY_SECONDS)
        except TimeoutError:
            raise BodyTooSlow(f"body: expected all of it within {BODY_SECONDS:g} s", field="body") from None
        return b"".join(chunks)


def _too_large(usual: int) -> TooLarge:
    return TooLarge(f"body: expected at most {usual} bytes beside what is in files", field="body")


def _file_chars(given: object) -> int:
    files = given.get("files") if isinstance(given, dict) else None
    found = [file.get("data") for file in files if isinstance(file, dict)] if isinstance(files, list) else []
    return sum(len(data) for data in found if isinstance(data, str))


class FileRoute(JsonRoute):
    """A route that takes files in its body."""

    request_class = _FileRequest

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As JsonRoute has it; what it leaves is given back."""
        handler = super().get_route_handler()

        async def with_place(request: Request) -> Response:
            try:
                return await handler(request)
            except Exception as error:
                _let_go(error)
                raise
            finally:
                leave_place(request)

        return with_place


def _let_go(error: Exception) -> None:
    """Of the body: FastAPI's frames hold it and the error that they raise, and that holds the frames, until a full collection."""
    traceback.clear_frames(error.__traceback__)
    if error.__cause__:
        traceback.clear_frames(error.__cause__.__traceback__)
    if isinstance(error, RequestValidationError):
        error.body = None


def leave_place(request: Request) -> None:
    """The request's body has become a run, or nothing."""
    place: Place | None = request.scope.get(KEY)
    if place:
        place.leave()
