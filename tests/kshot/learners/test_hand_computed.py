"""Answers computed by hand from the papers' equations, the arithmetic written out."""

from math import exp, log, pi, tanh

import numpy as np
import pytest
import torch
from torch import Tensor

from kshot.checkpoints import Checkpoint
from kshot.contracts.checkpoints import LearnerSpec
from kshot.contracts.tasks import LearnerOptions
from kshot.learners.base import Output, Support
from kshot.learners.registry import LEARNERS
from tests.kshot.learners.learner_cases import Case, checkpoint_of


def plain(learner: str, head: dict[str, Tensor], **options: object) -> Checkpoint:
    """A checkpoint whose embedding is the input, of any width."""
    made = checkpoint_of(Case(learner, "classification", "identity", bare=True))
    made.encoder.spec = made.encoder.spec.model_copy(update={"width": None})
    manifest = made.manifest.model_copy(update={"learner": LearnerSpec(name=learner, options=options)})
    return Checkpoint(manifest, made.encoder, head)


def answer(checkpoint: Checkpoint, x: list[list[float]], y: list[int], query: list[float]) -> list[float]:
    """The probabilities of the classes."""
    support = Support("classification", np.array(x, np.float32), torch.tensor(y), max(y) + 1)
    logits = output(checkpoint, support, query).logits
    assert logits is not None
    probabilities: list[float] = logits[0].softmax(0).tolist()
    return probabilities


def output(checkpoint: Checkpoint, support: Support, query: list[float], **options: float) -> Output:
    learner = LEARNERS[checkpoint.manifest.learner.name]
    states = learner.adapt(checkpoint, [support], LearnerOptions(**options))  # type: ignore[arg-type]
    return learner.predict(checkpoint, states, [np.array([query], np.float32)])[0]


def test_prototypes() -> None:
    """Snell et al. 2017, eqs. 1 and 2: c_0 = (1, 0), c_1 = (4, 3); ||(1, 1) - c||^2 = 0 + 1 and 9 + 4."""
    checkpoint = plain("protonet", {"log_scale": torch.tensor(0.0)})
    found = answer(checkpoint, [[0, 0], [2, 0], [4, 2], [4, 4]], [0, 0, 1, 1], [1, 1])
    assert found == pytest.approx([exp(-1) / (exp(-1) + exp(-13)), exp(-13) / (exp(-1) + exp(-13))], rel=1e-5)


EXAMPLES: list[tuple[str, list[list[float]], list[float], list[float]]] = [
    # squared distances 1 + 0, 0 + 4, 1 + 1, 9 + 0
    ("l2", [[0, 0], [1, 2], [2, 1], [4, 0]], [1, 0], [-1, -4, -2, -9]),
    # (1, 1) / sqrt 2, (0, 2) / 2, (3, 4) / 5, (-2, 0) / 2, times (1, 0)
    ("cosine", [[1, 1], [0, 2], [3, 4], [-2, 0]], [1, 0], [0.5**0.5, 0, 0.6, -1]),
    # 1 + 0, 0 + 2, 1 + 2, -1 + 0
    ("dot", [[1, 0], [0, 1], [1, 1], [-1, 0]], [1, 2], [1, 2, 3, -1]),
]


@pytest.mark.parametrize(("distance", "x", "query", "scores"), EXAMPLES, ids=[example[0] for example in EXAMPLES])
def test_matching(distance: str, x: list[list[float]], query: list[float], scores: list[float]) -> None:
    """Vinyals et al. 2016, eq. 1: p(y) = sum over the rows of class y of exp(s_i) / sum over all rows of exp(s_j)."""
    checkpoint = plain("matching", {"log_sharpness": torch.tensor(0.0)}, distance=distance)
    a, b, c, d = (exp(score) for score in scores)
    assert answer(checkpoint, x, [0, 0, 1, 1], query) == pytest.approx(
        [(a + b) / (a + b + c + d), (c + d) / (a + b + c + d)], rel=1e-5
    )
    # without the last row class 1 has one row against two: means instead of sums
    assert answer(checkpoint, x[:3], [0, 0, 1], query) == pytest.approx(
        [(a + b) / 2 / ((a + b) / 2 + c), c / ((a + b) / 2 + c)], rel=1e-5
    )


