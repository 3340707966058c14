"""What each learner should answer, by the flat loops of examples/: one task at a time, no batching, no shortcuts.

Longer than 300 lines because every learner has its reference here, in one table.
"""

import sys
from collections.abc import Callable
from copy import deepcopy
from math import log2
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call

from kshot.checkpoints import Checkpoint
from kshot.contracts.wire import Inputs
from kshot.encoders.base import Encoder
from kshot.learners.base import Support

sys.path.insert(0, str(Path(__file__).parents[3] / "examples"))

import contrastive_loop
import finetune_loop
import maml_loop
import mamlpp_loop
import matching_loop
import metasgd_loop
import multitask_loop
import protomaml_loop
import protonet_loop
import reptile_loop
import ridge_loop

Reference = Callable[[Checkpoint, Support, Inputs], Tensor]
CPU = torch.device("cpu")


@torch.no_grad()
def protonet(checkpoint: Checkpoint, support: Support, query: Inputs) -> Tensor:
    x, q = (checkpoint.encoder.embed(inputs, CPU) for inputs in (support.inputs, query))
    n_way = support.n_way or 0
    if "log_scale" in checkpoint.head:
        means = protonet_loop.prototypes(x, support.targets, n_way)
        return protonet_loop.logits(means, q, float(checkpoint.head["log_scale"].exp()))
    return nearest_means(x, q, support.targets, n_way)


def nearest_means(x: Tensor, q: Tensor, labels: Tensor, n_way: int) -> Tensor:
    means = protonet_loop.prototypes(x, labels, n_way)
    between = torch.stack([(a - b).square().sum() for i, a in enumerate(means) for b in means[:i]])
    left_out = protonet_loop.leave_one_out(x, labels, n_way)
    return protonet_loop.logits(means, q, posterior_scale(left_out, labels, float(4.0 / between.mean())))


@torch.no_grad()
def contrastive(checkpoint: Checkpoint, support: Support, query: Inputs) -> Tensor:
    x, q = (checkpoint.encoder.embed(inputs, CPU) for inputs in (support.inputs, query))
    options, labels, n_way = checkpoint.manifest.learner.options, support.targets, support.n_way or 0
    if options.get("serving") != "knn":
        return nearest_means(x, q, labels, n_way)
    left_out = contrastive_loop.leave_one_out(x, labels, n_way, options["neighbours"])

    def loss(smoothing: float) -> float:
        rows = [None if row is None else contrastive_loop.smoothed(row, smoothing) for row in left_out]
        return cross_entropy(rows, labels)

    smoothing = posterior_scale_of(loss, 0.05)
    answers = [contrastive_loop.shares(row, x, labels, n_way, options["neighbours"]) for row in q]
    return torch.stack([contrastive_loop.smoothed(row, smoothing) for row in answers])


@torch.no_grad()
def matching(checkpoint: Checkpoint, support: Support, query: Inputs) -> Tensor:
    x, q = (checkpoint.encoder.embed(inputs, CPU) for inputs in (support.inputs, query))
    options, head, n_way = checkpoint.manifest.learner.options, checkpoint.head, support.n_way or 0
    distance = options.get("distance", "l2")
    if options.get("full_context"):
        x = matching_loop.support_in_context(head, x)
        q = matching_loop.query_in_context(head, q, x, options["processing_steps"])
    if head:
        sharpness = float(head["log_sharpness"].exp())
    else:
        pairs = [(a, b) for a, k in zip(x, support.targets, strict=True) for b in x[support.targets != k]]
        usual = float(4.0 / torch.stack([(a - b).square().sum() for a, b in pairs]).mean())
        sharpness = posterior_scale_of(lambda s: attended_cross_entropy(x, support, s), usual)
    return matching_loop.logits(q, x, support.targets, n_way, distance, sharpness)


def attended_cross_entropy(x: Tensor, support: Support, sharpness: float) -> float:
    left_out = matching_loop.leave_one_out(x, support.targets, support.n_way or 0, "l2", sharpness)
    return cross_entropy(left_out, support.targets)


