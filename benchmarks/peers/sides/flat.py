"""What kshot should answer, by the flat loops of examples/ that the tests compare with: one task at a time, float32."""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers.models import checkpoint_of, in_float32, inputs_of, supports_of
from benchmarks.peers.sides import Work
from kshot.checkpoints import Checkpoint
from kshot.contracts.wire import Inputs
from kshot.device import CPU
from kshot.learners.base import Support
from tests.kshot.learners.references import REFERENCES, inner_loss, maml_model

sys.path.insert(0, str(Path(__file__).parents[3] / "examples"))

import maml_loop

Tensors = dict[str, Tensor]


def make(problem: dict[str, Any], settings: dict[str, Any], tensors: Tensors, tasks: int) -> Work:
    checkpoint = in_float32(checkpoint_of(problem, settings, tensors))
    if settings["work"] == "metric":
        return Work(lambda: _folds(problem, checkpoint, tensors["x"].numpy()), lambda found: found)
    supports, queries = supports_of(problem, tensors, tasks), inputs_of(tensors["query_x"], tasks)
    if settings["work"] == "meta":
        targets, first_order = list(tensors["query_y"][:tasks]), settings["learner"] == "fomaml"
        return Work(lambda: _outer(checkpoint, supports, queries, targets, first_order), lambda found: found)

    def answers() -> Tensors:
        found = [REFERENCES[settings["learner"]](checkpoint, s, q) for s, q in zip(supports, queries, strict=True)]
        return {"answers": torch.stack([answer.detach().float() for answer in found])}

    return Work(answers, lambda found: found)


def _outer(
    checkpoint: Checkpoint, supports: list[Support], queries: list[Inputs], targets: list[Tensor], first_order: bool
) -> Tensors:
    """The gradient of the mean query loss over the tasks, norms by the statistics of the rows at hand."""
    encoder, options = checkpoint.encoder, checkpoint.manifest.learner.options
    leaves: Tensors = {f"encoder.{name}": parameter for name, parameter in encoder.named_parameters()}
    leaves |= {f"head.{name}": tensor.requires_grad_() for name, tensor in checkpoint.head.items()}
    total = [torch.zeros_like(leaf) for leaf in leaves.values()]
    for support, query, asked in zip(supports, queries, targets, strict=True):
        forward, start = maml_model(encoder, checkpoint.head, support, moves_encoder=True)
        adapted = maml_loop.adapt(
            forward, start, encoder.prepare(support.inputs, CPU), support.targets, inner_loss(support),
            steps=options["inner_steps"], lr=options["inner_lr"], first_order=first_order,
        )  # fmt: skip
        loss = torch.nn.functional.cross_entropy(forward(adapted, encoder.prepare(query, CPU)), asked)
        own = torch.autograd.grad(loss, list(leaves.values()))
        total = [t + g / len(supports) for t, g in zip(total, own, strict=True)]
    return dict(zip(leaves, total, strict=True))


def _folds(problem: dict[str, Any], checkpoint: Checkpoint, pictures: Inputs) -> Tensors:
    """The gradient of the mean loss over all episodes of a draw: examples j, j + 1, ... of each class the support."""
    encoder, shots = checkpoint.encoder.train(), problem["shots"]
    embeddings = encoder(encoder.prepare(pictures, CPU)).unflatten(0, (problem["ways"], -1))
    losses = []
    for fold in range(embeddings.shape[1]):
        rolled = embeddings.roll(-fold, 1)
        means, query = rolled[:, :shots].mean(1), rolled[:, shots:].flatten(0, 1)
        logits = -(query[:, None] - means[None]).square().sum(2)
        asked = torch.arange(problem["ways"]).repeat_interleave(embeddings.shape[1] - shots)
        losses.append(torch.nn.functional.cross_entropy(logits, asked))
    leaves = dict(encoder.named_parameters())
    found = torch.autograd.grad(torch.stack(losses).mean(), list(leaves.values()))
    return {f"encoder.{name}": gradient for name, gradient in zip(leaves, found, strict=True)}
