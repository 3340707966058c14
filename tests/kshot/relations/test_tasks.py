"""Task embeddings, affinity between tasks, and the transfer matrix."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kshot.checkpoints import load_checkpoint
from kshot.episodes.sampling import Episode
from kshot.learners.base import Support
from kshot.relations.affinity import affinity, auxiliary_weights
from kshot.relations.embedding import task_distance, task_embedding
from kshot.relations.transfer import episode_scores, transfer_matrix

VECTORS = load_checkpoint(Path(__file__).parents[3] / "checkpoints" / "vectors")


def task(matters: int, seed: int) -> tuple[Support, torch.Tensor]:
    """Three classes that differ in two features, from ``matters`` on."""
    labels = torch.arange(3).repeat_interleave(6)
    x = 0.3 * torch.randn(18, 8, generator=torch.Generator().manual_seed(seed))
    x[:, matters] += labels
    x[:, matters + 1] -= labels.square()
    return Support("classification", ["a"] * 18, labels, 3), x


def test_tasks_that_need_the_same_features_are_alike() -> None:
    one, same, other = (task_embedding(*task(place, seed)) for place, seed in ((0, 0), (0, 1), (4, 2)))
    assert one.shape == (8,) and bool((one >= 0).all())
    assert task_distance(one, one) == pytest.approx(0, abs=1e-9)
    assert task_distance(one, same) < task_distance(one, other) / 2


def test_names_of_classes_do_not_move_a_task() -> None:
    support, x = task(0, 0)
    renamed = Support("classification", support.inputs, 2 - support.targets, 3)
    torch.testing.assert_close(task_embedding(support, x), task_embedding(renamed, x))


def test_affinity_of_quadratics_by_hand() -> None:
    """L = (w - 1)^2, (w - 2)^2, (w + 1)^2 at w = 0: steps for the first two help each other and harm the third."""
    w = torch.zeros(1, requires_grad=True)
    goals = torch.tensor([1.0, 2.0, -1.0])
    z = affinity(lambda: (w - goals).square(), [w], lr=0.1)
    steps = 0.2 * goals
    expected = 1 - (steps[:, None] - goals).square() / goals.square()
    torch.testing.assert_close(z, expected)
    assert float(w) == 0.0
    weights = auxiliary_weights(z, 0)
    assert weights[2] == 0 and weights[0] > 0 and float(weights.sum()) == pytest.approx(1)
    assert auxiliary_weights(z).argmin() == 2


def test_a_task_without_rows_has_no_affinity() -> None:
    w = torch.ones(1, requires_grad=True)
    z = affinity(lambda: torch.stack([w.square().sum(), 0 * w.sum()]), [w], lr=0.1)
    assert z[0, 0] > 0 and float(z[1].abs().sum() + z[:, 1].abs().sum()) == 0


def episodes(apart: float) -> list[Episode]:
    rng, labels = np.random.default_rng(0), np.arange(3).repeat(4)
    found = []
    for _ in range(5):
        x = (apart * np.eye(3, 6)[labels] + rng.normal(size=(12, 6))).astype(np.float32)
        half = np.arange(12) % 2 == 0
        found.append(Episode("classification", 3, x[half], labels[half], x[~half], labels[~half]))
    return found


def test_the_matrix_has_a_cell_for_each_pair_with_its_interval() -> None:
    cells = transfer_matrix([VECTORS], {"easy": episodes(9.0), "hard": episodes(0.0)})
    assert [(cell.checkpoint, cell.data, cell.episodes) for cell in cells] == [
        ("vectors", "easy", 5),
        ("vectors", "hard", 5),
    ]
    assert cells[0].mean == 1.0 and cells[0].interval == 0.0 and cells[1].mean < 0.8 and cells[1].interval > 0
    assert episode_scores(VECTORS, episodes(9.0), "protonet").tolist() == [1.0] * 5
