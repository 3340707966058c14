"""Decoders of what lies around bodies: uploads as they come in pieces, headers; and of what clients are answered."""

import asyncio
import hashlib
import json
import tempfile
from collections.abc import Callable, Coroutine
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from starlette.requests import Request

from kshot.client.events import EventDecoder
from kshot.client.failures import failure_of
from kshot.contracts.errors import KshotError
from kshot.contracts.ids import is_id
from service.bodies.stream import ANY, announced_small, media_type_of
from service.context import is_loopback
from service.preconditions import get_if_match
from service.prefer import MAX_WAIT_S, parse_prefer
from service.sessions import refuse_forged, session_of
from service.uploads import receive


def upload(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file"
        upload = _loop().run_until_complete(receive(_request([], data), b"B", file, limit=20_000))
        assert file.stat().st_size <= 20_000 and len(upload.request) <= 64 * 1024
        assert hashlib.sha256(file.read_bytes()).hexdigest() == upload.sha256


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def headers(data: bytes) -> None:
    """Everything that reads headers, each line of the data one of them."""
    pairs = [
        (name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in data.split(b"\n"))
    ]
    request, refused = _request(pairs), list[KshotError]()
    preference = parse_prefer(request.headers.get("prefer"))
    assert 0 <= preference.wait_s <= MAX_WAIT_S
    announced_small(request), session_of(request), is_loopback(request.headers.get("host", ""))
    is_id(request.headers.get("host", ""), "am")
    readers: list[Callable[[], object]] = [
        lambda: media_type_of(request, ANY),
        lambda: refuse_forged(request),
        lambda: _finished(get_if_match(request.headers.get("if-match"))),
    ]
    for read in readers:
        try:
            read()
        except KshotError as error:
            refused.append(error)
    assert all(error.status in (403, 415, 422) for error in refused)


def _finished(coroutine: Coroutine[Any, Any, object]) -> object:
    """The value of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


def _request(headers: list[tuple[bytes, bytes]], body: bytes = b"") -> Request:
    pieces = [body[at : at + 700] for at in range(0, len(body), 700)] or [b""]

    async def messages() -> dict[str, Any]:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    return Request({"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}, messages)


def answer(data: bytes) -> None:
    """What a client makes of a server's refusal and of its events, whatever server that is."""
    head, _, body = data.partition(b"\n\n")
    pairs = [
        (name.strip() or b"x", value.strip()) for name, _, value in (line.partition(b":") for line in head.split(b"\n"))
    ]
    failure = failure_of(httpx.Response(400, headers=pairs, content=body))
    assert failure.retry_after is None or failure.retry_after >= 0
    decoder = EventDecoder()
    whole = [event for at in range(0, len(body), 7) for event in decoder.feed(body[at : at + 7])]
    assert whole == list(EventDecoder().feed(body))


def header_samples() -> tuple[bytes, ...]:
    return (
        b'Prefer: respond-async, wait=5\nContent-Type: multipart/form-data; boundary="B"\nContent-Length: 512\nHost: h',
        b'Prefer: wait = "10"\nIf-Match: "3", W/"x", *\nContent-Type: application/json; charset=utf-8\nHost: [::1]:1',
        b"Cookie: a=b; kshot_session=abc\nX-Kshot-Console: 1\nOrigin: http://h:1\nHost: h:1\nSec-Fetch-Site: none",
    )


def answers() -> tuple[bytes, ...]:
    problem = {
        "type": "urn:x",
        "title": "t",
        "status": 429,
        "detail": "d",
        "code": "queue_full",
        "param": None,
        "errors": [],
        "request_id": "r",
    }
    return (
        b"Retry-After: 3\nLocation: /v1/promotions/pro_1\n\n" + json.dumps(problem).encode(),
        b"Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\n\nevent: a\nid: 1\ndata: {\ndata: }\n\n: alive\n\ndata:x\r\n\r\n",
    )
