"""Several targets: each from the rows that have it, its own quality, FiLM against its loop, refusals that say why."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kshot.checkpoints import Checkpoint
from kshot.contracts.errors import Invalid
from kshot.contracts.tasks import LearnerOptions
from kshot.contracts.wire import Array, Inputs
from kshot.learners.base import Column, Output, State, Support
from kshot.learners.film import Film, fit_film
from kshot.learners.registry import LEARNERS
from kshot.learners.state import dump_state, load_state
from tests.kshot.learners.invariants import (
    answers,
    check_batch_invariance,
    check_close,
    check_purity,
    check_query_independence,
    check_same,
    check_support_permutation,
)
from tests.kshot.learners.learner_cases import WIDTH, Case, checkpoint_of, random_joint_task
from tests.kshot.learners.references import ridge_loop

MULTITASK, RIDGE = LEARNERS["multitask"], LEARNERS["ridge"]
CASE = Case("multitask", "multitask", "mlp", bare=True)
NUMBER, CLASSES = Column("regression"), Column("classification", 2)
NAN = float("nan")


def plain() -> Checkpoint:
    return checkpoint_of(CASE)


def with_film(steps: int = 4, lr: float = 0.05, seed: int = 0) -> Checkpoint:
    checkpoint = checkpoint_of(CASE, seed)
    spec = checkpoint.manifest.learner.model_copy(update={"options": {"film_steps": steps, "film_lr": lr}})
    return replace(checkpoint, manifest=checkpoint.manifest.model_copy(update={"learner": spec}))


def joint(x: Array, columns: list[Column], *targets: list[float]) -> Support:
    return Support("multitask", x, torch.tensor(targets).T.contiguous(), columns=tuple(columns))


def vectors(n: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(n, WIDTH)).astype(np.float32)


def tasks(seed: int, count: int) -> list[tuple[Support, Inputs]]:
    rng = np.random.default_rng(seed)
    return [random_joint_task(CASE, rng, n_query=6) for _ in range(count)]


def one(checkpoint: Checkpoint, support: Support, query: Array, **options: Any) -> tuple[State, Output]:
    state = MULTITASK.adapt(checkpoint, [support], LearnerOptions(**options))[0]
    return state, MULTITASK.predict(checkpoint, [state], [query])[0]


def test_a_row_counts_only_for_the_targets_it_has() -> None:
    x, query = vectors(6), vectors(4, seed=1)
    support = joint(x, [NUMBER, CLASSES], [1, 2, NAN, 4, 5, 6], [0, 1, 0, 1, 0, 1])
    moved = x.copy()
    moved[2] += 1.0
    before, after = (one(plain(), replace(support, inputs=rows), query)[1].columns for rows in (x, moved))
    assert before[0].values is not None and after[0].values is not None
    torch.testing.assert_close(before[0].values, after[0].values)
    assert before[1].logits is not None and after[1].logits is not None
    assert not torch.allclose(before[1].logits, after[1].logits)


def test_each_target_says_how_good_it_is_and_how_sure() -> None:
    x = vectors(12)
    values = [*map(float, x[:, 0] * 3), NAN, NAN][-12:]
    classes = [NAN, NAN, *map(float, x[2:, 1] > 0)]
    state, output = one(plain(), joint(x, [NUMBER, CLASSES], values, classes), vectors(3, seed=1))
    numbers = Support("regression", x[:10], torch.tensor(values[:10])[:, None])
    labels = Support("classification", x[2:], torch.tensor(classes[2:]).long(), 2)
    alone = RIDGE.adapt(plain(), [numbers, labels], LearnerOptions())
    assert state.quality is None
    assert state.qualities == tuple(own.quality for own in alone)
    assert [quality.n for quality in state.qualities if quality] == [10, 10]
    assert output.columns[0].std is not None and bool((output.columns[0].std > 0).all())
    assert output.columns[1].std is None


def test_one_kind_alone_is_ridge() -> None:
    support = Support("classification", vectors(6), torch.tensor([0, 1, 2, 0, 1, 2]), 3)
    ours, theirs = (answers(learner, plain(), [(support, vectors(4))])[0].logits for learner in (MULTITASK, RIDGE))
    assert ours is not None and theirs is not None
    assert torch.equal(ours, theirs)


def test_the_callers_penalty_is_every_heads() -> None:
    x = vectors(8)
    support = joint(x, [NUMBER, NUMBER], [*map(float, x[:, 0])], [*map(float, x[:, 1])])
    loose, tight = (one(plain(), support, x, l2=l2)[1].columns for l2 in (1e-3, 1e5))
    for near, far in zip(loose, tight, strict=True):
        assert near.values is not None and far.values is not None
        assert float(far.values.std()) < 0.01 * float(near.values.std())


@pytest.mark.parametrize("learner", ["protonet", "ridge", "maml"])
def test_any_learners_checkpoint_serves_several_targets(learner: str) -> None:
    checkpoint = checkpoint_of(Case(learner, "classification", "mlp"))
    for support, query in tasks(0, 3):
        assert isinstance(query, np.ndarray)
        state, output = one(checkpoint, support, query)
        assert len(output.columns) == len(state.columns) == len(support.columns)


@pytest.mark.parametrize(
    ("columns", "targets", "message"),
    [
        ([NUMBER, CLASSES], [[1, 2, 3, 4], [NAN] * 4], "target 2 has no label"),
        ([NUMBER, NUMBER], [[NAN] * 4, [1, 2, 3, 4]], "target 1 has no label"),
        ([Column("classification", 1)], [[0, 0, 0, NAN]], "target 1 needs examples of two classes"),
        ([CLASSES], [[0, 0, 0, 0]], "every class of target 1"),
        ([CLASSES], [[0, 1, 2, 1]], "every class of target 1"),
        ([CLASSES], [[0, 1, 0.5, 1]], "every class of target 1"),
        ([NUMBER], [[1, 2, 3, 4], [1, 2, 3, 4]], "column of labels"),
        ([], [[1, 2, 3, 4]], "column of labels"),
    ],
)
def test_what_cannot_be_learned_is_said(columns: list[Column], targets: list[list[float]], message: str) -> None:
    good = tasks(0, 1)[0][0]
    with pytest.raises(Invalid, match=message) as caught:
        MULTITASK.adapt(plain(), [good, joint(vectors(4), columns, *targets)], LearnerOptions())
    assert caught.value.param == "support.labels"


def test_a_stored_state_keeps_its_targets() -> None:
    for checkpoint in (plain(), with_film()):
        support, query = tasks(3, 1)[0]
        state = MULTITASK.adapt(checkpoint, [support], LearnerOptions())[0]
        stored = load_state(dump_state(state))
        assert (stored.columns, stored.qualities, stored.task) == (support.columns, state.qualities, "multitask")
        check_same(*(MULTITASK.predict(checkpoint, [s], [query])[0] for s in (stored, state)))


# --- FiLM ---


@settings(max_examples=5, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31))
def test_the_invariants_hold_with_film(seed: int) -> None:
    checkpoint, some = with_film(seed=seed), tasks(seed, 4)
    check_batch_invariance(MULTITASK, checkpoint, some)
    check_query_independence(MULTITASK, checkpoint, some)
    check_support_permutation(MULTITASK, checkpoint, some[0], torch.Generator().manual_seed(seed))
    check_purity(MULTITASK, checkpoint, some)


def loop_film(x: torch.Tensor, targets: list[torch.Tensor], l2: float, steps: int, lr: float) -> Film:
    """The same by really leaving rows out, and autograd through all the refits."""
    scale = torch.ones(x.shape[1], dtype=torch.float64, requires_grad=True)
    shift = torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True)
    for _ in range(steps):
        z, loss = torch.relu(scale * x + shift), torch.zeros((), dtype=torch.float64)
        for target in targets:
            rows = ~target.isnan()
            y, w, even = target[rows][:, None].double(), torch.ones(int(rows.sum())).double(), torch.ones(x.shape[1])
            missed = ridge_loop.leave_one_out(z[rows], y, w, l2, even.double()) - y
            loss = loss + missed.square().sum() / (y - y.mean()).square().sum() / len(targets)
        by_scale, by_shift = torch.autograd.grad(loss, [scale, shift])
        with torch.no_grad():
            scale -= lr * x.shape[1] * by_scale
            shift -= lr * x.shape[1] * by_shift
    return Film(scale.detach(), shift.detach())


@pytest.mark.parametrize("n", [5, 20])  # through the rows, through the columns
def test_film_equals_the_loop(n: int) -> None:
    x = torch.from_numpy(vectors(n, seed=2)).relu()
    targets = [2 * x[:, 0] + x[:, 1] + 0.1 * torch.randn(n), x[:, 2].clone()]
    targets[1][::4] = NAN
    numbers = [~target.isnan() for target in targets]
    parts = [
        Support("regression", rows.numpy().nonzero()[0], target[rows][:, None])
        for rows, target in zip(numbers, targets, strict=True)
    ]
    fast = fit_film(x, parts, {"log_l2": torch.tensor(0.5).log()}, steps=3, lr=0.05)
    slow = loop_film(x.double(), targets, 0.5, steps=3, lr=0.05)
    assert float((slow.scale - 1).abs().max()) > 1e-3
    assert float(slow.shift.abs().max()) > 1e-3
    check_close(fast.scale, slow.scale.float())
    check_close(fast.shift, slow.shift.float())


def test_film_finds_the_features_that_matter() -> None:
    """Two targets depend on one feature of 12: its scale grows, the others' do not, and answers improve."""
    rng = torch.Generator().manual_seed(0)
    x, query = torch.rand(24, 12, generator=rng), torch.rand(200, 12, generator=rng)
    targets = torch.stack([3 * x[:, 0], -x[:, 0]], 1) + 0.1 * torch.randn(24, 2, generator=rng)
    parts = [Support("regression", np.arange(24), targets[:, [i]]) for i in range(2)]
    film = fit_film(x, parts, {"log_l2": torch.tensor(1.0).log()}, steps=20, lr=0.1)
    assert float(film.scale[0]) > 1.2 > float(film.scale[1:].mean())

    def error(inputs: torch.Tensor, asked: torch.Tensor) -> float:
        head = ridge_loop.fit(inputs.double(), targets.double(), torch.ones(24).double(), 1.0, torch.ones(12).double())
        return float((head(asked.double())[:, 0] - 3 * query[:, 0]).square().mean())

    assert error(film(x), film(query)) < 0.8 * error(x, query)


