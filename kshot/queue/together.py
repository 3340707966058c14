"""Commands of one turn of the event loop, carried out as one: what they bring is heard together."""

import asyncio
from collections.abc import Sequence
from typing import Any

from kshot.queue.link import Link, Word

_Asked = list[tuple[tuple[Word, ...], "asyncio.Future[Any]"]]


class Together:
    """Asks a link, in the next turn, for all that was asked since.

    Of thirty bells or calls that are sent at once, a worker that waits would wake at the first and run that one alone,
    which costs it and Postgres several times as much as one of thirty.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._asked: _Asked = []

    def ask(self, *words: Word) -> "asyncio.Future[Any]":
        """A command's answer, as `Link.ask` gives it. One that is cancelled within this turn is not sent."""
        loop = asyncio.get_running_loop()
        if not self._asked:
            loop.call_soon(self._send)
        future: asyncio.Future[Any] = loop.create_future()
        self._asked.append((words, future))
        return future

    def _send(self) -> None:
        asked, self._asked = [one for one in self._asked if not one[1].cancelled()], []
        if not asked:
            return
        answers = self._link.ask_together([words for words, _ in asked])
        answers.add_done_callback(lambda done: _tell(asked, done))


def _tell(asked: _Asked, done: "asyncio.Future[list[Any]]") -> None:
    error = done.exception()
    answers: Sequence[Any] = [error] * len(asked) if error is not None else done.result()
    for (_, future), answer in zip(asked, answers, strict=True):
        if future.done():
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
            future.exception()  # whoever gave up waiting need not hear of it
        else:
            future.set_result(answer)
