"""``python -m kshot.training.ranks 2 tests.kshot.training.in_company FOLDER``: trains all recipes of FOLDER.

Each ``<name>.json`` there holds a recipe and its data folder; the checkpoint goes to ``shared/<name>``, why there is
none to ``<name>.refused``. While it trains a recipe called ``killed`` for the first time, the first process kills the
others after step 13.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch

from kshot.contracts.errors import Invalid
from kshot.contracts.recipe import Recipe
from kshot.training.loop import meta_train
from kshot.training.world import World, join_world, leave


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with join_world() as world:
        for file in sorted(folder.glob("*.json")):
            if not (folder / "shared" / file.stem / "done").exists():
                train(file, folder / "shared" / file.stem, world)


def train(file: Path, out: Path, world: World) -> None:
    found = json.loads(file.read_text())
    recipe = Recipe.model_validate(found["recipe"])
    if file.stem == "unlike":
        recipe = recipe.model_copy(update={"seed": world.rank})

    def report(line: str) -> None:
        assert world.first
        with file.with_suffix(".said").open("a") as said:
            said.write(line + "\n")
        if file.stem == "killed" and line.startswith("step 13/") and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            kill_the_others()

    try:
        meta_train(recipe, Path(found["data"]), out, "the command", report, world=world)
    except Invalid as error:
        file.with_suffix(f".refused{world.rank}").write_text(error.message)
    out.mkdir(parents=True, exist_ok=True)
    (out / "done").touch()


def kill_the_others() -> None:
    agent = os.getppid()
    for child in Path(f"/proc/{agent}/task/{agent}/children").read_text().split():
        if int(child) != os.getpid():
            os.kill(int(child), signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    leave(0)