def test_film_claims_no_reliable_figure_and_needs_a_rectifier() -> None:
    support, _ = tasks(0, 1)[0]
    state = MULTITASK.adapt(with_film(), [support], LearnerOptions())[0]
    assert not any(quality.reliable for quality in state.qualities if quality)
    assert "film.scale" in state.tensors
    bare = with_film()
    identity = checkpoint_of(Case("multitask", "regression", "identity", bare=True))
    with pytest.raises(Invalid, match="rectifier"):
        MULTITASK.adapt(replace(identity, manifest=bare.manifest), [support], LearnerOptions())


def test_nothing_to_learn_a_film_from_leaves_the_embedding() -> None:
    """A single example of each class: no row can be left out."""
    support = Support("classification", vectors(3), torch.arange(3), 3)
    state = MULTITASK.adapt(with_film(), [support], LearnerOptions())[0]
    assert bool((state.tensors["film.scale"] == 1).all()) and bool((state.tensors["film.shift"] == 0).all())


def test_meta_loss_is_of_the_targets_that_have_rows_in_both() -> None:
    meta, x, query = checkpoint_of(Case("multitask", "multitask", "mlp")), vectors(4), vectors(2, seed=1)

    def loss(support: Support, targets: list[list[float]]) -> torch.Tensor:
        asked = torch.tensor(targets).T
        return MULTITASK.meta_loss(meta.encoder, meta.head, [support], [query], [asked], {})

    both = joint(x, [NUMBER, NUMBER], [1, 2, 3, 4], [NAN] * 4)
    alone = joint(x, [NUMBER], [1, 2, 3, 4])
    torch.testing.assert_close(loss(both, [[1, 2], [3, 4]]), loss(alone, [[1, 2]]))
    with pytest.raises(Invalid, match="no target has labels"):
        loss(both, [[NAN, NAN], [3, 4]])


