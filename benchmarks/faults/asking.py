"""One caller's way to the service: every request and what came of it goes into the ledger."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from benchmarks.faults.ledger import Ledger, Told

_LONGEST_WAIT_S = 40.0
_TRIES = 100
_PAUSE_S = 0.5
AGAIN = (409, 429, 500, 503, 504)
"""Statuses after which a caller asks again; no answer at all is another reason."""


@dataclass(frozen=True)
class Line:
    """A caller of a tenant, with its connections."""

    caller: str
    tenant: str
    client: httpx.AsyncClient
    ledger: Ledger
    over: asyncio.Event

    async def ask(
        self,
        act: str,
        method: str,
        path: str,
        about: dict[str, Any],
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        tries: int = _TRIES,
    ) -> Told:
        """Ask, and again the same as long as the answer says that this may help, and nobody calls it a day."""
        for tried in range(1, tries + 1):
            told = await self._once(act, about, self.client.build_request(method, path, json=body, headers=headers))
            helpless = told.status is not None and told.status not in AGAIN
            if helpless or tried == tries or self.over.is_set():
                break
            await pause(self.over, _PAUSE_S)
        return told

    async def _once(self, act: str, about: dict[str, Any], request: httpx.Request) -> Told:
        sent = self.ledger.now()
        status: int | None = None
        try:
            answer = await self.client.send(request)
            status, text = answer.status_code, answer.text
        except httpx.RequestError as error:
            text = type(error).__name__
        told = Told(self.caller, self.tenant, act, about, sent, self.ledger.now(), status, text)
        self.ledger.note(told)
        return told


async def pause(over: asyncio.Event, seconds: float) -> None:
    """Wait, but not past the end of the day."""
    try:
        await asyncio.wait_for(over.wait(), seconds)
    except TimeoutError:
        pass


def client(url: str, key: str) -> httpx.AsyncClient:
    """Connections of a caller with this key."""
    return httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=_LONGEST_WAIT_S)
