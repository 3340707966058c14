"""A way to Redis that is slow, or hangs."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

_STEP_S = 0.02


@dataclass
class Proxy:
    """``up`` and ``down``: bytes per second towards Redis and back. Clearing ``open`` lets nothing through."""

    url: str = ""
    up: float = 1e9
    down: float = 1e9
    open: asyncio.Event = field(default_factory=asyncio.Event)


@contextlib.asynccontextmanager
async def a_proxy(path: str) -> AsyncIterator[Proxy]:
    """A TCP port in front of the Redis at the socket ``path``. The system buffers little in between."""
    proxy, tasks = Proxy(), set[asyncio.Task[None]]()
    proxy.open.set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        redis_reader, redis_writer = await asyncio.open_unix_connection(path)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_forward(proxy, "up", reader, redis_writer))
                group.create_task(_forward(proxy, "down", redis_reader, writer))
        except* ConnectionError:
            pass
        finally:
            redis_writer.close()
            writer.close()

    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
    listening.bind(("127.0.0.1", 0))
    server = await asyncio.start_server(serve, sock=listening, limit=64 * 1024)
    proxy.url = f"redis://127.0.0.1:{listening.getsockname()[1]}"
    yield proxy
    server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _forward(proxy: Proxy, way: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await proxy.open.wait()
        data = await reader.read(max(1, int(getattr(proxy, way) * _STEP_S)))
        await proxy.open.wait()
        if not data:
            raise ConnectionError("closed")
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(len(data) / getattr(proxy, way))
