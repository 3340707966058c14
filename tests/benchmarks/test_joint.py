"""Models of several targets: trained once, and the Tox21 table from their reports."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.accuracy.joint import changed, over_few, trained_once
from benchmarks.accuracy.runs import Budget
from benchmarks.accuracy.tox21 import RECIPE, SINGLE, table_of
from kshot.contracts.errors import Invalid
from kshot.contracts.recipe import read_recipe
from kshot.training.loop import Unfinished

ASSAYS = [f"assay {i}" for i in range(12)]


def report(scores: dict[str, float]) -> dict[str, Any]:
    cosines = np.where(np.eye(len(scores)) > 0, 1.0, -0.1).tolist()
    figures = {name: {"roc_auc": score} for name, score in scores.items()}
    return {"figures": {"test": figures}, "gradient_cosines": cosines}


def seed(single: float, joint: float) -> dict[str, dict[str, Any]]:
    """Twelve single models and a joint one; assays differ by a hundredth each, and so does what joint training adds."""
    steps = dict(zip(ASSAYS, np.arange(12) / 100, strict=True))
    alone = {name: report({name: single + step}) for name, step in steps.items()}
    return {"equal": report({name: joint + 2 * step for name, step in steps.items()}), **alone}


def test_differences_are_paired_by_assay_and_by_seed() -> None:
    table = table_of([seed(0.6, 0.7), seed(0.5, 0.7), {"equal": report(dict.fromkeys(ASSAYS, 0.9))}])
    single, joint = table.rows
    assert (single.name, joint.name) == (SINGLE, "joint, equal")
    assert "2 of 3 seeds" in single.label
    mean, by_assay, by_seed = (joint.figures[heading] for heading in table.headings)
    assert (mean.mean, by_assay.mean, by_seed.mean) == pytest.approx((0.81, 0.205, 0.205))
    assert (by_assay.count, by_seed.count) == (12, 2)
    assert by_assay.interval == pytest.approx(2.201 * np.std(np.arange(12) / 100, ddof=1) / 12**0.5, rel=1e-3)
    assert by_seed.interval == pytest.approx(12.706 * 0.05, rel=1e-3)  # Student's t of one degree of freedom
    assert table.details[1]["pairs below 0"] == "66 of 66"


def test_nothing_is_claimed_before_a_seed_is_whole() -> None:
    with pytest.raises(Invalid, match="no seed"):
        table_of([{"equal": report(dict.fromkeys(ASSAYS, 0.9))}])


def test_the_interval_of_few_is_students() -> None:
    assert over_few([1.0, 2.0, 3.0]).interval == pytest.approx(4.303 / 3**0.5, rel=1e-3)


def test_a_finished_model_is_not_trained_again(tmp_path: Path) -> None:
    text = Path("checkpoints/curves/recipe.toml")
    recipe = changed(read_recipe(text), training={"steps": 2}, seed=3)
    first = trained_once(recipe, tmp_path, tmp_path, Budget(None))
    assert first.manifest.lineage.seed == 3
    again = trained_once(recipe, tmp_path, tmp_path, Budget(0.0))
    weights = first.encoder.state_dict()
    assert all(tensor.equal(weights[name]) for name, tensor in again.encoder.state_dict().items())
    with pytest.raises(Unfinished):
        trained_once(changed(recipe, seed=4), tmp_path, tmp_path, Budget(0.0))


def test_the_recipes_changes_join_their_section() -> None:
    recipe = read_recipe(RECIPE)
    other = changed(recipe, training={"weighting": "pcgrad"}, data={"targets": ("NR-AR",)})
    assert (other.training.weighting, other.training.steps) == ("pcgrad", recipe.training.steps)
    assert other.data is not None and (other.data.name, other.data.targets) == ("tox21", ("NR-AR",))
