"""One address for several ports: each new connection goes to the first of them that takes it, as by a Kubernetes Service."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager


@asynccontextmanager
async def forwarder(ports: Callable[[], Sequence[int]]) -> AsyncIterator[str]:
    """The address; `ports` is asked anew for each connection, and the next of them has the next turn."""
    turn = 0
    open_pipes: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal turn
        known = list(ports())
        turn += 1
        for number in range(len(known)):
            with contextlib.suppress(OSError):
                upstream = await asyncio.open_connection("127.0.0.1", known[(turn + number) % len(known)])
                break
        else:
            writer.transport.abort()
            return
        pipes = [asyncio.create_task(_pipe(reader, upstream[1])), asyncio.create_task(_pipe(upstream[0], writer))]
        open_pipes.update(pipes)
        await asyncio.wait(pipes)
        open_pipes.difference_update(pipes)
        for end in (upstream[1], writer):
            end.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for pipe in open_pipes:
            pipe.cancel()
        await asyncio.gather(*open_pipes, return_exceptions=True)


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
        with contextlib.suppress(OSError, RuntimeError):
            sink.write_eof()
    except OSError:
        sink.transport.abort()
