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
from kshot.training.world import ALONE, World


class Ended(Exception):
    """The first of several processes has ended the descent, and says why; there is nothing left to do here."""


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


def descend(recipe: Recipe, model: Model, run: Run, loss: TaskLoss, watcher: Watcher, world: World = ALONE) -> None:
    """Take steps until ``run.total`` of them are done; while that is None, the learning rate stays as it begins.

    In a larger ``world`` only the first process's watcher is asked, and the others follow. Raises FloatingPointError
    where the loss is no longer finite, Ended where the watcher of another process has raised.
    """
    training = recipe.training
    model.encoder.train(training.scheme in {"folded", "multitask"})
    earlier, started = run.seconds, time.perf_counter()
    while run.total is None or run.step < run.total:
        done = run.step / run.total if run.total else 0.0
        for group in run.optimiser.param_groups:
            group["lr"] = training.lr * 0.5 * (1 + math.cos(math.pi * done))
        part = loss(run.rng, done)
        run.optimiser.zero_grad()
        part.backward()  # type: ignore[no-untyped-call]
        value = world.sum_gradients(model.parameters(), part)
        if not bool(torch.isfinite(value)):
            raise FloatingPointError(f"the meta-loss is not finite at step {run.step + 1}")
        if training.max_gradient is not None:
            nn.utils.clip_grad_norm_(model.parameters(), training.max_gradient)
        run.optimiser.step()
        run.step += 1
        run.seconds = earlier + time.perf_counter() - started
        _watch(watcher, run, value.item(), world)


def _watch(watcher: Watcher, run: Run, loss: float, world: World) -> None:
    """Ask the first process's watcher, and do in every process what it says."""
    error: BaseException | None = None
    if world.first:
        try:
            watcher.stepped(run, loss)
        except BaseException as raised:  # the others must not wait for a step that will never come
            error = raised
    ended, total = world.numbers_of_first(error is not None, -1 if run.total is None else run.total)
    if error is not None:
        raise error
    if ended:
        raise Ended
    run.total = None if total < 0 else int(total)
