"""What a recipe's outer loop moves: made anew or from another checkpoint, and made into a checkpoint at any step."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from kshot.checkpoints import Checkpoint, load_checkpoint
from kshot.contracts.checkpoints import LearnerSpec, Lineage, Manifest
from kshot.contracts.errors import Invalid
from kshot.contracts.recipe import Recipe
from kshot.encoders.base import Encoder
from kshot.encoders.conv4 import fold_batch_norm, without_batch_statistics
from kshot.encoders.hierarchy import Hierarchy
from kshot.encoders.mapped import Mapped
from kshot.encoders.mlp import Mlp
from kshot.encoders.registry import build_encoder
from kshot.episodes.tables import Table
from kshot.learners.base import Head, Learner, device_of
from kshot.learners.registry import get_learner
from kshot.training.data import draws_sinusoids
from kshot.training.lineage import sources_of
from kshot.training.losses import TaskLoss, task_loss, training_pool
from kshot.training.multitask import first_heads, joint_loss
from kshot.training.progress import fingerprint
from kshot.training.tables import training_table
from kshot.training.world import ALONE, World

TRAINING_ONLY = "training."
"""How the names begin of learned tensors beside the head's that no checkpoint keeps."""


@dataclass(frozen=True)
class Model:
    """What the outer loop moves: an encoder and a learner's head."""

    learner: Learner
    encoder: Encoder
    head: dict[str, Tensor]

    @property
    def device(self) -> torch.device:
        """What it computes on."""
        return device_of(self.encoder, self.head)

    def parameters(self) -> list[Tensor]:
        """Everything that has a gradient."""
        return [p for p in (*self.encoder.parameters(), *self.head.values()) if p.requires_grad]

    def on(self, device: torch.device) -> "Model":
        """The same model there; this one must not be used any more."""
        head = {name: tensor.detach().to(device) for name, tensor in self.head.items()}
        head |= {name: nn.Parameter(head[name]) for name, own in self.head.items() if own.requires_grad}
        return Model(self.learner, self.encoder.to(device), head)


@dataclass(frozen=True)
class Prepared:
    """A model and the loss it is trained by."""

    model: Model
    loss: TaskLoss


def first_model(recipe: Recipe, data: Path, checkpoints: Path) -> Model:
    """The model before its first step. ``checkpoints``: where the checkpoint lies that it begins at, if it does.

    It is drawn on the CPU, so that the same seed gives the same start wherever it trains (:meth:`Model.on`).
    """
    learner = get_learner(recipe.learner.name)
    encoder = build_encoder(recipe.encoder, recipe.input)
    parent = None if recipe.start is None else load_checkpoint(checkpoints / recipe.start.parent)
    if parent is not None:
        _inherit(recipe, encoder, parent.encoder)
    generator = torch.Generator().manual_seed(recipe.seed)
    table = training_table(recipe, data)
    if isinstance(encoder, Hierarchy | Mlp) and recipe.start is None:
        _standardise(recipe, data, encoder, table)
    if table is not None and recipe.training.scheme == "multitask":
        return Model(learner, encoder, first_heads(recipe, encoder, table, generator))
    if recipe.data is None:  # nothing is meta-learned: what a head does not say, the learner chooses for each support
        return Model(learner, encoder, {})
    head = learner.init_head(encoder, recipe.tasks[0], recipe.n_targets, generator, recipe.learner.options)
    if recipe.start is not None and recipe.start.head and parent is not None and _alike(head, parent.head):
        head = {name: parent.head[name].clone() for name in head}
    return Model(learner, encoder, {name: nn.Parameter(tensor) for name, tensor in head.items()})


def loss_of(recipe: Recipe, model: Model, data: Path, world: World = ALONE) -> TaskLoss:
    """What the recipe trains its model by: this process's part of it.

    Raises Invalid where several processes would not give what one gives.
    """
    if world.size > 1:
        _check_shared(recipe, model, data, world)
    table = training_table(recipe, data)
    if table is not None and recipe.training.scheme == "multitask":
        return joint_loss(recipe, model.encoder, model.head, table, world)
    return task_loss(recipe, model.learner, model.encoder, model.head, data, world)


def _check_shared(recipe: Recipe, model: Model, data: Path, world: World) -> None:
    if isinstance(model.encoder, Hierarchy) and model.encoder.dropout:
        raise Invalid("dropout is drawn anew for each batch, which processes cannot share: train in one, or without it")
    sources = "".join(source.model_dump_json() for source in sources_of(recipe, data))
    world.check_alike(fingerprint(recipe) + sources)


def checkpoint_of(recipe: Recipe, model: Model, lineage: Lineage) -> Checkpoint:
    """The model as it is now, as a checkpoint of its own."""
    with torch.random.fork_rng(devices=[]):  # fresh weights would be drawn from the run's random state
        encoder = build_encoder(recipe.encoder, recipe.input)
    encoder.load_state_dict(model.encoder.state_dict())
    kept = {name: tensor for name, tensor in model.head.items() if not name.startswith(TRAINING_ONLY)}
    head = {name: tensor.detach().clone() for name, tensor in kept.items()}
    return Checkpoint(manifest_of(recipe, lineage), encoder.to(model.device).eval(), head)


def manifest_of(recipe: Recipe, lineage: Lineage) -> Manifest:
    """The manifest of what the recipe makes, without weights and evaluation."""
    return Manifest(
        name=recipe.name,
        description=recipe.description,
        tasks=recipe.tasks,
        input=recipe.input,
        encoder=recipe.encoder,
        learner=LearnerSpec(name=recipe.learner.name, options=recipe.learner.options),
        n_targets=recipe.n_targets,
        lineage=lineage,
    )


def _standardise(recipe: Recipe, data: Path, encoder: Hierarchy | Mlp, table: Table | None) -> None:
    """On the rows it will be trained on; sinusoids are drawn, and on one scale."""
    if table is not None:
        encoder.standardise_on(torch.as_tensor(table.inputs))
    elif recipe.data is not None and not draws_sinusoids(recipe.data.name, data):
        encoder.standardise_on(torch.as_tensor(training_pool(recipe, data).inputs))


def _alike(one: Head, other: Head) -> bool:
    """Whether both hold tensors of the same names and shapes."""
    return {name: tensor.shape for name, tensor in one.items()} == {name: t.shape for name, t in other.items()}


def _inherit(recipe: Recipe, encoder: Encoder, parent: Encoder) -> None:
    """Put the parent's tensors into the encoder; into its source, where it maps what the parent sees."""
    if isinstance(encoder, Mapped) and not isinstance(parent, Mapped):
        encoder.source.load_state_dict(parent.state_dict())
    else:
        encoder.load_state_dict(_inherited(recipe, parent))


def _inherited(recipe: Recipe, parent: Encoder) -> dict[str, Tensor]:
    """The parent's tensors as the recipe's encoder names them."""
    state = parent.state_dict()
    if not any(name.endswith("running_mean") for name in state):
        return state
    match recipe.encoder.options.get("norm"):
        case "affine":
            return fold_batch_norm(state, recipe.start.gain if recipe.start else 1.0)
        case "task":
            return without_batch_statistics(state)
        case _:
            return state
