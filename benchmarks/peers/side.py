"""A process of one side: `python -m benchmarks.peers.side NAME`, asked by JSON lines, answering in the same way.

It prepares pieces of work once and then does them as often as it is asked, alone on its threads.
"""

import importlib
import json
import os
import sys
import time
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from benchmarks.peers.sides import Work


def serve(make: Any) -> None:
    """Answer until the other end closes. Whatever libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    works: dict[str, tuple[Work, int]] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["do"] == "prepare":
            torch.set_num_threads(asked["threads"])
            works[asked["work"]] = _prepared(make, asked), asked["threads"]
            seconds = _timed(works[asked["work"]][0], 1)
        elif asked["do"] == "time":
            work, threads = works[asked["work"]]
            torch.set_num_threads(threads)
            seconds = _timed(work, asked["calls"])
        else:
            works.clear()
            seconds = 0.0
        print(json.dumps({"seconds": seconds}), file=answers, flush=True)


def _prepared(make: Any, asked: dict[str, Any]) -> Work:
    """The work, done once; its answers are written where ``asked`` says."""
    work: Work = make(asked["problem"], asked["settings"], load_file(asked["tensors"]), asked["tasks"])
    found = work.read(work.call())
    save_file({name: tensor.contiguous() for name, tensor in found.items()}, asked["answers"])
    return work


def _timed(work: Work, calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        work.call()
    return time.perf_counter() - started


if __name__ == "__main__":
    serve(importlib.import_module(f"benchmarks.peers.sides.{sys.argv[1]}").make)
