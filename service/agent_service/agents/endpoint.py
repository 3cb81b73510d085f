"""One OpenAI-compatible endpoint: keys, attempts, retries. What it sends back is for the reader and the embeddings."""

import asyncio
import io
import random
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
import orjson

from agent_service.agents.completion_stream import MAX_ANSWER_BYTES
from agent_service.agents.endpoint_errors import (
    TRANSPORT,
    AttemptFailed,
    KeyRefused,
    Status,
    pause,
    read_start,
    response_failure,
    status_of,
    transport_failure,
)
from agent_service.agents.model_keys import ApiKeySource
from agent_service.errors import ModelRejected, ModelUnavailable
from agent_service.settings import Settings

T = TypeVar("T")
Json = dict[str, Any]
Receive = Callable[[aiohttp.ClientResponse], Awaitable[T]]
OnRequest = Callable[[str, Status], None]
"""Called once for each HTTP attempt with the model and how it ended."""

DEFAULT_BASE_URL = "https://api.openai.com/v1"

PIECEMEAL_BYTES = 1_048_576
"""Of a request: from here on aiohttp warns of bytes that are sent as a whole."""

CONNECT_SECONDS = 10.0
"""Limit of connecting: a connection that takes longer has lost its SYN three times."""

PING_SECONDS = 3.0
"""Limit of a health check; under the probe time-outs that people set."""


@dataclass(frozen=True, slots=True)
class ModelEndpoint:
    """Sends requests, with the key of the moment and as many retries as the settings allow.

    It belongs to the event loop it was made on. `sleep` and `share` (random, in [0, 1)) are for tests.
    """

    session: aiohttp.ClientSession
    base_url: str
    keys: ApiKeySource
    timeout: float
    max_retries: int
    on_request: OnRequest
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    share: Callable[[], float] = random.random
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    async def post(self, path: str, payload: dict[str, Any], receive: Receive[T]) -> T:
        """What `receive` makes of the first good response. Counting an attempt as `ok` is left to it.

        Raises:
            ModelUnavailable: no attempt succeeded, or every key was refused.
            ModelRejected: the endpoint refused the request itself.
        """
        for retry in range(self.max_retries + 1):
            try:
                return await self._with_keys(path, payload, receive)
            except AttemptFailed as failed:
                if retry == self.max_retries:
                    raise failed.final() from failed
                await self.sleep(pause(retry, failed.retry_after, self.share()))
        raise AssertionError("the last retry returns or raises")

    async def post_json(self, path: str, payload: dict[str, Any], plain: Callable[[Json], Json] = lambda body: body) -> Json:
        """The JSON object that the endpoint answers with, made `plain` (raises AttemptFailed). Raises as `post` does."""

        async def receive(response: aiohttp.ClientResponse) -> Json:
            raw = await read_start(response, MAX_ANSWER_BYTES)
            if len(raw) > MAX_ANSWER_BYTES:
                raise AttemptFailed("server_error", f"its answer has more than {MAX_ANSWER_BYTES} bytes")
            try:
                body = orjson.loads(raw)
            except orjson.JSONDecodeError:
                body = None
            if not isinstance(body, dict):
                raise AttemptFailed("server_error", "it answered with something else than a JSON object")
            body = plain(body)
            self.on_request(payload["model"], "ok")
            return body

        return await self.post(path, payload, receive)

    async def ping(self) -> None:
        """Raises ModelUnavailable unless the endpoint answers; one without /models (404) is up as well."""
        try:
            async with asyncio.timeout(PING_SECONDS):
                status = await self._models_status()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ModelUnavailable("the model endpoint does not answer") from error
        if status in {401, 403}:
            raise KeyRefused().final()
        if status >= 500:  # noqa: PLR2004  # HTTP status codes need no second name
            raise ModelUnavailable(f"the model endpoint answers HTTP {status}")

    def wait_from_thread(self, work: Coroutine[Any, Any, T]) -> T:
        """Result of a coroutine that runs on the endpoint's loop, for code in other threads (a graph's plain functions)."""
        if self.on_its_loop():
            work.close()
            raise RuntimeError("a blocking model call on the event loop would stop every stream: use `await model.ainvoke(...)`")
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def on_its_loop(self) -> bool:
        """Whether the caller runs on the endpoint's loop: waiting for it there would never end."""
        return _running_loop() is self.loop

    async def _with_keys(self, path: str, payload: dict[str, Any], receive: Receive[T]) -> T:
        for key in self.keys.attempts():
            try:
                return await self._attempt(key, path, payload, receive)
            except KeyRefused:
                continue
        raise KeyRefused().final()

    async def _attempt(self, key: str, path: str, payload: dict[str, Any], receive: Receive[T]) -> T:
        try:
            response = await self.session.post(
                self.base_url + path,
                data=_in_pieces(orjson.dumps(payload)),
                headers=_authorization(key),
                allow_redirects=False,
                timeout=_silence(self.timeout),
            )
            try:
                if response.status != HTTPStatus.OK:
                    raise await response_failure(response)  # noqa: TRY301  # the connection is closed for it, too
                return await receive(response)
            except BaseException:  # a cancelled task must close the connection too
                response.close()
                raise
        except TRANSPORT as error:
            failed = transport_failure(error, self.timeout)
            self.on_request(payload["model"], status_of(failed))
            raise failed from error
        except (AttemptFailed, KeyRefused, ModelRejected) as refused:
            self.on_request(payload["model"], status_of(refused))
            raise

    async def _models_status(self) -> int:
        status = 401
        for key in self.keys.attempts():
            async with self.session.get(f"{self.base_url}/models", headers=_authorization(key)) as response:
                status = response.status
            if status != HTTPStatus.UNAUTHORIZED:
                break
        return status


@asynccontextmanager
async def open_endpoint(settings: Settings, on_request: OnRequest) -> AsyncIterator[ModelEndpoint]:
    """The endpoint of the settings with a connection pool of its own, closed on the way out."""
    base_url = (settings.openai_base_url or DEFAULT_BASE_URL).rstrip("/")
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=_silence(settings.model_timeout),
        headers={"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "slipway"},
        cookie_jar=aiohttp.DummyCookieJar(),
        proxy=environment_proxy(base_url),
    ) as session:
        yield ModelEndpoint(
            session=session,
            base_url=base_url,
            keys=ApiKeySource.from_settings(settings),
            timeout=settings.model_timeout,
            max_retries=settings.model_max_retries,
            on_request=on_request,
        )


def environment_proxy(url: str) -> str | None:
    """The proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name for a URL."""
    # aiohttp's own `trust_env` starts a thread for each request to find this out.
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.netloc):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def _silence(seconds: float) -> aiohttp.ClientTimeout:
    """No limit of the whole: an answer may take long as long as it comes."""
    return aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=seconds)


def _in_pieces(body: bytes) -> bytes | io.BytesIO:
    """A large body (files) is sent piece by piece: others are served between them."""
    return io.BytesIO(body) if len(body) > PIECEMEAL_BYTES else body


def _authorization(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
