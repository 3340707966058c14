"""A file whose time says that the event loop turns: what a container's health check looks at.

Whether Postgres or Redis is there makes no difference to it: a worker that lost them recovers by itself, and starting
it anew would only cost it what it remembers.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from workers.patience import every

_EVERY_S = 5.0


@asynccontextmanager
async def touched(file: Path | None) -> AsyncIterator[None]:
    """Touch ``file`` now and every five seconds, as long as the body runs. None: nobody looks."""
    if file is None:
        yield
        return

    async def touch() -> None:
        file.touch()  # noqa: ASYNC240 (waits for nothing)

    touching = asyncio.create_task(every(_EVERY_S, touch))
    try:
        yield
    finally:
        touching.cancel()
