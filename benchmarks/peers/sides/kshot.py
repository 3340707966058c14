"""kshot by its learners' public interface, on checkpoints such as it serves, in a process set up as a worker."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers.models import checkpoint_of, inputs_of, supports_of
from benchmarks.peers.sides import Work
from kshot.allocator import keep_freed_memory
from kshot.contracts.recipe import Training
from kshot.contracts.tasks import LearnerOptions
from kshot.episodes.pool import Pool
from kshot.learners.base import Output
from kshot.learners.registry import get_learner
from kshot.training.metric import Drawn, folded_meta_loss

keep_freed_memory()

Tensors = dict[str, Tensor]


def make(problem: dict[str, Any], settings: dict[str, Any], tensors: Tensors, tasks: int) -> Work:
    works = {"adapt": _adaptation, "meta": _meta_training, "metric": _metric_training}
    return works[settings["work"]](problem, settings, tensors, tasks)


def _adaptation(problem: dict[str, Any], settings: dict[str, Any], tensors: Tensors, tasks: int) -> Work:
    checkpoint, learner = checkpoint_of(problem, settings, tensors), get_learner(settings["learner"])
    supports, queries = supports_of(problem, tensors, tasks), inputs_of(tensors["query_x"], tasks)
    adapt = learner.adapt if settings.get("quality") else learner.adapt_only

    def answers() -> list[Output]:
        return learner.predict(checkpoint, adapt(checkpoint, supports, LearnerOptions()), queries)

    def read(found: list[Output]) -> Tensors:
        return {"answers": torch.stack([_answer(output).float() for output in found])}

    return Work(answers, read)


def _answer(output: Output) -> Tensor:
    answer = output.values if output.logits is None else output.logits
    assert answer is not None
    return answer


def _meta_training(problem: dict[str, Any], settings: dict[str, Any], tensors: Tensors, tasks: int) -> Work:
    """Norms by the statistics of whatever rows they are given, as learn2learn's: ``transductive``."""
    checkpoint, learner = checkpoint_of(problem, settings, tensors), get_learner(settings["learner"])
    supports, queries = supports_of(problem, tensors, tasks), inputs_of(tensors["query_x"], tasks)
    targets = list(tensors["query_y"][:tasks])
    leaves: Tensors = {f"encoder.{name}": parameter for name, parameter in checkpoint.encoder.named_parameters()}
    leaves |= {f"head.{name}": tensor.requires_grad_() for name, tensor in checkpoint.head.items()}
    options = checkpoint.manifest.learner.options | {"transductive": True}

    def gradients() -> tuple[Tensor, ...]:
        loss = learner.meta_loss(checkpoint.encoder, checkpoint.head, supports, queries, targets, options)
        return torch.autograd.grad(loss, list(leaves.values()))

    return Work(gradients, lambda found: dict(zip(leaves, found, strict=True)))


def _metric_training(problem: dict[str, Any], settings: dict[str, Any], tensors: Tensors, tasks: int) -> Work:
    """The step of kshot.training, which makes an episode of every way to split the draw. Its precision is the
    recipe's, no option of the learner."""
    options = {name: value for name, value in settings.items() if name != "precision"}
    checkpoint, learner = checkpoint_of(problem, options, tensors), get_learner(settings["learner"])
    encoder, head = checkpoint.encoder.train(), checkpoint.head
    training = Training(steps=1, precision=settings.get("precision", "float32"))
    rows = np.arange(len(tensors["x"])).reshape(problem["ways"], -1)
    pool = Pool(tensors["x"].numpy(), tuple(str(i) for i in range(len(rows))), tuple(rows))
    drawn = Drawn(rows, problem["shots"], None)
    leaves = {f"encoder.{name}": parameter for name, parameter in encoder.named_parameters()}

    def gradients() -> tuple[Tensor, ...]:
        loss = folded_meta_loss(learner, encoder, head, pool, drawn, {}, training)
        return torch.autograd.grad(loss, list(leaves.values()))

    return Work(gradients, lambda found: dict(zip(leaves, found, strict=True)))
