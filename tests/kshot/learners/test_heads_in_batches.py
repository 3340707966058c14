"""What the heads' batched paths do in one go, against the same done plainly, task by task or row by row."""

import numpy as np
import pytest
import torch

from kshot.contracts.errors import AdaptationFailed, Invalid
from kshot.contracts.tasks import LearnerOptions
from kshot.encoders.identity import Identity
from kshot.learners.base import Support, check_numbers, check_supports
from kshot.learners.batching import embed, embed_all, pack, pad
from kshot.learners.calibration import fit_scale
from kshot.learners.closed_form import centred, left_out_by_class, solve, spread_of_fit
from kshot.learners.losses import row_losses
from kshot.learners.penalty import choose_l2
from kshot.learners.quality import accuracy_qualities, can_leave_out
from kshot.learners.registry import LEARNERS
from kshot.metrics import class_scores
from tests.kshot.learners.learner_cases import Case, checkpoint_of, random_task

CPU = torch.device("cpu")


def task(rng: np.random.Generator, sizes: list[int], width: int = 9) -> Support:
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    x = rng.normal(size=(len(sizes), width))[labels] + rng.normal(size=(len(labels), width))
    return Support("classification", x.astype(np.float32), torch.from_numpy(labels), len(sizes))


@pytest.mark.parametrize("lengths", [[3, 3, 3, 3], [3, 1, 3, 5], [2, 3, 3, 4]])
@pytest.mark.parametrize("group", [[0, 1, 2, 3], [1, 2], [0, 2], [3]])
def test_padding_blocks_that_are_neighbours_or_not(lengths: list[int], group: list[int]) -> None:
    encoder = checkpoint_of(Case("ridge", "regression", "identity")).encoder
    rng = np.random.default_rng(0)
    blocks = [rng.normal(size=(n, 5)).astype(np.float32) for n in lengths]
    expected = pad([torch.from_numpy(blocks[i]) for i in group])
    torch.testing.assert_close(embed_all(encoder, blocks, CPU).padded(group), expected, rtol=0, atol=0)


def test_embeddings_never_share_memory_with_what_came_in() -> None:
    encoder = checkpoint_of(Case("ridge", "regression", "identity")).encoder
    assert isinstance(encoder, Identity)
    block = np.ones((2, 5), np.float32)
    embed(encoder, [block], CPU)[0].zero_()
    assert block.all()


