"""Random tasks and small random checkpoints for every registered learner."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import torch
from torch import Tensor, nn

from kshot.checkpoints import Checkpoint
from kshot.contracts.checkpoints import (
    EncoderSpec,
    ImageInput,
    InputSpec,
    LearnerSpec,
    Lineage,
    Manifest,
    TaskKind,
    VectorInput,
)
from kshot.contracts.errors import Invalid
from kshot.contracts.tasks import LearnerOptions
from kshot.contracts.wire import Array, Inputs
from kshot.encoders.registry import build_encoder
from kshot.learners.base import Column, Output, Support
from kshot.learners.gradient import GradientLearner
from kshot.learners.registry import LEARNERS

torch.set_num_threads(1)

WIDTH, SIDE, N_TARGETS = 5, 20, 2
ENCODERS: dict[str, tuple[EncoderSpec, InputSpec]] = {
    "conv4-group": (
        EncoderSpec(name="conv4", options={"channels": 8, "norm": "group"}),
        ImageInput(height=SIDE, width=SIDE, channels=1),
    ),
    "conv4-batch": (
        EncoderSpec(name="conv4", options={"channels": 8, "norm": "batch", "pooling": "stride"}),
        ImageInput(height=SIDE, width=SIDE, channels=1),
    ),
    "conv4-task": (
        EncoderSpec(name="conv4", options={"channels": 8, "norm": "task", "pooling": "stride"}),
        ImageInput(height=SIDE, width=SIDE, channels=1),
    ),
    "mlp": (EncoderSpec(name="mlp", options={"hidden": [16, 16]}), VectorInput(width=WIDTH)),
    "identity": (EncoderSpec(name="identity"), VectorInput(width=WIDTH)),
}
SUITABLE: dict[TaskKind, list[str]] = {
    "classification": list(ENCODERS),
    "regression": ["mlp", "identity"],
    "multitask": ["mlp", "conv4-batch"],
}
NORMED_BY_TASK = {"conv4-task"}
"""Encoders that only gradient learners can work with: their norms adapt too."""
INNER = {"inner_steps": 3, "inner_lr": 0.05}
GENTLE = {"reptile": {"inner_lr": 0.0003}, "protomaml": {"inner_lr": 0.0005}}
"""Rates for learners that :data:`INNER` would throw about: steps of Adam, and heads as large as the embeddings."""
VARIANTS: dict[str, dict[str, dict[str, object]]] = {
    "matching": {
        "cosine": {"distance": "cosine"},
        "dot": {"distance": "dot"},
        "full_context": {"full_context": True, "processing_steps": 3},
    },
    "contrastive": {"knn": {"serving": "knn", "neighbours": 3}},
    "ridge": {"bayesian": {"bayesian": True}},
}
"""Manifest options that make another method of a learner, by learner and by name."""


@dataclass(frozen=True)
class Case:
    """A learner on a kind of task with an encoder. ``bare``: the checkpoint has none of the learner's own tensors.
    ``variant``: one of :data:`VARIANTS`, or none."""

    learner: str
    task: TaskKind
    encoder: str
    bare: bool = False
    variant: str = ""

    def __str__(self) -> str:
        return "-".join([self.learner, *filter(None, [self.variant]), self.task, self.encoder] + ["bare"] * self.bare)

    @property
    def options(self) -> dict[str, object]:
        """The manifest's ``learner.options``."""
        return {
            **INNER,
            **GENTLE.get(self.learner, {}),
            **(VARIANTS[self.learner][self.variant] if self.variant else {}),
        }


def checkpoint_of(case: Case, seed: int = 0) -> Checkpoint:
    """Random weights. Batch norms get running statistics of their own, as training would leave them."""
    torch.manual_seed(seed)
    encoder_spec, input_spec = ENCODERS[case.encoder]
    encoder = build_encoder(encoder_spec, input_spec)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = 0.1 * torch.randn(module.num_features)
            module.running_var = 0.05 + 0.1 * torch.rand(module.num_features)
    generator = torch.Generator().manual_seed(seed)
    head = {} if case.bare else LEARNERS[case.learner].init_head(encoder, case.task, N_TARGETS, generator, case.options)
    manifest = Manifest(
        name="random",
        description="random weights",
        tasks=(case.task,),
        input=input_spec,
        encoder=encoder_spec,
        learner=LearnerSpec(name=case.learner, options=case.options),
        lineage=Lineage(command="none", code_version="0", created_at=datetime(2026, 1, 1, tzinfo=UTC)),
    )
    return Checkpoint(manifest, encoder.eval(), head)


