"""Before the first caller: what is in production is loaded and run once, so that nobody pays for a first time."""

import asyncio
from concurrent.futures import Executor

import numpy as np
import structlog
import torch
from sqlalchemy.ext.asyncio import AsyncEngine

from kshot.checkpoints import Checkpoint
from kshot.contracts.checkpoints import ImageInput, InputSpec, Manifest, TextInput
from kshot.contracts.tasks import LearnerOptions
from kshot.contracts.wire import Inputs
from kshot.learners.base import Support
from kshot.learners.registry import get_learner
from kshot.storage.aliases import list_aliases
from workers.models import Models

_RETRY_S = 1.0
_ANY_WIDTH = 8
_TOGETHER = 4

_log = structlog.get_logger()


async def warm_up(database: AsyncEngine, models: Models, torch_thread: Executor) -> None:
    """Load and try every ``@production`` checkpoint. Waits for a database that is not there yet, or not migrated."""
    for name in await _production(database):
        try:
            checkpoint = await models.checkpoint(name)
            await asyncio.get_running_loop().run_in_executor(torch_thread, try_once, checkpoint)
        except Exception as error:
            _log.error("warm_up_failed", checkpoint=name, exc_info=error)


def try_once(checkpoint: Checkpoint) -> None:
    """Adapt to the smallest support set there is, and predict with it; then to several at once, which may take another
    way through the learner (grouped convolutions, stacked heads) with first times of its own."""
    manifest = checkpoint.manifest
    learner = get_learner(manifest.learner.name)
    for n in (1, _TOGETHER):
        states = learner.adapt(checkpoint, [_smallest_support(manifest)] * n, LearnerOptions())
        learner.predict(checkpoint, states, [_blank(manifest.input, 1)] * n)


async def _production(database: AsyncEngine) -> list[str]:
    while True:
        try:
            async with database.connect() as connection:
                aliases = await list_aliases(connection)
            return sorted({alias.checkpoint for alias in aliases if alias.alias == "production"})
        except Exception as error:
            _log.warning("waiting_for_database", error=type(error).__name__)
        await asyncio.sleep(_RETRY_S)


def _smallest_support(manifest: Manifest) -> Support:
    inputs = _blank(manifest.input, 2)
    if "classification" in manifest.tasks:
        return Support("classification", inputs, torch.tensor([0, 1]), 2)
    return Support("regression", inputs, torch.tensor([[0.0], [1.0]]).expand(2, manifest.n_targets or 1))


def _blank(spec: InputSpec, n: int) -> Inputs:
    if isinstance(spec, TextInput):
        return [f"text {i}" for i in range(n)]
    if isinstance(spec, ImageInput):
        return np.zeros((n, spec.height, spec.width, spec.channels), np.uint8)
    return np.arange(n * (spec.width or _ANY_WIDTH), dtype=np.float32).reshape(n, -1)
