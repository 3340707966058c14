"""A prototypical network's training step as anybody would write it: one pass, means, squared distances."""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peers.networks import Tensors, encoder, prepared
from benchmarks.peers.sides import Work


def make(problem: dict[str, Any], settings: dict[str, Any], tensors: Tensors, tasks: int) -> Work:
    model = encoder(problem, tensors).train()
    support, classes, query, asked = episode(tensors)
    x, n_way = torch.cat([support, query]), int(classes.max()) + 1

    def step() -> nn.Module:
        model.zero_grad()
        embeddings = model(x)
        means = embeddings[: len(support)].unflatten(0, (n_way, -1)).mean(1)
        distances = torch.cdist(embeddings[len(support) :], means).square()
        nn.functional.cross_entropy(-distances, asked).backward()
        return model

    return Work(step, gradients_of)


def episode(tensors: Tensors) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Support, its classes, queries, theirs: the first episode of the draw."""
    ways, shots, queries = tensors["shape"].tolist()
    x = prepared(tensors["x"]).unflatten(0, (ways, shots + queries))
    classes = torch.arange(ways)
    support, query = x[:, :shots].flatten(0, 1).contiguous(), x[:, shots:].flatten(0, 1).contiguous()
    return support, classes.repeat_interleave(shots), query, classes.repeat_interleave(queries)


def gradients_of(model: nn.Module) -> Tensors:
    return {f"encoder.{name}": p.grad.clone() for name, p in model.named_parameters()}
