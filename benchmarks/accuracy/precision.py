"""What bfloat16 does to the accuracy of a gradient learner: the same Omniglot test episodes in both precisions.

``python -m benchmarks.accuracy.precision --data ../shared/data``; writes benchmarks/results/precision.md.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from kshot.allocator import keep_freed_memory
from kshot.checkpoints import Checkpoint, load_checkpoint
from kshot.contracts.tasks import LearnerOptions
from kshot.episodes.sampling import Episode, EpisodeShape, episodes
from kshot.learners.registry import get_learner
from kshot.metrics import mean_interval
from kshot.training.data import load_pool
from kshot.training.evaluation import as_support

ROOT = Path(__file__).parents[2]
_SHAPES = (EpisodeShape(5, 1, 15), EpisodeShape(20, 1, 15))
_AT_ONCE = 20


def main() -> None:
    """Measure, print, write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy.precision")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--episodes", type=int, default=600)
    given = parser.parse_args()
    keep_freed_memory()
    exact = load_checkpoint(ROOT / "checkpoints" / "glyphs-maml")
    pool = load_pool("omniglot", "test", given.data, exact.manifest.input)
    lines = [_line(exact, islice(episodes(pool, shape, 20_000), given.episodes), shape) for shape in _SHAPES]
    page = "\n".join([*_HEAD, *lines, ""]).replace("EPISODES", str(given.episodes))
    (ROOT / "benchmarks" / "results" / "precision.md").write_text(page)
    print(page)


_HEAD = (
    "# bfloat16 in the inner loop and the answers",
    "",
    "`python -m benchmarks.accuracy.precision --data ../shared/data`: `glyphs-maml` on the same EPISODES Omniglot test",
    'episodes in float32 and with `precision = "bfloat16"`, accuracy in %, 95% intervals, the difference paired.',
    "",
    "| task | float32 | bfloat16 | difference | largest move of a logit |",
    "|---|---|---|---|---|",
)


def _line(exact: Checkpoint, drawn: Iterator[Episode], shape: EpisodeShape) -> str:
    spec = exact.manifest.learner
    options = {**spec.options, "precision": "bfloat16"}
    manifest = exact.manifest.model_copy(update={"learner": spec.model_copy(update={"options": options})})
    reduced = Checkpoint(manifest, exact.encoder, exact.head)
    scores: list[tuple[float, float]] = []
    moved = 0.0
    while batch := list(islice(drawn, _AT_ONCE)):
        ours, theirs = (_logits(checkpoint, batch) for checkpoint in (exact, reduced))
        moved = max([moved, *(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True))])
        scores += [
            (_accuracy(a, episode), _accuracy(b, episode)) for a, b, episode in zip(ours, theirs, batch, strict=True)
        ]
    one, other = np.array(scores).T * 100
    cells = (f"{found.mean:.2f} ± {found.interval:.2f}" for found in map(mean_interval, (one, other, other - one)))
    return f"| {shape.n_way}-way {shape.k_shot}-shot | {' | '.join(cells)} | {moved:.3f} |"


def _logits(checkpoint: Checkpoint, batch: Sequence[Episode]) -> list[torch.Tensor]:
    learner = get_learner(checkpoint.manifest.learner.name)
    states = learner.adapt_only(checkpoint, [as_support(episode) for episode in batch], LearnerOptions())
    outputs = learner.predict(checkpoint, states, [episode.query for episode in batch])
    return [output.logits for output in outputs if output.logits is not None]


def _accuracy(logits: torch.Tensor, episode: Episode) -> float:
    return float((logits.argmax(1) == torch.as_tensor(episode.query_targets)).float().mean())


if __name__ == "__main__":
    main()