@torch.no_grad()
def ridge(checkpoint: Checkpoint, support: Support, query: Inputs) -> Tensor:
    x, q = (checkpoint.encoder.embed(inputs, CPU).double() for inputs in (support.inputs, query))
    if "prior_mean" in checkpoint.head:
        mean, l2 = checkpoint.head["prior_mean"].T.double(), float(checkpoint.head["log_l2"].exp())
        return q @ ridge_loop.posterior(x, support.targets.double(), mean, l2, noise=1.0)[0]  # noise moves no mean
    if support.n_way is None:
        y, w = support.targets.double(), torch.ones(len(x)).double()
    else:
        y, w = torch.eye(support.n_way).double()[support.targets], ridge_loop.row_weights(support.targets)
    if "log_l2" in checkpoint.head:
        l2, spread = float(checkpoint.head["log_l2"].exp()), torch.ones(x.shape[1]).double()
    else:
        spread = ridge_loop.even_spread(x, w)
        l2 = posterior_l2(x, y, w, spread, support)
    head = ridge_loop.fit(x, y, w, l2, spread)
    if support.n_way is None:
        return head(q)
    fit = head(x) - head.offset
    gains = ridge_loop.class_gains(fit, support.targets)
    logits = gains * (head(q) - head.offset)
    if "log_logit_scale" in checkpoint.head:
        return logits * checkpoint.head["log_logit_scale"].exp()
    left_out = gains * (ridge_loop.leave_one_out(x, y, w, l2, spread) - head.offset)
    usual = usual_scale(gains * fit, y, x.shape[1])
    return logits * posterior_scale(believed(left_out, support.targets), support.targets, usual)


def usual_scale(fit: Tensor, one_hot: Tensor, width: int) -> float:
    """0.6 sqrt(width) nats, within 1 and 12, for the gap between a row's own class and the others."""
    own, others = (fit * one_hot).sum(1), (fit * (1 - one_hot)).sum(1) / (one_hot.shape[1] - 1)
    return min(max(0.6 * width**0.5, 1.0), 12.0) / float((own - others).mean())


def posterior_l2(x: Tensor, y: Tensor, w: Tensor, spread: Tensor, support: Support) -> float:
    """The penalty's posterior mean, in octaves of the rows' mean squared norm; every fit and left-out answer anew."""
    if len(x) == 1:
        return 1.0  # any: there is nothing to fit
    z = (x - (w[:, None] * x).sum(0) / w.sum()) / spread
    norm = float((w[:, None] * z.square()).sum() / w.sum()) or 1.0
    evidence, grid = [], torch.arange(-10.0, 9.0) if support.n_way else torch.arange(-20.0, 5.0)
    for octave in grid.tolist():
        l2 = norm * 2**octave
        left_out = ridge_loop.leave_one_out(x, y, w, l2, spread)
        if support.n_way:
            head = ridge_loop.fit(x, y, w, l2, spread)
            fit = head(x) - head.offset
            gains = ridge_loop.class_gains(fit, support.targets)
            logits = usual_scale(gains * fit, y, x.shape[1]) * gains * (left_out - head.offset)
            evidence.append(-cross_entropy(believed(logits, support.targets), support.targets))
        else:
            mse = (left_out - y).square().mean(0) / (y - y.mean(0)).square().mean(0)
            evidence.append(float(-0.5 * len(x) * (mse + 1e-8).log().sum()))
    if support.n_way:
        one_shot = float(torch.bincount(support.targets).max() == 1)
        prior = -0.5 * (grid - one_shot - max(0.0, log2(support.n_way / 5))).square()
    else:
        prior = -0.5 * ((grid + 2) / 3).square()
    return norm * 2 ** float((torch.tensor(evidence) + prior).softmax(0) @ grid)


def believed(answers: Tensor, labels: Tensor) -> list[Tensor | None]:
    """The left-out answers, but for rows that are the only one of their class."""
    return [answer if (labels == k).sum() > 1 else None for answer, k in zip(answers, labels, strict=True)]


def cross_entropy(logits: list[Tensor | None], labels: Tensor) -> float:
    pairs = zip(logits, labels, strict=True)
    return sum(float(torch.nn.functional.cross_entropy(row, k)) for row, k in pairs if row is not None)


def posterior_scale(left_out: list[Tensor | None], labels: Tensor, usual: float) -> float:
    def loss(scale: float) -> float:
        return cross_entropy([None if row is None else scale * row for row in left_out], labels)

    return posterior_scale_of(loss, usual)


