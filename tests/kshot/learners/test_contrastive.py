"""Contrastive learning beyond what holds for every learner: the loss by hand, ties among neighbours, options."""

from itertools import permutations

import numpy as np
import pytest
import torch

from kshot.contracts.errors import Invalid
from kshot.contracts.tasks import LearnerOptions
from kshot.learners.base import Support
from kshot.learners.contrastive import pair_losses
from kshot.learners.registry import LEARNERS
from tests.kshot.learners.learner_cases import Case, checkpoint_of, random_task
from tests.kshot.learners.references import contrastive_loop

CONTRASTIVE = LEARNERS["contrastive"]
KNN = Case("contrastive", "classification", "identity", variant="knn")


def test_the_loss_by_hand() -> None:
    """Hadsell et al. 2006, eq. 4, margin 2: (0, 0) and (3, 4) alike, d = 5; (0, 1) another class, d = 1 and sqrt 18."""
    x = torch.tensor([[[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]]])
    classes, rows = torch.eye(2)[torch.tensor([[0, 0, 1]])], torch.ones(1, 3, dtype=torch.bool)
    assert float(pair_losses(x, classes, rows, 2.0, 3.0)) == pytest.approx(25 / 2 + 3 * (0.5 + 0) / 2)


def test_leave_one_out_by_neighbours_is_exact() -> None:
    checkpoint, rng = checkpoint_of(KNN), np.random.default_rng(4)
    for _ in range(5):
        support, _ = random_task(KNN, rng)
        quality = CONTRASTIVE.adapt(checkpoint, [support], LearnerOptions())[0].quality
        rows = torch.from_numpy(np.asarray(support.inputs))
        left_out = contrastive_loop.leave_one_out(rows, support.targets, support.n_way or 0, neighbours=3)
        right = [int(a.argmax()) == int(k) for a, k in zip(left_out, support.targets, strict=True) if a is not None]
        assert quality is not None
        assert (quality.n, quality.accuracy) == (len(right), pytest.approx(np.mean(right)) if right else None)


def test_neighbours_that_tie_share_the_last_place() -> None:
    """Four rows at one distance, two neighbours: in whatever order they come, each class has half."""
    x = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], np.float32)
    x, y = np.pad(x, ((0, 0), (0, 3))), torch.tensor([0, 0, 1, 1])
    for order in permutations(range(4)):
        support = Support("classification", x[list(order)], y[list(order)], 2)
        state = CONTRASTIVE.adapt(checkpoint_of(KNN), [support], LearnerOptions())
        logits = CONTRASTIVE.predict(checkpoint_of(KNN), state, [np.zeros((1, 5), np.float32)])[0].logits
        assert logits is not None
        torch.testing.assert_close(logits.softmax(1), torch.tensor([[0.5, 0.5]]), rtol=1e-4, atol=1e-4)


def test_unknown_ways_of_serving_are_refused() -> None:
    encoder = checkpoint_of(KNN).encoder
    with pytest.raises(Invalid, match="one of mean, knn"):
        CONTRASTIVE.init_head(encoder, "classification", None, torch.Generator(), {"serving": "votes"})
