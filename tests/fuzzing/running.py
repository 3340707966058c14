"""Very many inputs through a decoder, in child processes that may crash, hang or eat memory without taking us along.

An input follows from decoder, seed and number. A child notes the number before it decodes, in memory that both share;
where it ends as it should not, the parent makes that input again, keeps it, and goes on behind it with a new child.
"""

import faulthandler
import gc
import json
import logging
import mmap
import os
import resource
import signal
import struct
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from tests.fuzzing.decoder import Decoder

_BLOCK = 10_000
"""Inputs of one child."""
TAKEN = "taken"
_NUMBER = struct.Struct("Q")
_RESET_PEAK = "5"


@dataclass(frozen=True)
class Bounds:
    """Of one input: ``memory_mb`` beyond what the child has before its first, ``seconds`` of processor time, and a
    ``patience_s`` for one that waits for something."""

    memory_mb: int = 512
    seconds: float = 10.0
    patience_s: float = 300.0


USUAL = Bounds()


@dataclass
class Outcome:
    """``answers``: how often an input was taken, or refused with which error. ``unexpected``: exceptions that are no
    refusal, by kind and place. ``crashes``: how children ended. ``kept``: files of the inputs behind the last two.
    ``peak_mb``: resident memory of a child, beyond what it began with; ``slowest_ms``: of processor time."""

    name: str
    inputs: int = 0
    n_bytes: int = 0
    seconds: float = 0.0
    slowest_ms: float = 0.0
    peak_mb: float = 0.0
    answers: Counter[str] = field(default_factory=Counter)
    unexpected: Counter[str] = field(default_factory=Counter)
    crashes: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    def add(self, found: dict[str, Any]) -> None:
        """What a child told."""
        self.n_bytes += found["n_bytes"]
        self.slowest_ms = max(self.slowest_ms, found["slowest_ms"])
        self.peak_mb = max(self.peak_mb, found["peak_mb"])
        self.answers.update(found["answers"])
        self.unexpected.update(found["unexpected"])


def fuzz(decoder: Decoder, count: int, seed: int, keep: Path, bounds: Bounds = USUAL) -> Outcome:
    """The inputs 0 to ``count`` of a decoder. Those that went wrong are written to the folder ``keep``."""
    outcome, began = Outcome(decoder.name), time.monotonic()
    while outcome.inputs < count:
        numbers = range(outcome.inputs, min(count, outcome.inputs + _BLOCK))
        found, status, last = _in_child(decoder, numbers, seed, bounds)
        outcome.inputs = last + 1
        wrong = list(found.get("first", {}).values())
        if status != 0:
            outcome.crashes.append(_how(status))
            wrong.append(last)
        else:
            outcome.add(found)
        outcome.kept += [_kept(keep, decoder, seed, number) for number in wrong]
    outcome.seconds = time.monotonic() - began
    return outcome


def _in_child(decoder: Decoder, numbers: range, seed: int, bounds: Bounds) -> tuple[dict[str, Any], int, int]:
    """What a child found, how it ended (as `os.waitpid` has it), and the number of its last input."""
    shared = mmap.mmap(-1, _NUMBER.size)
    shared[:] = _NUMBER.pack(numbers.start)
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(tell, json.dumps(_go_through(decoder, numbers, seed, bounds, shared)).encode())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.close(tell)
    with open(told, "rb") as answer:  # noqa: PTH123 - a pipe
        found = answer.read()
    status, (last,) = os.waitpid(child, 0)[1], _NUMBER.unpack(shared[:])
    return json.loads(found) if status == 0 else {}, status, last


def _go_through(decoder: Decoder, numbers: range, seed: int, bounds: Bounds, shared: mmap.mmap) -> dict[str, Any]:
    _be_quiet()
    decoder.refusal_of(decoder.samples[0])  # what is made once is made before memory is measured
    before, answers, unexpected = _limit_memory(bounds.memory_mb), Counter[str](), Counter[str]()
    first: dict[str, int] = {}
    n_bytes, slowest = 0, 0.0
    for number in numbers:
        shared[:] = _NUMBER.pack(number)
        data = decoder.input(seed, number)
        began = time.process_time()
        _watch(bounds.seconds, bounds.patience_s)
        try:
            answers[decoder.refusal_of(data) or TAKEN] += 1
        except Exception as error:
            where = _where(error)
            unexpected[where] += 1
            first.setdefault(where, number)
        n_bytes, slowest = n_bytes + len(data), max(slowest, time.process_time() - began)
    _watch(0, 0)
    told = {"answers": answers, "unexpected": unexpected, "first": first, "n_bytes": n_bytes}
    return told | {"slowest_ms": 1000 * slowest, "peak_mb": _memory_mb("VmHWM") - before}


def _watch(seconds: float, patience_s: float) -> None:
    """The process ends after so long, by signals that nothing handles; 0: it does not."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, patience_s)


def _be_quiet() -> None:
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    faulthandler.disable()
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    warnings.simplefilter("ignore")


def _limit_memory(megabytes: int) -> float:
    """Resident memory now, in MB. From here on, no more private memory than that many on top of what there is."""
    gc.freeze()
    most = int((_memory_mb("VmData") + megabytes) * 2**20)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    return _memory_mb("VmRSS")


def _memory_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def _where(error: Exception) -> str:
    """The kind of an exception and the line it came from."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {'/'.join(Path(frame.filename).parts[-2:])}:{frame.lineno}"


def _how(status: int) -> str:
    if not os.WIFSIGNALED(status):
        return f"exit {os.waitstatus_to_exitcode(status)}"
    name = signal.Signals(os.WTERMSIG(status)).name
    return {"SIGPROF": "took too much processor time", "SIGALRM": "took too long"}.get(name, name)


def _kept(folder: Path, decoder: Decoder, seed: int, number: int) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{decoder.name}-{seed}-{number}"
    file.write_bytes(decoder.input(seed, number))
    return str(file)
