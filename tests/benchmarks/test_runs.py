"""A table's runs: cut and continued they end where an uninterrupted command ends, in weights and in figures."""

from pathlib import Path

import pytest
import torch

from benchmarks.accuracy.measuring import SEED, measured
from benchmarks.accuracy.rows import rows_of
from benchmarks.accuracy.runs import Run, Settings, carry_on, read_runs
from benchmarks.accuracy.sinusoid import columns, heading
from benchmarks.accuracy.table import Heading
from kshot.checkpoints import load_checkpoint
from kshot.contracts.checkpoints import WEIGHTS_FILE
from kshot.contracts.tasks import LearnerOptions
from kshot.episodes.sinusoids import sinusoids
from kshot.training.evaluation import evaluate

RECIPE = """
name = "small"
description = "for tests"
tasks = ["regression"]
n_targets = 1
input = { modality = "vector", width = 1 }
encoder = { name = "mlp", options = { hidden = [8] } }
learner = { name = "LEARNER" }
data = { name = "sinusoids" }
training = { scheme = "episodes", steps = 3, meta_batch = 2, k_shot = [5, 5], n_query = 5, lr = 1e-2 }

[[evaluation]]
data = "sinusoids"
k_shot = SHOT
episodes = 120
"""


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    folder = tmp_path / "recipes"
    folder.mkdir()
    return folder


def add(recipes: Path, stem: str, learner: str = "maml", shot: int = 5) -> None:
    (recipes / f"{stem}.toml").write_text(RECIPE.replace("LEARNER", learner).replace("SHOT", str(shot)))


def settings(work: Path, **changes: object) -> Settings:
    return Settings(**({"data": Path(), "work": work, "out": work} | changes))


def quiet(line: str) -> None:
    assert line


def go(recipes: Path, how: Settings) -> bool:
    return carry_on(read_runs(recipes, how), columns, how, quiet)


def figures(recipes: Path, how: Settings) -> dict[str, dict[Heading, object]]:
    return {row.name: dict(row.figures) for row in rows_of(read_runs(recipes, how), columns, how, {})}


def test_cut_by_minutes_0_and_continued(recipes: Path, tmp_path: Path) -> None:
    add(recipes, "maml")
    whole, parts = settings(tmp_path / "whole"), settings(tmp_path / "parts", minutes=0)
    assert go(recipes, whole)
    calls = 1
    while not go(recipes, parts):
        calls += 1
    assert calls == 2 + 3 * 3 + 1  # two steps, then chunks of 50, 50 and 20 in three columns, then all is there
    one, other = (how.work / "maml" / WEIGHTS_FILE for how in (whole, parts))
    assert one.read_bytes() == other.read_bytes()
    assert figures(recipes, whole) == figures(recipes, parts)


def test_chunks_give_what_one_evaluation_gives(recipes: Path, tmp_path: Path) -> None:
    add(recipes, "maml")
    how = settings(tmp_path, episodes=101)  # the last chunk holds 51: an interval needs two
    go(recipes, how)
    (run,) = read_runs(recipes, how)
    checkpoint = load_checkpoint(run.folder)
    column = columns(run.recipe)[0]
    figure = measured(run.folder, checkpoint.manifest, column, 101, scale=100)
    row = evaluate(checkpoint, "s", sinusoids(5, 15, SEED), 101, LearnerOptions(inner_steps=1))
    assert figure is not None and (figure.count, figure.finished) == (101, True)
    assert figure.mean == pytest.approx(100 * row.mean)
    assert figure.interval == pytest.approx(100 * row.interval)


def test_other_weights_are_measured_anew_and_the_same_ones_are_not(recipes: Path, tmp_path: Path) -> None:
    add(recipes, "maml")
    how = settings(tmp_path)
    go(recipes, how)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "maml" / "measured").iterdir()}
    go(recipes, how)
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "maml" / "measured").iterdir()}
    text = (recipes / "maml.toml").read_text()
    (recipes / "maml.toml").write_text(text.replace("steps = 3", "steps = 5"))
    (run,) = read_runs(recipes, how)
    assert not run.complete
    go(recipes, how)
    assert run.complete and len(list((tmp_path / "maml" / "measured").iterdir())) == 2 * len(before)


def test_an_unfinished_run_says_how_far_it_is(recipes: Path, tmp_path: Path) -> None:
    add(recipes, "maml")
    how = settings(tmp_path, minutes=0)
    assert not go(recipes, how)
    (row,) = rows_of(read_runs(recipes, how), columns, how, {})
    assert row.label == "maml (1 of 3 steps)" and not row.figures
    assert go(recipes, settings(tmp_path, training=False, episodes=4))  # asked for as it is, it is measured as it is
    (row,) = rows_of(read_runs(recipes, how), columns, how, {})
    assert row.label == "maml (1 of 3 steps)" and len(row.figures) == 3


def test_another_seed_is_another_run(recipes: Path, tmp_path: Path) -> None:
    add(recipes, "maml")
    for seed in (None, 0, 7):
        go(recipes, settings(tmp_path, seed=seed, episodes=2))
    assert sorted(folder.name for folder in tmp_path.glob("maml*")) == ["maml", "maml-seed7"]
    states = [load_checkpoint(tmp_path / name).head["weight"] for name in ("maml", "maml-seed7")]
    assert not torch.equal(*states)


def test_only_some_are_worked_on_and_all_are_shown(recipes: Path, tmp_path: Path) -> None:
    add(recipes, "maml")
    add(recipes, "other", "ridge")
    how = settings(tmp_path, only=("ridge",), episodes=3)
    go(recipes, how)
    found = figures(recipes, how)
    assert set(found) == {"maml", "ridge"} and not found["maml"]
    assert set(found["ridge"]) == {heading(5, None)}


def test_recipes_of_one_learner_share_a_row_unless_they_fill_the_same_column(recipes: Path, tmp_path: Path) -> None:
    add(recipes, "maml")
    add(recipes, "maml-10shot", shot=10)
    add(recipes, "maml-again")
    how = settings(tmp_path, episodes=2)
    go(recipes, how)
    rows = rows_of(read_runs(recipes, how), columns, how, {"maml": {heading(5, 1): 0.67}})
    assert [(row.name, len(row.figures), len(row.published)) for row in rows] == [("maml", 6, 1), ("maml-again", 3, 0)]


def test_what_another_recipe_made_does_not_count(recipes: Path, tmp_path: Path) -> None:
    add(recipes, "maml")
    how = settings(tmp_path, episodes=2)
    go(recipes, how)
    (run,) = read_runs(recipes, how)
    assert run.complete
    changed = run.recipe.model_copy(update={"seed": 1})
    assert Run(run.stem, changed, run.folder).manifest is None


def test_where_others_start_comes_first_and_has_no_row(recipes: Path, tmp_path: Path) -> None:
    add(recipes, "maml")
    add(recipes, "start")
    child = (recipes / "maml.toml").read_text().replace("data = {", 'start = { parent = "start" }\ndata = {', 1)
    (recipes / "maml.toml").write_text(child)
    for seed, parent in ((None, "start"), (7, "start-seed7")):
        how = settings(tmp_path, only=("maml",), episodes=2, seed=seed)
        runs = read_runs(recipes, how)
        assert [run.stem for run in runs] == ["start", "maml"]
        assert go(recipes, how) and all(run.complete for run in runs)
        assert runs[1].manifest is not None and runs[1].manifest.lineage.parent == parent
        assert set(figures(recipes, how)) == {"maml"}
