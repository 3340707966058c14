"""The inner loop's derivatives: against the flat loop, and against finite differences in double precision."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from kshot.checkpoints import Checkpoint
from kshot.contracts.errors import AdaptationFailed, Invalid
from kshot.contracts.tasks import LearnerOptions
from kshot.learners.base import Support
from kshot.learners.batching import Embeddings, pack
from kshot.learners.gradient import GradientLearner
from kshot.learners.inner_loop import (
    InnerLoop,
    StackedEncoder,
    Weights,
    encoder_weights,
    head_for,
    linear_forward,
    stack_of,
)
from kshot.learners.losses import summed_loss
from kshot.learners.paths import paths
from kshot.learners.registry import LEARNERS, get_learner
from tests.kshot.learners.learner_cases import Case, checkpoint_of, random_task
from tests.kshot.learners.references import inner_loss, maml_loop, maml_model

CASES = [
    Case("maml", "classification", "conv4-group"),
    Case("maml", "classification", "mlp"),
    Case("maml", "regression", "mlp"),
]
each_case = pytest.mark.parametrize("case", CASES, ids=str)


def meta_batch(case: Case, n: int, seed: int = 0) -> tuple[list[Support], list[Support]]:
    """Ragged supports, and queries with labels."""
    rng = np.random.default_rng(seed)
    supports, queries = [], []
    for _ in range(n):
        support, _ = random_task(case, rng)
        other, _ = random_task(case, rng)
        labels = other.targets if support.n_way is None else other.targets % support.n_way
        supports.append(support)
        queries.append(Support(support.task, other.inputs, labels, support.n_way))
    return supports, queries


def double_weights(checkpoint: Checkpoint) -> Weights:
    start = encoder_weights(checkpoint.encoder) | checkpoint.head
    return {name: w.detach().double().requires_grad_() for name, w in start.items()}


def vectorised_loss(checkpoint: Checkpoint, start: Weights, supports: Any, queries: Any, loop: InnerLoop) -> Tensor:
    """The outer loss of one padded batch in double precision, whatever the sizes in it."""
    encoder = checkpoint.encoder
    x, q = ([encoder.prepare(s.inputs, torch.device("cpu")).double() for s in tasks] for tasks in (supports, queries))
    support, query = pack(supports, x), pack(queries, q)
    head = head_for(start, support.task, support.outputs.shape[1])
    embed = StackedEncoder(encoder)
    (adapted,) = paths(embed, stack_of(start | head, len(supports)), support, loop, [loop.steps - 1])
    return summed_loss(linear_forward(adapted, embed(adapted, query.x)), query)


def looped_loss(checkpoint: Checkpoint, start: Weights, supports: Any, queries: Any, loop: InnerLoop) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for support, query in zip(supports, queries, strict=True):
        weights = dict(start)
        if support.n_way is not None:
            weights |= {name: start[name].expand(support.n_way, *start[name].shape[1:]) for name in ("weight", "bias")}
        forward, _ = maml_model(checkpoint.encoder, checkpoint.head, support, moves_encoder=True)
        x, q = (checkpoint.encoder.prepare(s.inputs, torch.device("cpu")).double() for s in (support, query))
        adapted = maml_loop.adapt(
            forward, weights, x, support.targets, inner_loss(support),
            steps=loop.steps, lr=loop.lr, first_order=loop.first_order,
        )  # fmt: skip
        outer = torch.nn.functional.mse_loss if support.n_way is None else torch.nn.functional.cross_entropy
        total = total + outer(forward(adapted, q), query.targets.double() if support.n_way is None else query.targets)
    return total


@each_case
@pytest.mark.parametrize("first_order", [False, True])
def test_meta_gradient_equals_the_loop(case: Case, first_order: bool) -> None:
    checkpoint, (supports, queries) = checkpoint_of(case), meta_batch(case, 3)
    loop = InnerLoop(3, 0.1, first_order)
    start = double_weights(checkpoint)
    fast = vectorised_loss(checkpoint, start, supports, queries, loop)
    slow = looped_loss(checkpoint, start, supports, queries, loop)
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9)
    ours, theirs = (torch.autograd.grad(loss, list(start.values())) for loss in (fast, slow))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


@each_case
def test_second_order_gradient_equals_finite_differences(case: Case) -> None:
    """And the first-order one does not: the second derivatives are really there."""
    checkpoint, (supports, queries) = checkpoint_of(case), meta_batch(case, 3)
    start = double_weights(checkpoint)
    generator = torch.Generator().manual_seed(0)
    along = {n: torch.randn(w.shape, generator=generator, dtype=torch.float64) for n, w in start.items()}

    def loss(step: float) -> float:
        moved = {n: w.detach() + step * along[n] for n, w in start.items()}
        return float(vectorised_loss(checkpoint, moved, supports, queries, InnerLoop(3, 0.1)))

    h = 1e-6
    expected = (loss(h) - loss(-h)) / (2 * h)

    def slope(first_order: bool) -> float:
        outer = vectorised_loss(checkpoint, start, supports, queries, InnerLoop(3, 0.1, first_order))
        gradients = torch.autograd.grad(outer, list(start.values()))
        return sum(float((g * along[n]).sum()) for n, g in zip(start, gradients, strict=True))

    assert slope(first_order=False) == pytest.approx(expected, rel=1e-5)
    assert slope(first_order=True) != pytest.approx(expected, rel=1e-3)


def test_inner_loss_is_class_balanced() -> None:
    """Repeating one class's example changes nothing."""
    case = Case("maml", "classification", "mlp")
    checkpoint = checkpoint_of(case)
    x = np.random.default_rng(0).normal(size=(2, 5)).astype(np.float32)
    even = Support("classification", x, torch.tensor([0, 1]), 2)
    skewed = Support("classification", x[[0, 0, 0, 0, 1]], torch.tensor([0, 0, 0, 0, 1]), 2)
    one, other = LEARNERS["maml"].adapt(checkpoint, [even, skewed], LearnerOptions())
    for name, tensor in one.tensors.items():
        torch.testing.assert_close(tensor, other.tensors[name], rtol=0, atol=1e-6)


