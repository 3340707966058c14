"""The nearest examples of a query: hand-computed, and the same in a batch as alone."""

import numpy as np
import pytest
import torch

from kshot.learners.nearest import nearest
from tests.kshot.learners.learner_cases import ENCODERS, SIDE, WIDTH, Case, checkpoint_of

IDENTITY = checkpoint_of(Case("ridge", "classification", "identity"))


def vectors(*rows):
    return np.array(rows, np.float32)


def padded(*firsts):
    """Vectors that differ in their first number alone."""
    return vectors(*([first] + [0.0] * (WIDTH - 1) for first in firsts))


def test_the_nearest_come_first_and_their_similarity_is_as_described():
    (near,) = nearest(IDENTITY, [padded(0, 1, 3, 10)], [padded(1, 2.1)])
    assert near.rows.tolist() == [[1, 0, 2], [2, 1, 0]]
    support = np.array([0, 1, 3, 10])
    usual = np.mean([(a - b) ** 2 for i, a in enumerate(support) for j, b in enumerate(support) if i != j])
    expected = [
        [usual / (usual + (q - support[i]) ** 2) for i in rows] for q, rows in zip([1, 2.1], near.rows, strict=True)
    ]
    assert near.similarities.numpy() == pytest.approx(np.array(expected), rel=1e-6)


def test_as_far_as_two_examples_are_apart_is_a_half_and_identical_is_one():
    (near,) = nearest(IDENTITY, [padded(0, 2)], [padded(0, 4)])
    assert near.similarities.numpy() == pytest.approx(np.array([[1, 0.5], [0.5, 0.2]]), rel=1e-6)


def test_features_on_unlike_scales_count_alike():
    """Metres against dollars: by plain distances the second feature alone would decide."""
    rng = np.random.default_rng(0)
    support = np.concatenate([rng.normal(size=(20, 2)) * [1.0, 10_000.0], rng.normal(size=(20, 3))], 1).astype("f4")
    query = support[:1] + np.array([[0, 300, 0, 0, 0]], np.float32)  # a little in its own scale
    (near,) = nearest(IDENTITY, [support], [query])
    assert near.rows[0, 0] == 0


def test_fewer_examples_than_asked_for_one_alone_and_ties_in_their_order():
    one, two, ties = nearest(
        IDENTITY, [padded(5), padded(1, 2), padded(3, 3, 3, 3)], [padded(5, 6), padded(1), padded(3)]
    )
    assert one.rows.tolist() == [[0], [0]] and one.similarities.numpy() == pytest.approx(
        np.array([[1.0], [0.0]]), abs=1e-6
    )
    assert two.rows.tolist() == [[0, 1]]
    assert ties.rows.tolist() == [[0, 1, 2]] and ties.similarities.tolist() == [[1.0, 1.0, 1.0]]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_in_a_batch_as_alone_with_every_kind_of_encoder(encoder):
    learner = "maml" if encoder == "conv4-task" else "ridge"
    checkpoint = checkpoint_of(Case(learner, "classification", encoder))
    rng = np.random.default_rng(1)

    def inputs(n):
        if encoder.startswith("conv4"):
            return rng.integers(0, 255, (n, SIDE, SIDE, 1), dtype=np.uint8)
        return rng.normal(size=(n, WIDTH)).astype(np.float32)

    supports, queries = [inputs(n) for n in (3, 7, 5, 6, 1)], [inputs(n) for n in (1, 2, 3, 3, 2)]
    queries = [np.concatenate([query, support[-1:]]) for query, support in zip(queries, supports, strict=True)]
    together = nearest(checkpoint, supports, queries)
    for support, query, near in zip(supports, queries, together, strict=True):
        (alone,) = nearest(checkpoint, [support], [query])
        assert near.rows.shape == (len(query), min(3, len(support)))
        assert torch.allclose(near.similarities, alone.similarities, atol=1e-4)
        assert near.rows[-1, 0] == len(support) - 1 and near.similarities[-1, 0] == pytest.approx(1, abs=1e-4)
