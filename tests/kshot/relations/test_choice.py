"""The choice among checkpoints, on candidates whose order is known."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kshot.checkpoints import Checkpoint, load_checkpoint
from kshot.contracts.checkpoints import EncoderSpec, EvaluationRow, ImageInput, Signature
from kshot.contracts.errors import Invalid
from kshot.contracts.tasks import LearnerOptions
from kshot.encoders.embedded import Embedded
from kshot.encoders.registry import build_encoder
from kshot.episodes.pool import Pool
from kshot.episodes.sinusoids import sinusoids
from kshot.learners.base import Column, Support
from kshot.learners.registry import get_learner
from kshot.relations.choice import choose
from kshot.relations.signature import sign, strangeness
from kshot.training.data import load_pool
from kshot.training.evaluation import as_support
from tests.kshot.data_folder import data_folder

CHECKPOINTS = Path(__file__).parents[3] / "checkpoints"
LABELS = torch.arange(5).repeat_interleave(4)


def candidate(name: str, apart: float, signature: Signature | None = None, accuracy: float | None = None) -> Checkpoint:
    """A checkpoint whose embedding of example i lies ``apart`` from those of other classes, in units of its noise."""
    x = apart * torch.eye(5, 16)[LABELS] + torch.randn(20, 16, generator=torch.Generator().manual_seed(len(name)))
    manifest = load_checkpoint(CHECKPOINTS / "vectors").manifest.model_copy(
        update={"name": name, "signature": signature, "evaluation": [promise(accuracy)] if accuracy else []}
    )
    return Checkpoint(manifest, Embedded(x).eval(), {})


def promise(accuracy: float, inductive: bool = True) -> EvaluationRow:
    return EvaluationRow(
        data="own", n_way=5, k_shot=1, metric="accuracy", mean=accuracy, interval=0, episodes=9, inductive=inductive
    )


def promising(rows: list[EvaluationRow]) -> Checkpoint:
    """The same embedding whatever its evaluation table says."""
    made = candidate("same", 9.0)
    return Checkpoint(made.manifest.model_copy(update={"evaluation": rows}), made.encoder, {})


def adapting(name: str, accuracy: float) -> Checkpoint:
    """A checkpoint whose norms belong to the task."""
    spec = ImageInput(height=16, width=16, channels=1)
    encoder = build_encoder(EncoderSpec(name="conv4", options={"channels": 4, "norm": "task"}), spec).eval()
    return Checkpoint(candidate(name, 1.0, accuracy=accuracy).manifest, encoder, {})


def support(rows: list[int] | None = None) -> Support:
    chosen = torch.tensor(rows) if rows else torch.arange(20)
    return Support("classification", chosen.numpy(), LABELS[chosen], 5)


ONE_SHOT = [0, 4, 8, 12, 16]


def test_the_one_that_tells_the_classes_apart_is_chosen_and_the_support_says_so() -> None:
    candidates = [candidate("bad", 0.0), candidate("fair", 2.0), candidate("good", 12.0)]
    choice = choose(candidates, [support()] * 3)
    assert choice.index == 2 and choice.reliable and "good" in choice.reason
    scores = [each.score for each in choice.considered]
    assert scores == sorted(scores)
    assert choice.considered[2].leave_one_out == 1.0 and choice.considered[2].knn == 1.0
    assert all(each.logme is not None and each.log_likelihood is not None for each in choice.considered)


def test_equals_cannot_be_told_apart_and_the_answer_admits_it() -> None:
    choice = choose([candidate("left", 12.0), candidate("east", 12.0)], [support()] * 2)
    assert not choice.reliable and "too small" in choice.reason


def test_one_example_per_class_goes_by_the_manifest() -> None:
    usual, other = Signature(between=2 * (9.0**2 + 16)), Signature(between=20_000.0)
    names = [
        candidate("familiar", 9.0, usual, 0.9),
        candidate("strange", 9.0, other, 0.99),
        candidate("weak", 9.0, usual, 0.4),
    ]
    choice = choose(names, [support(ONE_SHOT)] * 3)
    assert choice.index == 0 and not choice.reliable
    assert choice.considered[0].leave_one_out is None and choice.considered[0].knn is None
    assert "too few examples" in choice.reason and "its manifest, the kind of inputs and LogME alone" in choice.reason


def test_promises_count_inductive_rows_and_ties_by_their_mean() -> None:
    tables = [
        [promise(0.8)],
        [promise(0.5), promise(0.99, inductive=False)],
        [promise(0.6), promise(0.9)],
        [],
    ]
    found = choose([promising(rows) for rows in tables], [support(ONE_SHOT)] * 4).considered
    by_log = [np.log(0.8), np.log(0.5), (np.log(0.6) + np.log(0.9)) / 2, np.log(0.5) * 4 / 3]
    scores = [each.score for each in found]
    np.testing.assert_allclose(np.subtract(scores, scores[0]), np.subtract(by_log, by_log[0]), atol=1e-9)


def test_whoever_can_only_be_judged_by_adapting_is_passed_over() -> None:
    pictures = Support("classification", np.zeros((20, 16, 16, 1), np.uint8), LABELS, 5)
    candidates = [candidate("bad", 0.0), adapting("own", 0.99), candidate("good", 12.0)]
    choice = choose(candidates, [support(), pictures, support()])
    assert choice.index == 2 and choice.reliable and choice.reason.endswith("(1 more can only be judged by adapting)")
    passed = choice.considered[1]
    assert passed.score is None and passed.note == "its encoder can only be judged by adapting"
    assert choice.considered[0].note is choice.considered[2].note is None
    one = choose(candidates[:2], [support(), pictures])
    assert one.index == 0 and not one.reliable and "without adapting" in one.reason


def test_among_those_that_only_adapting_can_judge_the_promise_decides() -> None:
    pictures = Support("classification", np.zeros((20, 16, 16, 1), np.uint8), LABELS, 5)
    choice = choose([adapting("weak", 0.7), adapting("strong", 0.9)], [pictures] * 2)
    assert choice.index == 1 and not choice.reliable and "strong by its manifest alone" in choice.reason
    assert choice.considered[0].note and choice.considered[1].note is None


def test_several_targets_on_norms_that_adapt_are_refused_by_the_checkpoint() -> None:
    columns = (Column("classification", 5), Column("regression"))
    values = torch.stack([LABELS.float(), torch.arange(20) / 7.0], 1)
    joint = Support("multitask", np.zeros((20, 16, 16, 1), np.uint8), values, None, columns)
    with pytest.raises(Invalid, match="whose norms do not adapt") as refusal:
        get_learner("multitask").adapt(adapting("own", 0.9), [joint], LearnerOptions())
    assert refusal.value.param == "checkpoint"


def broken(value: float) -> Checkpoint:
    x = torch.full((20, 16), value)
    x[::2] *= -1
    return Checkpoint(candidate("broken", 1.0).manifest, Embedded(x).eval(), {})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_candidate_that_fails_is_noted_and_the_others_are_judged(value: float) -> None:
    choice = choose([broken(value), candidate("good", 12.0)], [support()] * 2)
    failed = choice.considered[0]
    assert choice.index == 1 and "1 more failed" in choice.reason and not choice.reliable
    assert failed.score is None and "finite" in (failed.note or "") and choice.considered[1].note is None
    with pytest.raises(Invalid, match="finite figures") as caught:
        choose([broken(value)] * 2, [support()] * 2)
    assert caught.value.param == "support.inputs"


def test_few_rows_that_all_answer_alike_tell_nobody_apart() -> None:
    rows = [0, 1, 4, 5, 8, 9, 12, 13, 16, 17]
    choice = choose([candidate("far", 30.0), candidate("farther", 300.0)], [support(rows)] * 2)
    assert [each.leave_one_out for each in choice.considered] == [1.0, 1.0]
    assert not choice.reliable and "too small" in choice.reason


def test_the_only_candidate_is_the_choice() -> None:
    choice = choose([candidate("only", 1.0)], [support()])
    assert choice.index == 0 and "only checkpoint" in choice.reason and not choice.reliable
    with pytest.raises(Invalid):
        choose([], [])


def test_the_names_of_classes_and_the_order_of_rows_change_nothing() -> None:
    candidates = [candidate("bad", 1.0), candidate("good", 4.0)]
    order = torch.randperm(20, generator=torch.Generator().manual_seed(3))
    turned = Support("classification", order.numpy(), (LABELS[order] + 2) % 5, 5)
    a, b = (choose(candidates, [s] * 2) for s in (support(), turned))
    assert a.index == b.index
    for one, two in zip(a.considered, b.considered, strict=True):
        assert one.score == pytest.approx(two.score, abs=1e-6)


def test_several_targets_are_judged_together() -> None:
    values = torch.stack([LABELS.float(), torch.arange(20) / 7.0], 1)
    values[3, 0] = values[5, 1] = torch.nan
    columns = (Column("classification", 5), Column("regression"))
    joint = Support("multitask", np.arange(20), values, None, columns)
    choice = choose([candidate("bad", 0.0), candidate("good", 9.0)], [joint] * 2)
    assert choice.index == 1 and choice.considered[1].leave_one_out is None
    assert choice.reliable and "over 2 targets (rows left out: 19, 19)" in choice.reason
    equals = choose([candidate("left", 9.0), candidate("east", 9.0)], [joint] * 2)
    assert not equals.reliable and "too small" in equals.reason
    few = Support("multitask", np.arange(0, 20, 4), torch.arange(5.0)[:, None], None, columns[:1])
    alone = choose([candidate("bad", 0.0), candidate("good", 9.0)], [few] * 2)
    assert not alone.reliable and "too few examples" in alone.reason and "LogME alone" in alone.reason


def test_curves_for_curves() -> None:
    candidates = [load_checkpoint(CHECKPOINTS / name) for name in ("vectors", "curves")]
    tasks = sinusoids(10, 1, seed=5)
    picked = [choose(candidates, [as_support(task)] * 2).index for task in (next(tasks) for _ in range(10))]
    assert sum(picked) >= 9


def test_strangeness_is_0_for_what_was_seen_and_the_same_whichever_way_it_is_off() -> None:
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    pool = Pool(np.arange(40), tuple("abcd"), tuple(np.arange(start, start + 10) for start in range(0, 40, 10)))
    signature, labels = sign(Embedded(x), pool), torch.arange(4).repeat_interleave(10)
    assert strangeness(signature, x, labels) == pytest.approx(0, abs=0.1)
    farther, nearer = (strangeness(signature, factor * x, labels) for factor in (3.0, 1 / 3))
    assert farther == pytest.approx(2 * np.log(3), abs=0.1) == nearer
    assert strangeness(signature, x, torch.zeros(40)) == 0


def test_drawings_are_familiar_to_a_checkpoint_of_drawings_and_noise_is_not() -> None:
    """One drawing per class is enough for that."""
    data = data_folder("omniglot/omniglot28_bits.npz")
    checkpoint = load_checkpoint(CHECKPOINTS / "glyphs")
    assert checkpoint.manifest.signature is not None
    pool = load_pool("omniglot", "test", data, checkpoint.manifest.input)
    drawings = np.concatenate([pool.inputs[rows[:1]] for rows in pool.rows[:20]])
    noise = np.random.default_rng(0).integers(100, 155, drawings.shape).astype(np.uint8)
    labels = torch.arange(20)
    with torch.no_grad():
        known, unknown = (
            strangeness(checkpoint.manifest.signature, checkpoint.encoder.embed(x, torch.device("cpu")), labels)
            for x in (drawings, noise)
        )
    assert known < 0.3 < 1 < unknown