def posterior_scale_of(loss: Callable[[float], float], usual: float) -> float:
    octaves = torch.linspace(-6, 6, 25)
    evidence = [-loss(usual * 2**octave) - 0.5 * (octave / 1.5) ** 2 for octave in octaves.tolist()]
    return usual * 2 ** float(torch.tensor(evidence).softmax(0) @ octaves)


def gradient(moves_encoder: bool) -> Reference:
    def reference(checkpoint: Checkpoint, support: Support, query: Inputs) -> Tensor:
        forward, weights = maml_model(checkpoint.encoder, checkpoint.head, support, moves_encoder)
        x = checkpoint.encoder.prepare(support.inputs, CPU)
        loss = inner_loss(support)
        options = checkpoint.manifest.learner.options
        steps, lr = options["inner_steps"], options["inner_lr"]
        adapted = maml_loop.adapt(forward, weights, x, support.targets, loss, steps=steps, lr=lr, first_order=True)
        return in_turn(checkpoint, support, query, adapted, forward)

    return reference


def metasgd(checkpoint: Checkpoint, support: Support, query: Inputs) -> Tensor:
    forward, weights = maml_model(checkpoint.encoder, checkpoint.head, support, moves_encoder=True)
    x = checkpoint.encoder.prepare(support.inputs, CPU)
    rates = {name: checkpoint.head[f"rate.{name}"] for name in weights}
    steps = checkpoint.manifest.learner.options["inner_steps"]
    adapted = metasgd_loop.adapt(forward, weights, rates, x, support.targets, inner_loss(support), steps=steps)
    return in_turn(checkpoint, support, query, adapted, forward)


def mamlpp(checkpoint: Checkpoint, support: Support, query: Inputs) -> Tensor:
    head, encoder = checkpoint.head, checkpoint.encoder
    forward, weights = maml_model(encoder, head, support, moves_encoder=True)
    steps = len(head["step_rate.weight"])
    owners = {name.rpartition(".")[0] for name in encoder.statistic_names}
    own_norms = [name for name in weights if name.removeprefix("encoder.").rpartition(".")[0] in owners]
    norms = [{name: weights[name] for name in own_norms}]
    norms += [{name: head[f"norm.{name}"][i] for name in own_norms} for i in range(steps - 1)]
    rates = [{n: head[f"step_rate.{n}"][i] for n in weights if n not in own_norms} for i in range(steps)]
    moving = {name: w for name, w in weights.items() if name not in own_norms}

    def with_norms(moving: maml_loop.Weights, norms: maml_loop.Weights, x: Tensor) -> Tensor:
        return forward(moving | norms, x)

    x = checkpoint.encoder.prepare(support.inputs, CPU)
    *_, adapted = mamlpp_loop.adapt(with_norms, moving, rates, norms, x, support.targets, inner_loss(support))
    return in_turn(checkpoint, support, query, adapted | norms[-1], forward)


def reptile(checkpoint: Checkpoint, support: Support, query: Inputs) -> Tensor:
    """In double precision: Adam turns the round-off of a gradient that should be 0 into a small step."""
    double = deepcopy(checkpoint.encoder).double()
    head = {name: tensor.double() for name, tensor in checkpoint.head.items()}
    forward, weights = maml_model(double, head, support, moves_encoder=True)
    y = support.targets if support.n_way else support.targets.double()
    options, x = checkpoint.manifest.learner.options, double.prepare(support.inputs, CPU).double()
    batches = [(x, y)] * options["inner_steps"]
    adapted = reptile_loop.adapt(forward, weights, batches, inner_loss(support), lr=options["inner_lr"])
    single, _ = maml_model(checkpoint.encoder, checkpoint.head, support, moves_encoder=True)
    return in_turn(checkpoint, support, query, {name: w.float() for name, w in adapted.items()}, single)


def protomaml(checkpoint: Checkpoint, support: Support, query: Inputs) -> Tensor:
    encoder, options = checkpoint.encoder, checkpoint.manifest.learner.options
    x = encoder.prepare(support.inputs, CPU)
    start = protomaml_loop.head(encoder(x).detach(), support.targets, support.n_way or 0)
    forward, weights = maml_model(encoder, start, support, moves_encoder=True)
    adapted = maml_loop.adapt(
        forward, weights, x, support.targets, inner_loss(support), steps=options["inner_steps"], lr=options["inner_lr"]
    )
    return in_turn(checkpoint, support, query, adapted, forward)


