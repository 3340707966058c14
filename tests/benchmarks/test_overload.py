"""The overload's page from figures, and what a connection notes of a refusal."""

import asyncio
import json
from pathlib import Path

from benchmarks.overload import page
from benchmarks.overload.heeding import heeding
from benchmarks.overload.suite import Fairness, Overload, Plan
from benchmarks.serving.connection import JSON, post
from benchmarks.serving.measuring import Load


def load_of(p99: float, refused: int = 0) -> Load:
    return Load(1.0, 100, {429: refused} if refused else {}, p99 / 4, p99 / 2, p99)


def overload_of(p99: float, recovered_s: int) -> Overload:
    memory = {"before": {"API": 100.0, "worker": 300.0}, "during": {"API": 105.0, "worker": 310.0}, "after": {}}
    after = load_of(10)
    return Overload(100, load_of(10), 400, load_of(p99, refused=300), (1, 3), 300, recovered_s, after, memory)


def test_the_page_says_what_was_asked_and_what_is_missed(tmp_path: Path) -> None:
    loads = [overload_of(p99, 1) for p99 in (20, 25, 90)]
    shares = [Fairness(5, load_of(10), load_of(beside), load_of(100, 9)) for beside in (15, 30, 40)]
    page.write(tmp_path / "overload", Plan(), loads, shares)
    said = (tmp_path / "overload.md").read_text()
    assert "| p99 of accepted work against the quiet p99 | 2.50 | <= 3.0 | yes |" in said
    assert "against without | 3.00 | < 2.0 | **no** |" in said
    assert "900, 900 of them told 1 to 3 s | all | yes |" in said
    assert "most against before (API and worker) | 1.05 | <= 1.1 | yes |" in said
    assert len(json.loads((tmp_path / "overload.json").read_text())["overload"]) == 3


def test_a_connection_notes_when_to_come_back() -> None:
    told: list[float] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async def ask() -> int:
        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            connection = await heeding(told)(f"http://127.0.0.1:{port}")
            answer = await connection.ask(post("/predict", JSON, b"{}"))
            connection.close()
        return answer.status

    assert asyncio.run(ask()) == 429 and told == [3]