def test_full_context() -> None:
    """Appendix A by hand, width 1: only the biases of the fresh cell are not 0, so every gate is 1/2.

    Forward and backward read two rows: c_1 = tanh(b) / 2, c_2 = c_1 / 2 + tanh(b) / 2; h = tanh(c) / 2. The rows 2
    and 1 are read in ascending order. f takes one step: h_1 = x + tanh(tanh(b) / 2) / 2.
    """
    bias = {"forward": 1.0, "backward": -2.0, "attention": 0.5}
    head = {"log_sharpness": torch.tensor(0.0)}
    for name, fresh in bias.items():
        head[f"{name}_in"] = torch.zeros(4, 1)
        head[f"{name}_hidden"] = torch.zeros(4, 2 if name == "attention" else 1)
        head[f"{name}_bias"] = torch.tensor([0.0, 0.0, 0.0, fresh])

    def states(b: float) -> tuple[float, float]:
        first = tanh(b) / 2
        return tanh(first) / 2, tanh(first / 2 + tanh(b) / 2) / 2

    ahead, back = states(1.0), states(-2.0)
    g_of_1, g_of_2 = 1 + ahead[0] + back[1], 2 + ahead[1] + back[0]
    f = 1.2 + states(0.5)[0]
    near_2, near_1 = exp(-((f - g_of_2) ** 2)), exp(-((f - g_of_1) ** 2))
    checkpoint = plain("matching", head, full_context=True, processing_steps=1)
    found = answer(checkpoint, [[2], [1]], [0, 1], [1.2])
    assert found == pytest.approx([near_2 / (near_1 + near_2), near_1 / (near_1 + near_2)], rel=1e-5)


def test_neighbours() -> None:
    """The two nearest of 0, 1, 5 and 6 to 1.5 are both of class 0; to 3.2 they are 5 and 1, one of each class."""
    checkpoint = plain("contrastive", {}, serving="knn", neighbours=2)
    x, y = [[0.0], [1.0], [5.0], [6.0]], [0, 0, 1, 1]
    near, between = answer(checkpoint, x, y, [1.5]), answer(checkpoint, x, y, [3.2])
    assert near[0] > 0.8
    assert between == pytest.approx([0.5, 0.5], abs=1e-6)


def test_ridge_and_its_variance() -> None:
    """x = 0, 2; y = 1, 5; l2 = 2. Centred a = -1, 1, t = -2, 2: W = 4 / (2 + 2) = 1, at 3: 3 + 2 W = 5.

    Leverages 1/4 + 1/2, errors -1, 1: noise (1 + 1) / (1/4) / 2 = 4, thrice for two rows (Student's t of at least 3
    degrees). PRML 3.59 with a flat offset: 12 (1 + 1/2 + 2^2 / 4) = 30.
    """
    support = Support("regression", np.array([[0], [2]], np.float32), torch.tensor([[1.0], [5.0]]))
    found = output(plain("ridge", {}), support, [3.0], l2=2.0)
    assert found.values is not None
    assert found.std is not None
    assert (float(found.values), float(found.std) ** 2) == pytest.approx((5.0, 30.0), rel=1e-5)


BAYESIAN = {
    "log_l2": torch.tensor(0.0),
    "log_noise": torch.tensor([0.5]).log(),
    "prior_mean": torch.tensor([[0.5]]),
}


def test_bayesian_posterior_predictive() -> None:
    """PRML 3.50 to 3.59: w ~ N(1/2, 1/2), noise 1/2, x = 1, 2; y = 1, 3.

    1 / S = 2 + (1 + 4) / (1/2) = 12; m = (2 * 1/2 + (1 + 6) / (1/2)) / 12 = 15 / 12. At 2: 2.5, 1/2 + 4 / 12 = 5 / 6.
    """
    support = Support("regression", np.array([[1], [2]], np.float32), torch.tensor([[1.0], [3.0]]))
    found = output(plain("ridge", BAYESIAN), support, [2.0])
    assert found.values is not None
    assert found.std is not None
    assert (float(found.values), float(found.std) ** 2) == pytest.approx((2.5, 5 / 6), rel=1e-5)
    query, target = np.array([[2]], np.float32), torch.tensor([[3.0]])
    loss = LEARNERS["ridge"].meta_loss(plain("ridge", {}).encoder, BAYESIAN, [support], [query], [target], {})
    assert float(loss) == pytest.approx(0.5 * (log(2 * pi * 5 / 6) + 0.25 / (5 / 6)), rel=1e-5)
