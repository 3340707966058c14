"""The commands of the tables in their short form, on real data: cut, continued, and a page at the end."""

import json
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks.accuracy import omniglot, sinusoid, texts
from kshot.contracts.checkpoints import WEIGHTS_FILE
from kshot.contracts.recipe import read_recipe
from tests.kshot.data_folder import data_folder

ROOT = Path(__file__).parents[2]
GLYPHS = """
name = "small"
description = "for tests"
tasks = ["classification"]
input = { modality = "image", height = 28, width = 28, channels = 1, invert = true }
encoder = { name = "conv4", options = { channels = 4 } }
learner = { name = "protonet" }
data = { name = "omniglot", split = "valid" }
training = { steps = 3, n_way = [5, 5], k_shot = [1, 1] }

[[evaluation]]
data = "omniglot"
n_way = 5
k_shot = 1
n_query = 2

[[evaluation]]
data = "omniglot"
n_way = 20
k_shot = 5
n_query = 1
"""
CURVES = """
name = "small"
description = "for tests"
tasks = ["regression"]
n_targets = 1
input = { modality = "vector", width = 1 }
encoder = { name = "mlp", options = { hidden = [8] } }
learner = { name = "maml" }
data = { name = "sinusoids" }
training = { scheme = "episodes", steps = 2, k_shot = [5, 5], n_query = 5 }

[[evaluation]]
data = "sinusoids"
k_shot = 10
"""


def arguments(data: Path, folder: Path, *more: str) -> list[str]:
    return ["--data", str(data), "--work", str(folder / "work"), "--out", str(folder / "out"), "--episodes", "2", *more]


def recipes(folder: Path, text: str) -> Path:
    (folder / "recipes").mkdir()
    (folder / "recipes" / "small.toml").write_text(text)
    return folder / "recipes"


def page(folder: Path, table: str) -> str:
    assert (folder / "out" / f"{table}.png").is_file()
    return (folder / "out" / f"{table}.md").read_text()


def test_omniglot(tmp_path: Path) -> None:
    data, own = data_folder("omniglot/omniglot28_bits.npz"), recipes(tmp_path, GLYPHS)
    assert omniglot.main(arguments(data, tmp_path, "--minutes", "0"), own) == 1
    assert "protonet (1 of 3 steps)" in page(tmp_path, "omniglot")
    assert omniglot.main(arguments(data, tmp_path), own) == 0
    (row,) = json.loads((tmp_path / "out" / "omniglot.json").read_text())["rows"]
    assert (row["name"], row["unfinished"]) == ("protonet", "")
    assert set(row["figures"]) == {"5-way 1-shot, inductive", "20-way 5-shot, inductive"}
    assert row["published"]["20-way 5-shot, inductive"] == 98.9
    assert omniglot.main([*arguments(data, tmp_path), "--work", str(tmp_path / "uncut")], own) == 0
    cut, uncut = (tmp_path / work / "small" / WEIGHTS_FILE for work in ("work", "uncut"))
    assert cut.read_bytes() == uncut.read_bytes()


def test_norms_of_the_task_have_a_transductive_column(tmp_path: Path) -> None:
    text = GLYPHS.replace("channels = 4", 'channels = 4, norm = "task"').replace('"protonet"', '"maml"')
    text = text.replace("steps = 3", 'steps = 1, scheme = "episodes"')
    data, own = data_folder("omniglot/omniglot28_bits.npz"), recipes(tmp_path, text)
    assert omniglot.main(arguments(data, tmp_path), own) == 0
    (row,) = json.loads((tmp_path / "out" / "omniglot.json").read_text())["rows"]
    assert set(row["figures"]) == {
        f"{shape}, {mode}" for shape in ("5-way 1-shot", "20-way 5-shot") for mode in ("inductive", "transductive")
    }
    assert row["published"]["5-way 1-shot, transductive"] == 98.7


def test_sinusoid(tmp_path: Path) -> None:
    own = recipes(tmp_path, CURVES)
    assert sinusoid.main(arguments(tmp_path, tmp_path, "--minutes", "0"), own) == 1
    assert "maml (1 of 2 steps)" in page(tmp_path, "sinusoid")
    assert sinusoid.main(arguments(tmp_path, tmp_path), own) == 0
    (row,) = json.loads((tmp_path / "out" / "sinusoid.json").read_text())["rows"]
    assert set(row["figures"]) == {f"10 points, {steps}" for steps in ("1 step", "5 steps", "10 steps")}


def rows_of(folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """The figures of the text table, by row."""
    return {row["name"]: row["figures"] for row in json.loads((folder / "out" / "texts.json").read_text())["rows"]}


def test_texts(tmp_path: Path) -> None:
    data = data_folder("banking77/train.csv", "clinc150/clinc150.csv")
    asked = arguments(data, tmp_path, "--only", "protonet")
    assert texts.main([*asked, "--minutes", "0"]) == 1
    assert [name for name, figures in rows_of(tmp_path).items() if figures] == ["banking77 test classes, 5-way 1-shot"]
    assert texts.main(asked) == 0
    rows = rows_of(tmp_path)
    assert len(rows) == 16 and all(set(figures) == {"protonet"} for figures in rows.values())
    assert rows["banking77 all classes, all ways 5-shot"]["protonet"]["mean"] > 50


@pytest.mark.parametrize("table", [omniglot, sinusoid])
def test_the_recipes_there_are_fit_their_table(table: ModuleType) -> None:
    files = sorted((ROOT / table.RECIPES).glob("*.toml"))
    assert files
    for file in files:
        for column in table.columns(read_recipe(file)):
            assert column.heading in table.HEADINGS, f"{file}: {column.heading.name}"
