"""The outer loop of a job: how long, how fast, on how much at once."""

from dataclasses import dataclass
from typing import Literal

from kshot.contracts.checkpoints import EncoderSpec, ImageInput, InputSpec
from kshot.contracts.errors import Invalid
from kshot.contracts.recipe import Training
from kshot.planning.encoder_options import FROZEN, full_options
from kshot.planning.episodes import Shape
from kshot.planning.learner import GRADIENT, Options
from kshot.planning.wanted import Wanted

_TRAINED_ON_PICTURES = frozenset({"conv4", "resnet12"})


@dataclass(frozen=True)
class _Outer:
    """``steps`` 0: as many as fit into the time budget."""

    steps: int
    lr: float
    meta_batch: int = 1
    max_gradient: float | None = None
    weight_decay: float = 0.0


def choose_augmentation(wanted: Wanted, encoder: EncoderSpec, inputs: InputSpec) -> tuple[bool, float]:
    """(whether turned pictures are classes of their own, strength of warping). Raises Invalid where neither can be."""
    asked = wanted.request.augment
    usual = wanted.drawings and encoder.name in _TRAINED_ON_PICTURES and _square(inputs)
    rotations, warp = usual if asked.rotations is None else asked.rotations, asked.warp or 0.0
    for name, used in (("rotations", rotations), ("warp", warp)):
        if used and not isinstance(inputs, ImageInput):
            raise Invalid("only pictures can be turned and warped; leave this out", param=f"augment.{name}")
    if rotations and not _square(inputs):
        raise Invalid("only square pictures can be turned; set input.height to input.width", param="augment.rotations")
    if rotations and wanted.kind != "classes":
        raise Invalid("recorded tasks are taken as they were", param="augment.rotations")
    if warp and encoder.name in FROZEN:
        message = f"the {encoder.name} encoder sees each picture once, so warping adds nothing; leave it out"
        raise Invalid(message, param="augment.warp")
    return rotations, warp


def choose_training(
    wanted: Wanted, encoder: EncoderSpec, learner: str, shape: Shape, options: Options, warp: float
) -> Training:
    """The outer loop, filled in. Raises Invalid where its settings contradict one another."""
    request, scheme = wanted.request, _scheme(wanted, encoder, learner)
    outer, optimiser = _usual(wanted, encoder, learner, scheme), request.optimiser
    by_name = "name" in optimiser.model_fields_set
    name = optimiser.name if by_name else ("sgd" if learner == "reptile" else "adam")
    lr = optimiser.lr or _rate(outer, name, learner)
    if optimiser.weight_decay and name == "sgd":
        raise Invalid("weight decay is Adam's; leave it out, or choose adam", param="optimiser.weight_decay")
    given_decay = "weight_decay" in optimiser.model_fields_set
    halved = scheme == "folded" and encoder.name in _TRAINED_ON_PICTURES and learner != "anil"
    return Training(
        steps=0 if request.time_budget is not None else request.steps or outer.steps,
        scheme=scheme,
        meta_batch=_meta_batch(wanted, outer),
        n_way=shape.n_way,
        k_shot=shape.k_shot,
        n_query=shape.n_query,
        lr=lr,
        optimiser=name,
        weight_decay=optimiser.weight_decay if given_decay or name == "sgd" else outer.weight_decay,
        warp=warp,
        max_gradient=outer.max_gradient if name == "adam" else None,
        precision="bfloat16" if halved else "float32",
        options=options,
    )


def _scheme(wanted: Wanted, encoder: EncoderSpec, learner: str) -> Literal["folded", "episodes", "multitask"]:
    if wanted.kind == "table":
        return "multitask"
    if wanted.kind in {"curves", "numbers"}:
        return "episodes"
    whole = learner != "anil" or full_options(encoder).get("norm") == "task"
    return "episodes" if learner in GRADIENT and whole else "folded"


def _usual(wanted: Wanted, encoder: EncoderSpec, learner: str, scheme: str) -> _Outer:
    gradient = learner in GRADIENT
    other = {
        "table": _Outer(600, 2e-3, 256, weight_decay=0.1),
        "curves": _Outer(12_000, 2e-3, 25) if gradient else _Outer(6_000, 3e-3, 25, 10.0),
        "numbers": _Outer(500, 3e-3, 8, 10.0),
    }
    if wanted.kind in other:
        return other[wanted.kind]
    if encoder.name == "mapped":
        return _Outer(60, 1e-3, 8, weight_decay=0.01)  # of the flywheel, benchmarks/meta_training/flywheel.py
    if encoder.name in FROZEN or encoder.name == "identity":
        return _Outer(200, 2e-2, 2)
    steps = 0 if encoder.name in _TRAINED_ON_PICTURES else 500  # four times as many gave the same
    return _Outer(steps, 1e-3, 8 if scheme == "episodes" else 1, 5.0 if gradient else None)


def _rate(outer: _Outer, optimiser: str, learner: str) -> float:
    """Reptile's is the share of the way to where its tasks went; plain descent's a guess that is safe."""
    if optimiser == "adam":
        return outer.lr
    return 0.5 if learner == "reptile" else 10 * outer.lr


def _meta_batch(wanted: Wanted, outer: _Outer) -> int:
    """At least an episode for each process."""
    asked, workers = wanted.request.meta_batch, wanted.request.workers_per_job
    if asked is None:
        return max(outer.meta_batch, workers)
    if asked < workers:
        message = f"each of the {workers} processes needs an episode of its own: give meta_batch {workers} or more"
        raise Invalid(message, param="workers_per_job")
    return asked


def _square(inputs: InputSpec) -> bool:
    return isinstance(inputs, ImageInput) and inputs.height == inputs.width