def test_anil_moves_only_the_head_and_maml_everything() -> None:
    case = Case("maml", "classification", "mlp")
    checkpoint, (support, _) = checkpoint_of(case), random_task(case, np.random.default_rng(0))
    anil = LEARNERS["anil"].adapt(checkpoint, [support], LearnerOptions())[0]
    assert set(anil.tensors) == {"weight", "bias"}
    maml = LEARNERS["maml"].adapt(checkpoint, [support], LearnerOptions())[0]
    for name, start in checkpoint.encoder.named_parameters():
        assert not torch.equal(maml.tensors[f"encoder.{name}"], start), name


def test_a_frozen_encoder_stays() -> None:
    case = Case("maml", "classification", "mlp")
    checkpoint, (support, query) = checkpoint_of(case), random_task(case, np.random.default_rng(0))
    checkpoint.encoder.frozen = True
    state = LEARNERS["maml"].adapt(checkpoint, [support], LearnerOptions())[0]
    assert set(state.tensors) == {"weight", "bias"}
    logits = LEARNERS["maml"].predict(checkpoint, [state], [query])[0].logits
    features = functional_call(checkpoint.encoder, {}, (checkpoint.encoder.prepare(query, torch.device("cpu")),))
    expected = features @ state.tensors["weight"].T + state.tensors["bias"]
    torch.testing.assert_close(logits, expected.detach())


def test_options_override_the_checkpoints_own() -> None:
    case = Case("maml", "classification", "mlp")
    checkpoint, (support, _) = checkpoint_of(case), random_task(case, np.random.default_rng(0))

    def adapted(**options: Any) -> Tensor:
        return LEARNERS["maml"].adapt(checkpoint, [support], LearnerOptions(**options))[0].tensors["weight"]

    assert torch.equal(adapted(), adapted(inner_steps=3, inner_lr=0.05))  # INNER of learner_cases
    assert not torch.equal(adapted(), adapted(inner_steps=4))
    assert not torch.equal(adapted(), adapted(inner_lr=0.06))


def test_divergence_is_reported() -> None:
    case = Case("maml", "regression", "mlp")
    checkpoint, (support, _) = checkpoint_of(case), random_task(case, np.random.default_rng(5))
    with pytest.raises(AdaptationFailed, match="not finite"):
        LEARNERS["maml"].adapt(checkpoint, [support], LearnerOptions(inner_lr=10.0, inner_steps=50))


def test_a_checkpoint_of_another_kind_is_refused() -> None:
    classes, values = Case("maml", "classification", "mlp"), Case("maml", "regression", "mlp")
    support, _ = random_task(values, np.random.default_rng(0))
    with pytest.raises(Invalid, match="another kind of task"):
        LEARNERS["maml"].adapt(checkpoint_of(classes), [support], LearnerOptions())
    with pytest.raises(Invalid, match="not meta-trained for learner maml"):
        LEARNERS["maml"].adapt(checkpoint_of(Case("maml", "regression", "mlp", bare=True)), [support], LearnerOptions())
    with pytest.raises(Invalid, match="unknown learner"):
        get_learner("nearest-star")


def test_gradient_learners_hold_settings_only() -> None:
    learner = LEARNERS["fomaml"]
    assert isinstance(learner, GradientLearner)
    with pytest.raises(AttributeError):
        learner.name = "other"  # type: ignore[misc]


def test_queries_count_where_memory_bounds_a_call() -> None:
    """On a device with memory of its own; shapes alone say how many tasks a call takes."""
    case = Case("maml", "classification", "conv4-group")
    encoder, learner, tasks = checkpoint_of(case).encoder, LEARNERS["maml"], list(range(8))
    assert isinstance(learner, GradientLearner)
    x = Embeddings(torch.empty(5 * len(tasks), 1, 20, 20, device="meta"), [5] * len(tasks))
    few, many = (np.broadcast_to(np.zeros((), np.uint8), (n, 20, 20, 1)) for n in (75, 10**6))
    assert learner._shares(encoder, [tasks], x, [few] * len(tasks)) == [tasks]
    assert learner._shares(encoder, [tasks], x, [many] * len(tasks)) == [[i] for i in tasks]
