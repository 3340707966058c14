"""Calls whose bodies are long in coming: they are no work yet, and give their places at the gate to others meanwhile.

What has come of a body lies in memory, so there is a bound to that, too, by tenant as at the gate. Who finds no room
here keeps his place there; whoever sends next to nothing is cut off in any case (`service/protocol.py`).
"""

import asyncio
from collections import Counter

from starlette.requests import Request
from starlette.types import Message, Receive

from service.gate import SHARE, Gate

LONG_S = 1.0
"""How long a body may take to come before its call steps aside, and between two tries to do so."""


class Anteroom:
    """Counts what the bodies may come to. ``most_bytes``: of all together; of a tenant `SHARE` times what is left."""

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._bytes: Counter[str] = Counter()

    def enter(self, tenant: str, n_bytes: int) -> bool:
        """Whether there is room. Who was let in has to `leave`."""
        if self._bytes[tenant] + n_bytes > SHARE * (self._left - n_bytes):
            return False
        self._bytes[tenant] += n_bytes
        self._left -= n_bytes
        return True

    def leave(self, tenant: str, n_bytes: int) -> None:
        """Its body is here, or will not come."""
        self._left += n_bytes
        self._bytes[tenant] -= n_bytes
        if not self._bytes[tenant]:
            del self._bytes[tenant]


class Place:
    """The place of a call that was let in at the gate. ``n_bytes``: what its body may come to."""

    def __init__(self, gate: Gate, anteroom: Anteroom, tenant: str, n_bytes: int) -> None:
        self._gate, self._anteroom = gate, anteroom
        self._tenant, self._n_bytes = tenant, n_bytes
        self._timer: asyncio.TimerHandle | None = None
        self._is_aside = False

    def reading(self, receive: Receive) -> Receive:
        """What the body is read by. Nothing is counted before somebody reads."""
        if not self._n_bytes:
            return receive

        async def read() -> Message:
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(LONG_S, self._step_aside)
            message = await receive()
            if not message.get("more_body", False):
                self._step_in()
            return message

        return read

    def leave(self) -> None:
        """The call ended."""
        self._step_in()
        self._gate.leave(self._tenant)

    def _step_aside(self) -> None:
        if self._anteroom.enter(self._tenant, self._n_bytes):
            self._is_aside = True
            self._gate.step_aside(self._tenant)
        else:
            self._timer = asyncio.get_running_loop().call_later(LONG_S, self._step_aside)

    def _step_in(self) -> None:
        """At once, though there be no room: whoever sent all of it should not have to send it again."""
        if self._timer is not None:
            self._timer.cancel()
        if self._is_aside:
            self._is_aside = False
            self._anteroom.leave(self._tenant, self._n_bytes)
            self._gate.step_in(self._tenant)


def announced_bytes(request: Request, limit: int) -> int:
    """What the body may come to, by its headers: no more than ``limit`` of it is read."""
    announced = request.headers.get("content-length")
    if announced is None:
        return limit if "transfer-encoding" in request.headers else 0
    return min(limit, int(announced[:20])) if announced.isdecimal() else limit