def all_cases() -> list[Case]:
    """Every registered learner with all it can do; a new one joins by itself."""
    cases = [
        Case(name, task, encoder)
        for name, learner in LEARNERS.items()
        for task in sorted(learner.tasks)
        for encoder in SUITABLE[task]
        if encoder not in NORMED_BY_TASK or isinstance(learner, GradientLearner)
    ]
    bare = [Case(c.learner, c.task, c.encoder, bare=True) for c in cases if checkpoint_of(c).head]
    variants = [
        Case(name, task, encoder, variant=variant)
        for name, options in VARIANTS.items()
        for variant in options
        for task in sorted(LEARNERS[name].tasks)
        for encoder in ("mlp", "identity")
    ]
    return cases + [case for case in bare + variants if _works(case)]


def _works(case: Case) -> bool:
    support, _ = random_task(case, np.random.default_rng(0))
    try:
        LEARNERS[case.learner].adapt(checkpoint_of(case), [support], LearnerOptions())
    except Invalid:
        return False
    return True


def random_task(case: Case, rng: np.random.Generator) -> tuple[Support, Inputs]:
    """A task of random size: 2 to 6 classes of 1 to 4 examples each, or 1 to 12 rows; 1 to 9 queries."""
    n_query = int(rng.integers(1, 10))
    if case.task == "multitask":
        return random_joint_task(case, rng, n_query)
    if case.task == "regression":
        n = int(rng.integers(1, 13))
        x = rng.normal(size=(n + n_query, WIDTH)).astype(np.float32)
        slopes = rng.normal(size=(WIDTH, N_TARGETS))
        y = (x @ slopes + 0.3 * rng.normal(size=(n + n_query, N_TARGETS))).astype(np.float32)
        return Support("regression", x[:n], torch.from_numpy(y[:n])), x[n:]
    n_way = int(rng.integers(2, 7))
    labels = np.repeat(np.arange(n_way), rng.integers(1, 5, n_way))
    labels = labels[rng.permutation(len(labels))]
    asked = rng.integers(0, n_way, n_query)
    x = _clusters(case, rng, n_way, np.concatenate([labels, asked]))
    return Support("classification", x[: len(labels)], torch.from_numpy(labels), n_way), x[len(labels) :]


def random_joint_task(case: Case, rng: np.random.Generator, n_query: int) -> tuple[Support, Inputs]:
    """1 to 4 targets of either kind over 12 to 20 rows, a third of the entries missing."""
    n, columns, targets = int(rng.integers(12, 21)), [], []
    for _ in range(int(rng.integers(1, 5))):
        n_way = int(rng.integers(2, 4)) if rng.random() < 0.5 else None
        values = rng.normal(size=n) if n_way is None else rng.permutation(np.arange(n) % n_way)
        missing = rng.random(n) < 1 / 3
        for kept in range(n_way or 1):
            missing[np.flatnonzero(values == kept)[:1] if n_way else 0] = False
        columns.append(Column("regression" if n_way is None else "classification", n_way))
        targets.append(np.where(missing, np.nan, values))
    x = _clusters(case, rng, 3, rng.integers(0, 3, n + n_query))
    y = torch.from_numpy(np.stack(targets, 1).astype(np.float32))
    return Support("multitask", x[:n], y, columns=tuple(columns)), x[n:]


def _clusters(case: Case, rng: np.random.Generator, n_way: int, labels: Array) -> Array:
    if ENCODERS[case.encoder][1].modality == "vector":
        centres = rng.normal(size=(n_way, WIDTH))
        return (centres[labels] + 0.5 * rng.normal(size=(len(labels), WIDTH))).astype(np.float32)
    centres = rng.uniform(0, 255, (n_way, SIDE, SIDE, 1))
    noisy = centres[labels] + rng.normal(0, 40, (len(labels), SIDE, SIDE, 1))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def numbers(output: Output) -> Tensor:
    """All numbers of an output side by side, (q, ...)."""
    own = [part for part in (output.logits, output.values, output.std) if part is not None]
    return torch.cat(own + [numbers(column) for column in output.columns], dim=1)
