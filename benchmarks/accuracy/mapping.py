"""Mapping against identity, training from scratch and ridge, by how much target data there is.

``python -m benchmarks.accuracy.mapping --data ../shared/data``

Runs go to runs/mapping; a finished one is only measured again. "From scratch" for texts is the same static embeddings
centred on the target's training texts, without the source checkpoint: nothing here trains a text encoder from nothing.
"""

import argparse
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.report import record
from kshot.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from kshot.contracts.recipe import Recipe, Training, read_recipe
from kshot.episodes.pool import Pool, select_classes
from kshot.episodes.sampling import EpisodeShape
from kshot.training.comparison import Compared, compare, evaluation_rows, write_comparison
from kshot.training.data import load_pool
from kshot.training.loop import with_evaluation
from kshot.training.mapping import TEACHER, train_mapping

RECIPES, RUNS = Path("benchmarks/recipes/mapping"), Path("runs/mapping")
SOURCES = {"photos": Path("checkpoints/photos"), "texts-ridge": Path("runs/auto/texts-ridge")}
AMOUNTS = {"photos-glyphs": (5, 20), "intents-banking": (25, 10)}
_TEST_CLASSES = {"photos-glyphs": 40, "intents-banking": 27}
_SHOTS, _N_WAY, _N_QUERY, _EPISODES, _SEED = (1, 5), 5, 15, 1500, 20_261_122


@dataclass(frozen=True)
class Row:
    """``ahead``: of mapping over this way, paired over the same episodes. Accuracies in [0, 1], with 95% intervals."""

    pair: str
    target_classes: int
    k_shot: int
    how: str
    accuracy: float
    interval: float
    ahead: float
    ahead_interval: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy.mapping")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pair", choices=list(AMOUNTS), action="append")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for pair in given.pair or list(AMOUNTS):
        for classes in AMOUNTS[pair]:
            for compared in _pair(pair, classes, given.data):
                rows.append(_row(pair, classes, compared))
                print(rows[-1], flush=True)
    record(Path("benchmarks/results/mapping"), "Mapping: a source checkpoint's features to a target's", rows)


def _pair(pair: str, classes: int, data: Path) -> list[Compared]:
    recipe = read_recipe(RECIPES / f"{pair}.toml")
    assert recipe.data is not None and recipe.start is not None and recipe.hint is not None
    changes = {
        "data": recipe.data.model_copy(update={"classes": classes}),
        "training": _fitting(recipe.training, classes),
        "hint": recipe.hint.model_copy(update={"training": _fitting(recipe.hint.training, classes)}),
    }
    recipe = recipe.model_copy(update=changes)
    if not (RUNS / recipe.start.parent).is_dir():
        shutil.copytree(SOURCES[recipe.start.parent], RUNS / recipe.start.parent)
    out = RUNS / f"{pair}-{classes}"
    if not (out / "manifest.json").is_file() or list(out.glob(".progress*")):
        train_mapping(recipe, data, out, f"python -m benchmarks.accuracy.mapping --pair {pair}")
    return _measured(pair, recipe, load_checkpoint(out), load_checkpoint(out / TEACHER), data, out)


def _fitting(training: Training, classes: int) -> Training:
    """No more ways than there are classes."""
    assert training.n_way is not None
    return training.model_copy(update={"n_way": tuple(min(ways, classes) for ways in training.n_way)})


def _measured(
    pair: str, recipe: Recipe, checkpoint: Checkpoint, teacher: Checkpoint, data: Path, out: Path
) -> list[Compared]:
    pool, found = _held_out(pair, recipe, data), []
    for k_shot in _SHOTS:
        shape = EpisodeShape(_N_WAY, k_shot, _N_QUERY)
        found += compare(checkpoint, teacher, pool, RUNS, shape, _EPISODES, _SEED)
    write_comparison(out, found)
    assert recipe.data is not None
    rows = evaluation_rows(f"{recipe.data.name} test", found, _EPISODES)
    save_checkpoint(out, with_evaluation(checkpoint, rows))
    return found


def _held_out(pair: str, recipe: Recipe, data: Path) -> Pool:
    assert recipe.data is not None
    pool = load_pool(recipe.data.name, "test", data, recipe.input)
    drawn = np.random.default_rng(_SEED).permutation(len(pool.classes))[: _TEST_CLASSES[pair]]
    return select_classes(pool, [pool.classes[index] for index in drawn])


def _row(pair: str, classes: int, compared: Compared) -> Row:
    return Row(
        pair,
        classes,
        compared.k_shot,
        compared.how,
        compared.accuracy.mean,
        compared.accuracy.interval,
        compared.mapping_ahead.mean,
        compared.mapping_ahead.interval,
    )


if __name__ == "__main__":
    main()
