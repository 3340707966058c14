"""The log says where something broke, never what the caller sent."""

import asyncio
import dataclasses
import io
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
import structlog

from kshot.checkpoints import Checkpoint
from kshot.logs import log_unhandled, set_up_logs
from tests.workers.samples import adapt
from workers.executing import solve
from workers.patience import every

SECRET = "what only the caller may read"


class OddLabel(str):
    """Writes itself into the error it causes, as many a library does with what it is given."""

    def __str__(self) -> str:
        raise ValueError(f"cannot write {super().__str__()}")


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[dict[str, object]]]]:
    written = io.StringIO()
    root = logging.getLogger()
    before, hooks = (root.handlers[:], root.level), ("excepthook", "unraisablehook")
    for hook in hooks:  # put back at the end
        monkeypatch.setattr(sys, hook, getattr(sys, hook))
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    set_up_logs(written, "debug")
    yield lambda: [line for line in map(json.loads, written.getvalue().splitlines()) if line.get("logger") != "asyncio"]
    structlog.reset_defaults()
    root.handlers[:], root.level = before


def assert_where_and_not_what(event: dict[str, object], name: str, error: str) -> None:
    assert (event["event"], event["error"]) == (name, error)
    assert any("test_logs.py" in frame for frame in event["where"])
    assert SECRET not in json.dumps(event)


@pytest.mark.reliability("access: logs", "worker")
def test_a_payload_that_breaks_its_computation_is_in_no_line(checkpoint: Checkpoint, events):
    work = adapt(0, ask=True)
    support = dataclasses.replace(work.payload.support, classes=(OddLabel(SECRET), "b"))
    solve(checkpoint, [dataclasses.replace(work, payload=dataclasses.replace(work.payload, support=support))])
    (event,) = events()
    assert_where_and_not_what(event, "compute_failed", "ValueError")
    assert event["request_id"] == work.request_id


async def test_nor_is_one_that_breaks_what_runs_beside_the_batches(events):
    async def broken() -> None:
        try:
            raise ValueError(SECRET)
        except ValueError as error:
            raise TypeError(SECRET) from error

    repeated = asyncio.create_task(every(60, broken))
    await asyncio.sleep(0)
    repeated.cancel()
    (event,) = events()
    assert_where_and_not_what(event, "periodic_failed", "TypeError")
    assert "led to TypeError" in event["where"]


async def test_nor_is_what_libraries_and_the_event_loop_have_to_say_of_an_error(events):
    async def broken() -> None:
        raise ValueError(SECRET)

    asyncio.get_running_loop().set_exception_handler(log_unhandled)
    unheard = asyncio.create_task(broken())
    await asyncio.sleep(0)
    del unheard  # nobody asks for its result: the loop reports it
    try:
        raise ValueError(SECRET)
    except ValueError:
        logging.getLogger("a.library").exception("it broke")
    loops, librarys = events()
    assert_where_and_not_what(loops, "unhandled", "ValueError")
    assert_where_and_not_what(librarys, "it broke", "ValueError")


def test_nor_is_what_ends_a_process_or_a_thread(events):
    def broken() -> None:
        raise ExceptionGroup(SECRET, [ValueError(SECRET)])

    try:
        broken()
    except ExceptionGroup as error:
        sys.excepthook(type(error), error, error.__traceback__)
    thread = threading.Thread(target=broken)
    thread.start()
    thread.join()
    for event in events():
        assert_where_and_not_what(event, "uncaught", "ExceptionGroup")
        assert "held ValueError" in event["where"]
    assert len(events()) == 2


def test_an_error_that_was_raised_from_itself_is_told_once(events):
    try:
        error = ValueError(SECRET)
        raise error from error
    except ValueError as raised:
        structlog.get_logger().error("odd", exc_info=raised)
    (event,) = events()
    assert_where_and_not_what(event, "odd", "ValueError")
    assert len(event["where"]) == 1


@pytest.mark.parametrize("level", [logging.DEBUG, logging.ERROR])
def test_a_library_is_quoted_without_what_it_was_given(events, level: int):
    library = logging.getLogger("a.library")
    library.log(level, "cannot send %r to %s", SECRET, "there")
    library.log(level, ValueError(SECRET))
    told, thrown = events()
    assert (told["event"], thrown["event"]) == ("cannot send %r to %s", "ValueError")
    assert told["logger"] == "a.library" and SECRET not in json.dumps([told, thrown])


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("ksk_" + "0a" * 32, "***"),
        ("Authorization: Bearer abc.DEF-1", "Authorization: Bearer ***"),
        ("postgresql://kshot:p@ss@host/db", "postgresql://***@host/db"),
        ("redis://:word@host:6379", "redis://***@host:6379"),
        ("postgresql://kshot@host:5432/db", "postgresql://kshot@host:5432/db"),
        ("http://127.0.0.1:8000/x?y=a@b", "http://127.0.0.1:8000/x?y=a@b"),
    ],
)
def test_what_looks_like_a_key_or_a_password_is_blotted_out(events, said: str, left: str):
    structlog.get_logger().info(said, also=[said])
    (event,) = events()
    assert (event["event"], event["also"]) == (left, [left])
