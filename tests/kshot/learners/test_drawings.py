"""The shipped checkpoint that adapts its convolutions answers drawings in company as it does alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from kshot.checkpoints import load_checkpoint
from kshot.contracts.tasks import LearnerOptions
from kshot.contracts.wire import Array
from kshot.learners.base import Support
from kshot.learners.registry import get_learner

CHECKPOINT = Path(__file__).parents[3] / "checkpoints" / "glyphs-maml"
SIDE, STROKES, QUERIES = 28, 3, 3


def drawings(strokes: Array, n: int, rng: np.random.Generator) -> Array:
    """One character drawn ``n`` times by a hand that is not quite steady, its ink 255. ``strokes``: (s, 4, 2)."""
    found = []
    for _ in range(n):
        picture = Image.new("L", (SIDE, SIDE), 0)
        for stroke in strokes + rng.normal(0, 0.8, (STROKES, 1, 2)) + rng.normal(0, 0.5, strokes.shape):
            ImageDraw.Draw(picture).line([tuple(point) for point in stroke], fill=255, width=2, joint="curve")
        found.append(np.asarray(picture)[:, :, None])
    return np.stack(found)


def character_task(rng: np.random.Generator, n_way: int, k_shot: int) -> tuple[Support, Array]:
    characters = [drawings(rng.uniform(3, 25, (STROKES, 4, 2)), k_shot + QUERIES, rng) for _ in range(n_way)]
    labels = torch.arange(n_way).repeat_interleave(k_shot)
    support = np.concatenate([own[:k_shot] for own in characters])
    return Support("classification", support, labels, n_way), np.concatenate([own[k_shot:] for own in characters])


@pytest.mark.parametrize(("n_way", "k_shot"), [(5, 1), (2, 1), (3, 2), (5, 5)])
def test_sixteen_tasks_together_are_answered_as_each_alone(n_way: int, k_shot: int) -> None:
    checkpoint, rng = load_checkpoint(CHECKPOINT), np.random.default_rng(0)
    learner = get_learner(checkpoint.manifest.learner.name)
    tasks = [character_task(rng, n_way, k_shot) for _ in range(16)]
    supports, queries = [support for support, _ in tasks], [query for _, query in tasks]
    together = learner.predict(checkpoint, learner.adapt_only(checkpoint, supports, LearnerOptions()), queries)
    right = []
    for support, query, output in zip(supports, queries, together, strict=True):
        alone = learner.predict(checkpoint, learner.adapt_only(checkpoint, [support], LearnerOptions()), [query])[0]
        assert output.logits is not None
        assert alone.logits is not None
        torch.testing.assert_close(output.logits, alone.logits, rtol=0, atol=1e-4)
        assert torch.equal(output.logits.argmax(1), alone.logits.argmax(1))
        right.append((alone.logits.argmax(1) == torch.arange(n_way).repeat_interleave(QUERIES)).double().mean())
    assert torch.stack(right).mean() > 1 / n_way + 0.2  # drawings that it tells apart, not noise