@torch.no_grad()
def finetune(checkpoint: Checkpoint, support: Support, query: Inputs) -> Tensor:
    x, q = (checkpoint.encoder.embed(inputs, CPU).double() for inputs in (support.inputs, query))
    y = support.targets if support.n_way else support.targets.double()
    with torch.enable_grad():
        answer = finetune_loop.fit(x, y, support.n_way)
    return answer(q)


@torch.no_grad()
def in_turn(
    checkpoint: Checkpoint, support: Support, query: Inputs, adapted: maml_loop.Weights, forward: maml_loop.Forward
) -> Tensor:
    """The answers to the queries; where norms look at the rows, by the statistics of the
    support."""
    encoder = checkpoint.encoder
    x, q = (encoder.prepare(inputs, CPU) for inputs in (support.inputs, query))
    if not encoder.statistic_names:
        return forward(adapted, q)
    own = {name.removeprefix("encoder."): w for name, w in adapted.items() if name.startswith("encoder.")}
    return functional_call(encoder, own | statistics(encoder, own, x), (q,)) @ adapted["weight"].T + adapted["bias"]


def statistics(encoder: Encoder, weights: maml_loop.Weights, x: Tensor) -> maml_loop.Weights:
    """Mean and variance of each channel before each norm, read off by hooks during a pass of the support."""
    found: maml_loop.Weights = {}
    owners = {name.rpartition(".")[0] for name in encoder.statistic_names}

    def reader(name: str) -> Callable[[torch.nn.Module, tuple[Tensor]], None]:
        def read(module: torch.nn.Module, inputs: tuple[Tensor]) -> None:
            found[f"{name}.mean"] = inputs[0].mean((0, 2, 3))
            found[f"{name}.var"] = inputs[0].var((0, 2, 3), unbiased=False)

        return read

    hooks = [module.register_forward_pre_hook(reader(n)) for n, module in encoder.named_modules() if n in owners]
    functional_call(encoder, weights, (x,))
    for hook in hooks:
        hook.remove()
    return found


def inner_loss(support: Support) -> maml_loop.Loss:
    return torch.nn.functional.mse_loss if support.n_way is None else maml_loop.balanced_cross_entropy


def maml_model(
    encoder: Encoder, head: dict[str, Tensor], support: Support, moves_encoder: bool
) -> tuple[maml_loop.Forward, maml_loop.Weights]:
    """The whole network as a function of the weights the inner loop moves, and where they start."""
    rows = support.n_way or len(head["bias"])
    weights = {"weight": head["weight"].expand(rows, -1), "bias": head["bias"].expand(rows)}
    if moves_encoder:
        weights |= {f"encoder.{name}": parameter for name, parameter in encoder.named_parameters()}
    weights = {name: w if w.requires_grad else w.clone().requires_grad_() for name, w in weights.items()}

    def forward(weights: maml_loop.Weights, x: Tensor) -> Tensor:
        own = {name.removeprefix("encoder."): w for name, w in weights.items() if name.startswith("encoder.")}
        return functional_call(encoder, own, (x,)) @ weights["weight"].T + weights["bias"]

    return forward, weights


def multitask(checkpoint: Checkpoint, support: Support, query: Inputs) -> Tensor:
    """Each target alone, by the ridge loop, on a support that holds only the rows that have it."""
    if not support.columns:
        return ridge(checkpoint, support, query)
    assert not isinstance(support.inputs, list)
    answers = []
    for column, values in zip(support.columns, support.targets.T, strict=True):
        rows, y = multitask_loop.rows_that_have(values)
        own = y.long() if column.n_way else y[:, None]
        answers.append(ridge(checkpoint, Support(column.kind, support.inputs[rows.numpy()], own, column.n_way), query))
    return torch.cat(answers, dim=1)


REFERENCES: dict[str, Reference] = {
    "protonet": protonet,
    "matching": matching,
    "contrastive": contrastive,
    "ridge": ridge,
    "maml": gradient(moves_encoder=True),
    "fomaml": gradient(moves_encoder=True),
    "anil": gradient(moves_encoder=False),
    "metasgd": metasgd,
    "mamlpp": mamlpp,
    "reptile": reptile,
    "protomaml": protomaml,
    "finetune": finetune,
    "multitask": multitask,
}
