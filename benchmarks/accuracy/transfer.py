"""The measured transfer matrix: which checkpoint does how well on which data, with a heat map.

``python -m benchmarks.accuracy.transfer --data ../shared/data``, after benchmarks/recipes/auto/texts-*.toml were run.
"""

import argparse
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from benchmarks.accuracy.auto import RUNS, load
from benchmarks.accuracy.candidates import Draw, Labelled, Seen, clinc, draws, glyphs, intents, photos, see
from benchmarks.report import record
from kshot.checkpoints import Checkpoint
from kshot.episodes.pool import take
from kshot.episodes.sampling import Episode
from kshot.learners.gradient import GradientLearner
from kshot.learners.registry import get_learner
from kshot.relations.transfer import Transfer, transfer_matrix

RESULTS = Path("benchmarks/results/transfer")
PICTURES, TEXTS = ("glyphs", "glyphs-maml", "photos"), ("intents", "texts-plain", "texts-opening")
_SHAPE, _SEED = (5, 1, 15), 20_261_122


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy.transfer")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--episodes", type=int, default=60)
    given = parser.parse_args()
    torch.set_num_threads(1)
    cells: list[Transfer] = []
    for names, sets in (
        (PICTURES, [glyphs(given.data), photos(given.data)]),
        (TEXTS, [intents(given.data), clinc(given.data)]),
    ):
        for data in sets:
            chosen = list(islice(draws(data.labels, *_SHAPE, _SEED), given.episodes))
            for name in names:
                cells += _cell(see(load(name), data, RUNS / "cache"), data, chosen)
                print(cells[-1], flush=True)
    record(RESULTS, "Transfer, 5-way 1-shot accuracy", cells)
    _plot(cells)


def _cell(seen: Seen, data: Labelled, chosen: Sequence[Draw]) -> list[Transfer]:
    moves = isinstance(get_learner(seen.checkpoint.manifest.learner.name), GradientLearner)
    checkpoint: Checkpoint = seen.checkpoint if moves else seen.embedded()
    inputs = seen.inputs if moves else np.arange(len(data.labels))
    tasks = [
        Episode(
            "classification",
            draw.n_way,
            take(inputs, draw.support),
            draw.support_targets,
            take(inputs, draw.query),
            draw.query_targets,
        )
        for draw in chosen
    ]
    return transfer_matrix([checkpoint], {data.name: tasks})


def _plot(cells: Sequence[Transfer]) -> None:
    rows, columns = (list(dict.fromkeys(getattr(cell, key) for cell in cells)) for key in ("checkpoint", "data"))
    matrix = np.full((len(rows), len(columns)), np.nan)
    figure = Figure(figsize=(1.6 + 1.3 * len(columns), 1.2 + 0.5 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for cell in cells:
        place = rows.index(cell.checkpoint), columns.index(cell.data)
        matrix[place] = cell.mean
        axes.text(place[1], place[0], f"{100 * cell.mean:.1f} ± {100 * cell.interval:.1f}", ha="center", va="center")
    image = axes.imshow(matrix, vmin=0.2, vmax=1.0, cmap="viridis", alpha=0.7, aspect="auto")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_title("5-way 1-shot accuracy, %")
    figure.colorbar(image)
    figure.savefig(RESULTS.with_suffix(".png"), dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
