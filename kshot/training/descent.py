"""The steps of an outer loop, whoever watches them: the command line or a job."""

import math
import time
from typing import Protocol

import torch
from torch import nn

from kshot.contracts.recipe import Recipe
from kshot.training.losses import TaskLoss
from kshot.training.model import Model
from kshot.training.progress import Run


class Watcher(Protocol):
    """What happens between two steps: reports, saves, stops."""

    def stepped(self, run: Run, loss: float) -> None:
        """Called after each step with the loss before it.

        It must not touch the model, the optimiser or a random state. It may set ``run.total``, and raise, which ends
        the descent.
        """


def first_optimiser(recipe: Recipe, model: Model) -> torch.optim.Optimizer:
    """The optimiser a recipe asks for, before its first step."""
    if not model.parameters():
        return torch.optim.SGD([torch.zeros(())])
    if recipe.training.weight_decay:
        return torch.optim.AdamW(model.parameters(), recipe.training.lr, weight_decay=recipe.training.weight_decay)
    kind = torch.optim.Adam if recipe.training.optimiser == "adam" else torch.optim.SGD
    return kind(model.parameters(), recipe.training.lr)


def descend(recipe: Recipe, model: Model, run: Run, loss: TaskLoss, watcher: Watcher) -> None:
    """Take steps until ``run.total`` of them are done; while that is None, the learning rate stays as it begins.

    Raises FloatingPointError where the loss is no longer finite.
    """
    training = recipe.training
    model.encoder.train(training.scheme in {"folded", "multitask"})
    earlier, started = run.seconds, time.perf_counter()
    while run.total is None or run.step < run.total:
        done = run.step / run.total if run.total else 0.0
        for group in run.optimiser.param_groups:
            group["lr"] = training.lr * 0.5 * (1 + math.cos(math.pi * done))
        value = loss(run.rng, done)
        if not bool(torch.isfinite(value)):
            raise FloatingPointError(f"the meta-loss is not finite at step {run.step + 1}")
        run.optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        if training.max_gradient is not None:
            nn.utils.clip_grad_norm_(model.parameters(), training.max_gradient)
        run.optimiser.step()
        run.step += 1
        run.seconds = earlier + time.perf_counter() - started
        watcher.stepped(run, value.item())
