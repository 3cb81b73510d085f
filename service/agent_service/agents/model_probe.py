"""Whether a model answers: asked with a small question of the service's own, so that no caller can make it fail."""

import asyncio
import dataclasses
from functools import partial

import aiohttp
import openai

from agent_service.agents.completion_reader import PATH, Beat, ChunkStream
from agent_service.agents.endpoint import ModelEndpoint
from agent_service.errors import ModelRejected, ModelUnavailable

QUESTION = "Reply with the word ok."
"""Costs about 10 tokens of a provider that bills it. No limit of the answer is asked for, as its field differs by model: the
answer is cut off behind its first token."""


async def answers(endpoint: ModelEndpoint, model: str) -> bool:
    """False when no first output came within `endpoint.timeout` seconds, or the endpoint broke down. One that says no, or later,
    is there."""
    # The next probe is the retry; a rate limit is an answer, and not waited for.
    once = dataclasses.replace(endpoint, max_retries=0)

    async def receive(response: aiohttp.ClientResponse) -> None:
        stream = ChunkStream(response, endpoint.timeout, Beat(), partial(endpoint.on_request, model))
        await stream.prime()
        async with stream:  # that counts and closes it
            pass

    payload = {"model": model, "messages": [{"role": "user", "content": QUESTION}], "stream": True}
    try:
        async with asyncio.timeout(endpoint.timeout):
            await once.post(PATH, payload, receive)
    except (ModelRejected, openai.RateLimitError, openai.AuthenticationError):
        return True
    except (ModelUnavailable, TimeoutError):
        return False
    return True