@pytest.mark.parametrize("sizes", [[[4, 4, 4]], [[12, 12, 12]], [[1] * 33], [[18, 18], [18, 18]]])
@pytest.mark.parametrize("width", [30, 3])
def test_equal_classes_left_out_by_block_are_as_in_one(sizes: list[list[int]], width: int) -> None:
    """Beside a task of other sizes the same rows take the other path: one large inverse."""
    rng = np.random.default_rng(1)
    supports = [task(rng, own, width) for own in sizes]
    other = task(rng, [2] + [3] * (len(sizes[0]) - 1), width)

    def errors(tasks: list[Support]) -> torch.Tensor:
        packed = pack(tasks, [torch.from_numpy(np.asarray(s.inputs)).double() for s in tasks])
        l2 = torch.full((len(tasks),), 2.0, dtype=torch.float64)
        return left_out_by_class(centred(packed, evened=False), packed.targets, l2)

    n = sum(sizes[0])
    together = errors([*supports, other])[: len(supports), :n]
    torch.testing.assert_close(errors(supports), together, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("width", [30, 3])
def test_fits_and_spreads_are_those_of_the_weights(width: int) -> None:
    rng = np.random.default_rng(2)
    support = task(rng, [4, 2, 5], width)
    packed = pack([support], [torch.from_numpy(np.asarray(support.inputs)).double()])
    problem, l2 = centred(packed, evened=True), torch.tensor([3.0]).double()
    solution = solve(problem, l2)
    torch.testing.assert_close(solution.fit, problem.a @ solution.weight.mT / problem.root.unsqueeze(2))
    factor, isotropic = spread_of_fit(problem, solution, l2)
    inverse = torch.linalg.inv(problem.a[0].T @ problem.a[0] + 3 * torch.eye(width).double())
    found = isotropic * torch.eye(width) + (-1 if isotropic > 0 else 1) * factor[0].T @ factor[0]
    torch.testing.assert_close(found, inverse)


def test_penalties_and_scales_do_not_depend_on_how_many_are_tried_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    supports = [task(rng, sizes) for sizes in ([3, 2], [2, 4, 2], [1, 5])]
    packed = pack(supports, [torch.from_numpy(np.asarray(s.inputs)) for s in supports])
    values = pack([Support("regression", s.inputs, torch.rand(8, 2)) for s in supports[1:2]], packed.x[1:2, :8])
    left_out = can_leave_out(packed.targets, packed.rows)

    def found() -> list[torch.Tensor]:
        problem, of_values = centred(packed, evened=True), centred(values, evened=True)
        scale = fit_scale(packed.x[:, :, :3].double(), packed, left_out, torch.ones(3).double())
        return [choose_l2(problem, packed, left_out), choose_l2(of_values, values, values.rows), scale]

    at_once = found()
    monkeypatch.setattr("kshot.learners.calibration._NUMBERS_AT_ONCE", 1)
    torch.testing.assert_close(found(), at_once, rtol=1e-12, atol=0)


def test_scale_is_the_posterior_mean_over_the_octaves() -> None:
    rng = np.random.default_rng(4)
    support = task(rng, [3, 4, 2])
    packed = pack([support], [torch.from_numpy(np.asarray(support.inputs))])
    logits, usual = packed.x[:, :, :3].double(), torch.tensor([0.7]).double()
    left_out = can_leave_out(packed.targets, packed.rows)
    octaves = torch.linspace(-6, 6, 25).double()
    costs = [
        float(row_losses("classification", logits * usual * 2**octave, packed.targets, packed.outputs)[left_out].sum())
        for octave in octaves
    ]
    posterior = (-0.5 * (octaves / 1.5).square() - torch.tensor(costs).double()).softmax(0)
    expected = usual * 2 ** (posterior @ octaves)
    torch.testing.assert_close(fit_scale(logits, packed, left_out, usual), expected)


def test_qualities_of_a_batch_are_those_of_each_task() -> None:
    """Ragged ways, classes never answered, padded classes that would win, and a task no row of which may go."""
    rng = np.random.default_rng(5)
    supports = [task(rng, sizes) for sizes in ([3, 2, 4, 1], [6, 2], [1, 1], [2, 2, 2])]
    packed = pack(supports, [torch.from_numpy(np.asarray(s.inputs)) for s in supports])
    logits = torch.from_numpy(rng.normal(size=packed.targets.shape)) - 3.0
    logits[~packed.outputs.unsqueeze(1).expand_as(logits)] = 0.0
    left_out = can_leave_out(packed.targets, packed.rows)
    qualities = accuracy_qualities(logits, packed.targets, left_out, packed.outputs)
    assert [quality.n for quality in qualities] == [9, 8, 0, 6]
    for i in (0, 1, 3):
        n, n_way = len(supports[i].targets), supports[i].n_way
        counted = left_out[i, :n].numpy()
        answers, truth = logits[i, :n, :n_way].argmax(1).numpy(), supports[i].targets.numpy()
        scores = class_scores(answers[counted], truth[counted])
        assert qualities[i].accuracy == pytest.approx(scores.accuracy, rel=1e-12)
        assert qualities[i].macro_f1 == pytest.approx(scores.macro_f1, rel=1e-12)
    assert qualities[2].accuracy is None


@pytest.mark.parametrize("learner", ["ridge", "protonet"])
@pytest.mark.parametrize("bare", [True, False])
def test_without_a_quality_the_state_is_the_same(learner: str, bare: bool) -> None:
    case = Case(learner, "classification", "identity", bare=bare)
    rng = np.random.default_rng(6)
    supports = [random_task(case, rng)[0] for _ in range(5)]
    whole, lean = (
        adapt(checkpoint_of(case), supports, LearnerOptions())
        for adapt in (LEARNERS[learner].adapt, LEARNERS[learner].adapt_only)
    )
    assert all(state.quality is not None for state in whole) and all(state.quality is None for state in lean)
    torch.testing.assert_close([s.tensors for s in lean], [s.tensors for s in whole], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("labels", [[0, 0, 2], [0, 1, 2, 3], [-1, 0, 1, 2], [1, 2]])
def test_one_support_whose_labels_are_not_its_classes_is_found_among_others(labels: list[int]) -> None:
    whole = Support("classification", np.ones((4, 2), np.float32), torch.tensor([0, 1, 2, 1]), 3)
    odd = Support("classification", np.ones((len(labels), 2), np.float32), torch.tensor(labels), 3)
    check_supports(LEARNERS["ridge"], [whole, whole])
    for supports in ([odd, whole], [whole, odd]):
        with pytest.raises(Invalid, match="every class"):
            check_supports(LEARNERS["ridge"], supports)


@pytest.mark.parametrize("bad", [[1.0, float("nan")], [float("inf"), -float("inf")], [-float("inf"), 1.0]])
def test_numbers_that_are_not_finite_are_found(bad: list[float]) -> None:
    check_numbers([torch.full((3,), 3e38), torch.ones(2)])  # finite, though their sum is not
    with pytest.raises(AdaptationFailed, match="not finite"):
        check_numbers([torch.ones(2), torch.tensor(bad)])
