"""Records what learn2learn 0.2.0 answers; tests/kshot/learners/test_against_learn2learn.py compares kshot with it.

learn2learn runs in an environment of its own, never in this project's (benchmarks/peers/environment.py makes it):

    python -m benchmarks.peers.environment peers
    peers/bin/python -m benchmarks.peers.record_learn2learn tests/kshot/learners/recorded/learn2learn.safetensors

Two families of tasks, three tasks of unlike size each, all in double precision: ``values`` (sinusoids, an MLP) and
``classes`` (random glyphs, four convolutions with group norm). The file holds, for each family f and task t,

    f/start/<parameter>, f/rate/<parameter>       where the inner loop starts; Meta-SGD's rates
    f/t/{support,query}_{x,y}                     the episode
    f/<run>/t/<parameter>                         the task's adapted weights
    f/<run>/gradient/[rate/]<parameter>           of the mean over the tasks of the mean query loss

and, as metadata, each run's settings and loss. Parameters have kshot's names. As in kshot, all classes start from one
row of the head (a support decides how many there are): that row's gradient is the sum of the classes' gradients.
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.peers import stand_ins  # noqa: F401 - before learn2learn
from benchmarks.peers.networks import Mlp

from learn2learn.algorithms import MAML, MetaSGD  # isort: skip

torch.set_num_threads(1)

Weights = dict[str, Tensor]
Task = dict[str, Tensor]


class Block(nn.Module):
    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 8, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.max_pool2d(self.norm(self.conv(x)), 2).relu()


class Conv4(nn.Module):
    """(n, 1, 32, 32) -> (n, 32), as kshot's encoder ``conv4`` with 8 channels and norm ``group``."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(1 if i == 0 else 8) for i in range(4)))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x).flatten(1)


