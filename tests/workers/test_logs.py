"""The log says where something broke, never what the caller sent."""

import asyncio
import dataclasses
import io
import json
import logging
import sys
from collections.abc import Callable, Iterator

import pytest
import structlog

from kshot.checkpoints import Checkpoint
from tests.workers.samples import adapt
from workers.executing import solve
from workers.logs import log_unhandled, set_up_logs
from workers.patience import every

SECRET = "what only the caller may read"


class OddLabel(str):
    """Writes itself into the error it causes, as many a library does with what it is given."""

    def __str__(self) -> str:
        raise ValueError(f"cannot write {super().__str__()}")


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[dict[str, object]]]]:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stdout", written)
    root = logging.getLogger()
    before = root.handlers[:]
    set_up_logs()
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    structlog.reset_defaults()
    root.handlers[:] = before


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
