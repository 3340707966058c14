"""The closed-form head against scikit-learn, against brute force, and on what it says about itself."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_digits, load_wine
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.linear_model import Ridge as SklearnRidge

from kshot.checkpoints import Checkpoint
from kshot.contracts.errors import AdaptationFailed, Invalid
from kshot.contracts.tasks import LearnerOptions
from kshot.contracts.wire import Array
from kshot.learners.base import Output, State, Support
from kshot.learners.batching import pack
from kshot.learners.closed_form import about_prior, centred, left_out_by_class, solve
from kshot.learners.registry import LEARNERS
from tests.kshot.learners.learner_cases import Case, checkpoint_of
from tests.kshot.learners.references import ridge_loop

RIDGE = LEARNERS["ridge"]
ANY_WIDTH = checkpoint_of(Case("ridge", "regression", "identity", bare=True))
ANY_WIDTH.encoder.spec = ANY_WIDTH.encoder.spec.model_copy(update={"width": None})  # as the `vectors` checkpoint


def classes(x: Array, y: Array) -> Support:
    return Support("classification", x.astype(np.float32), torch.from_numpy(y), int(y.max()) + 1)


def values(x: Array, y: Array) -> Support:
    return Support("regression", x.astype(np.float32), torch.from_numpy(y.reshape(len(x), -1).astype(np.float32)))


def run(support: Support, query: Array, **options: Any) -> tuple[State, Output]:
    state = RIDGE.adapt(ANY_WIDTH, [support], LearnerOptions(**options))[0]
    return state, RIDGE.predict(ANY_WIDTH, [state], [query.astype(np.float32)])[0]


@pytest.mark.parametrize(("n", "width"), [(6, 20), (20, 20), (40, 7)])  # through the rows, through the columns
@pytest.mark.parametrize("l2", [1e-3, 1.0, 100.0])
def test_given_penalty_is_plain_ridge_regression(n: int, width: int, l2: float) -> None:
    rng = np.random.default_rng(0)
    x, q = rng.normal(3, 2, (n, width)), rng.normal(3, 2, (5, width))
    y = np.stack([x[:, 0] * 50 + rng.normal(size=n), rng.normal(size=n)], 1)
    _, output = run(values(x, y), q, l2=l2)
    expected = SklearnRidge(alpha=l2).fit(x, y).predict(q)
    assert output.values is not None
    np.testing.assert_allclose(output.values.numpy(), expected, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize(
    ("n", "width", "l2", "round_off"),
    [
        (9, 20, 1e-4, 1e-5),  # leverages of up to 1 - 2e-6, condition 8e5: 1e-16 * 8e5 / 2e-6 could be 4e-5
        (9, 20, 1.0, 1e-8),
        (9, 20, 100.0, 1e-8),
        (40, 7, 1e-4, 1e-8),
        (40, 7, 1.0, 1e-8),
        (40, 7, 100.0, 1e-8),
    ],
)
def test_leave_one_out_is_exact(n: int, width: int, l2: float, round_off: float) -> None:
    """Imbalanced classes, rows of weights of their own: as if each row had really been left out."""
    rng = np.random.default_rng(1)
    x, labels = torch.from_numpy(rng.normal(size=(n, width))), torch.from_numpy(np.array([0, 1] + [2] * (n - 2)))
    support = Support("classification", x.numpy(), labels, 3)
    problem = centred(pack([support], [x]), evened=False)
    solution = solve(problem, torch.tensor([l2], dtype=torch.float64))
    y, w = torch.eye(3).double()[labels], ridge_loop.row_weights(labels)
    expected = ridge_loop.leave_one_out(x, y, w, l2, torch.ones(width).double())
    torch.testing.assert_close(y - solution.left_out[0], expected, rtol=round_off, atol=round_off)


@pytest.mark.parametrize(("n", "width"), [(9, 20), (40, 7)])
@pytest.mark.parametrize("l2", [1e-2, 1.0, 100.0])
def test_leave_one_out_of_values_is_exact(n: int, width: int, l2: float) -> None:
    """Two targets, with a fitted offset and about a prior mean: as if each row had really been left out."""
    rng = np.random.default_rng(2)
    x, y = torch.from_numpy(rng.normal(2, 1, (n, width))), torch.from_numpy(rng.normal(3, 1, (n, 2)))
    packed = pack([Support("regression", x.numpy(), y)], [x])
    penalty = torch.tensor([l2], dtype=torch.float64)
    found = y - solve(centred(packed, evened=False), penalty).left_out[0]
    one = torch.ones(width).double()
    expected = ridge_loop.leave_one_out(x, y, torch.ones(n).double(), l2, one)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)
    mean = torch.from_numpy(rng.normal(size=(2, width)))
    found = y - solve(about_prior(packed, mean), penalty).left_out[0]
    for i in range(n):
        others = torch.arange(n) != i
        refitted = ridge_loop.posterior(x[others], y[others], mean.T, l2, noise=0.7)[0]
        torch.testing.assert_close(found[i], x[i] @ refitted, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("width", [20, 4])  # through the rows, through the columns
@pytest.mark.parametrize("l2", [1e-2, 1.0, 100.0])
def test_quality_is_that_of_adapting_again_without_each_row(width: int, l2: float) -> None:
    """Two examples of a class among more of others, padded beside a larger task: as if adapted anew each time."""
    rng = np.random.default_rng(4)
    sizes = [(2, 2), (2, 3, 5), (4, 4, 2, 6)]
    tasks = [np.repeat(np.arange(len(size)), size) for size in sizes]
    supports = [classes(rng.normal(size=(len(y), width)) + y[:, None], y) for y in tasks]
    rows = [torch.from_numpy(np.asarray(support.inputs)).double() for support in supports]
    packed = pack(supports, rows)
    penalty = torch.full((3,), l2, dtype=torch.float64)
    errors = left_out_by_class(centred(packed, evened=False), packed.targets.double(), penalty)
    for task, (support, x) in enumerate(zip(supports, rows, strict=True)):
        for i in range(len(x)):
            others = torch.arange(len(x)) != i
            rest = Support(support.task, np.asarray(support.inputs)[others], support.targets[others], support.n_way)
            problem = centred(pack([rest], [x[others]]), evened=False)
            fit = (x[i] - problem.centre[0]) @ solve(problem, penalty[:1]).weight[0].T + problem.offset[0]
            expected = torch.eye(rest.n_way or 0).double()[support.targets[i]] - fit
            torch.testing.assert_close(errors[task, i, : support.n_way], expected, rtol=1e-8, atol=1e-10)


def test_classes_weigh_the_same() -> None:
    """Repeating every example of one class is the same as not repeating it, up to the penalty's share."""
    rng = np.random.default_rng(2)
    x, q = rng.normal(size=(6, 4)), rng.normal(size=(20, 4))
    y = np.array([0, 0, 0, 1, 1, 1])
    few, _ = run(classes(x, y), q, l2=1.0)
    many, _ = run(classes(x[[0, 1, 2, 0, 1, 2, 0, 1, 2, 3, 4, 5]], y[[0, 1, 2, 0, 1, 2, 0, 1, 2, 3, 4, 5]]), q, l2=2.0)
    for name in ("weight", "centre"):
        torch.testing.assert_close(few.tensors[name], many.tensors[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("n_way", "k_shot"), [(3, 5), (3, 10)])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_unlike_columns_are_no_obstacle(n_way: int, k_shot: int) -> None:
    """Chemistry of wines, columns from 0.1 to 1000: better than scikit-learn's defaults on the same supports."""
    ours, best = episode_accuracies(load_wine(return_X_y=True), n_way, k_shot, episodes=40)
    assert ours > best


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_plain_pictures_as_vectors_hold_up() -> None:
    ours, best = episode_accuracies(load_digits(return_X_y=True), 5, 5, episodes=40)
    assert ours > best - 0.02


def episode_accuracies(data: tuple[Array, Array], n_way: int, k_shot: int, episodes: int) -> tuple[float, float]:
    """Mean accuracy of ours, and of the better of RidgeClassifier and LogisticRegression."""
    rng, right = np.random.default_rng(0), []
    for _ in range(episodes):
        chosen = rng.choice(int(data[1].max()) + 1, n_way, replace=False)
        rows = [rng.permutation(np.flatnonzero(data[1] == c))[: k_shot + 15] for c in chosen]
        x, q = (np.concatenate([data[0][part] for part in parts]) for parts in zip(*split(rows, k_shot), strict=True))
        y, asked = np.repeat(np.arange(n_way), k_shot), np.repeat(np.arange(n_way), 15)
        logits = run(classes(x, y), q)[1].logits
        assert logits is not None
        rivals = (RidgeClassifier(), LogisticRegression(max_iter=200))
        right.append(
            [(logits.argmax(1).numpy() == asked).mean()] + [(m.fit(x, y).predict(q) == asked).mean() for m in rivals]
        )
    means = np.mean(right, 0)
    return float(means[0]), float(means[1:].max())


def split(rows: list[Array], k_shot: int) -> list[tuple[Array, Array]]:
    return [(row[:k_shot], row[k_shot:]) for row in rows]


def test_probabilities_are_calibrated_on_average() -> None:
    rng = np.random.default_rng(3)
    sure, right = [], []
    for _ in range(60):
        centres = rng.normal(size=(5, 32))
        y, asked = np.repeat(np.arange(5), 4), np.repeat(np.arange(5), 10)
        x, q = centres[y] + 2.0 * rng.normal(size=(20, 32)), centres[asked] + 2.0 * rng.normal(size=(50, 32))
        logits = run(classes(x, y), q)[1].logits
        assert logits is not None
        sure.append(float(logits.softmax(1).max(1).values.mean()))
        right.append(float((logits.argmax(1).numpy() == asked).mean()))
    assert 0.6 < np.mean(right) < 0.95
    assert abs(np.mean(sure) - np.mean(right)) < 0.1


def test_regression_finds_its_penalty() -> None:
    """Ten patients' measurements: better than scikit-learn's default penalty; a noiseless line: exact."""
    x, y = load_diabetes(return_X_y=True)
    rng, errors = np.random.default_rng(0), []
    for _ in range(60):
        rows = rng.permutation(len(x))
        support, query = rows[:30], rows[30:]
        answer = run(values(x[support], y[support]), x[query])[1].values
        assert answer is not None
        theirs = SklearnRidge().fit(x[support], y[support]).predict(x[query])
        errors.append([((v - y[query]) ** 2).mean() for v in (answer.numpy()[:, 0], theirs)])
    ours, theirs_mean = np.mean(errors, 0)
    assert ours < theirs_mean
    x = rng.normal(size=(12, 3))
    line = x @ [1.0, -2.0, 30.0] + 7
    answer = run(values(x, line), x)[1].values
    assert answer is not None
    np.testing.assert_allclose(answer.numpy()[:, 0], line, atol=0.01)


@pytest.mark.parametrize(("n", "width"), [(40, 5), (25, 60)])
def test_std_covers(n: int, width: int) -> None:
    """About 95% of unseen values lie within 1.96 std, and far from the support the std grows."""
    rng, within = np.random.default_rng(4), []
    for _ in range(60):
        slope = rng.normal(size=width) / np.sqrt(width)
        x, q = rng.normal(size=(n, width)), rng.normal(size=(40, width))
        y, truth = x @ slope + 0.5 * rng.normal(size=n), q @ slope + 0.5 * rng.normal(size=40)
        output = run(values(x, y), q)[1]
        assert output.values is not None
        assert output.std is not None
        within.append((np.abs(output.values.numpy()[:, 0] - truth) < 1.96 * output.std.numpy()[:, 0]).mean())
    assert 0.88 < np.mean(within) < 0.99
    far = run(values(x, y), np.concatenate([x.mean(0, keepdims=True), 50 * q[:1]]))[1].std
    assert far is not None
    assert float(far[1]) > 2 * float(far[0])


def bayesian(width: int, n_targets: int) -> Checkpoint:
    """A checkpoint of the Bayesian form on embeddings as they are, with a prior of its own."""
    head = RIDGE.init_head(
        checkpoint_of(Case("ridge", "regression", "identity")).encoder,
        "regression",
        n_targets,
        torch.Generator(),
        {"bayesian": True},
    )
    prior = torch.randn(n_targets, width, generator=torch.Generator().manual_seed(1))
    return Checkpoint(ANY_WIDTH.manifest, ANY_WIDTH.encoder, head | {"prior_mean": prior})


@pytest.mark.parametrize("n", [1, 3, 30])
def test_bayesian_answers_are_those_of_the_textbook(n: int) -> None:
    """Mean and std of PRML 3.50 to 3.59, through the rows and through the columns, from one row on."""
    rng, checkpoint = np.random.default_rng(5), bayesian(width=5, n_targets=2)
    checkpoint.head["log_noise"][:] = torch.tensor([0.3, 2.0]).log()
    support, query = values(rng.normal(size=(n, 5)), rng.normal(size=(n, 2))), rng.normal(size=(4, 5))
    state = RIDGE.adapt(checkpoint, [support], LearnerOptions(l2=0.5))[0]
    found = RIDGE.predict(checkpoint, [state], [query.astype(np.float32)])[0]
    assert found.values is not None
    assert found.std is not None
    x, z = torch.from_numpy(np.asarray(support.inputs)).double(), torch.from_numpy(query)
    for target, noise in enumerate((0.3, 2.0)):
        prior = checkpoint.head["prior_mean"][target].double()
        mean, covariance = ridge_loop.posterior(x, support.targets[:, target].double(), prior, 0.5, noise)
        np.testing.assert_allclose(found.values[:, target], z @ mean, rtol=1e-4, atol=1e-4)
        variance = noise + ((z @ covariance) * z).sum(1)
        np.testing.assert_allclose(found.std[:, target].square(), variance, rtol=1e-4)


def test_what_the_bayesian_form_cannot_do_is_refused() -> None:
    encoder = checkpoint_of(Case("ridge", "regression", "identity")).encoder
    with pytest.raises(Invalid, match="labels that are numbers"):
        RIDGE.init_head(encoder, "classification", None, torch.Generator(), {"bayesian": True})
    with pytest.raises(Invalid, match="predicts 2 numbers"):
        support = values(np.ones((3, 5)), np.ones((3, 1)))
        RIDGE.adapt(bayesian(width=5, n_targets=2), [support], LearnerOptions())


def test_one_row_gives_its_value_and_no_std() -> None:
    state, output = run(values(np.ones((1, 3)), np.array([4.5])), np.zeros((2, 3)))
    assert output.values is not None
    assert output.values.tolist() == [[4.5], [4.5]]
    assert output.std is None
    assert state.quality is not None
    assert (state.quality.mse, state.quality.n, state.quality.reliable) == (None, 0, False)


def test_equal_inputs_are_no_division_by_zero() -> None:
    _, output = run(classes(np.ones((4, 3)), np.array([0, 0, 1, 1])), np.ones((1, 3)))
    assert output.logits is not None
    torch.testing.assert_close(output.logits.softmax(1), torch.tensor([[0.5, 0.5]]))


def test_a_flag_is_heard_beside_a_large_number_that_stands_still() -> None:
    """Numbers of 1e8 that differ in their last bit, as embeddings of equal inputs do; the flag tells the classes."""
    x = np.array([[1e8, 0], [1e8 + 8, 0], [1e8 + 8, 1], [1e8, 1]])
    _, output = run(classes(x, np.array([0, 0, 1, 1])), x)
    assert output.logits is not None
    assert output.logits.argmax(1).tolist() == [0, 0, 1, 1]
    assert bool((output.logits.softmax(1).amax(1) > 0.6).all())


def test_what_cannot_be_solved_is_refused() -> None:
    with pytest.raises(AdaptationFailed, match="not finite"):  # double precision ends at 1e16
        run(classes(1e6 * np.eye(3)[[0, 0, 1, 1]], np.array([0, 0, 1, 1])), np.ones((1, 3)), l2=1e-9)
    with pytest.raises(Invalid, match="every class"):
        run(Support("classification", np.ones((2, 3), np.float32), torch.tensor([0, 0]), 2), np.ones((1, 3)))
    with pytest.raises(Invalid, match="as many labels"):
        run(Support("classification", np.ones((3, 3), np.float32), torch.tensor([0, 1]), 2), np.ones((1, 3)))
