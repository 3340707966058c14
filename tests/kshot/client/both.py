"""One test for both clients: what `Client` gives at once, `AsyncClient` gives awaited."""

import inspect
from typing import Any

from kshot.client import AsyncClient, Client

KINDS = [Client, AsyncClient]


async def got(answer: Any) -> Any:
    """What a call gives."""
    return await answer if inspect.isawaitable(answer) else answer


async def listed(items: Any) -> list[Any]:
    """All that a call iterates over."""
    return [item async for item in items] if hasattr(items, "__aiter__") else list(items)


async def closed(client: Any) -> None:
    """The client, closed."""
    await got(client.close())
