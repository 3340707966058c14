"""One connection shared by many: answers in order, a server that is away or hung, and one that comes back."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest

from kshot.queue.link import Link
from kshot.queue.streams import Away
from standalone import EmbeddedServers


@pytest.fixture
async def link(servers: EmbeddedServers) -> AsyncIterator[Link]:
    made = Link(servers.redis_url, timeout_s=0.3)
    yield made
    await made.close()


async def test_answers_come_in_the_order_of_the_questions(link: Link) -> None:
    answers = await asyncio.gather(*(link.ask("ECHO", str(i)) for i in range(1000)))
    assert answers == [str(i).encode() for i in range(1000)]


async def test_a_refused_command_hurts_no_other(link: Link) -> None:
    first, wrong, last = link.ask("ECHO", "a"), link.ask("NO SUCH COMMAND"), link.ask("ECHO", b"\x00\xff")
    assert (await first, await last) == (b"a", b"\x00\xff")
    with pytest.raises(Away):
        await wrong


async def test_commands_together_answer_together_and_say_which_was_refused(link: Link) -> None:
    await link.ask("DEL", "text", "list")
    set_, refused, got = await link.ask_together(
        [("SET", "text", "a"), ("LPUSH", "text", "b"), ("GET", "text")]
    )  # fmt: skip
    assert (set_, got) == (b"OK", b"a") and isinstance(refused, Away)
    with pytest.raises(Away):
        await link.ask_together([("NO SUCH COMMAND",)])
    assert await link.ask("PING") == b"PONG"


async def test_who_gave_up_waiting_takes_no_answer_from_others(link: Link) -> None:
    gone, waiting = link.ask("ECHO", "gone"), link.ask("ECHO", "waiting")
    gone.cancel()
    link.tell("ECHO", "nobody")
    assert await waiting == b"waiting"


async def test_a_hung_server_is_away_until_it_answers_again(servers: EmbeddedServers, link: Link) -> None:
    assert await link.ask("PING") == b"PONG"
    os.kill(servers.pid("valkey"), signal.SIGSTOP)
    try:
        for _ in range(2):  # on the connection that was open, and on a fresh one
            with pytest.raises(Away):
                await asyncio.wait_for(link.ask("PING"), 5)
    finally:
        os.kill(servers.pid("valkey"), signal.SIGCONT)
    assert await link.ask("PING") == b"PONG"


async def test_a_server_that_is_not_there() -> None:
    link = Link("redis://127.0.0.1:1")
    for _ in range(2):
        with pytest.raises(Away):
            await link.ask("PING")
    await link.close()


async def test_a_password_and_a_number_of_the_database(servers: EmbeddedServers, link: Link) -> None:
    await link.ask("ACL", "SETUSER", "someone", "on", ">secret", "+@all", "~*")
    assert servers.redis_url.startswith("unix:///")
    path = servers.redis_url.removeprefix("unix://")
    right, wrong = (Link(f"unix://someone:{word}@{path}?db=3") for word in ("secret", "guess"))
    await right.ask("SET", "here", "yes")
    assert b"db=3" in await right.ask("CLIENT", "INFO")
    with pytest.raises(Away):
        await wrong.ask("PING")
    await right.close()
    await wrong.close()
