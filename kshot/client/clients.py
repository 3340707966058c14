"""The two clients."""

import os
import sys
from typing import Any

import httpx

from kshot import __version__
from kshot.client.access import AccessCalls
from kshot.client.adapting import AdaptingCalls
from kshot.client.datasets import DatasetCalls
from kshot.client.drivers import AwaitingDriver, BlockingDriver
from kshot.client.endpoint import Async, Sync
from kshot.client.jobs import TrainingCalls
from kshot.client.registry import RegistryCalls
from kshot.client.tenants import TenantCalls
from kshot.contracts.errors import Invalid

DEFAULT_URL = "http://127.0.0.1:8000"
_CONNECT_S = 10.0


class AllCalls(AdaptingCalls, TrainingCalls, RegistryCalls, DatasetCalls, AccessCalls, TenantCalls):
    """Everything a client can be asked for."""


class _Opened(AllCalls):
    """What both clients are made from."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 60.0,
        retries: int = 5,
        progress: bool | None = None,
    ) -> None:
        self.url, settings = _settings(url, key, timeout)
        self._connect(settings, retries, sys.stderr.isatty() if progress is None else progress)

    def _connect(self, settings: dict[str, Any], retries: int, progress: bool) -> None:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"


class Client(_Opened, Sync):
    """A kshot service. Calls block; a client may be used by several threads.

    Args:
        url: where it listens; by default ``KSHOT_URL``, else http://127.0.0.1:8000.
        key: API key; by default ``KSHOT_KEY``. A service on this machine without keys needs none.
        timeout: seconds the service may be silent before an attempt has failed. Waits for models and jobs have
            timeouts of their own.
        retries: attempts after the first, of calls that can be repeated, where the service is away, overloaded or not
            reached; between them as long as it says (`Retry-After`), else 0.25 s, 0.5 s and so on up to 16 s.
        progress: whether long waits show a bar on stderr; by default where that is a terminal.

    Errors are `KshotError`: ``code``, ``message``, ``param``, ``remedy``, ``request_id``.

    >>> import numpy as np
    >>> with Client() as client:
    ...     model = client.adapt("vectors", np.eye(4), [1.0, 2.0, 3.0, 4.0])
    ...     more = model.add_examples(np.eye(4) / 2, [0.5, 1.0, 1.5, 2.0])
    >>> more.n_support, more.parent_id == model.id
    (8, True)
    """

    def _connect(self, settings: dict[str, Any], retries: int, progress: bool) -> None:
        self._driver = BlockingDriver(httpx.Client(**settings), retries, progress)

    def close(self) -> None:
        """Close its connections; leaving a ``with`` block does it, too."""
        self._driver.http.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(_Opened, Async):
    """The same, awaited: ``model = await client.adapt(...)``, ``async for model in client.models()``. Parameters as
    `Client` has them.

    >>> import asyncio
    >>> async def answers():
    ...     async with AsyncClient() as client:
    ...         model = await client.adapt("intents", ["where is my card", "I want a refund"], ["arrival", "refund"])
    ...         both = await asyncio.gather(model.predict(["my new card is late"]), model.predict(["money back"]))
    ...         return [answer.labels for answer in both]
    >>> asyncio.run(answers())
    [['arrival'], ['refund']]
    """

    def _connect(self, settings: dict[str, Any], retries: int, progress: bool) -> None:
        self._driver = AwaitingDriver(httpx.AsyncClient(**settings), retries, progress)

    async def close(self) -> None:
        """Close its connections; leaving an ``async with`` block does it, too."""
        await self._driver.http.aclose()

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _settings(url: str | None, key: str | None, timeout: float) -> tuple[str, dict[str, Any]]:
    """The service's URL, and how to make an httpx client for it."""
    where = (url or os.environ.get("KSHOT_URL") or DEFAULT_URL).rstrip("/")
    if not where.startswith(("http://", "https://")):
        raise Invalid(f"expected http://... or https://..., got {where}", param="url")
    secret = key or os.environ.get("KSHOT_KEY")
    headers = {"User-Agent": f"kshot-python/{__version__}"}
    if secret:
        headers["Authorization"] = f"Bearer {secret}"
    return where, {
        "base_url": where,
        "headers": headers,
        "timeout": httpx.Timeout(timeout, connect=min(timeout, _CONNECT_S), pool=None),
        "limits": httpx.Limits(max_connections=100, max_keepalive_connections=100),
    }
