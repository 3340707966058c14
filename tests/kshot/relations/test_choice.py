"""The choice among checkpoints, on candidates whose order is known."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kshot.checkpoints import Checkpoint, load_checkpoint
from kshot.contracts.checkpoints import EvaluationRow, Signature
from kshot.contracts.errors import Invalid
from kshot.encoders.embedded import Embedded
from kshot.episodes.pool import Pool
from kshot.episodes.sinusoids import sinusoids
from kshot.learners.base import Column, Support
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
    row = EvaluationRow(data="own", n_way=5, k_shot=1, metric="accuracy", mean=accuracy or 0.5, interval=0, episodes=9)
    manifest = load_checkpoint(CHECKPOINTS / "vectors").manifest.model_copy(
        update={"name": name, "signature": signature, "evaluation": [row] if accuracy else []}
    )
    return Checkpoint(manifest, Embedded(x).eval(), {})


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
    assert "too few examples" in choice.reason


def test_the_only_candidate_is_the_choice() -> None:
    choice = choose([candidate("only", 1.0)], [support()])
    assert choice.index == 0 and "only checkpoint" in choice.reason
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
