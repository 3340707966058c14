"""``python -m kshot.training checkpoints/glyphs/recipe.toml --data ../shared/data --out checkpoints/glyphs``

The same under ``torchrun`` shares each meta-batch among several processes: docs/how-to/several-processes.md.
"""

import argparse
import shlex
import sys
from pathlib import Path

import torch

from kshot.allocator import keep_freed_memory
from kshot.checkpoints import load_checkpoint, save_checkpoint
from kshot.contracts.checkpoints import EvaluationRow
from kshot.contracts.errors import KshotError
from kshot.contracts.recipe import read_recipe
from kshot.device import add_device_option, choose_device
from kshot.training.descent import Ended
from kshot.training.loop import Unfinished, meta_train, with_evaluation
from kshot.training.mapping import train_mapping
from kshot.training.measuring import measure
from kshot.training.report import joint_report, write_report
from kshot.training.world import join_world, leave


def main(arguments: list[str] | None = None) -> None:
    """Train (unless told to evaluate only), measure the recipe's evaluation rows, save."""
    parser = argparse.ArgumentParser(prog="python -m kshot.training")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--threads", type=int, default=1)
    add_device_option(parser)
    parser.add_argument("--minutes", type=float, help="stop after so long; the same command goes on from there")
    parser.add_argument("--evaluate-only", action="store_true", help="measure the checkpoint that is there")
    given = parser.parse_args(arguments)
    keep_freed_memory()
    torch.set_num_threads(given.threads)
    device = choose_device(given.device)
    recipe = read_recipe(given.recipe)
    if given.evaluate_only:
        checkpoint = load_checkpoint(given.out, device)
    else:
        command = shlex.join(
            ["python", "-m", "kshot.training", str(given.recipe), "--data", str(given.data), "--out", str(given.out)]
        )
        train = train_mapping if recipe.training.scheme == "mapping" else meta_train
        with join_world(device) as world:
            checkpoint = train(recipe, given.data, given.out, command, _say, given.minutes, world=world)
        if not world.first:
            return
    if recipe.training.scheme == "multitask":
        write_report(given.out, joint_report(checkpoint, recipe, given.data))
    rows = []
    for row in measure(checkpoint, recipe.evaluation, given.data):
        rows.append(row)
        _say(_line(row))
    save_checkpoint(given.out, with_evaluation(checkpoint, rows))


def _line(row: EvaluationRow) -> str:
    ways = f"{row.n_way}-way " if row.n_way else ""
    return f"{row.data} {ways}{row.k_shot}-shot {row.metric} {row.mean:.4f} +- {row.interval:.4f} ({row.episodes})"


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    try:
        main()
    except KshotError as error:
        print(f"error: {error.message}", file=sys.stderr)
        leave(1)
    except (Unfinished, FloatingPointError) as error:
        print(error, file=sys.stderr)
        leave(1)
    except Ended:
        leave(1)
