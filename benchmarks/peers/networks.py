"""The peers' networks: torch's own modules, the arithmetic and the names of kshot's encoders."""

from typing import Any

import torch
from torch import Tensor, nn

Tensors = dict[str, Tensor]
WAYS = 5


class Affine(nn.Module):
    """Scale and shift per channel, no statistics: what the checkpoint ``glyphs-maml`` has for norms."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None, None] + self.bias[:, None, None]


class Block(nn.Module):
    """As in learn2learn, but with ReLU after the maximum: the same answer for a quarter of the work, as kshot does."""

    def __init__(self, in_channels: int, pooling: str, norm: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 64, 3, stride=2 if pooling == "stride" else 1, padding=1, bias=False)
        self.norm = Affine(64) if norm == "affine" else nn.BatchNorm2d(64, track_running_stats=False)
        self.pooling = pooling

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return nn.functional.relu(nn.functional.max_pool2d(x, 2) if self.pooling == "max" else x)


class Conv4(nn.Module):
    """(n, 1, 28, 28) -> (n, 256) strided, (n, 64) max-pooled. ``norm`` "batch": by the rows' own statistics."""

    def __init__(self, pooling: str, norm: str) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(1 if i == 0 else 64, pooling, norm) for i in range(4)))

    def forward(self, x: Tensor) -> Tensor:
        embeddings: Tensor = self.blocks(x)
        return embeddings.flatten(1)


class Mlp(nn.Module):
    """(n, 1) -> (n, 40), as kshot's encoder ``mlp``."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(1, 40), nn.Linear(40, 40)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x).relu()
        return x


class Network(nn.Module):
    def __init__(self, encoder: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, x: Tensor) -> Tensor:
        answers: Tensor = self.head(self.encoder(x))
        return answers


def encoder(problem: dict[str, Any], tensors: Tensors) -> nn.Module:
    """The family's encoder with its starting weights."""
    made = Mlp() if problem["kind"] == "sinusoids" else Conv4(problem["pooling"], problem["norm"])
    made.load_state_dict(
        {name.removeprefix("encoder."): w for name, w in tensors.items() if name.startswith("encoder.")}
    )
    return made


def network(problem: dict[str, Any], tensors: Tensors) -> Network:
    """Encoder and head; all classes start as the one row that kshot meta-learns."""
    weight, bias = tensors["head.weight"], tensors["head.bias"]
    if problem["kind"] != "sinusoids":
        weight, bias = weight.repeat(WAYS, 1), bias.repeat(WAYS)
    head = nn.Linear(weight.shape[1], len(bias))
    head.weight, head.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
    return Network(encoder(problem, tensors), head)


def prepared(x: Tensor) -> Tensor:
    """What a network reads: vectors as they are, pictures as kshot's encoders see them."""
    return x.permute(*range(x.ndim - 3), -1, -3, -2).float().contiguous() / 255 if x.dtype == torch.uint8 else x


def episodes(tensors: Tensors, tasks: int) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Support and query of the first ``tasks`` tasks, inputs prepared: a peer is not timed for that."""
    names = ("support_x", "support_y", "query_x", "query_y")
    return list(zip(*(prepared(tensors[name][:tasks]) for name in names), strict=True))


def loss(answers: Tensor, y: Tensor) -> Tensor:
    return nn.functional.mse_loss(answers, y) if y.is_floating_point() else nn.functional.cross_entropy(answers, y)


def stacked(answers: list[Tensor]) -> Tensors:
    return {"answers": torch.stack([answer.detach() for answer in answers])}
