"""From a request for a meta-training job to the recipe that runs: every default filled in, every wrong one refused.

Pure, and without torch: the front end answers by it at once. Defaults are those of the checkpoints that ship and of
benchmarks/recipes.
"""

from kshot.contracts.checkpoints import ImageInput, InputSpec, Manifest
from kshot.contracts.datasets import DatasetManifest
from kshot.contracts.errors import Invalid
from kshot.contracts.job_bodies import NewJobRequest
from kshot.contracts.recipe import Data, Recipe, Start
from kshot.planning.encoder import choose_encoder, choose_encoder_name, choose_input
from kshot.planning.episodes import choose_episodes, choose_evaluation
from kshot.planning.learner import choose_learner, choose_n_targets, choose_tasks, learner_options
from kshot.planning.training import choose_augmentation, choose_training
from kshot.planning.wanted import TURNS, Wanted

DEFAULT_BUDGET_S = 900.0
"""Of encoders that are trained on pictures, where neither steps nor time are given."""
_MOST_WORKERS = 16
_MOST_BYTES = 8 * 2**30
"""Of the decoded pictures of a training part, which a job holds in memory."""


def plan(request: NewJobRequest, dataset: DatasetManifest, base: Manifest | None) -> Recipe:
    """The recipe of a job. ``base``: the manifest of ``request.base_checkpoint``.

    ``recipe.training.steps`` is 0 where :func:`minutes` says how long to train instead. Raises Invalid, naming the
    field of the request, for what would not run.
    """
    if request.steps is not None and request.time_budget is not None:
        raise Invalid("give steps or time_budget, not both", param="time_budget")
    if request.workers_per_job > _MOST_WORKERS:
        raise Invalid(f"must be from 1 to {_MOST_WORKERS}", param="workers_per_job")
    wanted = Wanted(request, dataset, base)
    if base is not None and base.input.modality != dataset.modality:
        message = f"base_checkpoint reads {base.input.modality} inputs, the data set holds {dataset.modality}"
        raise Invalid(message, param="base_checkpoint")
    name = choose_encoder_name(wanted)
    learner_name = choose_learner(wanted, name)
    inputs = choose_input(wanted, name)
    encoder = choose_encoder(wanted, name, inputs, learner_name)
    learner, options = learner_options(wanted, learner_name)
    rotations, warp = choose_augmentation(wanted, encoder, inputs)
    _check_size(dataset, inputs, TURNS if rotations else 1)
    shape = choose_episodes(wanted, name, learner_name, rotations)
    return Recipe(
        name=request.name,
        description=request.description or f"Meta-trained on {dataset.name}.",
        tasks=choose_tasks(wanted, learner_name),
        n_targets=choose_n_targets(wanted, learner_name),
        seed=request.seed,
        input=inputs,
        encoder=encoder,
        learner=learner,
        start=None if base is None else Start(parent=base.name, head=base.learner.name == learner_name),
        data=Data(name=dataset.id, rotations=rotations),
        training=choose_training(wanted, encoder, learner_name, shape, options, warp),
        evaluation=choose_evaluation(wanted, dataset.id, learner_name),
    )


def minutes(request: NewJobRequest, recipe: Recipe) -> float | None:
    """How long a planned job trains; None where its recipe says how many steps."""
    if recipe.training.steps:
        return None
    return (request.time_budget or DEFAULT_BUDGET_S) / 60


def _check_size(dataset: DatasetManifest, inputs: InputSpec, turns: int) -> None:
    """Raises Invalid where the training part's pictures, each in ``turns`` turns, would not fit into memory."""
    if not isinstance(inputs, ImageInput) or "train" not in dataset.counts:
        return
    n = dataset.counts["train"].n_examples * turns
    needed = n * inputs.height * inputs.width * inputs.channels
    if needed > _MOST_BYTES:
        shape = f"{inputs.height} x {inputs.width} x {inputs.channels}"
        sizes = f"{needed / 2**30:.1f} GiB of memory, and {_MOST_BYTES // 2**30} GiB is the most"
        message = f"{n} pictures to train on of {shape} bytes need {sizes}: choose a smaller height and width"
        raise Invalid(message, param="input.height")
