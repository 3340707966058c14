"""Tables with missing targets: readers, parts, splits that keep a group on one side."""

from pathlib import Path

import numpy as np
import pytest

from kshot.contracts.errors import Invalid
from kshot.episodes.tables import (
    Table,
    Target,
    read_parkinsons,
    read_tox21,
    sample_group,
    split_at_random,
    split_in_turn,
    take_targets,
)
from kshot.training.tables import describe_table, load_table
from tests.kshot.data_folder import data_folder

TOX21, PARKINSONS = "tox21/tox21_ecfp1024.npz", "parkinsons/parkinsons_updrs.csv"


def small() -> Table:
    """Three targets over 60 rows of 20 groups; the first row has none but the last, the second none at all."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(60, 3)).astype(np.float32)
    values[0, :2] = np.nan
    values[1] = np.nan
    targets = (Target("a", "regression"), Target("b", "regression"), Target("c", "regression"))
    return Table(rng.normal(size=(60, 4)).astype(np.float32), targets, values, np.arange(60) // 3)


def test_only_rows_with_a_wanted_target_stay() -> None:
    table = small()
    assert len(take_targets(table, ["c"])) == 59
    both = take_targets(table, ["b", "a"])
    assert len(both) == 58
    assert [target.name for target in both.targets] == ["b", "a"]
    np.testing.assert_array_equal(both.values[:, 0], table.values[2:, 1])
    with pytest.raises(Invalid, match="no target d"):
        take_targets(table, ["a", "d"])


@pytest.mark.parametrize("split", [split_at_random, split_in_turn])
@pytest.mark.parametrize("seed", [0, 1, 5])
def test_a_group_is_on_one_side(split, seed: int) -> None:
    table = small()
    parts = split(table, seed)
    rows = np.concatenate(list(parts.values()))
    assert sorted(rows) == list(range(60))
    groups = [set(table.groups[own]) for own in parts.values()]
    assert sum(map(len, groups)) == 20
    assert all(groups)
    again = split(table, seed)
    assert all(np.array_equal(parts[name], again[name]) for name in parts)


def test_turns_test_every_group_once() -> None:
    table = small()
    tested = [group for seed in range(6) for group in set(table.groups[split_in_turn(table, seed)["test"]])]
    assert len(tested) == len(set(tested)) == 18  # three in each turn; two are left over


def test_a_groups_episode_is_its_own() -> None:
    table = small()
    episode = sample_group(table, 2, 5, np.random.default_rng(1))
    assert (len(episode.support), len(episode.query)) == (2, 1)
    rows = {tuple(row) for row in np.concatenate([episode.support, episode.query])}
    assert any(rows == {tuple(row) for row in table.inputs[table.groups == group]} for group in range(20))


def test_tox21_as_its_readme_says() -> None:
    table = read_tox21(data_folder(TOX21) / TOX21)
    assert table.inputs.shape == (7823, 1024)
    assert set(np.unique(table.inputs)) == {0.0, 1.0}
    positives = {t.name: int(np.nansum(column)) for t, column in zip(table.targets, table.values.T, strict=True)}
    assert (positives["NR-PPAR-gamma"], positives["SR-ARE"], len(positives)) == (186, 942, 12)
    assert np.isnan(table.values).any(0).all()
    assert len(np.unique(table.groups)) == len(np.unique(table.inputs, axis=0))


def test_parkinsons_as_its_readme_says() -> None:
    data = data_folder(PARKINSONS)
    table = read_parkinsons(data / PARKINSONS)
    assert (table.inputs.shape, table.values.shape, len(np.unique(table.groups))) == ((5875, 19), (5875, 2), 42)
    assert table.inputs[0, :3].tolist() == pytest.approx([72, 0, 5.6431])
    assert table.values[0].tolist() == pytest.approx([28.199, 34.398])
    mixed = read_parkinsons(data / PARKINSONS, sex_is_a_target=True)
    assert mixed.inputs.shape == (5875, 18)
    assert mixed.targets[0] == Target("sex", "classification", 2)
    np.testing.assert_array_equal(mixed.values[:, 0], table.inputs[:, 1])
    suggested = [np.unique(load_table("parkinsons", part, data, 0).groups) for part in ("train", "valid", "test")]
    assert [(own[0], own[-1]) for own in suggested] == [(1, 30), (31, 35), (36, 42)]
    assert describe_table("parkinsons", "train", data, 0).sha256.startswith("8dd8c084e51bd21f")


def test_other_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", inputs=np.zeros(3))
    with pytest.raises(Invalid, match="not the Tox21 archive"):
        read_tox21(tmp_path / "other.npz")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(Invalid, match="not the Parkinsons table"):
        read_parkinsons(tmp_path / "other.csv")
    with pytest.raises(Invalid, match="unknown table"):
        load_table("iris", "train", tmp_path, 0)
    with pytest.raises(Invalid, match="is missing"):
        load_table("tox21", "train", tmp_path, 0)
