"""What watches the decoders sees what it is there for, and keeps the input."""

import json
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kshot.contracts.errors import Invalid, NotFound
from tests.fuzzing.decoder import Decoder
from tests.fuzzing.everything import decoders
from tests.fuzzing.running import Bounds, fuzz

FATAL = b"\x07"
CHECKOUT = Path(__file__).parents[2]


def burn() -> None:
    while True:
        time.process_time()


def not_found() -> None:
    raise NotFound("no refusal of a decoder")


def decoder_that(fails: Callable[[], object]) -> Decoder:
    """Refuses what is empty, and does something else to what begins with a certain byte."""

    def decode(data: bytes) -> None:
        if data.startswith(FATAL):
            fails()
        if not data:
            raise Invalid("nothing")

    return Decoder("tried", decode, (b"fine",), tokens=(FATAL,))


@pytest.mark.parametrize(
    ("fails", "found"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "SIGSEGV"),
        (lambda: os._exit(3), "exit 3"),
        (burn, "took too much processor time"),
        (lambda: time.sleep(600), "took too long"),
    ],
)
def test_a_child_that_ends_is_a_crash(fails: Callable[[], object], found: str, tmp_path: Path) -> None:
    outcome = fuzz(decoder_that(fails), 40, 1, tmp_path, Bounds(seconds=0.1, patience_s=2))
    assert set(outcome.crashes) == {found} and outcome.inputs == 40
    assert outcome.kept and all(Path(file).read_bytes().startswith(FATAL) for file in outcome.kept)


@pytest.mark.parametrize(
    ("fails", "found"),
    [(lambda: {}["x"], "KeyError"), (lambda: bytearray(8 * 2**30), "MemoryError"), (not_found, "NotFound")],
)
def test_what_is_no_refusal_is_unexpected(fails: Callable[[], object], found: str, tmp_path: Path) -> None:
    outcome = fuzz(decoder_that(fails), 300, 1, tmp_path, Bounds(memory_mb=100))
    assert not outcome.crashes and [where.split(" at ")[0] for where in outcome.unexpected] == [found]
    assert [Path(file).read_bytes()[:1] for file in outcome.kept] == [FATAL]
    assert outcome.answers["taken"] and outcome.answers["Invalid"]


def test_memory_is_measured(tmp_path: Path) -> None:
    assert 45 < fuzz(decoder_that(touch_fresh_memory), 300, 1, tmp_path).peak_mb < 200


def touch_fresh_memory() -> None:
    """50 MiB: a process that has seen other tests may have as much of its own to give again."""
    with mmap.mmap(-1, 50 * 2**20) as fresh:
        for page in range(0, len(fresh), mmap.PAGESIZE):
            fresh[page] = 1


def test_the_same_number_is_the_same_input() -> None:
    png = decoders()["png"]
    assert [png.input(1, n) for n in range(50)] == [png.input(1, n) for n in range(50)]
    assert png.input(1, 5) != png.input(2, 5)


def test_the_command_goes_through_all_decoders(tmp_path: Path) -> None:
    """A process of its own: children are forked, and this one has seen other tests."""
    command = [sys.executable, "-m", "tests.fuzzing", "decoders", "--inputs", "5000", "--seed", "7"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path), "--keep", str(tmp_path)], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    rows = json.loads((tmp_path / "fuzz.json").read_text())["decoders"]["rows"]
    assert {row["decoder"] for row in rows} == set(decoders())
    assert all(row["taken"] > 0 and row["unexpected"] == row["crashes"] == 0 for row in rows)
    assert "| png |" in (tmp_path / "fuzz.md").read_text()
