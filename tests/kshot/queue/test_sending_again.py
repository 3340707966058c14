"""Calls that wait are sent again to a Redis that takes them, not to one that still reads its data from the disk."""

import asyncio
from typing import Any

import pytest
from redis.exceptions import ResponseError

from kshot.contracts.tasks import PredictCall
from kshot.queue import front
from kshot.queue.front import FrontQueue
from kshot.queue.streams import PREDICT_STREAM


class Restarted:
    """Stands in for the links to a Redis that is away, then loads, then serves. Of all links together."""

    def __init__(self) -> None:
        self.run_id = 1
        self.loads = False
        self.taken: list[Any] = []
        self.ready = asyncio.Event()

    def __call__(self, url: str, timeout_s: float = 1.0) -> "Restarted":
        return self

    def ask(self, *words: Any) -> "asyncio.Future[Any]":
        return asyncio.ensure_future(self._answer(words))

    def ask_together(self, commands: Any) -> "asyncio.Future[Any]":
        return asyncio.ensure_future(asyncio.sleep(0, [b"1-1" for _ in commands]))

    def tell(self, *words: Any) -> None:
        if not self.loads:
            self.taken.append(words)
            self.ready.set()

    async def close(self) -> None:
        pass

    async def _answer(self, words: tuple[Any, ...]) -> Any:
        if words[0] == "INFO":
            return b"run_id:%d\r\n" % self.run_id
        if self.loads:
            self.loads = False  # the next time it is done
            raise ResponseError("LOADING Redis is loading the dataset in memory")
        if words[0] != "XREAD":
            return 0
        await asyncio.sleep(0.05)
        if self.run_id == 1:
            self.run_id, self.loads = 2, True
            raise ConnectionError
        return None


async def test_a_redis_that_still_loads_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    redis = Restarted()
    monkeypatch.setattr(front, "Link", redis)
    queue = FrontQueue("redis://nowhere")
    call = PredictCall(
        id="pred_1", tenant="ten_1", checkpoint="c", model=None, task=None, reply_to="r", deadline_ms=1, request_id="q"
    )
    queue.expect(call.id)
    queue.post(call, b"payload")
    await queue.start()
    async with asyncio.timeout(5):
        await redis.ready.wait()
    await queue.stop()
    assert [words[:2] for words in redis.taken] == [("XADD", PREDICT_STREAM)]
