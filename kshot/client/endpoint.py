"""One description of a call for both clients.

A method is written once, as a script (`steps.py`), in a class that both clients inherit. The decorators here make it a
descriptor that carries the script out: on a `Sync` object it returns what the script gives, on an `Async` one it is
awaited. Types follow: `Client.adapt` gives a `Model`, `AsyncClient.adapt` an awaitable `AsyncModel`.
"""

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import aclosing
from functools import wraps
from types import MethodType
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


class Described(Generic[S, A]):
    """A description of a call: the script that makes it, and what `Sync` and `Async` objects give for it (None: what
    the script does)."""

    def __init__(self, build: Build, sync_kind: type | None = None, async_kind: type | None = None) -> None:
        self._build = build
        self._kinds = (sync_kind, async_kind)
        self._functions: dict[type, Callable[..., Any]] = {}
        self.__doc__ = build.__doc__

    def _of(self, instance: Any, owner: type | None) -> Any:
        """The call as a method, on an object of this class or on the class."""
        kind = type(instance) if owner is None else owner
        if kind not in self._functions:
            self._functions[kind] = self._function(kind)
        return self._functions[kind] if instance is None else MethodType(self._functions[kind], instance)

    def _function(self, owner: type) -> Callable[..., Any]:
        """What carries the script out, with the signature that its caller sees."""
        carry_out = self._blocking if issubclass(owner, Sync) else self._awaiting

        @wraps(self._build)
        def call(instance: Any, *args: Any, **kwargs: Any) -> Any:
            return carry_out(instance, self._build(instance, *args, **kwargs))

        result = self._result(owner)
        call.__annotations__ = {**self._build.__annotations__, "return": result}
        call.__signature__ = inspect.signature(self._build).replace(return_annotation=result)  # type: ignore[attr-defined]
        return call

    def _kind(self, owner: type) -> Any:
        """The class of what is given."""
        return self._kinds[0 if issubclass(owner, Sync) else 1]

    def _result(self, owner: type) -> Any:
        raise NotImplementedError

    def _blocking(self, instance: Any, script: Script[Any]) -> Any:
        raise NotImplementedError

    def _awaiting(self, instance: Any, script: Script[Any]) -> Any:
        raise NotImplementedError


class Endpoint(Described[S, A], Generic[P, S, A]):
    """A call that gives ``S`` on a `Sync` object, and ``A`` on an `Async` one."""

    @overload
    def __get__(self, instance: None, owner: type) -> "Endpoint[P, S, A]": ...
    @overload
    def __get__(self, instance: Sync, owner: type | None = None) -> Callable[P, S]: ...
    @overload
    def __get__(self, instance: Async, owner: type | None = None) -> Callable[P, Coroutine[Any, Any, A]]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self._of(instance, owner)

    def _result(self, owner: type) -> Any:
        return self._kind(owner) or script_gives(self._build)

    def _blocking(self, instance: Any, script: Script[Any]) -> Any:
        return self._shaped(instance, instance._driver.run(script))

    async def _awaiting(self, instance: Any, script: Script[Any]) -> Any:
        return self._shaped(instance, await instance._driver.run(script))

    def _shaped(self, instance: Any, answer: Any) -> Any:
        kind = self._kind(type(instance))
        return answer if kind is None else bound(read(kind, answer), instance)


class OwnKind(Endpoint[P, S, A]):
    """A call of a handle that gives a handle of the same kind."""

    @overload  # type: ignore[override]
    def __get__(self, instance: None, owner: type) -> "OwnKind[P, S, A]": ...
    @overload
    def __get__(self, instance: H, owner: type | None = None) -> Callable[P, H]: ...
    @overload
    def __get__(self, instance: B, owner: type | None = None) -> Callable[P, Coroutine[Any, Any, B]]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self._of(instance, owner)

    def _kind(self, owner: type) -> Any:
        return owner


class Listing(Described[S, A], Generic[S, A, P]):
    """A call that iterates over ``S`` on a `Sync` object, and over ``A`` on an `Async` one."""

    @overload
    def __get__(self, instance: None, owner: type) -> "Listing[S, A, P]": ...
    @overload
    def __get__(self, instance: Sync, owner: type | None = None) -> Callable[P, Generator[S, None, None]]: ...
    @overload
    def __get__(self, instance: Async, owner: type | None = None) -> Callable[P, AsyncGenerator[A, None]]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self._of(instance, owner)

    def _result(self, owner: type) -> Any:
        iterator: Any = Iterator if issubclass(owner, Sync) else AsyncIterator
        return iterator[self._kind(owner)]

    def _blocking(self, instance: Any, script: Script[Any]) -> Any:
        for page in instance._driver.iterate(script):
            yield from self._unpacked(page, instance)

    async def _awaiting(self, instance: Any, script: Script[Any]) -> Any:
        async with aclosing(instance._driver.iterate(script)) as pages:
            async for page in pages:
                for item in self._unpacked(page, instance):
                    yield item

    def _unpacked(self, page: Any, instance: Any) -> Iterator[Any]:
        """The items of a page, or one item that the script has made already."""
        if not isinstance(page, bytes):
            yield page
            return
        whole: Any = Page
        for item in read(whole[self._kind(type(instance))], page).data:
            yield bound(item, instance)


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
