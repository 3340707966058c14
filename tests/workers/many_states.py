"""Run as a process of its own: fills a cache of adapted states, and prints what it cost.

``python -m tests.workers.many_states BUDGET ENTRIES WIDTH WAYS`` prints the bytes by which the process grew, those that
the cache counts, and how many entries it kept.
"""

import gc
import sys
from pathlib import Path

import torch

from kshot.learners.state import dump_state, load_state
from tests.workers.samples import adapt, checkpoint
from workers.executing import solve
from workers.states import States, own_memory
from workers.work import Adapted, Solved


def main() -> None:
    budget, entries, width, n_way = map(int, sys.argv[1:])
    (solved,) = solve(checkpoint("ridge"), [adapt(0, learner="ridge", n_way=n_way, width=width)])
    assert isinstance(solved, Solved) and solved.state is not None
    blob, states = dump_state(solved.state), States(torch.device("cpu"), budget)
    load_state(blob)
    before = resident()
    for i in range(entries):
        labels = tuple(f"class {k} of model {i}" for k in range(n_way))
        adapted = Adapted(f"ckpt_{'0' * 26}", "ridge", labels, (), (width,), own_memory(load_state(blob)))
        states.put((f"ten_{i:026d}", f"task_{i:026d}"), adapted)
    gc.collect()
    print(resident() - before, states._near.bytes, len(states._near))


def resident() -> int:
    """Bytes of memory this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


if __name__ == "__main__":
    main()
