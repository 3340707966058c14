"""Knowledge transfer between domains: a map from a frozen source checkpoint's features to a target data set's classes.

Trained by the target's episodic loss, and by hints: FitNets (Romero et al., ICLR 2015, equation 3) has a guided layer
of the student, here the map's output g(f(x)), predict through a linear regressor r what a teacher sees in x:

    loss = episodic(g) + weight * mean ||r(g(f(x))) - t(x)||^2

The teacher t is a small encoder trained on the same target data alone: weak where that is small, but of that domain.
"""

import hashlib
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor, nn

from kshot.checkpoints import Checkpoint, load_checkpoint
from kshot.contracts.checkpoints import EncoderSpec
from kshot.contracts.errors import Invalid
from kshot.contracts.recipe import Hint, Recipe
from kshot.contracts.wire import Array
from kshot.encoders.mapped import Mapped
from kshot.encoders.registry import build_encoder
from kshot.episodes.pool import Pool
from kshot.learners.registry import get_learner
from kshot.training.loop import Report, meta_train
from kshot.training.losses import TaskLoss, folded_loss, training_pool
from kshot.training.model import TRAINING_ONLY, Model, Prepared
from kshot.training.precompute import Tuned, embeddings_of, precompute
from kshot.training.progress import fingerprint
from kshot.training.world import ALONE, World

TEACHER = "teacher"
_FINISHED = ".finished"
_REGRESSOR = TRAINING_ONLY + "regressor"
_HINTED_ROWS = 128


def train_mapping(
    recipe: Recipe,
    data: Path,
    out: Path,
    command: str,
    report: Report = print,
    minutes: float | None = None,
    world: World = ALONE,
) -> Checkpoint:
    """Train the teacher into ``out``/teacher, then the map into ``out``; both stop and go on as other runs do.

    The source is the checkpoint ``recipe.start.parent``, a folder beside ``out``; its features of the training data are
    kept there, too. Raises Invalid where the recipe names no source, no hint or no data, in a larger ``world``, and as
    :func:`~kshot.training.loop.meta_train` does.
    """
    if world.size > 1:
        raise Invalid("a mapping is trained by one process")
    start, hint = recipe.start, recipe.hint
    if start is None or hint is None or recipe.data is None:
        raise Invalid("a mapping needs [start], [hint] and [data]")
    parent = load_checkpoint(out.parent / start.parent)
    recipe = with_source(recipe, parent)
    started = time.monotonic()
    teacher = _taught(teacher_recipe(recipe, hint), data, out / TEACHER, command, report, minutes, world)
    left = None if minutes is None else max(0.0, minutes - (time.monotonic() - started) / 60)
    model = _model(recipe, parent, teacher.encoder.out_dim).on(world.device)
    assert isinstance(model.encoder, Mapped)
    pool = training_pool(recipe, data)
    features = source_features(model.encoder, pool, out.parent)
    model.encoder.centre_on(torch.as_tensor(features.inputs))
    hints = _standardised(embeddings_of(teacher, pool.inputs))
    loss = _loss(model, features, hints, hint.weight, recipe)
    return meta_train(recipe, data, out, command, report, left, Prepared(model, loss), world)


def _taught(
    recipe: Recipe, data: Path, folder: Path, command: str, report: Report, minutes: float | None, world: World
) -> Checkpoint:
    """The teacher, trained once: a later sitting of the same run finds it."""
    finished = folder / _FINISHED
    if finished.is_file() and finished.read_text() == fingerprint(recipe):
        return load_checkpoint(folder, world.device)
    teacher = meta_train(recipe, data, folder, command, report, minutes, world=world)
    finished.write_text(fingerprint(recipe))
    return teacher


def with_source(recipe: Recipe, parent: Checkpoint) -> Recipe:
    """The recipe with its encoder's source filled in: the parent's encoder and the inputs that one reads."""
    manifest = parent.manifest
    options = {
        **recipe.encoder.options,
        "source": manifest.encoder.model_dump(mode="json"),
        "source_input": manifest.input.model_dump(mode="json"),
    }
    return recipe.model_copy(update={"encoder": EncoderSpec(name="mapped", options=options)})


def teacher_recipe(recipe: Recipe, hint: Hint) -> Recipe:
    """What the target data alone can teach: the from-scratch baseline and the giver of hints."""
    changes = {"name": f"{recipe.name}-teacher", "encoder": hint.teacher, "training": hint.training}
    return recipe.model_copy(update={**changes, "start": None, "hint": None, "evaluation": []})


def source_features(encoder: Mapped, pool: Pool, folder: Path) -> Pool:
    """The source's features (n, width) in place of a pool's inputs, computed once and kept in ``folder``."""
    file = folder / f".features-{_fingerprint(encoder, pool)}.safetensors"
    if not file.is_file():
        _, features = precompute(encoder, pool)
        assert not isinstance(features.inputs, list)
        save_file({"features": features.inputs}, file)
    found: Array = load_file(file)["features"]
    return Pool(found, pool.classes, pool.rows)


def _fingerprint(encoder: Mapped, pool: Pool) -> str:
    """Of what the features depend on: the source's tensors and the inputs."""
    digest = hashlib.sha256()
    for name, tensor in encoder.source.state_dict().items():
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    inputs = pool.inputs
    digest.update("\0".join(inputs).encode() if isinstance(inputs, list) else np.ascontiguousarray(inputs).tobytes())
    return digest.hexdigest()[:16]


def _model(recipe: Recipe, parent: Checkpoint, hint_width: int) -> Model:
    torch.manual_seed(recipe.seed)
    encoder, learner = build_encoder(recipe.encoder, recipe.input), get_learner(recipe.learner.name)
    assert isinstance(encoder, Mapped)
    encoder.source.load_state_dict(parent.encoder.state_dict())
    generator = torch.Generator().manual_seed(recipe.seed)
    head = learner.init_head(encoder, "classification", None, generator, recipe.learner.options)
    head[f"{_REGRESSOR}.weight"] = torch.randn(hint_width, encoder.out_dim, generator=generator) * 0.01
    head[f"{_REGRESSOR}.bias"] = torch.zeros(hint_width)
    return Model(learner, encoder, {name: nn.Parameter(tensor) for name, tensor in head.items()})


def _loss(model: Model, features: Pool, hints: Tensor, weight: float, recipe: Recipe) -> TaskLoss:
    training = recipe.training
    assert isinstance(model.encoder, Mapped)
    mapped, inputs = Tuned(model.encoder), torch.as_tensor(features.inputs)
    options = {**recipe.learner.options, **training.options}
    episodic = folded_loss(model.learner, mapped, model.head, features, training, options)

    def loss(rng: np.random.Generator, done: float) -> Tensor:
        value = episodic(rng, done)
        rows = torch.as_tensor(rng.integers(0, len(inputs), _HINTED_ROWS))
        seen = nn.functional.linear(
            mapped(inputs[rows].to(hints.device)), model.head[f"{_REGRESSOR}.weight"], model.head[f"{_REGRESSOR}.bias"]
        )
        return value + weight * (seen - hints[rows]).square().mean()

    return loss


def _standardised(x: Tensor) -> Tensor:
    """Each column with mean 0; all on one scale, on which the mean square is 1."""
    centred = x.detach() - x.detach().mean(0)
    return centred / centred.square().mean().sqrt().clamp(min=1e-9)