class Network(nn.Module):
    """A body that the tasks share, and a head as wide as a task asks."""

    def __init__(self, body: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def sinusoids(generator: torch.Generator) -> Iterator[Task]:
    """5, 6 and 10 points of a curve to learn from, as many to answer."""
    for n in (5, 6, 10):
        amplitude, phase = 0.1 + 4.9 * torch.rand(1, generator=generator), torch.pi * torch.rand(1, generator=generator)
        x = 10 * torch.rand(2 * n, 1, generator=generator) - 5
        yield halves(x, amplitude * torch.sin(x - phase), generator)


def glyphs(generator: torch.Generator) -> Iterator[Task]:
    """4, 5 and 6 classes of coarse strokes, two noisy pictures of each to learn from and two to answer."""
    for n_way in (4, 5, 6):
        strokes = torch.rand(n_way, 1, 8, 8, generator=generator).round()
        y = torch.arange(n_way).repeat(4)
        ink = nn.functional.interpolate(strokes[y], scale_factor=4)
        x = 255 * (0.7 * ink + 0.3 * torch.rand(ink.shape, generator=generator))
        yield halves(x.byte().permute(0, 2, 3, 1), y, generator)


def halves(x: Tensor, y: Tensor, generator: torch.Generator) -> Task:
    """Support and query, the rows of each shuffled."""
    n = len(x) // 2
    support, query = torch.randperm(n, generator=generator), n + torch.randperm(n, generator=generator)
    return {"support_x": x[support], "support_y": y[support], "query_x": x[query], "query_y": y[query]}


def prepared(x: Tensor) -> Tensor:
    """What a model reads: vectors as they are, pictures as kshot's encoders see them."""
    return x.double() if x.ndim == 2 else (x.permute(0, 3, 1, 2).float() / 255).double()


def loss_of(answers: Tensor, y: Tensor) -> Tensor:
    return nn.functional.cross_entropy(answers, y) if y.ndim == 1 else nn.functional.mse_loss(answers, y.double())


FAMILIES: dict[str, tuple[type[nn.Module], int, Callable[[torch.Generator], Iterator[Task]]]] = {
    "values": (Mlp, 40, sinusoids),
    "classes": (Conv4, 32, glyphs),
}
_RATES = {"values": 0.01, "classes": 0.1}
RUNS: dict[str, dict[str, Any]] = {
    "maml-1": {"learner": "maml", "inner_steps": 1, "inner_lr": {"values": 0.02, "classes": 0.4}},
    "maml-3": {"learner": "maml", "inner_steps": 3, "inner_lr": _RATES},
    "fomaml-3": {"learner": "fomaml", "inner_steps": 3, "inner_lr": _RATES},
    "anil-3": {"learner": "anil", "inner_steps": 3, "inner_lr": _RATES},
    "metasgd-1": {"learner": "metasgd", "inner_steps": 1},
    "metasgd-3": {"learner": "metasgd", "inner_steps": 3},
}


def start(body: nn.Module, width: int, generator: torch.Generator) -> Weights:
    """Gives the body random weights; all parameters by kshot's names, the head one row and one bias."""
    for module in body.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", generator=generator)
        elif isinstance(module, nn.GroupNorm):
            nn.init.normal_(module.weight, 1.0, 0.3, generator=generator)
        if getattr(module, "bias", None) is not None:
            nn.init.normal_(module.bias, 0.0, 0.3, generator=generator)
    weights = {f"encoder.{name}": parameter.detach() for name, parameter in body.named_parameters()}
    weights["weight"] = torch.randn(1, width, generator=generator, dtype=torch.float64) / width**0.5
    weights["bias"] = torch.randn(1, generator=generator, dtype=torch.float64)
    return weights


def rates(weights: Weights, usual: float, generator: torch.Generator) -> Weights:
    """A rate for every parameter about the ``usual`` one; some are negative, as Meta-SGD allows."""
    spread = {n: torch.randn(w.shape, generator=generator, dtype=w.dtype) for n, w in weights.items()}
    return {name: usual * (1 + 0.7 * own) for name, own in spread.items()}


def rows_of(shared: Weights, y: Tensor) -> dict[str, nn.Parameter]:
    """What all classes share, copied to each class of a task: a head of its own."""
    n_outputs = int(y.max()) + 1 if y.ndim == 1 else 1
    return {name: nn.Parameter(shared[name].repeat_interleave(n_outputs, 0)) for name in ("weight", "bias")}


def learner_of(settings: dict[str, Any], body: nn.Module, head: nn.Linear, own_rates: list[nn.Parameter]) -> nn.Module:
    """learn2learn's own clone, ready to adapt. ANIL is MAML on the head alone; the body runs outside it."""
    if settings["learner"] == "metasgd":
        return MetaSGD(Network(body, head), lrs=nn.ParameterList(own_rates)).clone()
    module = head if settings["learner"] == "anil" else Network(body, head)
    return MAML(module, lr=settings["inner_lr"], first_order=settings["learner"] == "fomaml").clone()


def outer_step(settings: dict[str, Any], body: nn.Module, weights: Weights, alpha: Weights, task: Task) -> Weights:
    """One task: its query loss, that loss's gradients, and the adapted weights."""
    own = rows_of(weights, task["support_y"])
    head = nn.Linear(*own["weight"].shape[::-1])
    head.weight, head.bias = own["weight"], own["bias"]
    leaves = dict(zip(weights, [*body.parameters(), *head.parameters()], strict=True))
    own_alpha = {n: nn.Parameter(alpha[n].clone()) for n in alpha} | rows_of(alpha, task["support_y"])
    learner = learner_of(settings, body, head, list(own_alpha.values()))
    read = body if settings["learner"] == "anil" else nn.Identity()
    support, query = read(prepared(task["support_x"])), read(prepared(task["query_x"]))
    for _ in range(settings["inner_steps"]):
        learner.adapt(loss_of(learner(support), task["support_y"]))
    loss = loss_of(learner(query), task["query_y"])
    if settings["learner"] == "metasgd":
        leaves |= {f"rate/{name}": rate for name, rate in own_alpha.items()}
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    adapted = list(learner.module.parameters())
    moved = list(weights)[-len(adapted) :]
    return {
        "loss": loss.detach(),
        **{f"gradient/{n}": g for n, g in zip(leaves, gradients, strict=True)},
        **{f"adapted/{n}": w.detach() for n, w in zip(moved, adapted, strict=True)},
    }


def run(settings: dict[str, Any], body: nn.Module, weights: Weights, alpha: Weights, tasks: list[Task]) -> Weights:
    """The recorded tensors of one run: means over the tasks, and each task's adapted weights."""
    steps = [outer_step(settings, body, weights, alpha, task) for task in tasks]
    found: Weights = {}
    for t, step in enumerate(steps):
        found |= {key.replace("adapted", str(t)): w for key, w in step.items() if key.startswith("adapted/")}
    for key in (key for key in steps[0] if not key.startswith("adapted/")):
        own_rows = key.split("/")[-1] in ("weight", "bias")
        found[key] = sum(step[key].sum(0, keepdim=True) if own_rows else step[key] for step in steps) / len(tasks)
    return found


def main(file: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    recorded: Weights = {}
    header: dict[str, Any] = {"learn2learn": "0.2.0", "torch": torch.__version__, "runs": {}}
    for family, (make_body, width, draw) in FAMILIES.items():
        body = make_body().double()
        weights = start(body, width, generator)
        alpha, tasks = rates(weights, _RATES[family], generator), list(draw(generator))
        recorded |= {f"{family}/start/{name}": weight for name, weight in weights.items()}
        recorded |= {f"{family}/rate/{name}": rate for name, rate in alpha.items()}
        recorded |= {f"{family}/{t}/{name}": x for t, task in enumerate(tasks) for name, x in task.items()}
        for name, general in RUNS.items():
            settings = {key: value[family] if isinstance(value, dict) else value for key, value in general.items()}
            found = run(settings, body, weights, alpha, tasks)
            header["runs"][f"{family}/{name}"] = settings | {"loss": found.pop("loss").item()}
            recorded |= {f"{family}/{name}/{key}": tensor for key, tensor in found.items()}
    contiguous = {name: tensor.contiguous() for name, tensor in recorded.items()}
    save_file(contiguous, file, metadata={"header": json.dumps(header)})
    print(f"{file}: {len(recorded)} tensors, {file.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
