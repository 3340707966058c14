"""The differentiable entry that meta-training uses: the serving path's own answers, scored, with gradients."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from kshot.checkpoints import Checkpoint
from kshot.contracts.errors import Invalid
from kshot.contracts.tasks import LearnerOptions
from kshot.contracts.wire import Inputs
from kshot.learners.base import Output, Support
from kshot.learners.registry import LEARNERS
from tests.kshot.learners.learner_cases import Case, all_cases, checkpoint_of, random_task
from tests.kshot.learners.references import contrastive_loop

TRAINED = [case for case in all_cases() if not case.bare and case.learner != "finetune"]
LOSS_OF_THEIR_OWN = {"contrastive": "on pairs", "reptile": "on queries that the inner loop saw: test_reptile.py"}
each_case = pytest.mark.parametrize("case", TRAINED, ids=str)


def meta_batch(case: Case, n: int = 5) -> tuple[list[Support], list[Inputs], list[torch.Tensor]]:
    rng = np.random.default_rng(0)
    supports, queries, targets = [], [], []
    for _ in range(n):
        support, query = random_task(case, rng)
        supports.append(support)
        queries.append(query)
        if support.columns:
            targets.append(support.targets[rng.integers(0, len(support.targets), len(query))])
        elif support.n_way is None:
            targets.append(torch.from_numpy(rng.normal(size=(len(query), support.n_outputs)).astype(np.float32)))
        else:
            targets.append(torch.from_numpy(rng.integers(0, support.n_way, len(query))))
    return supports, queries, targets


@pytest.mark.parametrize("case", [case for case in TRAINED if case.learner not in LOSS_OF_THEIR_OWN], ids=str)
def test_is_the_loss_of_what_would_be_served(case: Case) -> None:
    learner, checkpoint = LEARNERS[case.learner], checkpoint_of(case)
    supports, queries, targets = meta_batch(case)
    loss = learner.meta_loss(checkpoint.encoder, checkpoint.head, supports, queries, targets, case.options)
    outputs = learner.predict(checkpoint, learner.adapt(checkpoint, supports, LearnerOptions()), queries)
    expected = []
    for output, y in zip(outputs, targets, strict=True):
        parts = [(part, y[:, [i]]) for i, part in enumerate(output.columns)] or [(output, y)]
        expected += [log_density_of(*part) if case.variant == "bayesian" else loss_of(*part) for part in parts]
    expected = [loss for loss in expected if not loss.isnan()]  # a target that no query has
    torch.testing.assert_close(loss, torch.stack(expected).mean(), rtol=1e-4, atol=1e-5)


def loss_of(output: Output, targets: torch.Tensor) -> torch.Tensor:
    """Of one target, over the queries that have it."""
    if output.values is None:
        classes = targets.flatten().nan_to_num(-100).long()
        return F.cross_entropy(output.logits, classes)
    return (output.values - targets).square().mean(1).nanmean()


def log_density_of(output: Output, targets: torch.Tensor) -> torch.Tensor:
    """Minus that of the values under a normal distribution of the answer's mean and std."""
    assert output.std is not None
    return F.gaussian_nll_loss(output.values, targets, output.std.square(), full=True)


def test_the_margin_loss_is_that_of_the_loop() -> None:
    case = Case("contrastive", "classification", "mlp")
    checkpoint, (supports, queries, targets) = checkpoint_of(case), meta_batch(case)
    options = {"margin": 0.7, "balance": 2.0}
    loss = LEARNERS["contrastive"].meta_loss(checkpoint.encoder, {}, supports, queries, targets, options)
    expected = []
    for support, query, y in zip(supports, queries, targets, strict=True):
        x = torch.cat([checkpoint.encoder.embed(inputs, torch.device("cpu")) for inputs in (support.inputs, query)])
        expected.append(contrastive_loop.pair_loss(x, torch.cat([support.targets, y]), margin=0.7, balance=2.0))
    torch.testing.assert_close(loss, torch.stack(expected).mean(), rtol=1e-4, atol=1e-6)


def has_a_gradient(case: Case) -> bool:
    """One row for all classes, on features that nothing moves, cancels in the softmax; or there is nothing to move."""
    if case.encoder != "identity":
        return True
    head = checkpoint_of(case).head
    return bool(head) and not (case.task == "classification" and "weight" in head)


@pytest.mark.parametrize("case", list(filter(has_a_gradient, TRAINED)), ids=str)
def test_outer_steps_lower_it(case: Case) -> None:
    """Every meta-learned number gets a gradient, and following it helps."""
    learner, checkpoint = LEARNERS[case.learner], checkpoint_of(case)
    batch = meta_batch(case)
    head = {name: tensor.clone().requires_grad_() for name, tensor in checkpoint.head.items()}
    parameters = [*checkpoint.encoder.parameters(), *head.values()]
    optimiser = torch.optim.Adam(parameters, lr=1e-3)
    losses = []
    for _ in range(10):
        optimiser.zero_grad()
        torch.manual_seed(0)  # Reptile draws mini-batches: the same ones each time, so that losses compare
        loss = learner.meta_loss(checkpoint.encoder, head, *batch, case.options)
        loss.backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in parameters)
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_a_metric_learner_may_train_with_batch_statistics() -> None:
    case = Case("protonet", "classification", "conv4-batch")
    checkpoint = checkpoint_of(case)
    supports, queries, targets = meta_batch(case)
    before = _running_means(checkpoint)
    checkpoint.encoder.train()
    LEARNERS["protonet"].meta_loss(checkpoint.encoder, checkpoint.head, supports, queries, targets, {}).backward()
    assert not torch.equal(_running_means(checkpoint), before)


def _running_means(checkpoint: Checkpoint) -> torch.Tensor:
    return torch.cat([t.clone() for name, t in checkpoint.encoder.named_buffers() if name.endswith("running_mean")])


def test_any_width_cannot_have_a_meta_learned_row() -> None:
    encoder = checkpoint_of(Case("ridge", "regression", "identity")).encoder
    encoder.out_dim = 0
    with pytest.raises(Invalid, match="fixed width"):
        LEARNERS["anil"].init_head(encoder, "classification", None, torch.Generator())