def test_a_head_for_values_is_not_trained_on_classes() -> None:
    meta = checkpoint_of(Case("multitask", "regression", "mlp"))
    support = joint(vectors(4), [NUMBER, CLASSES], [1, 2, 3, 4], [0, 1, 0, 1])
    with pytest.raises(Invalid, match="labels that are numbers"):
        MULTITASK.meta_loss(meta.encoder, meta.head, [support], [vectors(4)], [support.targets], {})


def test_film_is_a_constant_of_the_meta_loss() -> None:
    """What is trained is the loss of what is served, and the encoder gets its gradient."""
    checkpoint, (support, query) = with_film(), tasks(1, 1)[0]
    targets = support.targets[: len(query)]
    options = checkpoint.manifest.learner.options
    meta = checkpoint_of(Case("multitask", "multitask", "mlp"))
    full = Checkpoint(checkpoint.manifest, meta.encoder, meta.head)
    loss = MULTITASK.meta_loss(meta.encoder, meta.head, [support], [query], [targets], options)
    assert isinstance(query, np.ndarray)
    _, output = one(full, support, query)
    expected = []
    for column, values in zip(output.columns, targets.T, strict=True):
        rows = ~values.isnan()
        if column.logits is not None and bool(rows.any()):
            expected.append(torch.nn.functional.cross_entropy(column.logits[rows], values[rows].long()))
        elif column.values is not None and bool(rows.any()):
            expected.append((column.values[rows, 0] - values[rows]).square().mean())
    torch.testing.assert_close(loss, torch.stack(expected).mean(), rtol=1e-3, atol=1e-4)
    loss.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in meta.encoder.parameters())


def test_targets_solved_a_few_at_a_time_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, supports = plain(), [support for support, _ in tasks(5, 2)]
    together = MULTITASK.adapt(checkpoint, supports, LearnerOptions())
    monkeypatch.setattr("kshot.learners.multitask._BYTES_PER_CALL", 1)
    for one, other in zip(MULTITASK.adapt(checkpoint, supports, LearnerOptions()), together, strict=True):
        assert [q and q.n for q in one.qualities] == [q and q.n for q in other.qualities]
        for name, tensor in other.tensors.items():
            torch.testing.assert_close(one.tensors[name], tensor, msg=name)
