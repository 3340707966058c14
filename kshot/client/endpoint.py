"""One description of a call for both clients.

A method is written once, as a script (`steps.py`), in a class that both clients inherit. The decorators here make it a
descriptor that carries the script out: on a `Sync` object it returns what the script gives, on an `Async` one it is
awaited. Types follow: `Client.adapt` gives a `Model`, `AsyncClient.adapt` an awaitable `AsyncModel`.
"""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, get_args, overload

import httpx
from pydantic import BaseModel

from kshot.client.drivers import AwaitingDriver, BlockingDriver
from kshot.client.exchange import exchange
from kshot.client.requests import Request
from kshot.client.steps import Script
from kshot.contracts.api import Page

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")
A = TypeVar("A")
M = TypeVar("M", bound=BaseModel)
N = TypeVar("N", bound=BaseModel)
H = TypeVar("H", bound="Sync")
B = TypeVar("B", bound="Async")
Build = Callable[..., Script[Any]]


class Calls:
    """What can make calls: a client, or an object a client gave."""

    _driver: BlockingDriver | AwaitingDriver

    def _send(self, request: Request) -> Script[httpx.Response]:
        """The answer to a request, retried as the client's ``retries`` say."""
        return exchange(request, self._driver.retries)


class Sync(Calls):
    """Its calls block."""

    _driver: BlockingDriver


class Async(Calls):
    """Its calls are awaited."""

    _driver: AwaitingDriver


class Endpoint(Generic[P, S, A]):
    """A call that gives ``S`` on a `Sync` object, and ``A`` on an `Async` one."""

    def __init__(self, build: Build, sync_kind: type | None = None, async_kind: type | None = None) -> None:
        self._build = build
        self._kinds = (sync_kind, async_kind)
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> "Endpoint[P, S, A]": ...
    @overload
    def __get__(self, instance: Sync, owner: type | None = None) -> Callable[P, S]: ...
    @overload
    def __get__(self, instance: Async, owner: type | None = None) -> Callable[P, Awaitable[A]]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return documented(self._build, self._result(owner))

        @wraps(self._build)
        def call(*args: Any, **kwargs: Any) -> Any:
            script = self._build(instance, *args, **kwargs)
            if isinstance(instance, Sync):
                return self._shaped(instance, instance._driver.run(script))
            return self._awaited(instance, script)

        return call

    async def _awaited(self, instance: Any, script: Script[Any]) -> Any:
        return self._shaped(instance, await instance._driver.run(script))

    def _kind(self, instance: Any) -> type | None:
        return self._kinds[0 if isinstance(instance, Sync) else 1]

    def _shaped(self, instance: Any, answer: Any) -> Any:
        kind = self._kind(instance)
        return answer if kind is None else bound(read(kind, answer), instance)

    def _result(self, owner: type) -> Any:
        kind = self._kinds[0 if issubclass(owner, Sync) else 1]
        return kind or script_gives(self._build)


class OwnKind(Endpoint[P, S, A]):
    """A call of a handle that gives a handle of the same kind."""

    @overload  # type: ignore[override]
    def __get__(self, instance: None, owner: type) -> "OwnKind[P, S, A]": ...
    @overload
    def __get__(self, instance: H, owner: type | None = None) -> Callable[P, H]: ...
    @overload
    def __get__(self, instance: B, owner: type | None = None) -> Callable[P, Awaitable[B]]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return super().__get__(instance, owner)

    def _kind(self, instance: Any) -> type | None:
        return type(instance)

    def _result(self, owner: type) -> Any:
        return owner


class Listing(Generic[S, A, P]):
    """A call that iterates over ``S`` on a `Sync` object, and over ``A`` on an `Async` one."""

    def __init__(self, build: Build, sync_kind: type | None, async_kind: type | None) -> None:
        self._build = build
        self._kinds = (sync_kind, async_kind)
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> "Listing[S, A, P]": ...
    @overload
    def __get__(self, instance: Sync, owner: type | None = None) -> Callable[P, Iterator[S]]: ...
    @overload
    def __get__(self, instance: Async, owner: type | None = None) -> Callable[P, AsyncIterator[A]]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            kind: Any = self._kinds[0 if issubclass(owner, Sync) else 1]
            return documented(self._build, Iterator[kind] if issubclass(owner, Sync) else AsyncIterator[kind])

        @wraps(self._build)
        def call(*args: Any, **kwargs: Any) -> Any:
            script = self._build(instance, *args, **kwargs)
            items = self._items if isinstance(instance, Sync) else self._awaited_items
            return items(instance, instance._driver.iterate(script))

        return call

    def _items(self, instance: Any, emitted: Iterator[Any]) -> Iterator[Any]:
        for page in emitted:
            yield from _unpacked(page, self._kinds[0], instance)

    async def _awaited_items(self, instance: Any, emitted: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for page in emitted:
            for item in _unpacked(page, self._kinds[1], instance):
                yield item


def endpoint(build: Callable[Concatenate[Any, P], Script[T]]) -> Endpoint[P, T, T]:
    """A call whose script returns what the caller gets."""
    return Endpoint(build)


def gives(
    sync_kind: type[M], async_kind: type[N]
) -> Callable[[Callable[Concatenate[Any, P], Script[bytes]]], Endpoint[P, M, N]]:
    """A call whose script returns the JSON of an object with calls of its own."""
    return lambda build: Endpoint(build, sync_kind, async_kind)


def gives_own_kind(build: Callable[Concatenate[Any, P], Script[bytes]]) -> OwnKind[P, Any, Any]:
    """A call of such an object whose script returns the JSON of another one."""
    return OwnKind(build)


def lists(
    sync_kind: type[M], async_kind: type[N]
) -> Callable[[Callable[Concatenate[Any, P], Script[None]]], Listing[M, N, P]]:
    """A call whose script emits the JSON of pages of these, or the items themselves."""
    return lambda build: Listing(build, sync_kind, async_kind)


def read(kind: type[M], content: bytes) -> M:
    """An answer as a model; fields that a newer service added are left out, at any depth."""
    return kind.model_validate_json(content, extra="ignore")


def bound(value: T, instance: Any) -> T:
    """The value, able to make calls as ``instance`` does, if it can make any."""
    if isinstance(value, Calls):
        value._driver = instance._driver
    return value


def script_gives(build: Build) -> Any:
    """T of a method annotated to return ``Script[T]``."""
    annotated = inspect.signature(build).return_annotation
    return (get_args(annotated) or (annotated,))[-1]


def documented(build: Build, result: Any) -> Any:
    """The method as documentation and `help` show it: with what it gives to the caller."""

    @wraps(build)
    def shown(*args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"call {build.__name__} on an object, not on its class")

    shown.__annotations__ = {**build.__annotations__, "return": result}
    shown.__signature__ = inspect.signature(build).replace(return_annotation=result)  # type: ignore[attr-defined]
    return shown


def _unpacked(page: Any, kind: Any, instance: Any) -> Iterator[Any]:
    if not isinstance(page, bytes):
        yield page
        return
    for item in read(Page[kind], page).data:
        yield bound(item, instance)
