"""The two ways to carry a script out: blocking, or awaiting. Everything else about a call is in its script."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import closing
from typing import Any, TypeVar

import httpx

from kshot.client.requests import Request
from kshot.client.steps import Emit, Listen, NextBytes, Outcome, Return, Script, Send, Sleep, Step, advance

T = TypeVar("T")


class BlockingDriver:
    """Over an `httpx.Client`. ``retries``: of each request. ``progress``: whether long waits show a bar."""

    def __init__(self, http: httpx.Client, retries: int, progress: bool) -> None:
        self.http, self.retries, self.progress = http, retries, progress

    def run(self, script: Script[T]) -> T:
        """What the script returns."""
        outcome: Outcome = None
        with closing(script):
            while not isinstance(step := advance(script, outcome), Return):
                outcome = self._outcome(step, [])
        return step.value

    def iterate(self, script: Script[None]) -> Generator[Any, None, None]:
        """What the script emits. The connection is given back when the iterator ends or is closed."""
        outcome: Outcome = None
        streams: list[tuple[httpx.Response, Iterator[bytes]]] = []
        try:
            with closing(script):
                while not isinstance(step := advance(script, outcome), Return):
                    if isinstance(step, Emit):
                        yield step.item
                    outcome = self._outcome(step, streams)
        finally:
            _close(streams)

    def _outcome(self, step: Step, streams: list[tuple[httpx.Response, Iterator[bytes]]]) -> Outcome:
        try:
            match step:
                case Send(request):
                    return self.http.send(_built(self.http, request))
                case Listen(request):
                    _close(streams)
                    response = self.http.send(_built(self.http, request), stream=True)
                    streams.append((response, response.iter_bytes()))
                    if response.status_code >= 400:
                        response.read()
                    return response
                case NextBytes():
                    return next(streams[-1][1], None)
                case Sleep(seconds):
                    time.sleep(seconds)
        except httpx.HTTPError as error:
            return error
        return None


class AwaitingDriver:
    """Over an `httpx.AsyncClient`. ``retries``: of each request. ``progress``: whether long waits show a bar."""

    def __init__(self, http: httpx.AsyncClient, retries: int, progress: bool) -> None:
        self.http, self.retries, self.progress = http, retries, progress

    async def run(self, script: Script[T]) -> T:
        """What the script returns."""
        outcome: Outcome = None
        with closing(script):
            while not isinstance(step := advance(script, outcome), Return):
                outcome = await self._outcome(step, [])
        return step.value

    async def iterate(self, script: Script[None]) -> AsyncGenerator[Any, None]:
        """What the script emits. The connection is given back when the iterator ends or is closed."""
        outcome: Outcome = None
        streams: list[tuple[httpx.Response, AsyncIterator[bytes]]] = []
        try:
            with closing(script):
                while not isinstance(step := advance(script, outcome), Return):
                    if isinstance(step, Emit):
                        yield step.item
                    outcome = await self._outcome(step, streams)
        finally:
            await _aclose(streams)

    async def _outcome(self, step: Step, streams: list[tuple[httpx.Response, AsyncIterator[bytes]]]) -> Outcome:
        try:
            match step:
                case Send(request):
                    return await self.http.send(_built(self.http, request))
                case Listen(request):
                    await _aclose(streams)
                    response = await self.http.send(_built(self.http, request), stream=True)
                    streams.append((response, response.aiter_bytes()))
                    if response.status_code >= 400:
                        await response.aread()
                    return response
                case NextBytes():
                    return await anext(streams[-1][1], None)
                case Sleep(seconds):
                    await asyncio.sleep(seconds)
        except httpx.HTTPError as error:
            return error
        return None


def _close(streams: list[tuple[httpx.Response, Iterator[bytes]]]) -> None:
    while streams:
        streams.pop()[0].close()


async def _aclose(streams: list[tuple[httpx.Response, AsyncIterator[bytes]]]) -> None:
    while streams:
        await streams.pop()[0].aclose()


def _built(http: httpx.Client | httpx.AsyncClient, request: Request) -> httpx.Request:
    """The request as httpx sends it; a file's stream is opened anew."""
    own = {} if request.body is None else request.body.arguments()
    headers = {**own.pop("headers", {}), **request.headers}
    usual = http.timeout
    read = None if usual.read is None else usual.read + request.patience_s
    timeout = httpx.Timeout(connect=usual.connect, read=read, write=usual.write, pool=usual.pool)
    return http.build_request(
        request.method, request.path, params=request.params or None, headers=headers, timeout=timeout, **own
    )
