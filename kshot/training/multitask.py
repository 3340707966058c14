"""Joint training of several targets on one table: Caruana, "Multitask Learning", 1997.

A shared encoder, optionally with levels of several depths, and one linear head per target. Rows may lack targets: they
do not count in those targets' losses. How the losses become one step: :mod:`kshot.training.weighting`. The checkpoint
holds the encoder, the trained heads (``trained.<target>...``) and the gradients' cosines; learner ``multitask`` serves
new targets on the encoder, :func:`trained_answers` gives the answers of the trained heads.
"""

from collections.abc import Mapping
from math import sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kshot.checkpoints import Checkpoint
from kshot.contracts.errors import Invalid
from kshot.contracts.recipe import Recipe
from kshot.contracts.wire import Array, Inputs
from kshot.encoders.base import Encoder
from kshot.encoders.hierarchy import Hierarchy
from kshot.episodes.tables import Table, Target
from kshot.learners.base import Head, device_of
from kshot.learners.batching import embed
from kshot.relations.affinity import affinity, auxiliary_weights
from kshot.training.losses import TaskLoss
from kshot.training.weighting import FIRST_S, SURGICAL, conflict_weights, cosines, gramian, uncertainty_loss
from kshot.training.world import ALONE, World

_MEASURE_EVERY = 10  # steps between two looks at the gradients' cosines, where the weighting does not need them


def first_heads(recipe: Recipe, encoder: Encoder, table: Table, generator: torch.Generator) -> dict[str, Tensor]:
    """Fresh heads for the targets of a training table, and what goes with them; only parameters get a gradient.

    For each target ``weight`` (C, d) and ``bias`` (C); for numbers ``centre`` and ``spread`` (1) by which the training
    rows standardise the target. ``cosine_sum`` and ``cosine_count`` (T, T) collect the gradients' cosines, and
    ``log_variances`` (T) are those of the uncertainty weighting.
    """
    tasks, head = len(table.targets), dict[str, Tensor]()
    for target, values in zip(table.targets, torch.as_tensor(table.values).T, strict=True):
        width = _read_by(encoder, target, recipe.learner.options, torch.zeros(1, encoder.out_dim)).shape[1]
        prefix, outputs = f"trained.{target.name}.", target.n_way or 1
        weight = torch.randn(outputs, width, generator=generator) / sqrt(width)
        head |= {prefix + "weight": nn.Parameter(weight), prefix + "bias": nn.Parameter(torch.zeros(outputs))}
        if target.kind == "regression":
            present = values[~values.isnan()]
            head |= {prefix + "centre": present.mean()[None], prefix + "spread": present.std()[None]}
    if recipe.training.weighting == "uncertainty":
        head["log_variances"] = nn.Parameter(torch.full((tasks,), FIRST_S))
    if recipe.training.weighting == "affinity":
        head["affinity_sum"] = torch.zeros(tasks, tasks)
    return head | {"cosine_sum": torch.zeros(tasks, tasks), "cosine_count": torch.zeros(tasks, tasks)}


def joint_loss(
    recipe: Recipe, encoder: Encoder, head: dict[str, Tensor], table: Table, world: World = ALONE
) -> TaskLoss:
    """The loss of ``meta_batch`` rows drawn at random; its gradient is the step that the recipe's weighting makes.

    Each process has some of the rows, and its part of each target's loss is weighted by how many rows have the target.
    """
    training, shared = recipe.training, list(encoder.parameters())
    device = device_of(encoder, head)
    values = torch.as_tensor(table.values, device=device)
    target = _place(table, training.options.get("target"))

    def current(rows: Array) -> Tensor:
        z = encoder.embed(table.inputs[rows], device)
        return _losses(recipe, encoder, head, table, z, values[rows])

    def measured(rows: Array) -> Tensor:
        """In eval mode: under dropout the losses after a step would differ by the draw of units, not by the step."""
        mode = encoder.training
        encoder.eval()
        try:
            return affinity(lambda: current(rows), shared, training.lr)
        finally:
            encoder.train(mode)

    def loss(rng: np.random.Generator, done: float) -> Tensor:
        rows = rng.choice(len(table), min(training.meta_batch, len(table)), replace=False)
        own = rows[world.rank :: world.size]
        z, y = encoder.embed(table.inputs[own], device), values[own]
        present = (~values[rows].isnan()).sum(0)
        shares = (~y.isnan()).sum(0) / present.clamp(min=1)
        losses = shares * _losses(recipe, encoder, head, table, z, y)
        products = None
        if training.weighting in SURGICAL or round(done * training.steps) % _MEASURE_EVERY == 0:
            products = gramian(losses, shared, world)
            _count(head, products)
        if training.weighting == "uncertainty":
            some = present > 0
            return uncertainty_loss(losses[some], head["log_variances"][some], world)
        if training.weighting == "affinity":
            if products is not None:
                head["affinity_sum"] += measured(rows)
            weights = auxiliary_weights(head["affinity_sum"], target)
        elif products is not None and training.weighting in SURGICAL:
            weights = conflict_weights(training.weighting, products)
        else:
            return losses.mean()
        # The shared layers follow the weights; each head follows its own loss, as in the plain mean.
        still = {name: tensor.detach() for name, tensor in head.items()}
        weighted = weights @ (shares * _losses(recipe, encoder, still, table, z, y))
        heads = (shares * _losses(recipe, encoder, head, table, z.detach(), y)).mean()
        return weighted + heads - heads.detach()

    return loss


