"""Predict calls that nobody waits for any more are dropped before anything is computed for them."""

import asyncio
from collections import OrderedDict

import structlog

from kshot.contracts.worker_stats import Unwanted
from kshot.queue.leaving import LeftCalls
from kshot.queue.work import Delivered
from workers.patience import is_away

_KEPT = 10_000
_REDIS_AWAY_S = 0.5

_log = structlog.get_logger()


class Lateness:
    """Knows whose callers left. ``left``: where their calls are named."""

    def __init__(self, left: LeftCalls) -> None:
        self._source = left
        self._left: OrderedDict[str, None] = OrderedDict()

    async def listen(self) -> None:
        """Hear of them for ever. While Redis is away, deadlines still count."""
        while True:
            try:
                self.note(await self._source.next())
            except Exception as error:
                _log.warning("not_hearing_who_left", error=type(error).__name__, exc_info=not is_away(error))
                await asyncio.sleep(_REDIS_AWAY_S)

    def note(self, ids: list[str]) -> None:
        """These calls were withdrawn, whoever has them."""
        self._left.update(dict.fromkeys(ids))
        while len(self._left) > _KEPT:
            self._left.popitem(last=False)

    def reason(self, delivered: Delivered, waited_ms: float) -> Unwanted | None:
        """Why the call, ``waited_ms`` after it was sent, is not to be computed; None where somebody waits."""
        if waited_ms >= delivered.call.deadline_ms:
            return "expired"
        return "abandoned" if delivered.call.id in self._left else None
