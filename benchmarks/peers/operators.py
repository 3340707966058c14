"""Where the time goes, operator by operator: `python -m benchmarks.peers.operators TREE FILE`.

TREE is a checkout whose kshot is measured, so that the same work can be looked at before and after a change. One
thread, torch's profiler, milliseconds of a task by operator (its own time, without what it calls), as JSON into FILE.
"""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

_CALLS = 3


def main(tree: Path, file: Path) -> None:
    sys.path.insert(0, str(tree.resolve()))
    import kshot  # noqa: F401 - that tree's, whatever else comes from this one

    sys.path.pop(0)
    if importlib.util.find_spec("kshot.allocator") is not None:
        importlib.import_module("kshot.allocator").keep_freed_memory()
    torch.set_num_threads(1)
    file.write_text(json.dumps({name: _profiled(*work) for name, work in _works().items()}, indent=1) + "\n")


def _works() -> dict[str, tuple[Callable[[], Any], int]]:
    """What is looked at: a call, and how many tasks are in it."""
    from benchmarks.peers.cases import families

    wanted = {
        "MAML, strided conv4, 1-shot": ("conv4 strided, 1-shot, batch", 16, {}),
        "MAML, max-pooled conv4, 1-shot": ("conv4 max-pooled, 1-shot, batch", 16, {}),
        "second-order meta-training, strided conv4": (
            "meta-training, second order, meta-batch 32, conv4 strided",
            16,
            {},
        ),
        "ridge, penalty chosen, with quality": ("ridge", 32, {"head": "chosen", "quality": True}),
        "MLP 2x40, sinusoids": ("MLP", 32, {}),
    }
    works = {}
    for name, (family, tasks, settings) in wanted.items():
        (found,) = (one for one in families() if one.name.startswith(family))
        works[name] = _work(found.problem, found.settings | settings, tasks), tasks
    return works


def _work(problem: dict[str, Any], settings: dict[str, Any], tasks: int) -> Callable[[], Any]:
    from benchmarks.peers.models import checkpoint_of, inputs_of, supports_of
    from benchmarks.peers.problems import make
    from kshot.contracts.tasks import LearnerOptions
    from kshot.learners.registry import get_learner

    tensors = make(problem, settings)
    checkpoint, learner = checkpoint_of(problem, settings, tensors), get_learner(settings["learner"])
    supports, queries = supports_of(problem, tensors, tasks), inputs_of(tensors["query_x"], tasks)
    if settings["work"] == "meta":
        targets = list(tensors["query_y"][:tasks])
        options = checkpoint.manifest.learner.options | {"transductive": True}

        def gradients() -> Any:
            loss = learner.meta_loss(checkpoint.encoder, checkpoint.head, supports, queries, targets, options)
            return torch.autograd.grad(loss, list(checkpoint.encoder.parameters()))

        return gradients
    adapt = learner.adapt if settings.get("quality") else learner.adapt_only
    return lambda: learner.predict(checkpoint, adapt(checkpoint, supports, LearnerOptions()), queries)


def _profiled(call: Callable[[], Any], tasks: int) -> dict[str, float]:
    """Milliseconds of a task by operator, the slowest first."""
    call()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(_CALLS):
            call()
    own = {row.key: row.self_cpu_time_total / 1000 / _CALLS / tasks for row in found.key_averages()}
    return dict(sorted(own.items(), key=lambda item: -item[1]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