def _place(table: Table, name: object) -> int | None:
    """Where the target of that name is; None for no name."""
    names = [target.name for target in table.targets]
    if name is not None and name not in names:
        raise Invalid(f"the table has no target {name}")
    return None if name is None else names.index(str(name))


def masked_loss(target: Target, outputs: Tensor, values: Tensor) -> Tensor:
    """Mean over the rows that have the target, 0 where none has it: cross-entropy, or squared error.

    ``outputs``: (n, C); of two classes the difference of the logits is that of binary cross-entropy. ``values``: (n,)
    with NaN; numbers are standardised.
    """
    present = ~values.isnan()
    if not bool(present.any()):
        return 0.0 * outputs.sum()
    if target.kind == "classification":
        return nn.functional.cross_entropy(outputs[present], values[present].long())
    return (outputs[present, 0] - values[present]).square().mean()


def mean_loss(recipe: Recipe, encoder: Encoder, head: Head, table: Table) -> Tensor:
    """The mean over the targets of their losses on all rows of a table."""
    device = device_of(encoder, head)
    z, y = encoder.embed(table.inputs, device), torch.as_tensor(table.values, device=device)
    return _losses(recipe, encoder, head, table, z, y).mean()


def trained_answers(checkpoint: Checkpoint, targets: tuple[Target, ...], inputs: Inputs) -> dict[str, Tensor]:
    """The answers of the heads that were trained with the encoder, by target: logits (n, C), or values (n, 1)."""
    head, options = checkpoint.head, checkpoint.manifest.learner.options
    missing = [target.name for target in targets if f"trained.{target.name}.weight" not in head]
    if missing:
        raise Invalid(f"the checkpoint has no trained head for {', '.join(missing)}")
    with torch.no_grad():
        z = embed(checkpoint.encoder, [inputs], device_of(checkpoint.encoder, head))[0]
        answers = {target.name: _outputs(checkpoint.encoder, head, target, options, z) for target in targets}
    return {name: _in_units(head, name, answer) for name, answer in answers.items()}


def _in_units(head: Head, name: str, answer: Tensor) -> Tensor:
    """A standardised answer as the table had it; classes stay as they are."""
    if f"trained.{name}.spread" not in head:
        return answer
    return answer * head[f"trained.{name}.spread"] + head[f"trained.{name}.centre"]


def _losses(recipe: Recipe, encoder: Encoder, head: Head, table: Table, z: Tensor, y: Tensor) -> Tensor:
    """(T,), of embeddings z (n, d) and values y (n, T)."""
    losses = []
    for target, values in zip(table.targets, y.T, strict=True):
        if target.kind == "regression":
            values = (values - head[f"trained.{target.name}.centre"]) / head[f"trained.{target.name}.spread"]  # noqa: PLW2901
        losses.append(masked_loss(target, _outputs(encoder, head, target, recipe.learner.options, z), values))
    return torch.stack(losses)


def _outputs(encoder: Encoder, head: Head, target: Target, options: Mapping[str, Any], z: Tensor) -> Tensor:
    weight, bias = head[f"trained.{target.name}.weight"], head[f"trained.{target.name}.bias"]
    return _read_by(encoder, target, options, z) @ weight.T + bias


def _read_by(encoder: Encoder, target: Target, options: Mapping[str, Any], z: Tensor) -> Tensor:
    """What of the embedding a trained head reads: the level that the option ``levels`` names, or the deepest one."""
    if not isinstance(encoder, Hierarchy):
        return z
    return encoder.level(z, int(options.get("levels", {}).get(target.name, -1)))


def _count(head: dict[str, Tensor], products: Tensor) -> None:
    found = cosines(products)
    head["cosine_sum"] += found.nan_to_num(0.0)
    head["cosine_count"] += ~found.isnan()
